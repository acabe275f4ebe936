"""Where model files come from: sealed, through a room; or a plain folder, for development only and named so."""

import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Protocol

from strongroom.errors import ConfigurationError, FormatError, UnavailableError
from strongroom.formats.canonical import canonical_json

MAX_FILES: Final = 1000
MAX_DEPTH: Final = 4
MAX_FILE_BYTES: Final = 8 * 1024**3
_PIECE_BYTES: Final = 4 * 1024**2


class ModelStorage(Protocol):
    """Named files. Listing is the storage's claim; only what opens is believed."""

    def names(self, path: str) -> list[str]:
        """Entries of a folder, one level, without order; empty where there is no such folder."""

    def open(self, path: str) -> BinaryIO:
        """Open one file for reading, decrypted and authenticated.

        Raises:
            SealedDataError: It does not open.
            UnavailableError: There is no such file.
            ConfigurationError: The path is not below the storage.
        """


class DangerousPlaintextFolder:
    """Files as they lie on a disk, unsealed: development only. Whoever owns the machine reads and changes them.

    Args:
        root: Folder the paths are relative to.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def names(self, path: str) -> list[str]:
        """Entries of a folder."""
        return folder_names(self._root, path)

    def open(self, path: str) -> BinaryIO:
        """Open a file.

        Raises:
            UnavailableError: There is none.
            ConfigurationError: The path leads out of the folder.
        """
        target = (self._root / relative(path)).resolve()
        if not target.is_relative_to(self._root):
            raise ConfigurationError("a model file lies outside the model folder", code="serving.path")
        try:
            return target.open("rb")
        except OSError:
            raise UnavailableError(f"no model file {path!r}", code="serving.storage") from None


class SealedModels:
    """Sealed files below a folder: what opens is authentic and was sealed for its path; the listing is a claim.

    Args:
        opener: Opens a sealed file by its path: `Room.open`.
        root: The storage folder, to list.
    """

    def __init__(self, opener: Callable[[str], BinaryIO], root: Path) -> None:
        self._open = opener
        self._root = root

    def names(self, path: str) -> list[str]:
        """Entries of a folder."""
        return folder_names(self._root, path)

    def open(self, path: str) -> BinaryIO:
        """Open a sealed file.

        Raises:
            SealedDataError: It does not open.
            UnavailableError: There is none.
        """
        try:
            return self._open(relative(path))
        except OSError:
            raise UnavailableError(f"no model file {path!r}", code="serving.storage") from None


def folder_names(root: Path, path: str) -> list[str]:
    """Entries of a folder below a root; hidden ones are left out, and no more than `MAX_FILES` are looked at.

    Raises:
        ConfigurationError: The path is not relative.
    """
    found: list[str] = []
    try:
        for entry in (root / relative(path)).iterdir():
            if not entry.name.startswith("."):
                found.append(entry.name)
            if len(found) >= MAX_FILES:
                break
    except OSError:
        return []
    return found


def relative(path: str) -> str:
    """The path, if it is relative and stays below its root.

    Raises:
        ConfigurationError: It is absolute or climbs.
    """
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise ConfigurationError(
            f"not a path below the model folder: {path!r}", code="serving.path", hint="relative, without .."
        )
    return str(pure)


class VersionFiles:
    """The files of one version, read into memory; remembers the digest of each file it gave out.

    Args:
        storage: Where they are.
        folder: The version's folder.
        max_file_bytes: Larger files are refused.
    """

    def __init__(self, storage: ModelStorage, folder: str, max_file_bytes: int = MAX_FILE_BYTES) -> None:
        self._storage = storage
        self._folder = folder
        self._max_file_bytes = max_file_bytes
        self._digests: dict[str, str] = {}
        self.read_bytes = 0
        self.names = frozenset(_walk(storage, folder, "", 0))

    def read(self, name: str) -> bytes:
        """The whole content of one file.

        Raises:
            SealedDataError: It does not open.
            UnavailableError: There is none.
            FormatError: It is too large.
        """
        parts: list[bytes] = []  # in pieces, so that what decryption needs in between is not as large as the model
        size = 0
        with self._storage.open(f"{self._folder}/{relative(name)}") as file:
            while part := file.read(_PIECE_BYTES):
                parts.append(part)
                size += len(part)
                if size > self._max_file_bytes:
                    raise FormatError(
                        f"a model file is larger than {self._max_file_bytes} bytes", code="serving.model_size"
                    )
        content = b"".join(parts)
        self.read_bytes += size
        self._digests[name] = hashlib.sha256(content).hexdigest()
        return content

    def digest(self) -> str:
        """SHA-256, in hex, of the canonical JSON of name to SHA-256 of every file that was read."""
        return hashlib.sha256(canonical_json(dict(self._digests))).hexdigest()


def _walk(storage: ModelStorage, folder: str, prefix: str, depth: int) -> list[str]:
    found: list[str] = []
    for name in storage.names(f"{folder}/{prefix}" if prefix else folder):
        path = f"{prefix}/{name}" if prefix else name
        inner = _walk(storage, folder, path, depth + 1) if depth < MAX_DEPTH else []
        found.extend(inner or [path])
        if len(found) > MAX_FILES:
            raise FormatError("a model version has too many files", code="serving.model_files")
    return found
