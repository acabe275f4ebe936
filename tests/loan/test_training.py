from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from strongroom.errors import ConfigurationError, FormatError
from strongroom.loan.augmentation import augment
from strongroom.loan.book import LoanBook, join
from strongroom.loan.evaluation import evaluate_scores
from strongroom.loan.presets import DEFAULT, DEFAULT_MANY_ROWS, MANY_ROWS, REFERENCE, TrainSettings
from strongroom.loan.processed import ProcessedRows
from strongroom.loan.split import split_rows
from strongroom.loan.training import train


def scores(book: LoanBook, settings: TrainSettings) -> dict[str, float]:
    split = split_rows(book)
    trained = train(book.take(split.train), settings)
    held_out = book.take(split.test)
    probabilities = trained.booster.inplace_predict(trained.preprocessor.transform(held_out))
    return evaluate_scores(held_out.target, probabilities).scores


@pytest.mark.slow
def test_the_default_beats_the_references_settings_on_real_held_out_rows(real_book: LoanBook) -> None:
    default, reference = scores(real_book, TrainSettings()), scores(real_book, TrainSettings("reference"))
    assert default["auc"] > reference["auc"] + 0.002
    assert default["log_loss"] < reference["log_loss"]
    assert default["auc"] > 0.95
    assert default["calibration_error"] < 0.012


def test_training_is_repeatable(small_book: LoanBook) -> None:
    first, second = (train(small_book, TrainSettings(rounds=10)).booster.save_raw("ubj") for _ in range(2))
    assert first == second


def test_early_stopping_stops_early(small_book: LoanBook) -> None:
    trained = train(small_book, TrainSettings(early_stopping_rounds=5))
    assert trained.rounds < DEFAULT.rounds
    assert trained.booster.num_boosted_rounds() == trained.rounds


def test_a_class_weight_raises_the_probabilities(small_book: LoanBook) -> None:
    plain, balanced = (
        scores(small_book, TrainSettings(rounds=50, positive_weight=weight))["mean_probability"]
        for weight in (None, "balanced")
    )
    assert balanced > plain + 0.05


def test_monotone_constraints_hold(small_book: LoanBook) -> None:
    trained = train(small_book, TrainSettings(rounds=50, monotone=True))
    scored = []
    for rate in (6.0, 12.0, 18.0, 23.0):
        numbers = {**small_book.numbers, "loan_int_rate": np.full(len(small_book), rate, np.float32)}
        features = trained.preprocessor.transform(LoanBook(numbers, small_book.codes))
        scored.append(trained.booster.inplace_predict(features))
    for lower, higher in pairwise(scored):
        assert (higher >= lower - 1e-6).all()


def test_the_preset_follows_the_number_of_rows() -> None:
    assert TrainSettings().choose(MANY_ROWS - 1) is DEFAULT
    assert TrainSettings().choose(MANY_ROWS) is DEFAULT_MANY_ROWS
    assert TrainSettings("reference").choose(MANY_ROWS) is REFERENCE


def test_augmented_copies_weigh_a_ninth_of_the_real_rows(small_book: LoanBook) -> None:
    chunks = list(augment(small_book, 12_000, seed=0))
    rows = ProcessedRows(join([c.book for c in chunks]), np.concatenate([c.augmented for c in chunks]))
    weight = rows.weighted().weight
    assert weight is not None
    assert weight.sum() == pytest.approx(3_000, rel=1e-4)
    assert weight[rows.augmented].sum() == pytest.approx(300, rel=1e-4)
    assert ProcessedRows(small_book, np.zeros(3_000, bool)).weighted().weight is None
    assert ProcessedRows(small_book, np.ones(3_000, bool)).weighted().weight is None


def test_weights_reach_the_trees(small_book: LoanBook) -> None:
    # The second half has its outcomes turned round; without weight it must not matter.
    assert small_book.target is not None
    turned = LoanBook(small_book.numbers, small_book.codes, (1 - small_book.target).astype(np.int8))
    both = join([small_book, turned])
    weight = np.repeat(np.array([1.0, 1e-6], np.float32), len(small_book))
    weighted = LoanBook(both.numbers, both.codes, both.target, {}, weight)
    trained = train(weighted, TrainSettings(rounds=50))
    probabilities = trained.booster.inplace_predict(trained.preprocessor.transform(small_book))
    assert evaluate_scores(small_book.target, probabilities).scores["auc"] > 0.9


@pytest.mark.parametrize(
    "wrong",
    [
        {"preset": "best"},
        {"rounds": 0},
        {"rounds": 10_001},
        {"early_stopping_rounds": 0},
        {"positive_weight": -1.0},
        {"positive_weight": float("nan")},
    ],
)
def test_refuses_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        TrainSettings(**wrong)


def test_refuses_rows_without_both_outcomes(small_book: LoanBook) -> None:
    for target in (None, np.zeros(len(small_book), np.int8), np.ones(len(small_book), np.int8)):
        with pytest.raises(FormatError):
            train(LoanBook(small_book.numbers, small_book.codes, target))
