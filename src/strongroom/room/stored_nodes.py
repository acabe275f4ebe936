"""The stored nodes of a sealed file on the untrusted disk: read by number, nothing believed."""

import hashlib
import os
import stat

from strongroom.errors import ConfigurationError, FormatError, StrongroomError, Truncated
from strongroom.formats.sealed.geometry import NODE_SIZE
from strongroom.formats.sealed.metadata import FILE_ID, Header, parse_header
from strongroom.room.file_errors import file_error, file_errors


class StoredNodes:
    """A file on the untrusted disk.

    Args:
        path: The file.

    Raises:
        ConfigurationError: If it can't be opened.
        FormatError: If it is not a sealed file.
        Truncated: If it ends inside a node.
        UnavailableError: If the disk fails.
    """

    fd = -1

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        with file_errors(path):
            # Without O_NONBLOCK a pipe that the host puts here would hold the reader for ever.
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            status = os.fstat(self.fd)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{self.path} is not a regular file", code="file.not_regular")
        self.host_size = status.st_size
        """Size on disk when opened, in bytes."""
        self.first = bytearray(min(NODE_SIZE, status.st_size))
        """The metadata node."""
        self.read_into(memoryview(self.first), 0)
        self._check_header()

    def _check_header(self) -> None:
        if not self.first.startswith(FILE_ID):
            raise FormatError(f"{self.path} is not a sealed file", code="sealed.not_sealed")
        if self.host_size % NODE_SIZE:
            raise Truncated(
                f"{self.path} has {self.host_size} bytes, not a whole number of 4096-byte nodes: cut or damaged",
                hint="fetch the file again from a good copy",
            )

    def read_into(self, out: memoryview, position: int) -> None:
        """Fill `out` with consecutive nodes.

        Args:
            out: Where to; a multiple of 4096 bytes.
            position: Number of the first node.

        Raises:
            StrongroomError: If the system refuses or the disk fails.
            Truncated: If the file ends before that.
        """
        offset = position * NODE_SIZE
        while out:
            try:
                count = os.preadv(self.fd, [out], offset)
            except OSError as error:
                failed: StrongroomError = file_error(error, self.path)
                raise failed from None
            if not count:
                raise Truncated(f"{self.path} became shorter while it was read")
            out, offset = out[count:], offset + count

    def close(self) -> None:
        """Close the file; harmless when repeated."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __del__(self) -> None:
        self.close()


def pin_of(first_node: bytes | bytearray) -> bytes:
    """SHA-256 of a metadata node: 32 bytes that pin the file's content, path and tree."""
    return hashlib.sha256(first_node).digest()


def read_header(stored: StoredNodes) -> Header:
    """The plain header of an open file.

    Raises:
        FormatError: If this is not a sealed file, or of an unknown version.
    """
    return parse_header(bytes(stored.first))
