"""Sealed files as Python files: open, create, verify.

    with create_sealed("out/model.json", key) as file:
        file.write(model)
    with open_sealed("out/model.json", key) as file:
        model = file.read()

The format is Gramine's: what is written here opens on a Gramine mount of `type = "encrypted"`, and the reverse.
"""

import hmac
import os
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, Literal

from strongroom.errors import ConfigurationError, Tampered, WrongPath
from strongroom.formats.sealed.geometry import KEY_SIZE
from strongroom.formats.sealed.metadata import Header, Metadata, open_metadata
from strongroom.formats.sealed.paths import file_path
from strongroom.room.new_file import NewFile
from strongroom.room.sealed_reader import SealedNodes, SealedReader
from strongroom.room.sealed_writer import SealedWriter
from strongroom.room.stored_nodes import StoredNodes, pin_of, read_header


class AnyPath(Enum):
    """Type of `ANY_PATH`."""

    ANY = "any"


ANY_PATH: Final = AnyPath.ANY
"""Says that a file may be bound to whatever path: the host may then exchange files sealed under the same key."""

PIN_SIZE: Final = 32


def open_sealed(
    path: str | os.PathLike[str],
    key: bytes,
    *,
    sealed_path: str | Literal[AnyPath.ANY] | None = None,
    pin: bytes | None = None,
) -> SealedReader:
    """Open a sealed file for reading.

    The metadata and the root of the hash tree are verified here, and that the file is not cut; every other node is
    verified before a byte of it is handed out. Whole extra nodes after the end are ignored, as Gramine does. A version
    2 file whose pending-write flag is set is opened too: the flag is not authenticated, and a node that an
    interrupted write left behind fails its own check.

    Args:
        path: The file.
        key: The wrap key, exactly 16 bytes.
        sealed_path: The path that the file must be bound to; by default `path` itself. Normalised before it is
            compared, and a relative path stays relative. `ANY_PATH` accepts any.
        pin: SHA-256 of the metadata node, 32 bytes, which the file must have: refuses every other version of the
            file, an older copy included.

    Returns:
        The plaintext as a binary file.

    Raises:
        ConfigurationError: If the file can't be opened, or the key, path or pin is not one.
        FormatError: If it is not a sealed file, or of an unknown version.
        WrongKey: If the key does not fit.
        WrongPath: If it is bound to another path.
        Truncated: If it is cut.
        Tampered: If it was altered, or is not the pinned version (code `sealed.pin`).
        UnavailableError: If the disk fails.
    """
    _check_key(key)
    expected = _expected_path(path, sealed_path)
    stored = StoredNodes(path)
    try:
        header = read_header(stored)
        _check_pin(stored, pin)
        metadata = open_metadata(header, key)
        _check_path(metadata, expected)
        return SealedReader(SealedNodes(stored, metadata), header)
    except BaseException:
        stored.close()
        raise


def create_sealed(
    path: str | os.PathLike[str],
    key: bytes,
    *,
    sealed_path: str | None = None,
    overwrite: bool = False,
    durable: bool = True,
) -> SealedWriter:
    """Create a sealed file, written front to back, of any length.

    Args:
        path: The file; it appears when it is complete, with mode 0600.
        key: The wrap key, exactly 16 bytes.
        sealed_path: The path to bind to, normalised; by default `path`, where a relative path stays relative.
        overwrite: Whether an existing file may be replaced.
        durable: Wait until the file is on the disk; without it a power failure may take the file back, whole.

    Returns:
        A binary file to write to; use it as a context manager.

    Raises:
        ConfigurationError: If the file can't be created, or the key or path is not one.
        UnavailableError: If the disk fails.
        WouldOverwrite: If the file exists and may not be replaced.
    """
    _check_key(key)
    bound_to = file_path(os.fspath(path) if sealed_path is None else sealed_path)
    return SealedWriter(NewFile(path, overwrite=overwrite, durable=durable), key, bound_to)


def verify_all(
    path: str | os.PathLike[str],
    key: bytes,
    *,
    sealed_path: str | Literal[AnyPath.ANY] | None = None,
    pin: bytes | None = None,
    progress: Callable[[int], Any] | None = None,
) -> None:
    """Check every node of a sealed file.

    Args:
        path: The file.
        key: The wrap key, exactly 16 bytes.
        sealed_path: As for `open_sealed`.
        pin: As for `open_sealed`.
        progress: Called with the number of bytes of plaintext just checked.

    Raises:
        ConfigurationError: As `open_sealed`.
        FormatError: As `open_sealed`.
        WrongKey: As `open_sealed`.
        WrongPath: As `open_sealed`.
        Truncated: As `open_sealed`.
        Tampered: If any node is not the one that was sealed, or the file is not the pinned version.
        UnavailableError: As `open_sealed`.
    """
    with open_sealed(path, key, sealed_path=sealed_path, pin=pin) as reader:
        reader.verify(progress)


def inspect_header(path: str | os.PathLike[str]) -> tuple[Header, int, bytes]:
    """What a sealed file tells without its key; nothing of it is authenticated.

    Args:
        path: The file.

    Returns:
        The plain header, the size on disk in bytes, and the pin (SHA-256 of the metadata node, 32 bytes).

    Raises:
        ConfigurationError: If it can't be opened.
        FormatError: If it is not a sealed file, or of an unknown version.
        Truncated: If it ends inside a node.
        UnavailableError: If the disk fails.
    """
    stored = StoredNodes(path)
    try:
        return read_header(stored), stored.host_size, pin_of(stored.first)
    finally:
        stored.close()


def _check_key(key: bytes) -> None:
    if len(key) != KEY_SIZE:
        raise ConfigurationError(
            f"the key of a sealed file has exactly {KEY_SIZE} bytes, this one {len(key)}", code="key.length"
        )


def _expected_path(path: str | os.PathLike[str], sealed_path: str | Literal[AnyPath.ANY] | None) -> str | None:
    if sealed_path is ANY_PATH:
        return None
    return file_path(os.fspath(path) if sealed_path is None else sealed_path)


def _check_path(metadata: Metadata, expected: str | None) -> None:
    if expected is not None and metadata.path != expected:
        raise WrongPath(
            f"sealed for the path {metadata.path!r}, opened as {expected!r}",
            hint="say which path is meant: --path on the command line, sealed_path= in Python",
        )


def _check_pin(stored: StoredNodes, pin: bytes | None) -> None:
    if pin is None:
        return
    if len(pin) != PIN_SIZE:
        raise ConfigurationError(f"a pin has {PIN_SIZE} bytes (64 hex digits), this one {len(pin)}", code="sealed.pin")
    if not hmac.compare_digest(pin_of(stored.first), pin):
        raise Tampered(
            f"{stored.path} is not the pinned version: another file, or an older or newer copy of it",
            code="sealed.pin",
            hint="if the change was meant, take the new pin from `strongroom inspect`",
        )
