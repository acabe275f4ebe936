"""Keeps the C library from hoarding memory that was freed, and models in pages that the processor finds fast."""

import ctypes
import gc
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

WORTH_BYTES: Final = 16 * 1024 * 1024
_M_TRIM_THRESHOLD: Final = -1  # glibc, malloc.h
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_MAPPED_FROM_BYTES: Final = 32 * 1024 * 1024
_KEPT_BYTES: Final = 64 * 1024 * 1024
_ARENAS: Final = 2
_MADV_HUGEPAGE: Final = 14  # Linux, asm-generic/mman-common.h
_MADV_COLLAPSE: Final = 25
_HUGE_PAGES: Final = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_HUGE_BYTES: Final = 2 * 1024 * 1024
_ANONYMOUS: Final = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw-p 00000000 00:00 0 *(?:\[heap\])?")


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


def gather_heap(model_bytes: int) -> None:
    """After models were loaded and warmed up: their memory into huge pages, whose addresses the processor finds faster.

    Where `transparent_hugepage` is "never", nothing is done, nor for small models. Linux before 6.1 gathers only in the
    background. Takes a second for 350 MB. Holes that `trim_heap` left are filled, so as much memory may be resident as
    loading took, until the next trim.

    Args:
        model_bytes: Size of the models' files.
    """
    if model_bytes < WORTH_BYTES:
        return
    try:
        if "[never]" in _HUGE_PAGES.read_text():
            return
        library = ctypes.CDLL(None)
        for start, size in anonymous_memory(Path("/proc/self/maps").read_text(errors="replace")):
            address, length = ctypes.c_void_p(start), ctypes.c_size_t(size)
            if library.madvise(address, length, _MADV_HUGEPAGE) == 0:
                library.madvise(address, length, _MADV_COLLAPSE)
    except (AttributeError, OSError):
        return


def anonymous_memory(maps: str) -> Iterator[tuple[int, int]]:
    """(address, bytes) of the whole huge pages in a process's larger private areas: its heap, but no thread's stack.

    Args:
        maps: What /proc/PID/maps says (proc_pid_maps(5)).
    """
    for line in maps.splitlines():
        if found := _ANONYMOUS.fullmatch(line):
            start = -(-int(found[1], 16) // _HUGE_BYTES) * _HUGE_BYTES
            size = int(found[2], 16) // _HUGE_BYTES * _HUGE_BYTES - start
            if size >= WORTH_BYTES:
                yield start, size
