"""Tables in Spark: read after every check, and only the files that were checked; written, then named by a manifest.

The driver checks manifest, listing and footers (`open_table`). What it found goes to the executors as an option of the
read, over Spark's authenticated traffic: the files, and the digests of the key metadata that each may ask a key for
(`StrictCryptoFactory`). So what an executor opens later is what the driver checked before.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from strongroom.analytics.datakeys import DataKeys
from strongroom.analytics.footers import keep_prepared
from strongroom.analytics.manifest import Column, Manifest, Part
from strongroom.analytics.parquet.columns import open_footer
from strongroom.analytics.parquet.footer import read_tail
from strongroom.analytics.spark.settings import COLUMN_KEYS, FILES, FOOTER_KEY, TABLE, UNIFORM_KEY
from strongroom.analytics.table import OpenPart, Table
from strongroom.analytics.writing import Protection, Writing, publish, remove_parts
from strongroom.errors import ConfigurationError, FormatError, VerificationError
from strongroom.room.file_errors import file_errors

_UNREADABLE: Final = re.compile(r"[*?\[\]{}\\\x00-\x1f\x7f]")
_SEPARATOR: Final = "/"
_SCHEMA: Final = 2  # of FileMetaData in parquet.thrift


def frame(reader: Any, table: Table) -> Any:
    """A checked table as a DataFrame.

    Args:
        reader: DataFrameReader (``spark.read``).
        table: From `open_table`.

    Raises:
        VerificationError: A file was written as part of another table.
        ConfigurationError: Spark can't be given this folder's name.
    """
    folder = readable(table.folder)
    for part in table.parts:
        _check_prefix(part, table.manifest.table)
        _check_compressed(part)
    paths = [f"file://{folder / part.part.name}" for part in table.parts]
    return reader.option(FILES, expected_files(folder, table.parts)).parquet(*paths)


def readable(folder: Path) -> Path:
    """A folder's absolute path.

    Raises:
        ConfigurationError: It holds characters that mean something to Spark.
    """
    absolute = folder.absolute()
    if _UNREADABLE.search(str(absolute)):
        raise ConfigurationError(
            f"Spark can't read from a folder of this name: {str(absolute)[:200]!r}", code="spark.path"
        )
    return absolute


def expected_files(folder: Path, parts: Iterable[OpenPart]) -> str:
    """For `StrictCryptoFactory`: each file's path, and the digests of every key metadata in it."""
    lines = []
    for part in parts:
        metadata = [part.tail.key_metadata, *part.footer.column_keys.values()]
        digests = sorted({hashlib.sha256(item).hexdigest() for item in metadata})
        lines.append("\t".join([str(folder / part.part.name), *digests]))
    return "\n".join(lines)


def _check_compressed(part: OpenPart) -> None:
    """The algorithm's name in a file is not authenticated, and Spark's reader can't be told to refuse AES_GCM_CTR_V1.

    Under that name pages would be read unauthenticated. A compressed page doesn't decompress then; one without
    compression would give wrong rows.

    Raises:
        FormatError: The file has pages without compression.
    """
    if part.footer.uncompressed:
        raise FormatError(
            f"{part.path.name} has pages without compression, which Spark can't read safely",
            code="spark.uncompressed",
            hint="import the table again, or use --engine embedded",
        )


def _check_prefix(part: OpenPart, table: str) -> None:
    """Files of pyarrow have no AAD prefix; one that is there must be this table's.

    Raises:
        VerificationError: It is another's.
    """
    prefix = part.tail.aad_prefix
    if prefix and prefix.split(_SEPARATOR.encode())[0] != table.encode():
        raise VerificationError(f"{part.path.name} was written as part of another table", code="table.aad_prefix")


@dataclass(frozen=True, slots=True)
class NewTable:
    """Where a DataFrame goes.

    Args:
        name: Name of the table.
        folder: Its folder.
        protection: Master keys.
        previous: Manifest of the version that is replaced; None for a new table.
        extends: The table that the rows are added to; None to write all rows anew.
    """

    name: str
    folder: Path
    protection: Protection
    previous: Manifest | None = None
    extends: Table | None = None


def write_frame(rows: Any, target: NewTable, writing: Writing) -> Manifest:
    """Write a DataFrame as an encrypted table.

    The executors write; the driver then reads back every tail. That the storage shows it what was written is known by
    an AAD prefix made for this write, by data keys that no two files share, and by the number of rows, which Spark
    counts while it writes.

    Args:
        rows: DataFrame.
        target: Where it goes.
        writing: Key service, signer, memory of versions.

    Returns:
        The new manifest.

    Raises:
        VerificationError: The storage doesn't show what was written.
        FormatError: Rows are added that have other columns than the table.
        ConfigurationError: The folder is not writable.
        KeyReleaseError: There is no right to a master key.
        UnavailableError: The disk fails, or the key service doesn't answer.
    """
    folder = readable(target.folder)
    label = f"{target.name}{_SEPARATOR}{secrets.token_hex(16)}"
    with file_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    before = _data_files(folder)
    try:
        count = _run(rows, folder, {TABLE: label, **_key_options(target.protection, rows.schema)})
        opened = [_read_back(folder / name, label, writing) for name in sorted(_data_files(folder) - before)]
        _check_complete(opened, count)
        manifest = _manifest(target, opened, writing)
    except BaseException:
        _remove(folder, _data_files(folder) - before)
        raise
    finally:
        _remove_checksums(folder)
    publish(folder, manifest, writing, replaced=target.previous.parts if target.previous else ())
    return manifest


