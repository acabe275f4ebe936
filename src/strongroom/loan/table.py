"""Reads a loan book from CSV, strictly: everything is right, or nothing is used.

The quick path lets Arrow convert whole columns. Only when something is wrong is the file read again as text, to say
which rows (`strongroom.loan.diagnosis`).
"""

import contextlib
import csv
import io
from collections.abc import Sequence
from typing import Any, BinaryIO, Final, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from strongroom.errors import FormatError
from strongroom.loan.book import Codes, Floats, LoanBook
from strongroom.loan.diagnosis import row_problems
from strongroom.loan.problems import SHOWN, LoanRowsError, RowProblem
from strongroom.loan.schema import CATEGORIES, FILE_ORDER, INPUT_NAMES, NUMBERS, STATUS, TARGET, Category, Number

MAX_CSV_BYTES: Final = 2 << 30
MAX_HEADER_BYTES: Final = 64 << 10
BLOCK_BYTES: Final = 4 << 20
WANTED: Final = "a loan file has one header line and at least one row"


def read_csv(
    source: BinaryIO,
    *,
    labelled: bool | None = True,
    extra: Sequence[str] = (),
    max_bytes: int = MAX_CSV_BYTES,
) -> LoanBook:
    """Read and validate a loan book.

    Args:
        source: Opened CSV file, UTF-8, comma separated, one header line; seekable.
        labelled: True: the ``loan_status`` column must be there; False: it is ignored where it is there; None: it is
            used where it is there.
        extra: Names of further text columns to keep aside; they must be there. Any other unknown column is an error.
        max_bytes: Largest accepted file.

    Returns:
        The book, at least one row.

    Raises:
        FormatError: Not such a file: code ``loan.csv`` (empty, not CSV, not UTF-8, too large) or ``loan.header``.
        LoanRowsError: Rows are wrong, code ``loan.rows``; lists the first 20.
    """
    _check_size(source, max_bytes)
    header = _read_header(source)
    names = _check_header(header, labelled, extra)
    source.seek(0)
    try:
        table = _read_typed(source, names, extra)
    except pa.ArrowInvalid as error:
        _explain(source, header, names, extra, error)
    if not table.num_rows:
        raise FormatError("the loan file has a header and no rows", code="loan.csv", hint=WANTED)
    numbers = {column.name: _floats(table[column.name]) for column in NUMBERS}
    codes = {column.name: dictionary_codes(table[column.name], column) for column in CATEGORIES}
    target = _floats(table[TARGET]) if TARGET in names else None
    checked = dict(numbers) if target is None else {**numbers, TARGET: target}
    if not all(_number_ok(checked[c.name], table[c.name], c) for c in (*NUMBERS, STATUS) if c.name in checked):
        _explain(source, header, names, extra)
    if any((column < 0).any() for column in codes.values()):
        _explain(source, header, names, extra)
    kept = {name: table[name].to_numpy().astype(object) for name in extra}
    return LoanBook(numbers, codes, None if target is None else target.astype(np.int8), kept)


def _check_size(source: BinaryIO, max_bytes: int) -> None:
    size = source.seek(0, io.SEEK_END)
    source.seek(0)
    if size == 0:
        raise FormatError("the loan file is empty", code="loan.csv", hint=WANTED)
    if size > max_bytes:
        raise FormatError(
            f"the loan file is larger than {max_bytes} bytes", code="loan.csv", hint="divide it into several"
        )


def _read_header(source: BinaryIO) -> list[str]:
    line = source.readline(MAX_HEADER_BYTES).split(b"\r")[0]
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FormatError("the loan file is not UTF-8 text", code="loan.csv", hint="save it as CSV UTF-8") from None
    if "\0" in text:
        raise FormatError("the loan file is not CSV text", code="loan.csv", hint="save it as CSV UTF-8")
    try:
        return next(csv.reader([text.rstrip("\n")], strict=True), [])
    except csv.Error:
        raise FormatError("the header of the loan file is not CSV", code="loan.csv") from None


