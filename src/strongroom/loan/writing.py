"""Writes loan books as CSV, in the original file's column order."""

from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from strongroom.loan.book import LoanBook
from strongroom.loan.schema import CATEGORY_BY_NAME, FILE_ORDER, TARGET


def write_csv(books: Iterable[LoanBook], sink: BinaryIO) -> int:
    """Write books as one CSV file with a header.

    Args:
        books: At least one; the target column is written where the book has one.
        sink: File to write to; stays open.

    Returns:
        The number of rows written.
    """
    rows = 0
    for book in books:
        options = pa_csv.WriteOptions(include_header=rows == 0, quoting_style="none", quoting_header="none")
        pa_csv.write_csv(_table(book), pa.PythonFile(sink, mode="w"), options)
        rows += len(book)
    return rows


def _table(book: LoanBook) -> Any:
    columns: dict[str, Any] = {}
    for name in FILE_ORDER:
        if name in CATEGORY_BY_NAME:
            columns[name] = dictionary_column(book, name).cast(pa.string())
        elif name != TARGET:
            columns[name] = pa.array(_rounded(book.numbers[name]), from_pandas=True)
        elif book.target is not None:
            columns[name] = pa.array(book.target)
    return pa.table(columns)


def dictionary_column(book: LoanBook, name: str) -> Any:
    """A categorical column as an Arrow dictionary array of the schema's values."""
    return pa.DictionaryArray.from_arrays(pa.array(book.codes[name]), pa.array(CATEGORY_BY_NAME[name].values))


def _rounded(values: Any) -> Any:
    """float64 with the decimals a person wrote (float32 16.02 is 16.020000457...)."""
    return np.round(values.astype(np.float64), 4)