def _run(rows: Any, folder: Path, options: Mapping[str, str]) -> int:
    """Write, and return how many rows there were."""
    from pyspark.sql import Observation
    from pyspark.sql.functions import count, lit

    written = Observation()
    counted = rows.observe(written, count(lit(1)).alias("rows"))
    quiet = {"mapreduce.fileoutputcommitter.marksuccessfuljobs": "false"}
    counted.write.options(**options, **quiet).mode("append").parquet(f"file://{folder}")
    return int(written.get["rows"])


def _key_options(protection: Protection, schema: Any) -> dict[str, str]:
    if not protection.column_keys:
        return {UNIFORM_KEY: protection.key}
    fields = {field.name: field.dataType for field in schema.fields}
    if unknown := protection.column_keys.keys() - fields.keys():
        raise ConfigurationError(f"no column {min(unknown)!r} in this table", code="analytics.column_key")
    leaves: dict[str, list[str]] = {}
    for name, key in protection.column_keys.items():
        leaves.setdefault(key, []).extend(leaf_paths(name, fields[name]))
    if any(set(path) & set(",:;") for paths in leaves.values() for path in paths):
        raise ConfigurationError(
            "with column keys, a column's name can't hold any of ,:;", code="analytics.column_name"
        )
    return {
        FOOTER_KEY: protection.key,
        COLUMN_KEYS: ";".join(f"{key}:{','.join(paths)}" for key, paths in leaves.items()),
    }


def leaf_paths(name: str, type_: Any) -> list[str]:
    """Dotted Parquet paths of a column's leaves, as Spark writes them.

    Args:
        name: Path so far.
        type_: Spark's DataType.
    """
    from pyspark.sql.types import ArrayType, MapType, StructType

    if isinstance(type_, StructType):
        return [path for field in type_.fields for path in leaf_paths(f"{name}.{field.name}", field.dataType)]
    if isinstance(type_, ArrayType):
        return leaf_paths(f"{name}.list.element", type_.elementType)
    if isinstance(type_, MapType):
        keys = leaf_paths(f"{name}.key_value.key", type_.keyType)
        return keys + leaf_paths(f"{name}.key_value.value", type_.valueType)
    return [name]


def _data_files(folder: Path) -> set[str]:
    with file_errors(folder):
        return {entry.name for entry in folder.iterdir() if entry.name[0] not in "._"}


def _read_back(path: Path, label: str, writing: Writing) -> OpenPart:
    """Open a file that was just written.

    Raises:
        VerificationError: It was not written by this write.
    """
    with file_errors(path), path.open("rb") as file:
        size = file.seek(0, 2)

        def read_at(offset: int, count: int) -> bytes:
            file.seek(offset)
            return file.read(count)

        tail = read_tail(read_at, size)
    if tail.aad_prefix != label.encode():
        raise VerificationError(f"{path.name} is not what was just written there", code="table.write_swapped")
    data_keys = DataKeys(writing.kms)
    footer = open_footer(tail, data_keys)
    key = hashlib.sha256(tail.key_metadata).digest()
    part = Part(path.name, size, footer.rows, tail.digest, key, keep_prepared(path, tail, data_keys))
    return OpenPart(path, part, tail, footer)


def _check_complete(opened: list[OpenPart], rows: int) -> None:
    """Refuse a file shown twice and a file not shown.

    Raises:
        VerificationError: What is there is not what was written.
    """
    if len({item.part.key for item in opened}) != len(opened):
        raise VerificationError("the storage shows one file under two names", code="table.write_swapped")
    found = sum(item.part.rows for item in opened)
    if found != rows:
        raise VerificationError(
            f"{rows:,} rows were written, the storage shows {found:,}", code="table.write_incomplete"
        )


def _manifest(target: NewTable, opened: list[OpenPart], writing: Writing) -> Manifest:
    previous = target.previous
    kept: tuple[Part, ...] = ()
    if target.extends is not None:
        _refuse_drift(target.extends, opened[0])
        previous = target.extends.manifest
        kept = previous.parts
    seen = writing.versions.newest(target.name)
    return Manifest(
        table=target.name,
        version=1 + max(previous.version if previous else 0, seen[0] if seen else 0),
        previous=previous.digest if previous else b"",
        key=target.protection.key,
        columns=_columns(opened[0], target.protection),
        parts=tuple(sorted([*kept, *(item.part for item in opened)], key=lambda part: part.name)),
    )


def _refuse_drift(table: Table, new: OpenPart) -> None:
    """Refuse rows that would make a table which nobody can open any more.

    Raises:
        FormatError: The new files' schema or keys differ.
    """
    old = table.parts[0]
    same_keys = old.footer.column_keys.keys() == new.footer.column_keys.keys()
    if old.footer.metadata[_SCHEMA] != new.footer.metadata[_SCHEMA] or not same_keys:
        raise FormatError(
            f"the new rows' columns are not stored as those of table {table.manifest.table}",
            code="table.schema_drift",
            hint="write all rows anew, with replace=True: a table is written by one engine",
        )


def _columns(opened: OpenPart, protection: Protection) -> tuple[Column, ...]:
    with opened.open() as reader:
        schema = pq.read_schema(reader)
    return tuple(
        Column(item.name, str(item.type), protection.column_keys.get(item.name, protection.key)) for item in schema
    )


def _remove_checksums(folder: Path) -> None:
    """Hadoop's checksums protect from nothing here, and stand in the way when keys are wrapped anew."""
    for path in folder.glob(".*.parquet.crc"):
        path.unlink(missing_ok=True)


def _remove(folder: Path, names: Iterable[str]) -> None:
    remove_parts(folder, [Part(name, 0, 0, b"", b"") for name in names])
