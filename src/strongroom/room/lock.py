"""A lock between processes that share a storage folder. The system lets it go when a process ends, however it ends."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.room.file_errors import file_errors

# What a system says that has no such locks (Gramine, some network file systems).
_UNSUPPORTED: Final = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK})


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold a lock during the block; whoever else asks for it waits.

    It keeps honest processes apart. It is no protection from the storage's host, and none where the system has no such
    locks.

    Args:
        path: The lock's file; made if absent, and left.

    Yields:
        Nothing.

    Raises:
        ConfigurationError: The file can't be opened.
        UnavailableError: The disk fails.
    """
    with file_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with file_errors(path):
            _wait_for(descriptor)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int) -> None:
    """Take the lock, where there are locks.

    Raises:
        OSError: The disk fails.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
