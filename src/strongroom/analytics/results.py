"""Results on their way out: as text on a stream, or as a new encrypted table; with the digest that a receipt states."""

import hashlib
import io
from collections.abc import Iterator
from typing import IO, Any, Final, cast

import pyarrow as pa

from strongroom.analytics.engine import Result
from strongroom.analytics.exporting import write_csv, write_json
from strongroom.analytics.importing import storable
from strongroom.analytics.receipts import Output
from strongroom.analytics.writing import TableWriter

MAX_SHOWN_ROWS: Final = 1000
MAX_CELL_CHARS: Final = 80


class HashingStream(io.RawIOBase):
    """Passes bytes on to a stream and hashes them.

    Args:
        stream: Where they go; stays open.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__()
        self._stream = stream
        self._digest = hashlib.sha256()

    def writable(self) -> bool:
        """It can be written."""
        return True

    def write(self, data: object, /) -> int:
        """Pass bytes on."""
        view = memoryview(data)  # type: ignore[arg-type]  # RawIOBase says "any buffer"
        self._digest.update(view)
        self._stream.write(view)
        return view.nbytes

    def digest(self) -> bytes:
        """SHA-256 of everything written."""
        return self._digest.digest()


def write_result(result: Result, form: str, stream: IO[bytes]) -> Output:
    """Write a result as text.

    Args:
        result: The result; this runs the query.
        form: "table", "csv" or "json" (one object a line).
        stream: Where to.

    Returns:
        What a receipt says of it. A "table" shows at most 1,000 rows and says so in its last line.

    Raises:
        StrongroomError: The query fails while it runs.
    """
    sink = HashingStream(stream)
    writers = {"csv": write_csv, "json": write_json, "table": _write_table}
    rows = writers[form](_with_schema(result), cast("IO[bytes]", sink))
    return Output(form, sink.digest(), rows)


def seal_result(result: Result, writer: TableWriter) -> Output:
    """Write a result as an encrypted table.

    Args:
        result: The result; this runs the query.
        writer: Of a table with the schema `storable_schema(result.schema)`.

    Returns:
        What a receipt says of it: the digest is the new manifest's.

    Raises:
        StrongroomError: The query fails while it runs, or the table can't be written; then there is none.
    """
    schema = storable_schema(result.schema)
    with writer:
        for batch in result.batches:
            writer.write(pa.Table.from_batches([batch]).cast(schema))
    manifest = writer.commit() if writer.manifest is None else writer.manifest
    return Output("sealed", manifest.digest, manifest.rows)


def storable_schema(schema: Any) -> Any:
    """The schema with the types that every engine reads; sums that DuckDB makes 128 bits wide become 64 or double."""
    return pa.schema([pa.field(item.name, _narrow(item.type)) for item in schema])


def _narrow(type_: Any) -> Any:
    if pa.types.is_decimal(type_) and type_.precision > 18:
        return pa.int64() if type_.scale == 0 else pa.float64()
    return storable(type_)


def _with_schema(result: Result) -> Iterator[Any]:
    yield pa.RecordBatch.from_pylist([], result.schema)
    yield from result.batches


def _write_table(batches: Iterator[Any], sink: IO[bytes]) -> int:
    names: list[str] = []
    shown: list[list[str]] = []
    rows = 0
    for batch in batches:
        names = batch.schema.names
        if rows < MAX_SHOWN_ROWS:
            columns = [column.to_pylist() for column in batch.slice(0, MAX_SHOWN_ROWS - rows).columns]
            shown += [[_cell(value) for value in row] for row in zip(*columns, strict=True)]
        rows += batch.num_rows
    widths = [max(map(len, column)) for column in zip(names, *shown, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [names, *shown]]
    lines.insert(1, "  ".join("-" * width for width in widths))
    if rows > len(shown):
        lines.append(f"... {rows:,} rows, the first {len(shown):,} are shown; --output csv gives all")
    sink.write("".join(line.rstrip() + "\n" for line in lines).encode())
    return rows


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)  # a value must not steer the terminal
    return text if len(text) <= MAX_CELL_CHARS else text[: MAX_CELL_CHARS - 1] + "…"