def _check_header(header: list[str], labelled: bool | None, extra: Sequence[str]) -> list[str]:
    """The names to read.

    Raises:
        FormatError: Lists what is missing, unknown or there twice; nothing of a line that is no header, but perhaps
            a loan.
    """
    present = set(header)
    if 2 * len(present.intersection(FILE_ORDER)) < len(FILE_ORDER):
        raise FormatError(
            "the first line of the loan file is not its header",
            code="loan.header",
            hint=f"it is {','.join(FILE_ORDER)}",
        )
    required = {*(FILE_ORDER if labelled else INPUT_NAMES), *extra}
    findings = [f"missing: {_names(sorted(required - present))}"] if required - present else []
    unknown = [name for name in header if name not in FILE_ORDER and name not in extra]
    if unknown:
        findings.append(f"unknown: {_names(unknown)}")
    twice = sorted({name for name in header if header.count(name) > 1}) if len(header) < 1000 else []
    if twice:
        findings.append(f"more than once: {_names(twice)}")
    if findings:
        raise FormatError(
            f"the columns of the loan file are wrong; {'; '.join(findings)}",
            code="loan.header",
            hint=f"the columns are {','.join(FILE_ORDER)}",
        )
    return [name for name in header if labelled is not False or name != TARGET]


def _names(names: list[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _read_typed(source: BinaryIO, names: list[str], extra: Sequence[str]) -> Any:
    types: dict[str, Any] = {column.name: pa.float32() for column in (*NUMBERS, STATUS)}
    types |= {column.name: pa.dictionary(pa.int32(), pa.string()) for column in CATEGORIES}
    types |= {name: pa.string() for name in extra}
    return pa_csv.read_csv(
        source,
        read_options=pa_csv.ReadOptions(block_size=BLOCK_BYTES),
        convert_options=pa_csv.ConvertOptions(
            column_types=types, include_columns=names, null_values=[""], strings_can_be_null=False
        ),
    )


def _floats(column: Any) -> Floats:
    values: Floats = column.to_numpy()
    return values if values.dtype == np.float32 else values.astype(np.float32)


def dictionary_codes(column: Any, category: Category) -> Codes:
    """Codes of the schema for a dictionary column; -1 for a value that is not in it."""
    order = {value: code for code, value in enumerate(category.values)}
    parts = []
    for chunk in column.chunks:
        known = np.array([order.get(value, -1) for value in chunk.dictionary.to_pylist()], np.int8)
        parts.append(known[chunk.indices.to_numpy(zero_copy_only=False)])
    return np.concatenate(parts) if parts else np.empty(0, np.int8)


def _number_ok(values: Floats, column: Any, number: Number) -> bool:
    """Whether every value is in range, whole where it must be, and missing only as an empty cell where that may be."""
    missing = np.isnan(values)
    if int(missing.sum()) != (column.null_count if number.optional else 0):
        return False
    with np.errstate(invalid="ignore"):
        wrong = (values < number.low) | (values > number.high)
        if number.whole:
            wrong |= (values != np.rint(values)) & ~missing
    return not wrong.any()


def _explain(
    source: BinaryIO,
    header: list[str],
    names: list[str],
    extra: Sequence[str],
    cause: Exception | None = None,
) -> NoReturn:
    """Find out which rows are wrong and say so.

    Raises:
        LoanRowsError: Always, unless no row can be named.
        FormatError: Then.
    """
    source.seek(0)
    problems: tuple[RowProblem, ...] = ()
    total = 0
    with contextlib.suppress(pa.ArrowInvalid):
        problems, total = row_problems(source, header, names, extra)
    if problems:
        raise LoanRowsError(problems, total - len(problems)) from cause
    raise FormatError("the loan file is not CSV text in UTF-8", code="loan.csv", hint="save it as CSV UTF-8") from cause
