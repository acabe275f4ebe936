import io
import json
from typing import Any

import numpy as np
import pytest
import xgboost as xgb

from strongroom.errors import ConfigurationError, FormatError
from strongroom.loan import jobs, training
from strongroom.loan.book import LoanBook, join
from strongroom.loan.catalog import load_model, publish, read_catalog
from strongroom.loan.continuing import ContinueSettings, continue_training, write_continued
from strongroom.loan.presets import TrainSettings
from strongroom.loan.processing import ProcessSettings
from strongroom.loan.sample import sample_book
from strongroom.loan.training import TrainingCancelled
from strongroom.loan.writing import write_csv


def put(storage: Any, path: str, book: LoanBook) -> None:
    sink = io.BytesIO()
    write_csv([book], sink)
    storage.files[path] = sink.getvalue()


@pytest.fixture
def started(storage: Any, small_book: LoanBook) -> Any:
    """A model of one batch, and a second batch that is processed."""
    put(storage, "data/first.csv", small_book)
    put(storage, "data/second.csv", join(list(sample_book(2_000, seed=8))))
    for name in ("first", "second"):
        jobs.process(storage, f"data/{name}.csv", name)
    jobs.train(storage, "first", settings=TrainSettings(rounds=30))
    return storage


def test_trees_are_added_and_the_old_ones_and_the_preprocessor_stay(started: Any, small_book: LoanBook) -> None:
    old = load_model(started, "loan")
    outcome = continue_training(started, "second", settings=ContinueSettings(rounds=10, rows="new", champion=True))
    new = load_model(started, "loan")
    assert outcome.version.number == 2
    assert new.booster.num_boosted_rounds() == 40
    assert new.preprocessor == old.preprocessor
    features = new.preprocessor.transform(small_book)
    np.testing.assert_allclose(
        new.booster.inplace_predict(features, iteration_range=(0, 30)), old.booster.inplace_predict(features), atol=1e-6
    )
    assert new.metadata["data"] == ["first", "second"]
    assert new.metadata["held_out"] == ["first"]


def splits_and_leaves(booster: xgb.Booster, trees: int) -> tuple[list[str], list[float]]:
    lines = "\n".join(booster.get_dump()[:trees]).splitlines()
    values = [float(line.partition("leaf=")[2]) for line in lines if "leaf=" in line]
    return [line.partition("leaf=")[0] for line in lines], values


def test_with_all_rows_the_old_trees_keep_their_splits_and_their_leaves_learn(started: Any) -> None:
    old_splits, old_leaves = splits_and_leaves(load_model(started, "loan").booster, 30)
    outcome = continue_training(started, "second", settings=ContinueSettings(rounds=10, champion=True))
    new = load_model(started, "loan").booster
    splits, leaves = splits_and_leaves(new, 30)
    assert new.num_boosted_rounds() == 40
    assert splits == old_splits
    assert not np.allclose(leaves, old_leaves)
    assert outcome.after["log_loss"] < outcome.before["log_loss"]


def test_leaves_are_fitted_to_so_many_rows_at_most_from_old_and_new(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[int]] = []
    build = training._whole_matrix

    def watch(books: Any, preprocessor: Any) -> Any:
        seen.append([len(book) for book in books])
        return build(books, preprocessor)

    monkeypatch.setattr(training, "REFRESH_ROWS", 400)
    monkeypatch.setattr(training, "_whole_matrix", watch)
    continue_training(started, "second", settings=ContinueSettings(rounds=1, champion=True))
    ((old, new),) = seen
    assert old > 0
    assert new > 0
    assert old + new <= 400 + 2  # each batch's share is rounded up


def test_constrained_trees_keep_their_leaves(started: Any) -> None:
    jobs.train(started, "first", "constrained", TrainSettings(rounds=30, monotone=True))
    _, old_leaves = splits_and_leaves(load_model(started, "constrained").booster, 30)
    continue_training(started, "second", "constrained", ContinueSettings(rounds=5, champion=True))
    _, leaves = splits_and_leaves(load_model(started, "constrained").booster, 30)
    assert leaves == old_leaves


def test_before_and_after_are_measured_on_the_same_held_out_rows(started: Any) -> None:
    before = jobs.evaluate(started, "first").evaluation.scores
    outcome = continue_training(started, "second", settings=ContinueSettings(rounds=10, champion=True))
    after = jobs.evaluate(started, "first").evaluation.scores
    assert outcome.before == before
    assert outcome.after == after
    assert before != after


