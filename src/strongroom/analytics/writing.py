"""Writing encrypted tables: pyarrow encrypts; the manifest is made from what was written, not from what is read back.

The high-level encryption of pyarrow (CryptoFactory) makes a fresh data key for every file and column key, wraps it
twice, and stores standard key material in the file. It can't set an AAD prefix; the manifest binds files to their
table instead, by the digest of each file's tail.
"""

import base64
import hashlib
import itertools
import secrets
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe

from strongroom.analytics.datakeys import KEY_LIFETIME_S, DataKeys
from strongroom.analytics.footers import keep_prepared, prepared_path
from strongroom.analytics.kms import Kms
from strongroom.analytics.manifest import MANIFEST_NAME, Column, Manifest, Part, seal_manifest
from strongroom.analytics.parquet.footer import MAGIC, parse_tail
from strongroom.analytics.parquet.material import decode
from strongroom.analytics.signing import Signer
from strongroom.analytics.sink import FileSink
from strongroom.analytics.versions import Versions
from strongroom.errors import ConfigurationError, FormatError
from strongroom.formats.kbs import ResourcePath
from strongroom.room.file_errors import file_errors
from strongroom.room.new_file import NewFile

ALGORITHM: Final = "AES_GCM_V1"
DATA_KEY_BITS: Final = 256
ROW_GROUP_ROWS: Final = 256 * 1024
"""A reader takes a row group at once; what it takes should fit in a processor's cache and be worth a call."""
FILE_ROWS: Final = 16 * ROW_GROUP_ROWS
PAGE_BYTES: Final = 1024 * 1024
COMPRESSION: Final = "zstd"
_END_SIZE: Final = 8
_SEPARATORS: Final = frozenset(".,:;")
_KEPT_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Protection:
    """Which master key guards what.

    Args:
        key: Name of the key of the footers, of the manifest and of every column without a key of its own.
        column_keys: Top-level column name to the name of its master key.
    """

    key: str
    column_keys: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is not a key's name.

        Raises:
            FormatError: A name is malformed.
        """
        for name in (self.key, *self.column_keys.values()):
            ResourcePath.parse(name)


@dataclass(frozen=True, slots=True)
class Writing:
    """What a writer needs.

    Args:
        kms: The key service.
        signer: Signs manifests.
        versions: Remembers the newest version of each table: a new table of an old name continues its numbers.
    """

    kms: Kms
    signer: Signer
    versions: Versions


class FileEncryption:
    """Makes the encryption properties of each new file.

    Args:
        kms: The key service.
        protection: Which master key guards what.
        schema: Arrow schema of the table.

    Attributes:
        data_keys: Finds the data keys of the files that were written.

    Raises:
        ConfigurationError: A column with a key of its own is not in the schema, or a name can't be written in the key
            tools' mapping of keys to columns.
    """

    def __init__(self, kms: Kms, protection: Protection, schema: pa.Schema) -> None:
        if unknown := protection.column_keys.keys() - set(schema.names):
            raise ConfigurationError(
                f"no column {min(unknown)!r} in this table",
                code="analytics.column_key",
                hint="columns: " + ", ".join(schema.names[:30]),
            )
        if protection.column_keys and (bad := [name for name in schema.names if set(name) & _SEPARATORS]):
            raise ConfigurationError(
                f"with column keys, a column's name can't hold any of {''.join(sorted(_SEPARATORS))}: {bad[0][:100]!r}",
                code="analytics.column_name",
            )
        self.data_keys = DataKeys(kms)
        self._factory = pe.CryptoFactory(lambda _config: _PyarrowKms(self.data_keys))
        self._connection = pe.KmsConnectionConfig()
        self._configuration = pe.EncryptionConfiguration(
            footer_key=protection.key,
            encryption_algorithm=ALGORITHM,
            double_wrapping=True,
            data_key_length_bits=DATA_KEY_BITS,
            cache_lifetime=timedelta(seconds=KEY_LIFETIME_S),
            **_keys(protection, schema),
        )

    def properties(self) -> Any:
        """Properties with fresh data keys, for one file.

        Raises:
            KeyReleaseError: There is no right to a master key.
            UnavailableError: The key service doesn't answer.
        """
        return self._factory.file_encryption_properties(self._connection, self._configuration)


def _keys(protection: Protection, schema: pa.Schema) -> dict[str, Any]:
    """Every column has a key: without one of its own it has the footer's, which pyarrow calls uniform encryption."""
    if not protection.column_keys:
        return {"uniform_encryption": True}
    columns: dict[str, list[str]] = {}
    for name in schema.names:
        columns.setdefault(protection.column_keys.get(name, protection.key), []).append(name)
    return {"column_keys": columns}


