"""Keeps the C library from hoarding memory that was freed."""

import ctypes
import gc
from typing import Final

WORTH_BYTES: Final = 16 * 1024 * 1024
_M_TRIM_THRESHOLD: Final = -1  # glibc, malloc.h
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_MAPPED_FROM_BYTES: Final = 32 * 1024 * 1024
_KEPT_BYTES: Final = 64 * 1024 * 1024
_ARENAS: Final = 2


def bound_heap() -> None:
    """Call once, early: few arenas, and freed memory beyond 64 MB goes back to the system.

    Otherwise each of many threads keeps an arena of its own. What is kept serves the next images and batches: giving
    every block back costs two thirds of a large request's processor time, because the kernel clears each page anew.
    Does nothing where the C library is not glibc.
    """
    try:
        library = ctypes.CDLL(None)
        library.mallopt(_M_ARENA_MAX, _ARENAS)
        library.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    except (AttributeError, OSError):
        return


def trim_heap(model_bytes: int) -> None:
    """After a model was loaded or dropped: the C library would otherwise keep hundreds of megabytes for later.

    Does nothing where the C library is not glibc, or for a model so small that looking for garbage costs more.

    Args:
        model_bytes: Size of the model's files.
    """
    if model_bytes < WORTH_BYTES:
        return
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return
