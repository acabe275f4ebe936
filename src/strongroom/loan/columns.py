"""Tables of plain columns as Parquet: what the steps of a pipeline hand to each other."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO, Final, NoReturn

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pa_parquet

from strongroom.errors import FormatError
from strongroom.loan.book import Labels, LoanBook
from strongroom.loan.features import Matrix
from strongroom.loan.processed import MAX_ROWS
from strongroom.loan.schema import CATEGORIES, NUMBERS, TARGET
from strongroom.loan.table import dictionary_codes
from strongroom.loan.writing import dictionary_column

MAX_COLUMNS: Final = 256
CHUNK_ROWS: Final = 250_000

_ROWS: Final = pa.schema(
    [pa.field(column.name, pa.float32()) for column in NUMBERS]
    + [pa.field(column.name, pa.dictionary(pa.int8(), pa.string())) for column in CATEGORIES]
)
_LABELS: Final = pa.schema([pa.field(TARGET, pa.int8())])
_SCORES: Final = pa.schema([pa.field("ground_truth", pa.int8()), pa.field("probability_score", pa.float32())])


def write_rows_and_labels(books: Iterable[LoanBook], rows: BinaryIO, labels: BinaryIO) -> int:
    """Write loans as two files: inputs and outcomes, row by row the same loan.

    Args:
        books: At least one, each with a target.
        rows: File for the inputs; stays open.
        labels: File for the outcomes; stays open.

    Returns:
        The number of rows written.
    """
    count = 0
    with ExitStack() as stack:
        writers = [
            stack.enter_context(pa_parquet.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="lz4"))
            for sink, schema in ((rows, _ROWS), (labels, _LABELS))
        ]
        for book in books:
            columns = [pa.array(book.numbers[column.name], from_pandas=False) for column in NUMBERS]
            columns += [dictionary_column(book, column.name) for column in CATEGORIES]
            writers[0].write_batch(pa.RecordBatch.from_arrays(columns, schema=_ROWS))
            writers[1].write_batch(pa.RecordBatch.from_arrays([pa.array(book.target)], schema=_LABELS))
            count += len(book)
    return count


def read_rows(source: BinaryIO) -> LoanBook:
    """Read the inputs that `write_rows_and_labels` wrote.

    Raises:
        FormatError: Not such a file, code ``loan.columns``.
    """
    table = _read(source, _ROWS)
    codes = {column.name: dictionary_codes(table[column.name], column) for column in CATEGORIES}
    if any((column < 0).any() for column in codes.values()):
        _refuse()
    return LoanBook({column.name: table[column.name].to_numpy() for column in NUMBERS}, codes)


def read_labels(source: BinaryIO) -> Labels:
    """Read the outcomes that `write_rows_and_labels` wrote: 0 and 1.

    Raises:
        FormatError: Not such a file, code ``loan.columns``.
    """
    return _outcomes(_read(source, _LABELS)[TARGET])


def write_matrix(chunks: Iterable[Matrix], names: Sequence[str], sink: BinaryIO) -> None:
    """Write features, one float32 column each.

    Args:
        chunks: Shape (rows, features) each.
        names: Feature names in column order.
        sink: File to write to; stays open.
    """
    schema = pa.schema([pa.field(name, pa.float32()) for name in names])
    with pa_parquet.ParquetWriter(pa.PythonFile(sink, mode="w"), schema, compression="lz4") as writer:
        for chunk in chunks:
            columns = [pa.array(chunk[:, index], from_pandas=False) for index in range(len(names))]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def read_matrix(source: BinaryIO) -> tuple[Matrix, tuple[str, ...]]:
    """Read features and their names.

    Raises:
        FormatError: Not such a file, code ``loan.columns``.
    """
    table = _read(source, None)
    names = tuple(table.column_names)
    if not 0 < len(names) <= MAX_COLUMNS or any(table.schema.field(name).type != pa.float32() for name in names):
        _refuse()
    matrix = np.empty((table.num_rows, len(names)), np.float32)
    for index, name in enumerate(names):
        matrix[:, index] = table[name].to_numpy()
    return matrix, names


def write_scores(labels: Labels, probabilities: npt.NDArray[np.float32], sink: BinaryIO) -> None:
    """Write outcomes beside the probabilities a model gave.

    Args:
        labels: Outcomes, 0 or 1.
        probabilities: Same length.
        sink: File to write to; stays open.
    """
    table = pa.table([pa.array(labels), pa.array(probabilities)], schema=_SCORES)
    pa_parquet.write_table(table, pa.PythonFile(sink, mode="w"), compression="lz4")


def read_scores(source: BinaryIO) -> tuple[Labels, npt.NDArray[np.float32]]:
    """Read outcomes and probabilities.

    Raises:
        FormatError: Not such a file, code ``loan.columns``.
    """
    table = _read(source, _SCORES)
    probabilities = np.asarray(table["probability_score"].to_numpy(), np.float32)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        _refuse()
    return _outcomes(table["ground_truth"]), probabilities


def chunks_of(book: LoanBook) -> Iterable[LoanBook]:
    """The book in parts that are small beside it."""
    return (book.between(start, start + CHUNK_ROWS) for start in range(0, len(book), CHUNK_ROWS))


def _outcomes(column: Any) -> Labels:
    labels: Labels = column.to_numpy()
    if not ((labels == 0) | (labels == 1)).all():
        _refuse()
    return labels


def _read(source: BinaryIO, schema: Any) -> Any:
    try:
        categories = [column.name for column in CATEGORIES] if schema is _ROWS else None
        # In this thread alone: one of pyarrow's that holds the source when the interpreter ends aborts the process.
        file = pa_parquet.ParquetFile(source, read_dictionary=categories, pre_buffer=False)
        if not 0 < file.metadata.num_rows <= MAX_ROWS:
            _refuse()
        if schema is not None and file.schema_arrow.names != schema.names:
            _refuse()
        table = file.read(use_threads=False)
    except (pa.ArrowException, OSError, ValueError, KeyError):
        _refuse()
    wanted: Mapping[str, Any] = {} if schema is None else {name: _value_type(schema, name) for name in schema.names}
    found = {name: _value_type(table.schema, name) for name in wanted}
    if found != wanted or any(table[name].null_count for name in table.column_names):
        _refuse()
    return table


def _value_type(schema: Any, name: str) -> Any:
    kind = schema.field(name).type
    return kind.value_type if isinstance(kind, pa.DictionaryType) else kind


def _refuse() -> NoReturn:
    raise FormatError("not the table this step expects", code="loan.columns", hint="run the step before it again")
