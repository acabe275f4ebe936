"""A loan book in memory: one array a column."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from strongroom.loan.schema import CATEGORIES, NUMBERS

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int8]
Rows = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class LoanBook:
    """Rows of loans as columns of equal length; the arrays are not copied and must not be changed.

    Args:
        numbers: float32 per numeric column of the schema; NaN where the value is missing.
        codes: int8 per categorical column, the index into the schema's values.
        target: int8, 1 for a default, or None where it is not known.
        extra: Text columns that are no input of a model, kept aside by name (a protected attribute to report on).
        weight: How much each row counts in training; None: all alike.
    """

    numbers: Mapping[str, Floats]
    codes: Mapping[str, Codes]
    target: Labels | None = None
    extra: Mapping[str, npt.NDArray[np.object_]] = field(default_factory=dict)
    weight: Floats | None = None

    def __len__(self) -> int:
        return len(self.numbers[NUMBERS[0].name])

    def take(self, rows: Rows) -> "LoanBook":
        """The rows with these numbers (0-based), in this order, as a new book."""
        return LoanBook(
            {name: column[rows] for name, column in self.numbers.items()},
            {name: column[rows] for name, column in self.codes.items()},
            None if self.target is None else self.target[rows],
            {name: column[rows] for name, column in self.extra.items()},
            None if self.weight is None else self.weight[rows],
        )

    def between(self, start: int, stop: int) -> "LoanBook":
        """Rows start to stop - 1 as views of this book."""
        cut = slice(start, stop)
        return LoanBook(
            {name: column[cut] for name, column in self.numbers.items()},
            {name: column[cut] for name, column in self.codes.items()},
            None if self.target is None else self.target[cut],
            {name: column[cut] for name, column in self.extra.items()},
            None if self.weight is None else self.weight[cut],
        )


def join(books: list[LoanBook]) -> LoanBook:
    """The rows of all books, one after the other; extra columns that not all have are dropped.

    Args:
        books: At least one book; either all have a target or the result has none.
    """
    labelled = all(book.target is not None for book in books)
    return LoanBook(
        {column.name: np.concatenate([book.numbers[column.name] for book in books]) for column in NUMBERS},
        {column.name: np.concatenate([book.codes[column.name] for book in books]) for column in CATEGORIES},
        np.concatenate([book.target for book in books if book.target is not None]) if labelled else None,
        {name: np.concatenate([book.extra[name] for book in books]) for name in _extra_of_all(books)},
        _weights_of_all(books),
    )


def _extra_of_all(books: list[LoanBook]) -> list[str]:
    return [name for name in books[0].extra if all(name in book.extra for book in books)]


def _weights_of_all(books: list[LoanBook]) -> Floats | None:
    if all(book.weight is None for book in books):
        return None
    return np.concatenate([np.ones(len(book), np.float32) if book.weight is None else book.weight for book in books])
