"""The seven steps over a storage in memory: honest split, kept preprocessor, nothing mixed up."""

import io
import json
import threading
from typing import Any

import numpy as np
import pytest

from strongroom.errors import ConfigurationError, FormatError
from strongroom.loan import columns, pipeline_steps
from strongroom.loan.book import LoanBook
from strongroom.loan.bundle import read_bundle
from strongroom.loan.prediction import predict_book
from strongroom.loan.split import row_hashes
from strongroom.loan.writing import write_csv


def csv_of(book: LoanBook) -> io.BytesIO:
    sink = io.BytesIO()
    write_csv([book], sink)
    sink.seek(0)
    return sink


@pytest.fixture(scope="module")
def run(small_book: LoanBook) -> tuple[Any, dict[str, Any]]:
    """All steps, once; the storage and what each step said."""
    from contextlib import contextmanager

    class Memory:
        def __init__(self) -> None:
            self.files: dict[str, bytes] = {}

        def open(self, path: str, /) -> io.BytesIO:
            return io.BytesIO(self.files[path])

        @contextmanager
        def create(self, path: str, /) -> Any:
            sink = io.BytesIO()
            yield sink
            self.files[path] = sink.getvalue()

    storage: Any = Memory()
    said: dict[str, Any] = {"load": pipeline_steps.load_data(storage, csv_of(small_book))}
    said["split"] = pipeline_steps.create_train_test_set(storage, 5_000)
    said["features"] = pipeline_steps.preprocess_features(storage)
    said["train"] = pipeline_steps.train_xgboost_model(storage)
    said["convert"] = pipeline_steps.convert_xgboost_to_daal4py(storage)
    said["scores"] = pipeline_steps.daal4py_inference(storage)
    said["roc"] = pipeline_steps.plot_roc_curve(storage)
    return storage, said


def test_sizes(run: tuple[Any, dict[str, Any]], small_book: LoanBook) -> None:
    said = run[1]
    assert said["load"] == {"rows": len(small_book)}
    assert said["split"]["train_rows"] + said["split"]["test_rows"] == 5_000
    assert said["split"]["test_rows"] < 0.3 * len(small_book)
    assert said["scores"]["rows"] == said["split"]["test_rows"]


def test_no_held_out_row_has_a_copy_in_the_training_set(run: tuple[Any, dict[str, Any]]) -> None:
    storage = run[0]
    with storage.open("x_train_data") as train, storage.open("x_test_data") as test:
        trained, held_out = row_hashes(columns.read_rows(train)), row_hashes(columns.read_rows(test))
    assert not np.isin(held_out, trained).any()


def test_held_out_rows_are_real_rows(run: tuple[Any, dict[str, Any]], small_book: LoanBook) -> None:
    with run[0].open("x_test_data") as test:
        assert np.isin(row_hashes(columns.read_rows(test)), row_hashes(small_book)).all()


def test_the_model_scores_raw_rows_as_the_pipeline_scored_features(run: tuple[Any, dict[str, Any]]) -> None:
    storage = run[0]
    with storage.open("daal4py_model") as model, storage.open("x_test_data") as rows:
        raw_scores = predict_book(read_bundle(model), columns.read_rows(rows))
    with storage.open("prediction_data") as scores:
        labels, probabilities = columns.read_scores(scores)
    assert len(labels) == len(probabilities)
    assert np.max(np.abs(raw_scores - probabilities)) <= 1e-5


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("x_test_data", columns.read_rows),
        ("x_test_processed", columns.read_matrix),
        ("prediction_data", columns.read_scores),
    ],
)
def test_no_other_thread_holds_an_artifact_when_a_step_ends(
    run: tuple[Any, dict[str, Any]], threads_reading: Any, name: str, read: Any
) -> None:
    # A step ended with SIGABRT: a thread of pyarrow's let go of the artifact while the interpreter ended.
    assert threads_reading(run[0].files[name], read) == {threading.get_ident()}


