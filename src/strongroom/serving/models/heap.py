"""Gives memory that was freed back to the system."""

import ctypes
import gc


def trim_heap() -> None:
    """After a model was loaded or dropped: the C library would otherwise keep hundreds of megabytes for later.

    Does nothing where the C library is not glibc.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return
