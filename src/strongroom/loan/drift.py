"""How far new rows lie from those a model was trained on: the population stability index (PSI) per column.

The model's bundle keeps the shares of its training rows in fixed bins, so drift can be measured without them.
Source of index and bands: N. Siddiqi, "Credit Risk Scorecards" (2006), chapter 10: below 0.1 stable, from 0.25 on a
shift that needs an answer.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from strongroom.errors import FormatError
from strongroom.loan.book import Floats, LoanBook
from strongroom.loan.schema import CATEGORIES, NUMBERS

BINS: Final = 10
FLOOR: Final = 1e-4
STABLE_BELOW: Final = 0.1
SHIFTED_FROM: Final = 0.25

Shares = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Baseline:
    """Shares of training rows per column.

    Args:
        edges: Inner bounds of the bins of each numeric column, rising; at most nine.
        shares: Share of rows per bin (numbers: one more bin for missing values) or category; sums to 1.
    """

    edges: dict[str, list[float]]
    shares: dict[str, list[float]]

    def to_json(self) -> dict[str, Any]:
        """Plain data that `from_json` reads back."""
        return {"edges": self.edges, "shares": self.shares}

    @classmethod
    def from_json(cls, data: Any) -> "Baseline":
        """Read what `to_json` gave.

        Raises:
            FormatError: Anything else, code ``loan.baseline``.
        """
        try:
            edges = {column.name: [float(v) for v in data["edges"][column.name]] for column in NUMBERS}
            shares = {
                column.name: [float(v) for v in data["shares"][column.name]] for column in (*NUMBERS, *CATEGORIES)
            }
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError("the model has no drift baseline", code="loan.baseline") from error
        sizes = {column.name: len(edges[column.name]) + 2 for column in NUMBERS}
        sizes |= {column.name: len(column.values) for column in CATEGORIES}
        if any(len(shares[name]) != size for name, size in sizes.items()):
            raise FormatError("the model's drift baseline is malformed", code="loan.baseline")
        return cls(edges, shares)


@dataclass(frozen=True, slots=True)
class Drift:
    """One column's drift.

    Args:
        column: Column name.
        psi: Population stability index, 0 or more.
    """

    column: str
    psi: float

    @property
    def verdict(self) -> str:
        """``stable``, ``watch`` or ``shifted``."""
        if self.psi < STABLE_BELOW:
            return "stable"
        return "watch" if self.psi < SHIFTED_FROM else "shifted"


def measure_baseline(book: LoanBook) -> Baseline:
    """Tenths of every numeric column, shares of every category.

    Args:
        book: Training rows.
    """
    edges, shares = {}, {}
    for column in NUMBERS:
        values = book.numbers[column.name]
        known = values[~np.isnan(values)]
        quantiles = np.quantile(known, np.arange(1, BINS) / BINS) if len(known) else np.empty(0)
        edges[column.name] = [float(v) for v in np.unique(quantiles)]
        shares[column.name] = _number_shares(values, edges[column.name]).tolist()
    for category in CATEGORIES:
        shares[category.name] = _code_shares(book.codes[category.name], len(category.values)).tolist()
    return Baseline(edges, shares)


def measure_drift(baseline: Baseline, book: LoanBook) -> tuple[Drift, ...]:
    """PSI of every column, largest first.

    Args:
        baseline: Of the rows the model was trained on.
        book: New rows.
    """
    found = []
    for column in NUMBERS:
        new = _number_shares(book.numbers[column.name], baseline.edges[column.name])
        found.append(Drift(column.name, psi(np.array(baseline.shares[column.name]), new)))
    for category in CATEGORIES:
        new = _code_shares(book.codes[category.name], len(category.values))
        found.append(Drift(category.name, psi(np.array(baseline.shares[category.name]), new)))
    return tuple(sorted(found, key=lambda drift: -drift.psi))


def psi(old: Shares, new: Shares) -> float:
    """Sum of (new - old) * ln(new / old); empty bins count as 0.0001."""
    old, new = np.maximum(old, FLOOR), np.maximum(new, FLOOR)
    return float(np.sum((new - old) * np.log(new / old)))


def _number_shares(values: Floats, edges: list[float]) -> Shares:
    missing = np.isnan(values)
    index = np.where(missing, len(edges) + 1, np.searchsorted(np.array(edges, np.float64), values, side="left"))
    counts = np.bincount(index, minlength=len(edges) + 2)
    return np.asarray(counts / len(values), np.float64)


def _code_shares(codes: npt.NDArray[np.int8], size: int) -> Shares:
    return np.asarray(np.bincount(codes, minlength=size) / len(codes), np.float64)
