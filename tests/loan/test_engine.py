from typing import Any

import numpy as np
import pytest

from strongroom.loan.book import LoanBook
from strongroom.loan.bundle import Bundle
from strongroom.loan.engine import (
    TOLERANCE,
    WORTH_CONVERTING_ROWS,
    OneDalEngine,
    Probabilities,
    XgboostEngine,
    load_scorer,
    probe_rows,
    quick_scorer,
)
from strongroom.loan.features import Matrix
from strongroom.loan.presets import TrainSettings
from strongroom.loan.training import train


@pytest.fixture(scope="module")
def bundle(real_book: LoanBook) -> Bundle:
    trained = train(real_book, TrainSettings(rounds=60))
    return Bundle(trained.booster, trained.preprocessor)


class Liar:
    """An engine that is wrong on one row in a hundred."""

    name = "liar"

    def __init__(self, booster: Any) -> None:
        self._real = XgboostEngine(booster)

    def score(self, features: Matrix) -> Probabilities:
        scores = self._real.score(features).copy()
        scores[::100] += 2 * TOLERANCE
        return scores


class Broken:
    """An engine that can't convert the trees."""

    name = "broken"

    def __init__(self, booster: Any) -> None:
        raise RuntimeError("unsupported split")

    def score(self, features: Matrix) -> Probabilities:
        raise NotImplementedError


class Quick(XgboostEngine):
    """XGBoost under another name."""

    name = "quick"


def test_onedal_agrees_with_xgboost_on_real_and_edge_rows(bundle: Bundle, real_book: LoanBook) -> None:
    try:
        import daal4py  # noqa: F401
    except ImportError as error:
        # Absent, or another library of this process (OpenVINO) brought an older TBB; the application then uses XGBoost.
        pytest.skip(f"oneDAL can't be loaded: {str(error)[:120]}")
    fast, standard = OneDalEngine(bundle.booster), XgboostEngine(bundle.booster)
    for rows in (bundle.preprocessor.transform(real_book), probe_rows(bundle, 5_000)):
        np.testing.assert_allclose(fast.score(rows), standard.score(rows), atol=TOLERANCE)
    # Missing everything, the largest and the smallest numbers.
    width = len(bundle.preprocessor.names)
    for value in (np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, 1e-45):
        row = np.full((1, width), value, np.float32)
        np.testing.assert_allclose(fast.score(row), standard.score(row), atol=TOLERANCE)


def test_the_probe_lies_on_both_sides_of_splits_and_reaches_many_leaves(bundle: Bundle) -> None:
    probe = probe_rows(bundle)
    assert np.isnan(probe).mean() == pytest.approx(0.1, abs=0.02)
    assert len(np.unique(bundle.booster.inplace_predict(probe))) > 1_000
    np.testing.assert_array_equal(probe, probe_rows(bundle))


def test_refuses_an_engine_that_does_not_agree(bundle: Bundle) -> None:
    scorer = load_scorer(bundle, [Liar])
    assert list(scorer.engines) == ["xgboost"]
    assert "differs from xgboost by 2e-05" in scorer.refused["liar"]


def test_an_engine_that_cannot_take_the_model_is_left_out(bundle: Bundle, small_book: LoanBook) -> None:
    scorer = load_scorer(bundle, [Broken])
    assert scorer.refused == {"broken": "does not take this model: RuntimeError"}
    assert len(scorer.score(small_book)) == len(small_book)


def test_every_batch_size_has_the_engine_that_measured_best(bundle: Bundle) -> None:
    scorer = load_scorer(bundle, [Quick])
    assert set(scorer.engines) == {"xgboost", "quick"}
    for choice in scorer.choices:
        assert choice.engine == min(choice.milliseconds, key=lambda name: choice.milliseconds[name])
        assert scorer.engine_for(choice.up_to_rows).name == choice.engine
    assert scorer.engine_for(10**9).name == scorer.choices[-1].engine


def test_scores_do_not_depend_on_engine_or_chunks(bundle: Bundle, real_book: LoanBook) -> None:
    expected = XgboostEngine(bundle.booster).score(bundle.preprocessor.transform(real_book))
    for scorer in (load_scorer(bundle), quick_scorer(bundle, len(real_book))):
        np.testing.assert_allclose(scorer.score(real_book), expected, atol=TOLERANCE)


def test_a_single_small_batch_does_not_pay_for_conversion(bundle: Bundle) -> None:
    assert list(quick_scorer(bundle, WORTH_CONVERTING_ROWS - 1).engines) == ["xgboost"]