class _PyarrowKms(pe.KmsClient):  # type: ignore[misc]  # pyarrow has no types
    def __init__(self, data_keys: DataKeys) -> None:
        super().__init__()
        self._data_keys = data_keys

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> bytes:
        wrapped = base64.b64encode(self._data_keys.kms.wrap(master_key_identifier, key_bytes))
        self._data_keys.remember(master_key_identifier, wrapped.decode(), key_bytes)
        return wrapped

    def unwrap_key(self, wrapped_key: str | bytes, master_key_identifier: str) -> bytes:
        text = wrapped_key.decode() if isinstance(wrapped_key, bytes) else wrapped_key
        return self._data_keys.kms.unwrap(master_key_identifier, decode(text))


class _TailKeeper(FileSink):
    """A sink that also keeps the end of what was written, so that nothing is read back.

    Args:
        file: The file to write.
    """

    def __init__(self, file: NewFile) -> None:
        super().__init__(file)
        self._recent: deque[bytes] = deque()
        self._kept = 0

    def write(self, data: object, /) -> int:
        written = super().write(data)
        self._recent.append(bytes(data))  # type: ignore[call-overload]  # any buffer
        self._kept += written
        while self._kept - len(self._recent[0]) > _KEPT_BYTES:
            self._kept -= len(self._recent.popleft())
        return written

    def tail(self) -> bytes:
        recent = b"".join(self._recent)
        length = int.from_bytes(recent[-_END_SIZE:-4], "little") + _END_SIZE
        if recent[-4:] != MAGIC or length > len(recent):
            raise FormatError("the footer is too long: too many columns and row groups", code="parquet.footer_size")
        return recent[-length:]


def write_part(folder: Path, name: str, batches: Iterable[Any], schema: pa.Schema, encryption: FileEncryption) -> Part:
    """Write one file of a table; it appears under its name when it is whole.

    Args:
        folder: The table's folder; must exist.
        name: File name.
        batches: Arrow tables or record batches of this schema.
        schema: Arrow schema of the table.
        encryption: Makes the file's keys.

    Returns:
        What the manifest says of it.

    Raises:
        FormatError: A batch has another schema, or the footer is longer than 16 MiB.
        KeyReleaseError: There is no right to a master key.
        UnavailableError: The disk is full or fails, or the key service doesn't answer.
        WouldOverwrite: There is a file of that name.
    """
    rows = 0
    with NewFile(folder / name) as file:
        sink = _TailKeeper(file)
        options = _encodings(schema) | {"encryption_properties": encryption.properties()}
        with pq.ParquetWriter(
            sink,
            schema,
            compression=COMPRESSION,
            data_page_size=PAGE_BYTES,
            max_rows_per_page=ROW_GROUP_ROWS,
            **options,
        ) as writer:
            for group in _row_groups(batches, schema):
                writer.write_table(group, row_group_size=ROW_GROUP_ROWS)
                rows += group.num_rows
        raw = sink.tail()
        tail = parse_tail(raw, sink.size - len(raw))
        prepared = keep_prepared(folder / name, tail, encryption.data_keys)
    return Part(name, sink.size, rows, tail.digest, hashlib.sha256(tail.key_metadata).digest(), prepared)


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """Times as differences: they hardly repeat, so a dictionary only costs. (Nested schemas keep the defaults.)"""
    times = [item.name for item in schema if pa.types.is_timestamp(item.type)]
    if not times or any(pa.types.is_nested(item.type) for item in schema):
        return {}
    others = [name for name in schema.names if name not in times]
    return {"use_dictionary": others, "column_encoding": dict.fromkeys(times, "DELTA_BINARY_PACKED")}


def _row_groups(batches: Iterable[Any], schema: pa.Schema) -> Iterator[Any]:
    """Batches of any size as tables of a row group's size; the last is smaller; at least one, maybe empty."""
    pending = schema.empty_table()
    full = False
    for batch in batches:
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        pending = pa.concat_tables([pending, _conforming(table.replace_schema_metadata(), schema)])
        while pending.num_rows >= ROW_GROUP_ROWS:
            yield pending.slice(0, ROW_GROUP_ROWS)
            pending, full = pending.slice(ROW_GROUP_ROWS), True
    if pending.num_rows or not full:
        yield pending


