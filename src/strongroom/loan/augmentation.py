"""Grows a loan book with perturbed copies of its rows.

Two ways. `augment` is seeded and unbiased: every source row occurs equally often (give or take one), its first
occurrence unchanged; noise has mean zero; a replaced category is drawn from the column's own distribution.
`augment_as_reference` repeats what Intel's cloud optimization module for Azure does (loan_app/data.py), faults
included, for comparison: consecutive repeats, a loan_percent_income that only grows, uniform categories.

Source of the noise's kinds and widths: intel/intel-cloud-optimizations-azure, kubernetes, app/loan_app/data.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.loan.book import Floats, LoanBook
from strongroom.loan.schema import CATEGORIES, NUMBER_BY_NAME

CHUNK_ROWS: Final = 250_000
REPLACED_SHARE: Final = 0.1

# Standard deviation of normal noise, half width of uniform noise, and columns moved by -1, 0 or 1.
NORMAL_NOISE: Final = {"person_income": 10.0, "loan_amnt": 5.0, "loan_int_rate": 0.2}
UNIFORM_NOISE: Final = {"loan_percent_income": 0.0495}
STEPS: Final = ("person_age", "person_emp_length", "cb_person_cred_hist_length")


@dataclass(frozen=True, slots=True)
class GrownRows:
    """Rows with their origin.

    Args:
        book: The rows.
        source_row: int32, the row of the source book each came from.
        augmented: bool, False where the row is the source row itself.
    """

    book: LoanBook
    source_row: npt.NDArray[np.int32]
    augmented: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.book)


def augment(book: LoanBook, size: int, *, seed: int) -> Iterator[GrownRows]:
    """Grow a book to a size, in chunks; the first rows are the book itself.

    Args:
        book: At least one row.
        size: Rows wanted; at least as many as the book has.
        seed: The same seed gives the same rows.
    """
    rng = np.random.default_rng(seed)
    for start in range(0, size, CHUNK_ROWS):
        row = np.arange(start, min(start + CHUNK_ROWS, size), dtype=np.int64)
        source = row % len(book)
        augmented = row >= len(book)
        rows = book.take(source)
        if augmented.any():
            rows = _perturbed(rows, book, augmented, rng)
        yield GrownRows(rows, source.astype(np.int32), augmented)


def _perturbed(rows: LoanBook, source: LoanBook, where: npt.NDArray[np.bool_], rng: np.random.Generator) -> LoanBook:
    numbers = dict(rows.numbers)
    size = len(rows)
    for name, sigma in NORMAL_NOISE.items():
        noise = rng.standard_normal(size, np.float32) * np.float32(sigma)
        numbers[name] = _moved(name, numbers[name], noise, where)
    for name, width in UNIFORM_NOISE.items():
        noise = (rng.random(size, np.float32) * 2 - 1) * np.float32(width)
        numbers[name] = _moved(name, numbers[name], noise, where)
    for name in STEPS:
        noise = rng.integers(-1, 2, size, np.int8).astype(np.float32)
        numbers[name] = _moved(name, numbers[name], noise, where)
    codes = dict(rows.codes)
    for category in CATEGORIES:
        drawn = source.codes[category.name][rng.integers(0, len(source), size, np.int32)]
        replaced = where & (rng.random(size, np.float32) < REPLACED_SHARE)
        codes[category.name] = np.where(replaced, drawn, codes[category.name])
    return LoanBook(numbers, codes, rows.target, rows.extra)


def _moved(name: str, values: Floats, noise: Floats, where: npt.NDArray[np.bool_]) -> Floats:
    """Values plus noise, in range. A move whose mirror image would leave the range is dropped: the mean stays."""
    number = NUMBER_BY_NAME[name]
    room = np.minimum(values - np.float32(number.low), np.float32(number.high) - values)
    with np.errstate(invalid="ignore"):
        allowed = where & (np.abs(noise) <= room)
    return np.where(allowed, values + noise, values)


def augment_as_reference(book: LoanBook, size: int, *, seed: int) -> Iterator[GrownRows]:
    """Grow a book as the reference does, with its biases; only for comparison.

    Args:
        book: At least one row.
        size: Rows wanted; at least as many as the book has.
        seed: The reference has none; the same seed gives the same rows here.
    """
    rng = np.random.default_rng(seed)
    repeats = size // len(book) + 1
    for start in range(0, size, CHUNK_ROWS):
        source = np.arange(start, min(start + CHUNK_ROWS, size), dtype=np.int64) // repeats
        rows = _perturbed_as_reference(book.take(source), rng)
        yield GrownRows(rows, source.astype(np.int32), np.ones(len(source), bool))


def _perturbed_as_reference(rows: LoanBook, rng: np.random.Generator) -> LoanBook:
    size = len(rows)
    numbers = dict(rows.numbers)
    for name, sigma in NORMAL_NOISE.items():
        numbers[name] = numbers[name] + rng.standard_normal(size, np.float32) * np.float32(sigma)
    numbers["loan_percent_income"] = numbers["loan_percent_income"] + _steps(rng, 0, 100, size) / np.float32(1000)
    numbers["person_age"] = numbers["person_age"] + _steps(rng, -1, 1, size)
    numbers["person_emp_length"] = numbers["person_emp_length"] + _steps(rng, -1, 1, size)
    history = "cb_person_cred_hist_length"
    numbers[history] = numbers[history] + _steps(rng, 0, 2, size)
    codes = dict(rows.codes)
    for category in CATEGORIES:
        present = np.unique(codes[category.name])
        drawn = present[rng.integers(0, len(present), size)]
        codes[category.name] = np.where(rng.random(size) < REPLACED_SHARE, drawn, codes[category.name])
    return LoanBook(numbers, codes, rows.target, rows.extra)


def _steps(rng: np.random.Generator, low: int, high: int, size: int) -> Floats:
    """Whole numbers from low to high - 1 as float32."""
    return rng.integers(low, high, size).astype(np.float32)
