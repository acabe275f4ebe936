"""The port through which the loan application reads and writes: opened files, never paths on a disk.

`strongroom.room.Room` satisfies it (every file is sealed); a plain folder or a dictionary satisfies it in tests.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import BinaryIO, Protocol, runtime_checkable


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


@runtime_checkable
class SharedStorage(Protocol):
    """A storage that several processes may write to at the same time, as rooms on one folder do."""

    def lock(self, folder: str, /) -> AbstractContextManager[None]:
        """Keep the others waiting that ask for the same lock, during the block.

        Args:
            folder: Relative path with forward slashes.
        """
        ...


def alone(storage: Storage, folder: str) -> AbstractContextManager[None]:
    """Nobody else who asks is in this folder during the block, where the storage can tell."""
    return storage.lock(folder) if isinstance(storage, SharedStorage) else nullcontext()
