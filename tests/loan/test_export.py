import io
import json
from typing import Any

import numpy as np
import pytest

from strongroom.errors import ConfigurationError
from strongroom.loan.book import LoanBook
from strongroom.loan.bundle import Bundle
from strongroom.loan.export import export_model, scikit_preprocessor, write_matrices
from strongroom.loan.features import Preprocessor
from strongroom.loan.prediction import predict_book
from strongroom.loan.presets import TrainSettings
from strongroom.loan.schema import CATEGORY_BY_NAME, INPUT_NAMES
from strongroom.loan.training import train


@pytest.fixture(scope="module")
def ordinal(small_book: LoanBook) -> Bundle:
    trained = train(small_book, TrainSettings(rounds=60))
    return Bundle(trained.booster, trained.preprocessor)


@pytest.fixture(scope="module")
def reference(small_book: LoanBook) -> Bundle:
    trained = train(small_book, TrainSettings("reference", rounds=20))
    return Bundle(trained.booster, trained.preprocessor)


def rows_for_scikit(book: LoanBook) -> Any:
    table = np.empty((len(book), len(INPUT_NAMES)), object)
    for place, name in enumerate(INPUT_NAMES):
        if name in CATEGORY_BY_NAME:
            table[:, place] = np.array(CATEGORY_BY_NAME[name].values, object)[book.codes[name]]
        else:
            table[:, place] = book.numbers[name].astype(float)
    return table


def test_the_scikit_preprocessor_gives_our_26_columns(reference: Bundle, small_book: LoanBook) -> None:
    theirs = scikit_preprocessor(reference.preprocessor).transform(rows_for_scikit(small_book)).astype(np.float32)
    ours = reference.preprocessor.transform(small_book)
    assert ours.shape == (3_000, 26)
    np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-5)


def test_joblib_files_load_and_score_alike(storage: Any, reference: Bundle, small_book: LoanBook) -> None:
    import joblib
    import xgboost as xgb

    assert export_model(storage, reference, "joblib", "out/m") == ("out/m.joblib", "out/m.preprocessor.sav")
    booster = joblib.load(io.BytesIO(storage.files["out/m.joblib"]))
    steps = joblib.load(io.BytesIO(storage.files["out/m.preprocessor.sav"]))
    scores = booster.inplace_predict(steps.transform(rows_for_scikit(small_book)).astype(np.float32))
    np.testing.assert_allclose(scores, predict_book(reference, small_book), atol=1e-3)
    assert isinstance(booster, xgb.Booster)


def test_joblib_is_refused_for_a_preprocessor_it_cannot_hold(storage: Any, ordinal: Bundle) -> None:
    with pytest.raises(ConfigurationError) as refused:
        export_model(storage, ordinal, "joblib", "out/m")
    assert refused.value.code == "loan.export"
    assert storage.files == {}


def test_onnx_agrees_with_xgboost(storage: Any, ordinal: Bundle, small_book: LoanBook) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    export_model(storage, ordinal, "onnx", "out/m")
    session = onnxruntime.InferenceSession(storage.files["out/m.onnx"], providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"features": ordinal.preprocessor.transform(small_book)})
    np.testing.assert_allclose(scores[:, 0], predict_book(ordinal, small_book), atol=1e-5)


def test_ubj_files_are_trees_and_preprocessor(storage: Any, ordinal: Bundle, small_book: LoanBook) -> None:
    import xgboost as xgb

    export_model(storage, ordinal, "ubj", "out/m")
    booster = xgb.Booster()
    booster.load_model(bytearray(storage.files["out/m.ubj"]))
    preprocessor = Preprocessor.from_json(json.loads(storage.files["out/m.preprocessor.json"]))
    assert preprocessor == ordinal.preprocessor
    scores = booster.inplace_predict(preprocessor.transform(small_book))
    np.testing.assert_array_equal(scores, predict_book(ordinal, small_book))


def test_csv_matrices_have_no_header_and_one_line_a_row(reference: Bundle, small_book: LoanBook) -> None:
    features, target = io.BytesIO(), io.BytesIO()
    write_matrices(reference, small_book, features, target)
    matrix = np.loadtxt(io.StringIO(features.getvalue().decode()), delimiter=",", dtype=np.float32)
    np.testing.assert_allclose(matrix, reference.preprocessor.transform(small_book), rtol=1e-6)
    assert small_book.target is not None
    assert target.getvalue().split() == [str(v).encode() for v in small_book.target]


def test_an_unknown_format_is_refused(storage: Any, ordinal: Bundle) -> None:
    with pytest.raises(ConfigurationError):
        export_model(storage, ordinal, "pickle", "out/m")  # type: ignore[arg-type]  # the point of the test
