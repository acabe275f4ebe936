"""Moving a table to other master keys: its data keys are wrapped again, its pages are copied as they are.

With the key material inside the files, as every reader understands it, the end of each file is written anew: the
footer holds the key metadata of the columns, and is encrypted again under its old data key.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from strongroom.analytics.datakeys import DataKeys, Rewrapping
from strongroom.analytics.footers import keep_prepared
from strongroom.analytics.manifest import Column, Manifest, Part
from strongroom.analytics.parquet.columns import rewrap_columns
from strongroom.analytics.parquet.footer import parse_tail, rebuild_tail
from strongroom.analytics.signing import Signer
from strongroom.analytics.table import OpenPart, Reading, Table, open_table
from strongroom.analytics.writing import Writing, part_name, publish, remove_parts
from strongroom.errors import ConfigurationError
from strongroom.room.file_errors import file_errors
from strongroom.room.new_file import NewFile

_COPY_BYTES: Final = 4 * 1024 * 1024


def rotate(folder: Path, name: str, renamed: Mapping[str, str], reading: Reading, signer: Signer) -> Manifest:
    """Put a table under other master keys. Data pages are neither decrypted nor changed.

    Copies of the old files that somebody made still open with the old keys: revoke those too.

    Args:
        folder: The table's folder.
        name: The table's name.
        renamed: Name of each old master key, and of the new one.
        reading: Keys (old and new), trust, memory.
        signer: Signs the new manifest.

    Returns:
        The new manifest.

    Raises:
        ConfigurationError: The table has no key of an old name, or the folder is not writable.
        StrongroomError: The table can't be opened, as `open_table` says.
    """
    table = open_table(folder, name, reading)
    if unknown := renamed.keys() - {table.manifest.key, *(column.key for column in table.manifest.columns)}:
        raise ConfigurationError(f"no part of table {name} is under {min(unknown)}", code="rotate.key")
    rewrap = Rewrapping(reading.data_keys.kms, renamed)
    written: list[Part] = []
    try:
        for part in table.parts:
            name_now = part_name(table.manifest.version + 1, len(written))
            written.append(_rotate_part(part, name_now, rewrap, reading.data_keys))
        manifest = _rotated(table, written, renamed)
        publish(
            folder, manifest, Writing(reading.data_keys.kms, signer, reading.versions), replaced=table.manifest.parts
        )
    except BaseException:
        remove_parts(folder, written)
        raise
    return manifest


def _rotated(table: Table, parts: list[Part], renamed: Mapping[str, str]) -> Manifest:
    old = table.manifest
    columns = tuple(Column(c.name, c.type, renamed.get(c.key, c.key)) for c in old.columns)
    return replace(
        old,
        version=old.version + 1,
        previous=old.digest,
        key=renamed.get(old.key, old.key),
        columns=columns,
        parts=tuple(sorted(parts, key=lambda part: part.name)),
    )


def _rotate_part(part: OpenPart, name: str, rewrap: Rewrapping, data_keys: DataKeys) -> Part:
    footer = rewrap_columns(part.footer.metadata, rewrap)
    raw = rebuild_tail(part.tail, part.footer.cipher, rewrap(part.tail.key_metadata), footer, os.urandom(12))
    target = part.path.with_name(name)
    with NewFile(target) as file:
        _copy(part.path, file, part.tail.start)
        file.write_at(raw, part.tail.start)
        tail = parse_tail(raw, part.tail.start)
        prepared = keep_prepared(target, tail, data_keys)
    key = hashlib.sha256(tail.key_metadata).digest()
    return Part(target.name, part.tail.start + len(raw), part.part.rows, tail.digest, key, prepared)


def _copy(source: Path, target: NewFile, size: int) -> None:
    with file_errors(source):
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for offset in range(0, size, _COPY_BYTES):
                target.write_at(os.pread(descriptor, min(_COPY_BYTES, size - offset), offset), offset)
        finally:
            os.close(descriptor)
