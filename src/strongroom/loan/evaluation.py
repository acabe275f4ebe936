"""Scores a model on held-out rows: the reference's table, and what a credit-risk team asks for beyond it."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from strongroom.errors import FormatError
from strongroom.loan import metrics
from strongroom.loan.book import Labels

CLASS_NAMES: Final = ("Non-Default", "Default")
REPORT_ROWS: Final = (*CLASS_NAMES, "accuracy", "macro avg", "weighted avg")
REPORT_COLUMNS: Final = ("precision", "recall", "f1-score", "support")

Report = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one set of probabilities is worth.

    Args:
        rows: Number of rows.
        threshold: A probability above it is called a default.
        report: Precision, recall, f1-score and support by class and average, column by column as the reference
            answers ("accuracy" repeats the accuracy in every column).
        scores: auc, pr_auc, ks, brier, log_loss, calibration_error, default_rate, mean_probability.
        roc: (false positive rate, true positive rate, threshold).
        pr: (recall, precision, threshold).
        calibration: Bins of equal width.
    """

    rows: int
    threshold: float
    report: Report
    scores: dict[str, float]
    roc: list[tuple[float, float, float]]
    pr: list[tuple[float, float, float]]
    calibration: list[metrics.CalibrationBin]

    def to_json(self) -> dict[str, Any]:
        """Plain data, curves included."""
        return {
            "rows": self.rows,
            "threshold": self.threshold,
            "report": self.report,
            "scores": self.scores,
            "roc": [list(point) for point in self.roc],
            "pr": [list(point) for point in self.pr],
            "calibration": [[b.rows, b.predicted, b.observed] for b in self.calibration],
        }

    @classmethod
    def from_json(cls, data: Any) -> "Evaluation":
        """Read what `to_json` gave.

        Raises:
            ValueError: A value is of the wrong kind.
            TypeError: The structure is another one.
            KeyError: Something is missing.
        """
        report = {
            str(column): {str(row): float(value) for row, value in rows.items()}
            for column, rows in data["report"].items()
        }
        if any(list(rows) != list(REPORT_ROWS) for rows in report.values()) or list(report) != list(REPORT_COLUMNS):
            raise ValueError("the table is another one")
        return cls(
            int(data["rows"]),
            float(data["threshold"]),
            report,
            {str(name): float(value) for name, value in data["scores"].items()},
            [_triple(point) for point in data["roc"]],
            [_triple(point) for point in data["pr"]],
            [metrics.CalibrationBin(int(n), float(p), float(o)) for n, p, o in data["calibration"]],
        )


def _triple(point: Any) -> tuple[float, float, float]:
    x, y, threshold = point
    return float(x), float(y), float(threshold)


def evaluate_scores(
    labels: Labels | None, probabilities: npt.NDArray[np.float32], *, threshold: float = 0.5
) -> Evaluation:
    """Evaluate probabilities of default.

    Args:
        labels: Outcomes, 0 or 1; both must occur.
        probabilities: Same length.
        threshold: A probability above it is called a default.

    Raises:
        FormatError: No outcomes, or only one class, code ``loan.target``.
    """
    if labels is None or not 0 < int(labels.sum()) < len(labels):
        raise FormatError("evaluation needs rows with defaults and non-defaults", code="loan.target")
    ranking = metrics.rank(labels, probabilities)
    bins = metrics.calibration(labels, probabilities)
    scores = {
        "auc": metrics.auc(ranking),
        "pr_auc": metrics.pr_auc(ranking),
        "ks": metrics.ks(ranking),
        "brier": metrics.brier(labels, probabilities),
        "log_loss": metrics.log_loss(labels, probabilities),
        "calibration_error": metrics.calibration_error(bins),
        "default_rate": float(labels.mean()),
        "mean_probability": float(probabilities.mean(dtype=np.float64)),
    }
    report = classification_report(labels, probabilities > threshold)
    roc, pr = metrics.roc_points(ranking), metrics.pr_points(ranking)
    return Evaluation(len(labels), threshold, report, scores, roc, pr, bins)


def classification_report(labels: Labels, predicted: npt.NDArray[np.bool_]) -> Report:
    """Precision, recall, f1-score and support for both classes, accuracy and the two averages.

    Args:
        labels: Outcomes, 0 or 1.
        predicted: Whether each row is called a default.

    Returns:
        Column -> row -> value; a ratio without cases is 0.
    """
    per_class = [_class_scores(labels == value, predicted == value) for value in (False, True)]
    support = [scores["support"] for scores in per_class]
    accuracy = float(np.mean((labels == 1) == predicted))
    report: Report = {}
    for column in REPORT_COLUMNS:
        values = [scores[column] for scores in per_class]
        total = float(sum(support))
        macro = total if column == "support" else sum(values) / 2
        weighted = total if column == "support" else float(np.dot(values, support)) / total
        report[column] = {
            CLASS_NAMES[0]: values[0],
            CLASS_NAMES[1]: values[1],
            "accuracy": accuracy,
            "macro avg": macro,
            "weighted avg": weighted,
        }
    return report


def _class_scores(actual: npt.NDArray[np.bool_], predicted: npt.NDArray[np.bool_]) -> dict[str, float]:
    hits = float(np.sum(actual & predicted))
    called, support = float(predicted.sum()), float(actual.sum())
    precision = hits / called if called else 0.0
    recall = hits / support if support else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {"precision": precision, "recall": recall, "f1-score": f1, "support": support}


def report_csv(report: Report) -> str:
    """The report as CSV text with the reference's columns: an index, precision, recall, f1-score, support."""
    columns = list(report)
    lines = ["," + ",".join(columns)]
    lines += [",".join([row, *(repr(report[column][row]) for column in columns)]) for row in report[columns[0]]]
    return "\n".join(lines) + "\n"
