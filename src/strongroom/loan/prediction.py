"""Probabilities and labels for loan rows, and the file they are written to."""

from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv

from strongroom.errors import ConfigurationError
from strongroom.loan.book import LoanBook
from strongroom.loan.bundle import Bundle
from strongroom.loan.engine import quick_scorer

DEFAULT_THRESHOLD: Final = 0.5


@dataclass(frozen=True, slots=True)
class Predictions:
    """One probability of default a row.

    Args:
        probabilities: float32, between 0 and 1.
        threshold: A probability above it is called a default.
    """

    probabilities: npt.NDArray[np.float32]
    threshold: float = DEFAULT_THRESHOLD

    @property
    def labels(self) -> npt.NDArray[np.bool_]:
        """Whether each row is called a default."""
        return self.probabilities > self.threshold

    def to_json(self) -> dict[str, dict[str, Any]]:
        """The reference's answer: probabilities and "True"/"False", by row number as text."""
        probabilities, labels = self.probabilities.tolist(), self.labels.tolist()
        return {
            "Probability": {str(row): value for row, value in enumerate(probabilities)},
            "Prediction": {str(row): "True" if value else "False" for row, value in enumerate(labels)},
        }


def check_threshold(threshold: float) -> float:
    """The threshold itself.

    Raises:
        ConfigurationError: It is no probability.
    """
    if not 0 <= threshold <= 1:
        raise ConfigurationError("the threshold must lie between 0 and 1", code="loan.threshold")
    return threshold


def predict_book(bundle: Bundle, book: LoanBook) -> npt.NDArray[np.float32]:
    """Probability of default for every row, in float32.

    Args:
        bundle: The model.
        book: Rows; a target is not looked at.
    """
    return quick_scorer(bundle, len(book)).score(book)


def write_predictions(predictions: Predictions, sink: BinaryIO) -> None:
    """Write predictions as CSV with the reference's columns: an index, Probability, Prediction.

    Args:
        predictions: What to write.
        sink: File to write to; stays open.
    """
    rows = len(predictions.probabilities)
    labels = pa.DictionaryArray.from_arrays(
        pa.array(predictions.labels.astype(np.int8)), pa.array(["False", "True"])
    ).cast(pa.string())
    table = pa.table(
        {"": pa.array(np.arange(rows)), "Probability": pa.array(predictions.probabilities), "Prediction": labels}
    )
    options = pa_csv.WriteOptions(quoting_style="none", quoting_header="none")
    pa_csv.write_csv(table, pa.PythonFile(sink, mode="w"), options)
