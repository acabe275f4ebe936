"""Footers of a table's files: prepared ones from beside the files where they are, else from the files themselves."""

import hashlib
import os
from pathlib import Path

from strongroom.analytics.parquet.columns import Footer, open_footer
from strongroom.analytics.parquet.footer import DataKey, Tail
from strongroom.analytics.parquet.prepared import MAX_PREPARED_BYTES, open_prepared, prepare
from strongroom.errors import FormatError, KeyReleaseError
from strongroom.room.file_errors import file_errors
from strongroom.room.new_file import NewFile


def prepared_path(path: Path) -> Path:
    """Where a file's prepared footer is. Its leading underscore keeps engines from taking it for data."""
    return path.with_name(f"_{path.name}.footer")


def keep_prepared(path: Path, tail: Tail, data_key: DataKey) -> bytes:
    """Prepare the footer of a file that was just written and put it beside the file.

    Not made to last a power failure: without it, reading is slower and not otherwise different.

    Args:
        path: The file.
        tail: Its tail.
        data_key: Finds data keys.

    Returns:
        For the manifest: SHA-256 of what was written, 32 bytes; empty where the writer has no right to read.

    Raises:
        FormatError: The footer doesn't follow the format.
        UnavailableError: The disk is full or fails, or the key service doesn't answer.
    """
    try:
        raw = prepare(open_footer(tail, data_key), data_key, os.urandom)
    except KeyReleaseError:
        return b""
    with NewFile(prepared_path(path), overwrite=True, durable=False) as file:
        file.write_at(raw, 0)
    return hashlib.sha256(raw).digest()


def find_footer(path: Path, tail: Tail, digest: bytes, data_key: DataKey) -> Footer:
    """Open a file's footer.

    A prepared one that is gone or altered is passed over: the tail tells the same, and was checked. So is one with a
    part that this reader has no right to.

    Args:
        path: The file.
        tail: Its tail, which is the one that the manifest names.
        digest: SHA-256 of its prepared footer, as the manifest says; empty if there is none.
        data_key: Finds data keys.

    Raises:
        FormatError: The footer doesn't follow the format.
        Tampered: It was altered, or a key is not the file's.
        KeyReleaseError: There is no right to the footer's key.
        ConfigurationError: The prepared footer can't be read.
        UnavailableError: The disk or the key service doesn't answer.
    """
    raw = _read(prepared_path(path)) if digest else b""
    if digest and hashlib.sha256(raw).digest() == digest:
        try:
            return open_prepared(raw, tail, data_key)
        except (FormatError, KeyReleaseError):
            pass
    return open_footer(tail, data_key)


def _read(path: Path) -> bytes:
    with file_errors(path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return b""
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            return file.read(min(os.fstat(descriptor).st_size, MAX_PREPARED_BYTES))
