"""Whether a model treats two groups alike: the ratios of Intel's reference kit for one chosen column.

Each ratio divides the privileged group's rate by the other group's; 1 means parity.
Source of the eight rates: oneapi-src/loan-default-risk-prediction, README, section on fairness.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from strongroom.errors import ConfigurationError, FormatError
from strongroom.loan.book import LoanBook
from strongroom.loan.schema import CATEGORY_BY_NAME, NUMBER_BY_NAME, TARGET

RATES: Final = ("PPV", "FDR", "NPV", "FOMR", "TPR", "FNR", "TNR", "FPR")

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Group:
    """One group's rates.

    Args:
        rows: Number of rows.
        rates: By name; None where there is no case to divide by.
    """

    rows: int
    rates: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Fairness:
    """Rates of both groups and their ratios.

    Args:
        column: The column that divides the rows.
        privileged: What makes a row privileged, in words.
        groups: The privileged group and the other one.
        ratios: Privileged rate over the other, by name; None where one of them is missing or the other is 0.
    """

    column: str
    privileged: str
    groups: tuple[Group, Group]
    ratios: dict[str, float | None]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        names = ("privileged", "other")
        return {
            "column": self.column,
            "privileged": self.privileged,
            "groups": {n: {"rows": g.rows, **g.rates} for n, g in zip(names, self.groups, strict=True)},
            "ratios": self.ratios,
        }

    @classmethod
    def from_json(cls, data: Any) -> "Fairness":
        """Read what `to_json` gave.

        Raises:
            ValueError: A value is of the wrong kind.
            TypeError: The structure is another one.
            KeyError: Something is missing.
        """
        first, second = (
            Group(int(group["rows"]), {rate: _number(group[rate]) for rate in RATES})
            for group in (data["groups"]["privileged"], data["groups"]["other"])
        )
        ratios = {rate: _number(data["ratios"][rate]) for rate in RATES}
        return cls(str(data["column"]), str(data["privileged"]), (first, second), ratios)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def privileged_rows(book: LoanBook, column: str, values: Sequence[str]) -> Mask:
    """Which rows belong to the privileged group.

    Args:
        book: The rows.
        column: A categorical column, a column kept aside, or a numeric column.
        values: The privileged values; for a numeric column one lower bound, included.

    Raises:
        ConfigurationError: Unknown column or value, or a group is empty, code ``loan.fairness``.
    """
    if not values:
        _refuse("name at least one privileged value")
    if column in book.extra:
        mask = np.isin(book.extra[column].astype(str), list(values))
    elif column in CATEGORY_BY_NAME:
        known = CATEGORY_BY_NAME[column].values
        if unknown := [value for value in values if value not in known]:
            _refuse(f"{column} has no value {unknown[0]!r}; it has {', '.join(known)}")
        mask = np.isin(book.codes[column], [known.index(value) for value in values])
    elif column in NUMBER_BY_NAME and column != TARGET:
        mask = book.numbers[column] >= _bound(column, values)
    else:
        _refuse(f"there is no column {column!r} to divide by")
    if not 0 < int(mask.sum()) < len(book):
        _refuse(f"every row falls into one group of {column}")
    return np.asarray(mask, bool)


def privileged_words(book: LoanBook, column: str, values: Sequence[str]) -> str:
    """What makes a row privileged, in words; the arguments are those of `privileged_rows`."""
    bound = column in NUMBER_BY_NAME and column not in book.extra
    return f"{values[0]} or more" if bound else ", ".join(values)


def _bound(column: str, values: Sequence[str]) -> float:
    try:
        (bound,) = map(float, values)
    except ValueError:
        _refuse(f"{column} is a number: give one lower bound")
    return bound


def _refuse(text: str) -> NoReturn:
    raise ConfigurationError(text, code="loan.fairness")


def measure_fairness(
    labels: npt.NDArray[np.int8] | None, called: Mask, privileged: Mask, *, column: str, name: str
) -> Fairness:
    """Compare the two groups.

    Args:
        labels: Outcomes, 0 or 1.
        called: Whether each row was called a default.
        privileged: Which rows belong to the privileged group.
        column: Name of the dividing column, for the record.
        name: What makes a row privileged, for the record.

    Raises:
        FormatError: There are no outcomes, code ``loan.target``.
    """
    if labels is None:
        raise FormatError("fairness needs rows with outcomes", code="loan.target")
    actual = labels == 1
    first, second = (_group(actual[side], called[side]) for side in (privileged, ~privileged))
    ratios = {rate: _ratio(first.rates[rate], second.rates[rate]) for rate in RATES}
    return Fairness(column, name, (first, second), ratios)


def _group(actual: Mask, called: Mask) -> Group:
    tp, fp = int(np.sum(actual & called)), int(np.sum(~actual & called))
    fn, tn = int(np.sum(actual & ~called)), int(np.sum(~actual & ~called))
    rates = {
        "PPV": _ratio(tp, tp + fp),
        "FDR": _ratio(fp, tp + fp),
        "NPV": _ratio(tn, tn + fn),
        "FOMR": _ratio(fn, tn + fn),
        "TPR": _ratio(tp, tp + fn),
        "FNR": _ratio(fn, tp + fn),
        "TNR": _ratio(tn, tn + fp),
        "FPR": _ratio(fp, tn + fp),
    }
    return Group(len(actual), rates)


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole
