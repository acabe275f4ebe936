"""A decrypted file as a Python file object, for pyarrow, Polars and DuckDB alike."""

import io
import os
import threading
from collections.abc import Callable

from strongroom.analytics.parquet.decrypted import DecryptedFile


class PlainReader(io.RawIOBase):
    """Reads a decrypted file. Every thread has its own position: engines seek and read from several at once.

    Args:
        view: The decrypted file.
        on_close: Frees what the view reads from.
        name: For messages.
    """

    def __init__(self, view: DecryptedFile, on_close: Callable[[], None], *, name: str) -> None:
        super().__init__()
        self._view = view
        self._on_close = on_close
        self._here = threading.local()
        self.name = name

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be positioned."""
        return True

    @property
    def size(self) -> int:
        """Bytes of the plaintext form."""
        return self._view.size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move this thread's position."""
        if whence != os.SEEK_SET:
            offset += {os.SEEK_CUR: self.tell(), os.SEEK_END: self.size}[whence]
        self._here.position = max(offset, 0)
        return self.tell()

    def tell(self) -> int:
        """This thread's position."""
        return int(getattr(self._here, "position", 0))

    def read(self, size: int | None = -1, /) -> bytes:
        """Read from this thread's position on.

        Raises:
            FormatError: A page doesn't follow the format.
            Tampered: A page was altered or moved.
        """
        position = self.tell()
        data = self._view.read_at(position, self.size if size is None or size < 0 else size)
        self._here.position = position + len(data)
        return data

    def readall(self) -> bytes:
        """Read to the end."""
        return self.read()

    def readinto(self, buffer: object, /) -> int:
        """Read into a buffer."""
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]  # RawIOBase says "any writable buffer"
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Free the file underneath."""
        if not self.closed:
            self._on_close()
        super().close()
