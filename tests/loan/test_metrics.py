import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from strongroom.errors import FormatError
from strongroom.loan import metrics
from strongroom.loan.evaluation import Evaluation, classification_report, evaluate_scores, report_csv


def draw(seed: int, rows: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes and probabilities with ties."""
    rng = np.random.default_rng(seed)
    probabilities = (rng.integers(0, levels, rows) / levels).astype(np.float32)
    labels = (rng.random(rows) < probabilities).astype(np.int8)
    labels[:2] = (0, 1)
    return labels, probabilities


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 300), levels=st.integers(1, 50))
def test_scores_are_those_of_scikit_learn(seed: int, rows: int, levels: int) -> None:
    labels, probabilities = draw(seed, rows, levels)
    ranking = metrics.rank(labels, probabilities)
    fpr, tpr, _ = sklearn_metrics.roc_curve(labels, probabilities)
    assert metrics.auc(ranking) == pytest.approx(sklearn_metrics.roc_auc_score(labels, probabilities))
    assert metrics.pr_auc(ranking) == pytest.approx(sklearn_metrics.average_precision_score(labels, probabilities))
    assert metrics.ks(ranking) == pytest.approx(np.max(tpr - fpr), abs=1e-9)
    assert metrics.brier(labels, probabilities) == pytest.approx(
        sklearn_metrics.brier_score_loss(labels, probabilities)
    )
    expected = sklearn_metrics.log_loss(labels, probabilities, labels=[0, 1])
    assert metrics.log_loss(labels, probabilities) == pytest.approx(expected, rel=1e-3, abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 300))
def test_the_table_is_that_of_scikit_learn(seed: int, rows: int) -> None:
    labels, probabilities = draw(seed, rows, 20)
    predicted = probabilities > 0.5
    ours = classification_report(labels, predicted)
    theirs = sklearn_metrics.classification_report(
        labels, predicted, target_names=["Non-Default", "Default"], output_dict=True, zero_division=0
    )
    for row in ("Non-Default", "Default", "macro avg", "weighted avg"):
        for column in ours:
            assert ours[column][row] == pytest.approx(theirs[row][column])
    assert [ours[column]["accuracy"] for column in ours] == pytest.approx([theirs["accuracy"]] * 4)


def test_a_perfect_and_a_useless_model() -> None:
    labels = np.array([0, 0, 1, 1], np.int8)
    perfect = metrics.rank(labels, np.array([0.1, 0.2, 0.8, 0.9], np.float32))
    assert (metrics.auc(perfect), metrics.ks(perfect), metrics.pr_auc(perfect)) == (1, 1, 1)
    useless = metrics.rank(labels, np.full(4, 0.5, np.float32))
    assert (metrics.auc(useless), metrics.ks(useless)) == (0.5, 0)
    backwards = metrics.rank(labels, np.array([0.9, 0.8, 0.2, 0.1], np.float32))
    assert metrics.auc(backwards) == 0


def test_calibration_error_of_known_bins() -> None:
    labels = np.array([0, 1, 1, 1], np.int8)
    bins = metrics.calibration(labels, np.array([0.05, 0.05, 1.0, 1.0], np.float32))
    assert [(b.rows, round(b.predicted, 6), b.observed) for b in bins] == [(2, 0.05, 0.5), (2, 1.0, 1.0)]
    assert metrics.calibration_error(bins) == pytest.approx(0.225)


def test_curves_are_thinned_and_keep_their_ends() -> None:
    labels, probabilities = draw(1, 50_000, 40_000)
    ranking = metrics.rank(labels, probabilities)
    roc = metrics.roc_points(ranking)
    assert len(roc) <= metrics.CURVE_POINTS + 2
    assert roc[0][:2] == (0, 0)
    assert roc[-1][:2] == (1, 1)
    x, y, _ = zip(*roc, strict=True)
    assert np.trapezoid(y, x) == pytest.approx(metrics.auc(ranking), abs=1e-3)
    assert metrics.pr_points(ranking)[-1][0] == 1


def test_an_evaluation_reads_back_equal() -> None:
    evaluation = evaluate_scores(*draw(2, 500, 100))
    assert Evaluation.from_json(evaluation.to_json()) == evaluation


def test_the_csv_has_the_references_columns() -> None:
    lines = report_csv(evaluate_scores(*draw(3, 500, 100)).report).splitlines()
    assert lines[0] == ",precision,recall,f1-score,support"
    assert [line.split(",")[0] for line in lines[1:]] == [
        "Non-Default",
        "Default",
        "accuracy",
        "macro avg",
        "weighted avg",
    ]


@pytest.mark.parametrize("labels", [None, np.zeros(3, np.int8), np.ones(3, np.int8)])
def test_refuses_rows_without_both_outcomes(labels: np.ndarray | None) -> None:
    with pytest.raises(FormatError):
        evaluate_scores(labels, np.full(3, 0.5, np.float32))
