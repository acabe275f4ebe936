import io
from typing import Any

import numpy as np
import pytest

from strongroom.errors import ConfigurationError, FormatError
from strongroom.loan import jobs
from strongroom.loan.book import LoanBook
from strongroom.loan.catalog import load_model, promote, read_catalog
from strongroom.loan.presets import TrainSettings
from strongroom.loan.processing import ProcessSettings, read_manifest, read_rows
from strongroom.loan.report import Attested, render_report
from strongroom.loan.training import TrainingCancelled
from strongroom.loan.writing import write_csv

QUICK = TrainSettings(rounds=20)


@pytest.fixture
def ready(storage: Any, small_book: LoanBook) -> Any:
    """A storage with a processed loan book."""
    sink = io.BytesIO()
    write_csv([small_book], sink)
    storage.files["data/loans.csv"] = sink.getvalue()
    jobs.process(storage, "data/loans.csv")
    return storage


def test_the_whole_job_on_real_data(storage: Any, real_book: LoanBook) -> None:
    sink = io.BytesIO()
    write_csv([real_book], sink)
    storage.files["data/loans.csv"] = sink.getvalue()
    manifest = jobs.process(storage, "data/loans.csv")
    assert manifest.train_rows + manifest.test_rows == len(real_book)
    jobs.train(storage, settings=TrainSettings(rounds=300))
    results = jobs.evaluate(storage)
    assert results.evaluation.scores["auc"] > 0.94
    predictions = jobs.predict(storage, "data/loans.csv")
    lines = storage.files["predictions/loan.csv"].decode().splitlines()
    assert lines[0] == ",Probability,Prediction"
    assert len(lines) == len(real_book) + 1
    row, probability, label = lines[1].split(",")
    assert row == "0"
    assert float(probability) == pytest.approx(predictions.probabilities[0], rel=1e-6)
    assert label == str(predictions.probabilities[0] > 0.5)


def test_results_read_back_and_make_a_report(ready: Any) -> None:
    jobs.train(ready, settings=QUICK)
    results = jobs.evaluate(ready)
    assert jobs.read_results(ready, "results/loan.json") == results
    page = render_report(results, Attested([("<script>alert(1)</script>", '"x" & y')], simulated=True))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "Simulated platform" in page
    assert page.count("<svg") == 4
    assert "Simulated" not in render_report(results)


def test_a_cancelled_training_publishes_nothing(ready: Any) -> None:
    jobs.train(ready, settings=QUICK)
    before = dict(ready.files)
    seen: list[tuple[int, int]] = []
    with pytest.raises(TrainingCancelled):
        jobs.train(
            ready,
            settings=QUICK,
            progress=lambda done, total: seen.append((done, total)),
            cancelled=lambda: len(seen) == 5,
        )
    assert seen[-1] == (5, 20)
    assert ready.files == before


def test_versions_are_kept_and_the_champion_can_be_changed(ready: Any) -> None:
    jobs.train(ready, settings=QUICK)
    jobs.train(ready, settings=TrainSettings(rounds=10), champion=False)
    assert load_model(ready, "loan").metadata["version"] == 1
    assert load_model(ready, "loan", 2).booster.num_boosted_rounds() == 10
    promote(ready, "loan", 2)
    assert load_model(ready, "loan").metadata["version"] == 2
    assert [v.number for v in read_catalog(ready, "loan").versions] == [1, 2]


def test_a_storage_that_fails_while_publishing_leaves_the_last_good_version(
    ready: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.train(ready, settings=QUICK)
    create = ready.create

    def full(path: str) -> Any:
        if path.endswith("catalog.json"):
            raise OSError(28, "No space left on device")
        return create(path)

    monkeypatch.setattr(ready, "create", full)
    with pytest.raises(OSError, match="No space"):
        jobs.train(ready, settings=TrainSettings(rounds=5))
    assert load_model(ready, "loan").booster.num_boosted_rounds() == 20


def test_what_could_not_be_published_is_not_trained(ready: Any) -> None:
    jobs.train(ready, settings=QUICK)
    ready.files["models/loan/catalog.json"] = b"{}"
    trees: list[int] = []
    with pytest.raises(FormatError) as refused:
        jobs.train(ready, settings=QUICK, progress=lambda done, _total: trees.append(done))
    assert refused.value.code == "loan.catalog"
    assert trees == []


def test_refuses_a_bundle_swapped_for_another_version(ready: Any) -> None:
    jobs.train(ready, settings=QUICK)
    jobs.train(ready, settings=TrainSettings(rounds=5))
    first, second = (f"models/loan/{v.file}" for v in read_catalog(ready, "loan").versions)
    ready.files[second] = ready.files[first]
    with pytest.raises(FormatError) as refused:
        jobs.predict(ready, "data/loans.csv")
    assert refused.value.code == "loan.bundle_swapped"


@pytest.mark.parametrize("name", ["", "../loan", "a/b", "a\\b", ".hidden", "x" * 65, "a\n", "é", "con:"])
def test_refuses_model_names_that_are_paths(ready: Any, name: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        jobs.train(ready, model=name, settings=QUICK)
    assert refused.value.code == "loan.model_name"


def test_unknown_model_and_version_say_so(ready: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        jobs.predict(ready, "data/loans.csv", "nobody")
    assert refused.value.code == "loan.unknown_model"
    jobs.train(ready, settings=QUICK)
    with pytest.raises(ConfigurationError) as refused:
        jobs.evaluate(ready, version=7)
    assert refused.value.code == "loan.unknown_version"


def test_growing_keeps_real_rows_first_and_never_crosses_the_split(ready: Any, small_book: LoanBook) -> None:
    manifest = jobs.process(ready, "data/loans.csv", "grown", ProcessSettings(size=20_000))
    assert (manifest.train_rows, manifest.test_rows) == (15_000, 5_000)
    train, test = read_rows(ready, "grown", "train"), read_rows(ready, "grown", "test")
    assert len(train.real()) + len(test.real()) == len(small_book)
    assert read_manifest(ready, "grown") == manifest


def test_the_reference_protocol_is_marked_as_leaky_everywhere(ready: Any) -> None:
    jobs.process(ready, "data/loans.csv", "leaky", ProcessSettings(size=8_000, protocol="reference"))
    assert read_manifest(ready, "leaky").leaky
    jobs.train(ready, "leaky", settings=QUICK)
    results = jobs.evaluate(ready, "leaky")
    assert results.evaluation.rows == 2_000
    assert "scores look too good" in render_report(results)


def test_a_threshold_that_is_no_probability_is_refused(ready: Any) -> None:
    jobs.train(ready, settings=QUICK)
    for threshold in (-0.1, 1.5, float("nan")):
        with pytest.raises(ConfigurationError):
            jobs.predict(ready, "data/loans.csv", threshold=threshold)


def test_predictions_answer_as_the_reference(ready: Any) -> None:
    jobs.train(ready, settings=QUICK)
    predictions = jobs.predict(ready, "data/loans.csv", threshold=0.3)
    answer = predictions.to_json()
    assert list(answer) == ["Probability", "Prediction"]
    assert set(answer["Prediction"].values()) == {"True", "False"}
    assert np.all((predictions.probabilities > 0.3) == [answer["Prediction"][str(i)] == "True" for i in range(3_000)])