def test_the_reference_s_artifacts_are_there(run: tuple[Any, dict[str, Any]]) -> None:
    assert set(run[0].files) == {
        "credit_risk_dataset", "x_train_data", "y_train_data", "x_test_data", "y_test_data", "x_train_processed",
        "x_test_processed", "preprocessor", "xgb_model", "daal4py_model", "prediction_data", "report",
    }  # fmt: skip
    assert run[0].files["credit_risk_dataset"].startswith(b"person_age,person_income")


def test_the_curve_is_thin_and_its_thresholds_are_no_single_scores(run: tuple[Any, dict[str, Any]]) -> None:
    curve = run[1]["roc"].to_json()
    assert 2 <= len(curve["fpr"]) == len(curve["tpr"]) == len(curve["threshold"]) <= 402
    assert (curve["fpr"][0], curve["tpr"][0]) == (0, 0)
    assert (curve["fpr"][-1], curve["tpr"][-1]) == (1, 1)
    assert all(round(value, 3) == value for value in curve["threshold"])
    assert curve["fpr"] == sorted(curve["fpr"])
    json.dumps(curve, allow_nan=False)


@pytest.mark.parametrize("size", [0, -1, 10**12])
def test_refuses_an_impossible_size(run: tuple[Any, dict[str, Any]], size: int) -> None:
    with pytest.raises(ConfigurationError):
        pipeline_steps.create_train_test_set(run[0], size)


def altered(run: tuple[Any, dict[str, Any]], **files: bytes) -> Any:
    storage = type(run[0])()
    storage.files = {**run[0].files, **files}
    return storage


def test_refuses_labels_of_other_rows(run: tuple[Any, dict[str, Any]]) -> None:
    storage = altered(run, y_train_data=run[0].files["y_test_data"])
    with pytest.raises(FormatError, match="don't belong together"):
        pipeline_steps.train_xgboost_model(storage)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a table", b"\0" * 1000])
@pytest.mark.parametrize("name", ["x_train_data", "x_train_processed", "y_train_data", "prediction_data"])
def test_refuses_what_is_no_table(run: tuple[Any, dict[str, Any]], name: str, content: bytes) -> None:
    storage = altered(run, **{name: content})
    step = {"x_train_data": pipeline_steps.preprocess_features, "prediction_data": pipeline_steps.plot_roc_curve}
    with pytest.raises(FormatError):
        step.get(name, pipeline_steps.train_xgboost_model)(storage)


@pytest.mark.parametrize(("name", "other"), [("x_train_data", "y_train_data"), ("prediction_data", "x_test_data")])
def test_refuses_another_step_s_table(run: tuple[Any, dict[str, Any]], name: str, other: str) -> None:
    storage = altered(run, **{name: run[0].files[other]})
    with pytest.raises(FormatError):
        pipeline_steps.preprocess_features(storage)
        pipeline_steps.plot_roc_curve(storage)


@pytest.mark.parametrize("content", [b"", b"{}", b"[", b"x" * (2 << 20)])
@pytest.mark.parametrize("name", ["preprocessor", "xgb_model"])
def test_refuses_a_malformed_model_or_preprocessor(run: tuple[Any, dict[str, Any]], name: str, content: bytes) -> None:
    with pytest.raises(FormatError):
        pipeline_steps.convert_xgboost_to_daal4py(altered(run, **{name: content}))


def test_refuses_trees_of_another_preprocessor(run: tuple[Any, dict[str, Any]]) -> None:
    from strongroom.loan.features import IMPUTED, TRANSFORMED

    other = {
        "recipe": "reference",
        "medians": dict.fromkeys(IMPUTED, 1.0),
        "powers": {name: [1.0, 0.0, 1.0] for name in TRANSFORMED},
    }
    with pytest.raises(FormatError, match="belong"):
        pipeline_steps.convert_xgboost_to_daal4py(altered(run, preprocessor=json.dumps(other).encode()))
