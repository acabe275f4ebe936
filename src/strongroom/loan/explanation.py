"""Reason codes: which inputs raised an applicant's probability of default most, exactly.

The contributions are SHAP values of the trees (XGBoost's `pred_contribs`, path-dependent TreeSHAP), in log odds; with
the bias they add up to the model's margin. The columns made of one category are added up to that category.
Source: Lundberg et al., "From local explanations to global understanding with explainable AI for trees", Nature
Machine Intelligence 2 (2020).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from strongroom.loan.book import LoanBook
from strongroom.loan.bundle import Bundle
from strongroom.loan.features import RATIO
from strongroom.loan.prediction import Predictions

REASONS: Final = 4
CHUNK_ROWS: Final = 2_000

# What an adverse-action notice can say, by column.
STATEMENTS: Final = {
    "person_age": "Age of applicant",
    "person_income": "Income",
    "person_home_ownership": "Home ownership status",
    "person_emp_length": "Length of employment",
    "loan_intent": "Purpose of the loan",
    "loan_grade": "Credit grade",
    "loan_amnt": "Amount of the loan",
    "loan_int_rate": "Interest rate of the loan",
    "loan_percent_income": "Stated share of income that the loan takes",
    "cb_person_default_on_file": "Earlier default on file",
    "cb_person_cred_hist_length": "Length of credit history",
    RATIO: "Amount of the loan relative to income",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One input's part in a prediction.

    Args:
        column: Column name.
        contribution: Log odds it adds; positive: it raises the risk.
    """

    column: str
    contribution: float

    @property
    def statement(self) -> str:
        """The input in words."""
        return STATEMENTS.get(self.column, self.column)


@dataclass(frozen=True, slots=True)
class Contributions:
    """Exact contributions of a batch of rows.

    Args:
        columns: Column names.
        values: Log odds, shape (rows, columns).
        bias: Log odds of an empty set of inputs.
    """

    columns: tuple[str, ...]
    values: npt.NDArray[np.float64]
    bias: float

    def reasons(self, row: int, count: int = REASONS) -> tuple[Reason, ...]:
        """The inputs that raise this row's risk most, largest first; fewer where fewer raise it."""
        order = np.argsort(-self.values[row])[:count]
        return tuple(Reason(self.columns[i], float(self.values[row, i])) for i in order if self.values[row, i] > 0)


def contributions(bundle: Bundle, book: LoanBook) -> Contributions:
    """Exact SHAP contributions by column.

    Args:
        bundle: The model.
        book: Rows; each costs as much as some hundred predictions.
    """
    features = bundle.preprocessor.transform(book)
    data = xgb.DMatrix(features, feature_names=list(bundle.preprocessor.names))
    raw = bundle.booster.predict(data, pred_contribs=True).astype(np.float64)
    owners = [name.split("=")[0] for name in bundle.preprocessor.names]
    columns = tuple(dict.fromkeys(owners))
    values = np.zeros((len(book), len(columns)))
    for index, owner in enumerate(owners):
        values[:, columns.index(owner)] += raw[:, index]
    return Contributions(columns, values, float(raw[0, -1]))


def explain(
    bundle: Bundle, book: LoanBook, count: int = REASONS, *, progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[Reason, ...]]:
    """The reasons of every row, in order.

    Args:
        bundle: The model.
        book: Rows.
        count: Reasons a row at most.
        progress: Called with rows done and rows in all, every 2,000 rows.
    """
    for start in range(0, len(book), CHUNK_ROWS):
        part = book.between(start, start + CHUNK_ROWS)
        found = contributions(bundle, part)
        for row in range(len(part)):
            yield found.reasons(row, count)
        if progress:
            progress(start + len(part), len(book))


def write_reasons(predictions: Predictions, reasons: Iterator[tuple[Reason, ...]], sink: BinaryIO) -> None:
    """Write one line a row: index, probability, prediction, then four reasons as `column:contribution`.

    Args:
        predictions: Of the same rows.
        reasons: As `explain` gives them.
        sink: File to write to; stays open.
    """
    sink.write(b",Probability,Prediction," + b",".join(f"Reason{n + 1}".encode() for n in range(REASONS)) + b"\n")
    scored = zip(predictions.probabilities.tolist(), predictions.labels.tolist(), reasons, strict=True)
    for row, (probability, label, found) in enumerate(scored):
        cells = [f"{reason.column}:{reason.contribution:+.4f}" for reason in found]
        cells += [""] * (REASONS - len(cells))
        sink.write(f"{row},{probability:.9g},{label},{','.join(cells)}\n".encode())
