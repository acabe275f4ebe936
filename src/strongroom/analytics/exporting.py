"""Tables out as CSV, JSON lines or plain Parquet: readable by everybody, so every column asked for needs its key."""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Final, cast

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from strongroom.analytics.sink import FileSink
from strongroom.analytics.table import Table, readers
from strongroom.errors import ConfigurationError, StrongroomError
from strongroom.room.new_file import NewFile

BATCH_ROWS: Final = 128 * 1024


def table_batches(table: Table, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """The rows of a table as record batches; the first one may be empty and carries the schema.

    Args:
        table: A checked table.
        columns: Which columns, in this order; else all.

    Raises:
        KeyReleaseError: There is no right to a column.
        ConfigurationError: There is no such column.
        FormatError: A page doesn't follow the format.
        Tampered: A page was altered or moved.
        UnavailableError: The disk fails.
    """
    wanted = list(columns or (column.name for column in table.manifest.columns))
    _require(table, wanted)
    for reader in readers(table):
        # In this thread alone: one of pyarrow's that holds the reader when the interpreter ends aborts the process.
        with pq.ParquetFile(reader, pre_buffer=False) as file:
            yield pa.RecordBatch.from_pylist([], pa.schema([file.schema_arrow.field(name) for name in wanted]))
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted, use_threads=False):
                yield batch.select(wanted)


def _require(table: Table, columns: Sequence[str]) -> None:
    for name in columns:
        if name in table.refused:
            why: StrongroomError = table.refused[name]
            why.hint = f"leave it out: --columns {','.join(table.columns)}"
            raise why
        if name not in table.columns:
            raise ConfigurationError(
                f"table {table.manifest.table} has no column {name!r}",
                code="analytics.column",
                hint="columns: " + ", ".join(table.columns),
            )


def write_csv(batches: Iterator[Any], sink: IO[bytes]) -> int:
    """Write record batches as CSV with a header.

    Returns:
        The number of rows.
    """
    rows = 0
    first = next(batches)
    with pa_csv.CSVWriter(sink, first.schema) as writer:
        for batch in _chain(first, batches):
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def write_json(batches: Iterator[Any], sink: IO[bytes]) -> int:
    """Write record batches as JSON, one object a line; what JSON has no form for becomes a string.

    Returns:
        The number of rows.
    """
    rows = 0
    for batch in batches:
        lines = [json.dumps(row, default=_json_value, ensure_ascii=False) for row in batch.to_pylist()]
        sink.write("".join(line + "\n" for line in lines).encode())
        rows += batch.num_rows
    return rows


def write_parquet(batches: Iterator[Any], sink: IO[bytes]) -> int:
    """Write record batches as plain Parquet.

    Returns:
        The number of rows.
    """
    rows = 0
    first = next(batches)
    with pq.ParquetWriter(sink, first.schema, compression="zstd") as writer:
        for batch in _chain(first, batches):
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


WRITERS: Final[dict[str, Callable[[Iterator[Any], IO[bytes]], int]]] = {
    ".csv": write_csv,
    ".json": write_json,
    ".jsonl": write_json,
    ".parquet": write_parquet,
}


def export(batches: Iterator[Any], target: Path, *, overwrite: bool = False) -> int:
    """Write record batches to a file of the format that its name says; it appears when it is whole.

    Args:
        batches: At least one.
        target: Ends in .csv, .json, .jsonl or .parquet.
        overwrite: Whether a file of that name may be replaced.

    Returns:
        The number of rows.

    Raises:
        ConfigurationError: The name ends otherwise, or is not writable.
        WouldOverwrite: The file exists.
        UnavailableError: The disk is full or fails.
    """
    if target.suffix.lower() not in WRITERS:
        raise ConfigurationError(
            f"can't tell the format of {target}", code="export.format", hint="a name ending in " + " ".join(WRITERS)
        )
    with NewFile(target, overwrite=overwrite) as file:
        return WRITERS[target.suffix.lower()](batches, cast(IO[bytes], FileSink(file)))


def _chain(first: Any, rest: Iterator[Any]) -> Iterator[Any]:
    yield first
    yield from rest


def _json_value(value: Any) -> str:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | timedelta):
        return str(value)
    return value.hex() if isinstance(value, bytes) else str(value)
