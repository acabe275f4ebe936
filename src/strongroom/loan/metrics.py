"""How good probabilities are: ranking, error and calibration, from their definitions."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

CURVE_POINTS: Final = 400
CALIBRATION_BINS: Final = 10


@dataclass(frozen=True, slots=True)
class Ranking:
    """Rows in order of falling probability, one entry a distinct probability.

    Args:
        thresholds: Distinct probabilities, falling.
        true_positives: Defaults at or above each threshold.
        false_positives: Non-defaults at or above each threshold.
    """

    thresholds: Values
    true_positives: Values
    false_positives: Values


def rank(labels: npt.NDArray[np.int8], probabilities: npt.NDArray[np.float32]) -> Ranking:
    """Count what lies above every distinct probability.

    Args:
        labels: 0 or 1, both present.
        probabilities: Of label 1; same length.
    """
    order = np.argsort(-probabilities, kind="stable")
    falling = probabilities[order].astype(np.float64)
    last = np.flatnonzero(np.r_[falling[1:] != falling[:-1], True])
    true_positives = np.cumsum(labels[order], dtype=np.float64)[last]
    return Ranking(falling[last], true_positives, last + 1 - true_positives)


def auc(ranking: Ranking) -> float:
    """Area under the ROC curve by trapezoids: a tie counts half."""
    recall, fall_out = _rates(ranking)
    return float(np.sum(np.diff(fall_out) * (recall[1:] + recall[:-1]) / 2))


def pr_auc(ranking: Ranking) -> float:
    """Average precision: precision weighted by the step in recall, not interpolated."""
    precision, recall = _precision_recall(ranking)
    return float(np.sum(np.diff(np.r_[0.0, recall]) * precision))


def ks(ranking: Ranking) -> float:
    """Kolmogorov-Smirnov: the largest distance between the classes' distributions."""
    recall, fall_out = _rates(ranking)
    return float(np.max(recall - fall_out))


def brier(labels: npt.NDArray[np.int8], probabilities: npt.NDArray[np.float32]) -> float:
    """Mean squared difference of probability and outcome."""
    return float(np.mean((probabilities.astype(np.float64) - labels) ** 2))


def log_loss(labels: npt.NDArray[np.int8], probabilities: npt.NDArray[np.float32]) -> float:
    """Mean negative log likelihood; probabilities are kept one float32 step away from 0 and 1."""
    step = float(np.finfo(np.float32).eps)
    inside = np.clip(probabilities.astype(np.float64), step, 1 - step)
    return float(-np.mean(np.where(labels == 1, np.log(inside), np.log1p(-inside))))


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """One tenth of the probability scale: how many rows, mean probability, share of defaults."""

    rows: int
    predicted: float
    observed: float


def calibration(labels: npt.NDArray[np.int8], probabilities: npt.NDArray[np.float32]) -> list[CalibrationBin]:
    """The ten bins of equal width that hold rows."""
    index = np.minimum((probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    count = np.bincount(index, minlength=CALIBRATION_BINS)
    predicted = np.bincount(index, probabilities, CALIBRATION_BINS)
    observed = np.bincount(index, labels, CALIBRATION_BINS)
    return [
        CalibrationBin(int(n), float(p / n), float(o / n))
        for n, p, o in zip(count, predicted, observed, strict=True)
        if n
    ]


def calibration_error(bins: list[CalibrationBin]) -> float:
    """Expected calibration error: mean distance of probability and share, weighted by rows."""
    rows = sum(b.rows for b in bins)
    return sum(b.rows * abs(b.predicted - b.observed) for b in bins) / rows


def roc_points(ranking: Ranking) -> list[tuple[float, float, float]]:
    """(false positive rate, true positive rate, threshold), thinned to a few hundred points."""
    recall, fall_out = _rates(ranking)
    thresholds = np.r_[1.0, ranking.thresholds]
    return [(float(fall_out[i]), float(recall[i]), float(thresholds[i])) for i in _thin(fall_out, recall)]


def pr_points(ranking: Ranking) -> list[tuple[float, float, float]]:
    """(recall, precision, threshold), thinned to a few hundred points."""
    precision, recall = _precision_recall(ranking)
    return [(float(recall[i]), float(precision[i]), float(ranking.thresholds[i])) for i in _thin(recall, precision)]


def _rates(ranking: Ranking) -> tuple[Values, Values]:
    """True and false positive rate, beginning at (0, 0)."""
    return (
        np.r_[0.0, ranking.true_positives / ranking.true_positives[-1]],
        np.r_[0.0, ranking.false_positives / ranking.false_positives[-1]],
    )


def _precision_recall(ranking: Ranking) -> tuple[Values, Values]:
    above = ranking.true_positives + ranking.false_positives
    return ranking.true_positives / above, ranking.true_positives / ranking.true_positives[-1]


def _thin(x: Values, y: Values) -> npt.NDArray[np.int64]:
    """Indices of points evenly spaced along the curve, first and last included."""
    length = np.r_[0.0, np.cumsum(np.hypot(np.diff(x), np.diff(y)))]
    wanted = np.linspace(0, length[-1], CURVE_POINTS)
    return np.unique(np.r_[0, np.searchsorted(length, wanted, side="left").clip(0, len(x) - 1), len(x) - 1])
