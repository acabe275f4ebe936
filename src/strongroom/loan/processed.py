"""Processed rows as one Parquet file: validated columns, outcome and origin."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from strongroom.errors import FormatError
from strongroom.loan.augmentation import GrownRows
from strongroom.loan.book import LoanBook
from strongroom.loan.schema import CATEGORIES, NUMBERS, TARGET
from strongroom.loan.table import dictionary_codes
from strongroom.loan.writing import dictionary_column

MAX_ROWS: Final = 200_000_000
REAL_SHARE: Final = 0.9

_RUN: Final = b"strongroom.loan.run"

SCHEMA: Final = pa.schema(
    [pa.field(column.name, pa.float32()) for column in NUMBERS]
    + [pa.field(column.name, pa.dictionary(pa.int8(), pa.string())) for column in CATEGORIES]
    + [pa.field(TARGET, pa.int8()), pa.field("source_row", pa.int32()), pa.field("augmented", pa.bool_())]
)


@dataclass(frozen=True, slots=True)
class ProcessedRows:
    """What a processed file holds: rows and which of them are augmented copies."""

    book: LoanBook
    augmented: npt.NDArray[np.bool_]

    def real(self) -> LoanBook:
        """The rows that are not augmented copies."""
        return self.book if not self.augmented.any() else self.book.take(np.flatnonzero(~self.augmented))

    def weighted(self) -> LoanBook:
        """All rows for training: together they count as many as the real ones, of which these make up 90 %.

        An augmented copy is no new observation. Where no row is real (the reference's protocol), all count alike.
        """
        real = len(self.book) - int(self.augmented.sum())
        if real in {0, len(self.book)}:
            return self.book
        copies = (1 - REAL_SHARE) * real / (len(self.book) - real)
        return replace(self.book, weight=np.where(self.augmented, copies, REAL_SHARE).astype(np.float32))


def write_processed(chunks: Iterable[GrownRows], sink: BinaryIO, *, run: str) -> int:
    """Write rows as Parquet, one row group a chunk.

    Args:
        chunks: Rows with a target.
        sink: File to write to; stays open.
        run: Name of the data step.

    Returns:
        The number of rows written.
    """
    rows = 0
    options: dict[str, Any] = {
        "compression": "lz4",
        "use_dictionary": [column.name for column in CATEGORIES],
        "write_statistics": False,
    }
    with contextlib.ExitStack() as stack:
        writer: Any = None
        for chunk in chunks:
            batch = _batch(chunk, run)
            if writer is None:
                writer = stack.enter_context(
                    pa_parquet.ParquetWriter(pa.PythonFile(sink, mode="w"), batch.schema, **options)
                )
            writer.write_batch(batch, row_group_size=len(chunk))
            rows += len(chunk)
    return rows


def _batch(chunk: GrownRows, run: str) -> Any:
    book = chunk.book
    schema = SCHEMA
    for name in book.extra:
        schema = schema.append(pa.field(name, pa.string()))
    schema = schema.with_metadata({_RUN: run.encode()})
    columns = [pa.array(book.numbers[column.name], from_pandas=False) for column in NUMBERS]
    columns += [dictionary_column(book, column.name) for column in CATEGORIES]
    columns += [pa.array(book.target), pa.array(chunk.source_row), pa.array(chunk.augmented)]
    columns += [pa.array(values, pa.string()) for values in book.extra.values()]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def read_processed(source: BinaryIO, *, run: str) -> ProcessedRows:
    """Read what `write_processed` wrote.

    Args:
        source: Opened Parquet file; seekable.
        run: Name of the data step it must be of.

    Raises:
        FormatError: Not such a file, code ``loan.processed``; or of another data step, code ``loan.mixed``.
    """
    try:
        categories = [column.name for column in CATEGORIES]
        # In this thread alone: one of pyarrow's that holds the source when the interpreter ends aborts the process.
        file = pa_parquet.ParquetFile(source, read_dictionary=categories, pre_buffer=False)
        names = file.schema_arrow.names
        if names[: len(SCHEMA)] != SCHEMA.names or not 0 < file.metadata.num_rows <= MAX_ROWS:
            _refuse()
        found = (file.schema_arrow.metadata or {}).get(_RUN)
        table = file.read(use_threads=False) if found == run.encode() else None
    except (pa.ArrowException, OSError, ValueError, KeyError):
        _refuse()
    if table is None:
        raise FormatError(
            "the files of the processed folder are of different data steps",
            code="loan.mixed",
            hint="a data step was stopped while it put its files in place; run it again with --force",
        )
    if any(_value_type(table, name) != _value_type(SCHEMA, name) or table[name].null_count for name in SCHEMA.names):
        _refuse()
    codes = {column.name: dictionary_codes(table[column.name], column) for column in CATEGORIES}
    if any((column < 0).any() for column in codes.values()):
        _refuse()
    numbers = {column.name: table[column.name].to_numpy() for column in NUMBERS}
    extra = {name: table[name].to_numpy().astype(object) for name in names[len(SCHEMA) :]}
    return ProcessedRows(LoanBook(numbers, codes, table[TARGET].to_numpy(), extra), table["augmented"].to_numpy())


def _value_type(table: Any, name: str) -> Any:
    kind = (table if isinstance(table, pa.Schema) else table.schema).field(name).type
    return kind.value_type if isinstance(kind, pa.DictionaryType) else kind


def _refuse() -> NoReturn:
    raise FormatError(
        "not a file of processed loan rows", code="loan.processed", hint="write it with `strongroom loan process`"
    )
