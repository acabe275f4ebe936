"""Models are loaded once, kept, and replaced by what is published."""

from typing import Any

import pytest

from strongroom.loan import jobs as loan
from strongroom.loan.catalog import promote, read_catalog
from strongroom.loan.presets import TrainSettings
from strongroom.loan.service.models import LoadedModels, Refresher


def version(answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.headers["strongroom-model-version"])


def publish_from_elsewhere(trained: Any) -> None:
    """Another process trains the same model."""
    folder = next(name for name in trained.storage.files if name.endswith("train.parquet")).rpartition("/")[0]
    loan.train(trained.storage, folder, "XGBoost", TrainSettings(rounds=3))


def bundle_reads(trained: Any) -> list[str]:
    reads: list[str] = []
    open_file = trained.storage.open

    def counted(path: str, /) -> Any:
        if path.endswith(".bundle"):
            reads.append(path)
        return open_file(path)

    trained.storage.open = counted
    return reads


def test_a_model_is_loaded_once(trained: Any, sample_csv: bytes) -> None:
    reads = bundle_reads(trained)
    for _ in range(3):
        assert version(trained.predict(sample_csv)) == "1"
    assert len(reads) == 1


def test_a_version_trained_here_is_served_with_its_answer(trained: Any, sample_csv: bytes) -> None:
    first = trained.predict(sample_csv)
    assert trained.train(continue_training="True").status_code == 200
    reads = bundle_reads(trained)
    second = trained.predict(sample_csv)
    assert (version(first), version(second)) == ("1", "2")
    assert first.json() != second.json()
    assert reads == []


def test_a_version_published_elsewhere_is_swapped_in(trained: Any, sample_csv: bytes) -> None:
    assert version(trained.predict(sample_csv)) == "1"
    publish_from_elsewhere(trained)
    refresher = Refresher(trained.service.models, 0.01)
    refresher.start()
    try:
        while version(trained.predict(sample_csv)) != "2":
            pass
        promote(trained.storage, "XGBoost", 1)
        while version(trained.predict(sample_csv)) != "1":
            pass
    finally:
        refresher.close()


@pytest.mark.parametrize("damage", ["bundle", "catalog", "gone"])
def test_a_damaged_new_version_leaves_the_last_good_one_served(trained: Any, sample_csv: bytes, damage: str) -> None:
    expected = trained.predict(sample_csv).json()
    publish_from_elsewhere(trained)
    files = trained.storage.files
    bundle = f"models/XGBoost/{read_catalog(trained.storage, 'XGBoost').find().file}"
    if damage == "bundle":
        files[bundle] = files[bundle][:-1]
    elif damage == "catalog":
        files["models/XGBoost/catalog.json"] = b"{}"
    else:
        del files[bundle]
    trained.service.models.refresh_all()
    answer = trained.predict(sample_csv)
    assert (version(answer), answer.json()) == ("1", expected)
    assert "strongroom_loan_model_refresh_failures 1" in trained.http.get("/metrics").text


def test_only_so_many_models_are_kept(trained: Any, sample_csv: bytes) -> None:
    models = trained.service.models = trained.service.predictor._models = LoadedModels(2)
    for name in ("a", "b", "c"):
        assert trained.train(model_name=name).status_code == 200
    assert [path for _, path in models.versions()] == ["models/b", "models/c"]
    assert version(trained.predict(sample_csv, model_name="a")) == "1"
    assert [path for _, path in models.versions()] == ["models/c", "models/a"]


def test_asking_for_models_that_are_not_there_leaves_nothing_behind(trained: Any, sample_csv: bytes) -> None:
    for number in range(20):
        assert trained.predict(sample_csv, model_name=f"m{number}").status_code == 404
    assert trained.service.models.versions() == {}
