"""A file that appears under its name only when it is complete."""

import os
import secrets
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from strongroom.room.file_errors import file_errors


class NewFile:
    """Written under a temporary name in the same folder (mode 0600), then put in place by `commit`.

    Until then an earlier file of that name is untouched. As a context manager it commits at the end of the block and
    discards when the block raises; an object that is forgotten discards too.

    Args:
        path: The final name.
        overwrite: Whether a file of that name may be replaced.
        durable: Wait until the content is on the disk, so that it survives a power failure too.

    Raises:
        ConfigurationError: If the path is wrong or not permitted.
        UnavailableError: If the disk fails.
        WouldOverwrite: If the file exists and may not be replaced.
    """

    fd = -1
    _temporary: Path | None = None

    def __init__(self, path: str | os.PathLike[str], *, overwrite: bool = False, durable: bool = True) -> None:
        self.path = Path(path)
        self.overwrite = overwrite
        self.durable = durable
        with file_errors(self.path):
            if self.path.is_dir() or os.fspath(path).endswith("/"):
                raise IsADirectoryError
            if os.path.lexists(self.path) and not overwrite:
                raise FileExistsError
            # Not derived from the name, which may already be as long as the file system allows.
            temporary = self.path.parent / f".strongroom-{secrets.token_hex(8)}.tmp"
            self.fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._temporary = temporary

    def write_at(self, data: bytes | memoryview, offset: int) -> None:
        """Write all of `data` at a byte offset.

        Raises:
            ConfigurationError: If the system refuses.
            UnavailableError: If the disk is full or fails.
        """
        rest = memoryview(data)
        with file_errors(self.path):
            while rest:
                written = os.pwrite(self.fd, rest, offset)
                rest, offset = rest[written:], offset + written

    def read_at(self, size: int, offset: int) -> bytes:
        """Read back `size` bytes at a byte offset, fewer at the end of the file.

        Raises:
            ConfigurationError: If the system refuses.
            UnavailableError: If the disk fails.
        """
        with file_errors(self.path):
            return os.pread(self.fd, size, offset)

    def finish(self) -> None:
        """Bring the content to the disk, if it is to be durable, and close it; the name does not exist yet.

        Raises:
            ConfigurationError: If the system refuses.
            UnavailableError: If the disk is full or fails.
        """
        with file_errors(self.path):
            if self.durable:
                os.fsync(self.fd)
            os.close(self.fd)
        self.fd = -1

    def commit(self) -> None:
        """Give the file its name, in one step.

        Raises:
            ConfigurationError: If the system refuses.
            UnavailableError: If the disk is full or fails.
            WouldOverwrite: If a file of that name appeared meanwhile and may not be replaced.
            ValueError: If it was discarded or committed before.
        """
        temporary = self._temporary
        if temporary is None:
            raise ValueError("the file was discarded or is in place already")
        try:
            if self.fd >= 0:
                self.finish()
            with file_errors(self.path):
                self._put_in_place(temporary)
        except BaseException:
            self.discard()
            raise
        self._temporary = None

    def _put_in_place(self, temporary: Path) -> None:
        if self.overwrite:
            temporary.replace(self.path)
        else:
            self._put_in_place_as_new(temporary)
        if not self.durable:
            return
        # The folder's entry reaches the disk too; some file systems and Gramine can't do that, and need not.
        with suppress(OSError):
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _put_in_place_as_new(self, temporary: Path) -> None:
        # rename() replaces silently, link() does not. Where there are no hard links (Gramine, SMB shares) a look
        # before the rename has to do.
        try:
            self.path.hardlink_to(temporary)
        except FileExistsError:
            raise
        except OSError:
            if os.path.lexists(self.path):
                raise FileExistsError from None
            temporary.rename(self.path)
        else:
            temporary.unlink()

    def discard(self) -> None:
        """Remove what was written; an earlier file of that name stays. Harmless when repeated or after `commit`."""
        if self.fd >= 0:
            with suppress(OSError):
                os.close(self.fd)
            self.fd = -1
        if self._temporary is not None:
            with suppress(OSError):
                self._temporary.unlink()
            self._temporary = None

    def __enter__(self) -> "NewFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.commit()
        else:
            self.discard()

    def __del__(self) -> None:
        self.discard()
