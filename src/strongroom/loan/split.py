"""Divides a loan book into training and held-out rows, before anything is augmented.

The division follows a hash of a row's inputs, so equal rows always fall on the same side: no row of the held-out set
has a copy in the training set, and a later batch can be checked against it by hash alone.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.errors import ConfigurationError, FormatError
from strongroom.loan.book import LoanBook, Rows
from strongroom.loan.schema import CATEGORIES, NUMBERS

Hashes = npt.NDArray[np.uint64]

# Multipliers and shifts of splitmix64. Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators",
# OOPSLA 2014, section 4 (variant 13 of the mixing function).
GOLDEN: Final = 0x9E3779B97F4A7C15
MIX: Final = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
LAST_SHIFT: Final = 31


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers (0-based, ascending) of the two sides."""

    train: Rows
    test: Rows


def row_hashes(book: LoanBook, seed: int = 0) -> Hashes:
    """64 bits a row over its inputs (not its outcome); equal inputs give equal hashes.

    Args:
        book: The rows.
        seed: Another seed gives unrelated hashes.
    """
    state = np.full(len(book), (seed * GOLDEN + 1) % (1 << 64), np.uint64)
    for column in NUMBERS:
        values = book.numbers[column.name] + np.float32(0)  # -0 becomes 0
        bits = np.where(np.isnan(values), np.float32(np.nan), values).astype(np.float32).view(np.uint32)
        state = _mix(state ^ bits)
    for category in CATEGORIES:
        state = _mix(state ^ book.codes[category.name].astype(np.uint64))
    return state


def _mix(state: Hashes) -> Hashes:
    state = state + np.uint64(GOLDEN)  # wraps, as it should
    for shift, multiplier in MIX:
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(multiplier)
    return state ^ (state >> np.uint64(LAST_SHIFT))


def split_rows(book: LoanBook, *, test_share: float = 0.25, seed: int = 0) -> Split:
    """Hold out a share of each class; rows with equal inputs stay together.

    Args:
        book: Rows with a target.
        test_share: Share of each class to hold out, between 0 and 1.
        seed: Another seed holds out other rows.

    Raises:
        ConfigurationError: The share is not between 0 and 1.
        FormatError: The book has no target, or not enough rows of a class for both sides.
    """
    if not 0 < test_share < 1:
        raise ConfigurationError("the held-out share must lie between 0 and 1", code="loan.test_share")
    if book.target is None:
        raise FormatError("the loan book has no loan_status column to split by", code="loan.target")
    hashes = row_hashes(book, seed)
    held_out = np.zeros(len(book), bool)
    for label in (0, 1):
        rows = book.target == label
        count = round(test_share * int(rows.sum()))
        if count:
            held_out |= rows & (hashes <= np.partition(hashes[rows], count - 1)[count - 1])
    # Equal inputs with different outcomes can lie between the two classes' bounds: they go to the held-out side.
    held_out |= np.isin(hashes, hashes[held_out])
    split = Split(np.flatnonzero(~held_out), np.flatnonzero(held_out))
    if any(not 0 < int(book.target[side].sum()) < len(side) for side in (split.train, split.test)):
        raise FormatError(
            "the loan book has too few rows: both sides of the split need defaults and non-defaults",
            code="loan.too_few",
            hint="give more rows",
        )
    return split


def without_copies(book: LoanBook, held_out: LoanBook) -> Rows:
    """Row numbers of the book whose inputs don't occur in the held-out rows.

    Args:
        book: Rows to train on.
        held_out: Rows to evaluate on.
    """
    return np.flatnonzero(~np.isin(row_hashes(book), row_hashes(held_out)))