def test_a_continuation_that_does_not_help_is_published_but_not_served(started: Any) -> None:
    # Outcomes turned round: the new trees can only harm.
    batch = join(list(sample_book(2_000, seed=9)))
    assert batch.target is not None
    put(started, "data/bad.csv", LoanBook(batch.numbers, batch.codes, (1 - batch.target).astype(np.int8)))
    jobs.process(started, "data/bad.csv", "bad")
    outcome = continue_training(started, "bad", settings=ContinueSettings(rounds=20, rows="new"))
    assert outcome.after["auc"] < outcome.before["auc"]
    assert not outcome.champion
    assert read_catalog(started, "loan").champion == 1
    assert len(read_catalog(started, "loan").versions) == 2


def test_new_rows_that_copy_held_out_rows_are_left_out(started: Any, small_book: LoanBook) -> None:
    put(started, "data/again.csv", join([small_book, join(list(sample_book(500, seed=11)))]))
    jobs.process(started, "data/again.csv", "again", ProcessSettings(seed=5))
    outcome = continue_training(started, "again", settings=ContinueSettings(rounds=2))
    assert outcome.copies_left_out > 300


def test_refuses_a_batch_that_is_all_held_out_copies(started: Any) -> None:
    started.files["copy/train.parquet"] = started.files["first/test.parquet"]
    started.files["copy/test.parquet"] = started.files["first/test.parquet"]
    started.files["copy/manifest.json"] = started.files["first/manifest.json"]
    with pytest.raises(FormatError, match="copy of a held-out row"):
        continue_training(started, "copy")


def test_a_cancelled_continuation_publishes_nothing(started: Any) -> None:
    before = dict(started.files)
    with pytest.raises(TrainingCancelled):
        continue_training(started, "second", cancelled=lambda: True)
    assert started.files == before


def test_drift_is_reported_against_the_rows_trained_on(started: Any) -> None:
    batch = join(list(sample_book(2_000, seed=12)))
    richer = LoanBook({**batch.numbers, "person_income": batch.numbers["person_income"] * 2}, batch.codes, batch.target)
    put(started, "data/richer.csv", richer)
    jobs.process(started, "data/richer.csv", "richer")
    outcome = continue_training(started, "richer", settings=ContinueSettings(rounds=2))
    assert outcome.drift[0].column == "person_income"
    assert outcome.drift[0].verdict == "shifted"
    assert {d.verdict for d in outcome.drift[1:]} == {"stable"}
    write_continued(started, outcome, "results/continued.json")
    assert json.loads(started.files["results/continued.json"])["drift"][0]["verdict"] == "shifted"


def test_refuses_a_bundle_with_unknown_parameters(started: Any) -> None:
    from dataclasses import replace
    from datetime import UTC, datetime

    bundle = load_model(started, "loan")
    odd = replace(bundle, metadata={**bundle.metadata, "parameters": {"updater": "refresh"}})
    publish(started, "loan", odd, now=datetime.now(UTC), note="odd")
    with pytest.raises(FormatError, match="parameters"):
        continue_training(started, "second", settings=ContinueSettings(rounds=2))


@pytest.mark.parametrize("again", [{"seed": 3}, {"test_share": 0.3}])
@pytest.mark.parametrize("data", ["first", "second"])
def test_refuses_to_continue_when_the_rows_of_before_were_replaced(
    started: Any, again: dict[str, Any], data: str
) -> None:
    # Divided again, rows that were held out would be trained on, and those that were trained on would be held out.
    jobs.process(started, "data/first.csv", "first", ProcessSettings(**again))
    before = dict(started.files)
    with pytest.raises(FormatError, match="'first'") as refused:
        continue_training(started, data, settings=ContinueSettings(rounds=2))
    assert refused.value.code == "loan.data_changed"
    assert started.files == before


def test_the_same_data_step_done_again_changes_nothing(started: Any) -> None:
    jobs.process(started, "data/first.csv", "first")
    assert continue_training(started, "first", settings=ContinueSettings(rounds=2)).version.number == 2
    jobs.process(started, "data/second.csv", "second")
    outcome = continue_training(started, "second", settings=ContinueSettings(rounds=2, champion=True))
    jobs.process(started, "data/second.csv", "second", ProcessSettings(seed=1))
    with pytest.raises(FormatError, match="'second'"):
        continue_training(started, "first", settings=ContinueSettings(rounds=2))
    assert read_catalog(started, "loan").champion == outcome.version.number


@pytest.mark.parametrize("settings", [{"rounds": 0}, {"rounds": 20_001}, {"rows": "some"}])
def test_refuses_settings_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ContinueSettings(**settings)


def test_refuses_an_unknown_model_and_no_data(started: Any) -> None:
    with pytest.raises(ConfigurationError):
        continue_training(started, "second", "nobody")
    with pytest.raises(ConfigurationError):
        continue_training(started, [])
