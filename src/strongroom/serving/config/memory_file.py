"""A path to bytes that exist in memory only, for libraries that insist on reading a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from strongroom.errors import ConfigurationError


@contextmanager
def memory_file(content: bytes) -> Iterator[str]:
    """A path that this process can open while the block runs. Nothing reaches a disk.

    Args:
        content: What the file holds.

    Raises:
        ConfigurationError: The system has no anonymous memory files.
    """
    try:
        descriptor = os.memfd_create("strongroom", os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        raise ConfigurationError("this system has no memory files (memfd_create)", code="serving.memory_file") from None
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.ftruncate(descriptor, 0)
        os.close(descriptor)
