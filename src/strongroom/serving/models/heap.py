"""Gives memory that was freed back to the system."""

import ctypes
import gc
from typing import Final

WORTH_BYTES: Final = 16 * 1024 * 1024


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
