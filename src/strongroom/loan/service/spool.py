"""Keeps an upload until it is used: in memory while it is short, else sealed under a key that is in no file."""

import hashlib
import io
import os
import secrets
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from strongroom.room.files import create_sealed, open_sealed
from strongroom.room.sealed_writer import SealedWriter

KEY_BYTES: Final = 16


class Spool:
    """Makes room for uploads; its folder holds ciphertext only and goes with it.

    Args:
        memory_bytes: Longest upload kept in memory.
        folder: Where to make the folder for the others; None: the system's folder for temporary files.
    """

    def __init__(self, memory_bytes: int, folder: Path | None = None) -> None:
        self.memory_bytes = memory_bytes
        self._folder = tempfile.TemporaryDirectory(prefix="strongroom-upload-", dir=folder)

    def receive(self) -> "Incoming":
        """An upload to write to."""
        return Incoming(self.memory_bytes, Path(self._folder.name))

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()


class Incoming:
    """An upload that is being received.

    Args:
        memory_bytes: How much of it may be in memory.
        folder: Where the rest goes, sealed.
    """

    def __init__(self, memory_bytes: int, folder: Path) -> None:
        self._memory_bytes = memory_bytes
        self._folder = folder
        self._memory = bytearray()
        self._digest = hashlib.sha256()
        self._name = ""
        self._key = b""
        self._sealed: SealedWriter | None = None
        self.size = 0

    def needs_disk(self, count: int) -> bool:
        """Whether writing so many bytes more may wait for the disk."""
        return self._sealed is not None or self.size + count > self._memory_bytes

    def write(self, data: bytes) -> None:
        """Append; may wait for the disk when the upload is long.

        Raises:
            UnavailableError: The disk is full or fails.
        """
        self.size += len(data)
        self._digest.update(data)
        if self._sealed is not None:
            self._sealed.write(data)
            return
        self._memory += data
        if len(self._memory) > self._memory_bytes:
            self._overflow()

    def _overflow(self) -> None:
        self._name = secrets.token_hex(16)
        self._key = os.urandom(KEY_BYTES)
        self._sealed = create_sealed(self._folder / self._name, self._key, sealed_path=self._name)
        self._sealed.write(self._memory)
        self._memory = bytearray()

    def finish(self) -> "Upload":
        """The upload, to read.

        Raises:
            UnavailableError: The disk is full or fails.
        """
        digest = self._digest.hexdigest()
        if self._sealed is None:
            return Upload(io.BytesIO(self._memory), self.size, digest)
        self._sealed.close()
        path = self._folder / self._name
        try:
            return Upload(open_sealed(path, self._key, sealed_path=self._name), self.size, digest)
        finally:
            path.unlink(missing_ok=True)

    def abort(self) -> None:
        """Give it up."""
        self._memory = bytearray()
        if self._sealed is not None:
            self._sealed.abort()
            self._sealed = None


class Upload:
    """A received file.

    Args:
        file: Its content; seekable, at its beginning.
        size: Bytes.
        digest: SHA-256, hex.
    """

    def __init__(self, file: BinaryIO, size: int, digest: str) -> None:
        self.file = file
        self.size = size
        self.digest = digest

    def close(self) -> None:
        """Forget the content."""
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
