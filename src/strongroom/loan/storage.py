"""The port through which the loan application reads and writes: opened files, never paths on a disk.

`strongroom.room.Room` satisfies it (every file is sealed); a plain folder or a dictionary satisfies it in tests.
"""

from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol


class Storage(Protocol):
    """Named files that open for reading and are created whole or not at all."""

    def open(self, path: str, /) -> BinaryIO:
        """Open an existing file for reading; seekable.

        Args:
            path: Relative path with forward slashes, e.g. ``data/loans.csv``.

        Raises:
            FileNotFoundError: There is no such file.
        """
        ...

    def create(self, path: str, /) -> AbstractContextManager[BinaryIO]:
        """Create or replace a file; it appears when the block ends without an exception, and not before.

        Args:
            path: Relative path with forward slashes.
        """
        ...