def _conforming(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if table.schema.equals(schema):
        return table
    raise FormatError("rows with another schema than the table's", code="table.schema_drift")


class TableWriter:
    """Writes a new version of a table. As a context manager: the table changes at the end of the block, or not at all.

    Args:
        folder: The table's folder; made if it is not there.
        name: The table's name.
        schema: Arrow schema.
        protection: Which master key guards what.
        writing: Keys and signer.
        previous: Manifest of the version that this one replaces or continues.
        append: Keep the files of `previous`.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        schema: pa.Schema,
        protection: Protection,
        *,
        writing: Writing,
        previous: Manifest | None = None,
        append: bool = False,
    ) -> None:
        self._folder, self._name, self._schema = folder, name, schema.remove_metadata()
        self._protection, self._writing = protection, writing
        self._previous, self._append = previous, append
        self._encryption = FileEncryption(writing.kms, protection, self._schema)
        self._version = self._next_version()
        self._pending: list[Any] = []
        self._pending_rows = 0
        self._parts: list[Part] = []
        self._numbers = itertools.count()
        self.manifest: Manifest | None = None
        with file_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, batch: Any) -> None:
        """Add an Arrow table or record batch; a file is written whenever there are rows for one.

        Raises:
            FormatError: It has another schema than the table.
            KeyReleaseError: There is no right to a master key.
            UnavailableError: The disk is full or fails, or the key service doesn't answer.
        """
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        self._pending.append(_conforming(table.replace_schema_metadata(), self._schema))
        self._pending_rows += table.num_rows
        if self._pending_rows >= FILE_ROWS:
            self._flush()

    def write_part(self, batches: Iterable[Any]) -> Part:
        """Write one file of the table; several threads may do so at once. `add` makes it count.

        Raises:
            FormatError: A batch has another schema than the table.
            KeyReleaseError: There is no right to a master key.
            UnavailableError: The disk is full or fails, or the key service doesn't answer.
        """
        name = part_name(self._version, next(self._numbers))
        return write_part(self._folder, name, batches, self._schema, self._encryption)

    def add(self, part: Part) -> None:
        """Take a file that `write_part` wrote into the table."""
        self._parts.append(part)

    def _next_version(self) -> int:
        seen = self._writing.versions.newest(self._name)
        return 1 + max(0 if self._previous is None else self._previous.version, 0 if seen is None else seen[0])

    def _flush(self) -> None:
        batches, self._pending, self._pending_rows = self._pending, [], 0
        self.add(self.write_part(batches))

    def commit(self) -> Manifest:
        """Write what is left and put the manifest in place; files of the version before are removed after that.

        Returns:
            The manifest.

        Raises:
            ConfigurationError: The folder is not writable.
            KeyReleaseError: There is no right to a master key.
            UnavailableError: The disk is full or fails, or the key service doesn't answer.
        """
        if self._pending or not self._parts:
            self._flush()
        old = self._previous.parts if self._previous is not None else ()
        manifest = Manifest(
            table=self._name,
            version=self._version,
            previous=self._previous.digest if self._previous is not None else b"",
            key=self._protection.key,
            columns=tuple(self._column(item) for item in self._schema),
            parts=tuple(sorted([*self._parts, *(old if self._append else ())], key=lambda part: part.name)),
        )
        publish(self._folder, manifest, self._writing, replaced=() if self._append else old)
        self.manifest = manifest
        return manifest

    def _column(self, item: pa.Field) -> Column:
        return Column(item.name, str(item.type), self._protection.column_keys.get(item.name, self._protection.key))

    def discard(self) -> None:
        """Remove the files written so far."""
        remove_parts(self._folder, self._parts)
        self._parts = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            self.commit()
        except BaseException:
            self.discard()
            raise


def part_name(version: int, number: int) -> str:
    """A file's name: in the order of the rows, and never used before, so that no version overwrites another's files."""
    return f"part-{version:05d}-{number:05d}-{secrets.token_hex(6)}.parquet"


def publish(folder: Path, manifest: Manifest, writing: Writing, *, replaced: Iterable[Part] = ()) -> None:
    """Put a manifest in place in one step, then remove files that it no longer names.

    Raises:
        KeyReleaseError: There is no right to the table's key.
        ConfigurationError: The folder is not writable.
        UnavailableError: The disk is full or fails, or the key service doesn't answer.
    """
    sealed = seal_manifest(manifest, writing.kms, writing.signer)
    with NewFile(folder / MANIFEST_NAME, overwrite=True) as file:
        file.write_at(sealed, 0)
    writing.versions.remember(manifest)
    remove_parts(folder, replaced)


def remove_parts(folder: Path, parts: Iterable[Part]) -> None:
    """Remove files of a table and what stands beside them; those already gone too."""
    for part in parts:
        for path in (folder / part.name, prepared_path(folder / part.name)):
            with file_errors(path):
                path.unlink(missing_ok=True)
