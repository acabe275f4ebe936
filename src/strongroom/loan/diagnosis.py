"""Finds the wrong rows of a loan file that did not read cleanly. Slower than reading; runs only then."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pa_compute
import pyarrow.csv as pa_csv

from strongroom.loan.problems import SHOWN, RowProblem
from strongroom.loan.schema import CATEGORY_BY_NAME, NUMBER_BY_NAME, Category, Number

# What the quick path accepts as a number, without "nan" and "inf" in any spelling.
NUMBER_PATTERN: Final = r"^[ \t]*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?[ \t]*$"
BLOCK_BYTES: Final = 4 << 20
# Each row of another length costs a call; a file with more of them is no loan file, and is read no further.
MAX_BAD_ROWS: Final = 100_000

Mask = npt.NDArray[np.bool_]


def row_problems(
    source: BinaryIO, header: list[str], names: list[str], extra: Sequence[str]
) -> tuple[tuple[RowProblem, ...], int]:
    """The first problems in row order and how many there are in all, or were when reading was given up.

    Args:
        source: The opened CSV file, at its beginning.
        header: All column names of the file, in order.
        names: The columns to check.
        extra: Those of them that may hold any text.

    Raises:
        pyarrow.ArrowInvalid: The file is not CSV at all.
    """
    bad_rows: list[int] = []  # the first ones: what comes after them is not shown, so its number only has to be larger
    total_bad = 0

    def skip(row: Any) -> str:
        nonlocal total_bad
        total_bad += 1
        if len(bad_rows) < SHOWN:
            bad_rows.append(row.number - 1)
        return "skip" if total_bad < MAX_BAD_ROWS else "error"

    found: list[RowProblem] = []
    total = done = 0
    try:
        for batch in _text_batches(source, names, skip):
            batch_found, count = _batch_problems(batch, [name for name in names if name not in extra], done, bad_rows)
            found = sorted([*found, *batch_found])[:SHOWN]
            total += count
            done += batch.num_rows
    except pa.ArrowInvalid:
        if total_bad < MAX_BAD_ROWS:
            raise
    whole = [RowProblem(row, "", "columns", f"{len(header)} cells") for row in bad_rows]
    return tuple(sorted([*found, *whole])[:SHOWN]), total + total_bad


def _text_batches(source: BinaryIO, names: list[str], skip: Callable[[Any], str]) -> Iterator[Any]:
    """The columns as text; rows of another length go to `skip`, in order."""
    yield from pa_csv.open_csv(
        source,
        read_options=pa_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
        parse_options=pa_csv.ParseOptions(invalid_row_handler=skip),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.binary()), include_columns=names, strings_can_be_null=False
        ),
    )


def _batch_problems(batch: Any, names: list[str], done: int, bad_rows: list[int]) -> tuple[list[RowProblem], int]:
    found: list[RowProblem] = []
    total = 0
    for name in names:
        for kind, expected, mask in _checks(batch.column(name), name):
            rows = np.flatnonzero(mask)
            total += len(rows)
            found += [RowProblem(_row_number(done + int(r), bad_rows), name, kind, expected) for r in rows[:SHOWN]]
    return found, total


def _row_number(index: int, bad_rows: list[int]) -> int:
    """1-based row of the file for the 0-based index among the rows that were not skipped."""
    row = index + 1
    for bad in bad_rows:
        if bad > row:
            break
        row += 1
    return row


def _checks(cells: Any, name: str) -> Iterator[tuple[str, str, Mask]]:
    if name in CATEGORY_BY_NAME:
        yield from _category_checks(cells, CATEGORY_BY_NAME[name])
    else:
        yield from _number_checks(cells, NUMBER_BY_NAME[name])


def _category_checks(cells: Any, category: Category) -> Iterator[tuple[str, str, Mask]]:
    allowed = pa.array([value.encode() for value in category.values], pa.binary())
    known = pa_compute.is_in(cells, value_set=allowed)
    yield "category", f"one of {', '.join(category.values)}", ~_mask(known)


def _number_checks(cells: Any, number: Number) -> Iterator[tuple[str, str, Mask]]:
    expected = f"a {'whole ' if number.whole else ''}number from {number.low:.12g} to {number.high:.12g}"
    empty = _mask(pa_compute.equal(pa_compute.binary_length(cells), 0))
    numeric = _mask(pa_compute.match_substring_regex(cells, NUMBER_PATTERN))
    if not number.optional:
        yield "missing", expected, empty
    yield "type", expected, ~numeric & ~empty
    text = pa_compute.if_else(pa.array(numeric), cells, b"0").cast(pa.string())
    values = pa_compute.utf8_trim_whitespace(text).cast(pa.float32()).to_numpy(zero_copy_only=False)
    outside = (values < number.low) | (values > number.high)
    if number.whole:
        yield "type", expected, numeric & ~outside & (values != np.rint(values))
    yield "range", expected, numeric & outside


def _mask(column: Any) -> Mask:
    mask: Mask = column.to_numpy(zero_copy_only=False).astype(bool)
    return mask
