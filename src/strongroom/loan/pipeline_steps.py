"""The loan application cut into the seven steps of the Kubeflow pipeline; one file in the storage is one artifact.

Source of the steps' and artifacts' names: intel/kubernetes-intel-azure-high-availability-training,
intel-xgboost-daal4py-pipeline-azure.py. What differs: rows are held out before any are grown, held-out rows are never
grown, and the preprocessor is kept, so that the model can score raw rows.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final

import xgboost as xgb

from strongroom.errors import ConfigurationError, FormatError
from strongroom.loan import columns
from strongroom.loan.augmentation import augment
from strongroom.loan.book import LoanBook
from strongroom.loan.bundle import MAX_MODEL_BYTES, Bundle, read_bundle, serialize_bundle
from strongroom.loan.engine import load_scorer
from strongroom.loan.evaluation import evaluate_scores, report_csv
from strongroom.loan.features import Preprocessor, fit_preprocessor
from strongroom.loan.presets import TrainSettings
from strongroom.loan.processed import MAX_ROWS
from strongroom.loan.split import split_rows
from strongroom.loan.storage import Storage
from strongroom.loan.table import read_csv
from strongroom.loan.training import train_on_features
from strongroom.loan.writing import write_csv

DATASET: Final = "credit_risk_dataset"
X_TRAIN, Y_TRAIN, X_TEST, Y_TEST = "x_train_data", "y_train_data", "x_test_data", "y_test_data"
X_TRAIN_PROCESSED, X_TEST_PROCESSED = "x_train_processed", "x_test_processed"
PREPROCESSOR: Final = "preprocessor"
XGB_MODEL: Final = "xgb_model"
DAAL4PY_MODEL: Final = "daal4py_model"
PREDICTIONS: Final = "prediction_data"
REPORT: Final = "report"

TEST_SHARE: Final = 0.25
SEED: Final = 0
MAX_PREPROCESSOR_BYTES: Final = 1 << 20
# Up to here XGBoost's threads wait for each other longer than they work, above all where others use the cores too.
SMALL_ROWS: Final = 100_000
FASTEST: Final = ("onedal", "xgboost")
# What leaves the room in the clear is a picture: finer thresholds would be single borrowers' scores.
THRESHOLD_DECIMALS: Final = 3


def load_data(storage: Storage, source: BinaryIO) -> dict[str, int]:
    """Validate a loan book and keep it, `credit_risk_dataset`: CSV with a header.

    Args:
        storage: Where to write.
        source: Opened CSV file; seekable.

    Raises:
        FormatError: Not a loan book.
        LoanRowsError: Rows are wrong; lists them.
    """
    book = read_csv(source)
    with storage.create(DATASET) as sink:
        write_csv(columns.chunks_of(book), sink)
    return {"rows": len(book)}


def create_train_test_set(storage: Storage, data_size: int) -> dict[str, int]:
    """Hold rows out, then grow the others: `x_train_data`, `y_train_data`, `x_test_data`, `y_test_data`.

    Args:
        storage: Where to read and write.
        data_size: Rows wanted in all; fewer than the book has: none are added.

    Raises:
        ConfigurationError: The size is not one.
        FormatError: The data set is malformed, or too small to divide.
    """
    if not 1 <= data_size <= MAX_ROWS:
        raise ConfigurationError(f"data_size must lie between 1 and {MAX_ROWS} rows", code="loan.size")
    with storage.open(DATASET) as source:
        book = read_csv(source)
    split = split_rows(book, test_share=TEST_SHARE, seed=SEED)
    wanted = max(len(split.train), data_size - len(split.test))
    grown = (chunk.book for chunk in augment(book.take(split.train), wanted, seed=SEED))
    with storage.create(X_TRAIN) as rows, storage.create(Y_TRAIN) as labels:
        train_rows = columns.write_rows_and_labels(grown, rows, labels)
    with storage.create(X_TEST) as rows, storage.create(Y_TEST) as labels:
        test_rows = columns.write_rows_and_labels([book.take(split.test)], rows, labels)
    return {"train_rows": train_rows, "test_rows": test_rows}


def preprocess_features(storage: Storage) -> dict[str, int]:
    """Fit the preprocessor on training rows, apply it to both: `x_train_processed`, `x_test_processed`, `preprocessor`.

    Raises:
        FormatError: The rows are malformed.
    """
    train, test = _rows(storage, X_TRAIN), _rows(storage, X_TEST)
    preprocessor = fit_preprocessor(train, TrainSettings().choose(len(train)).recipe, seed=SEED)
    for book, name in ((train, X_TRAIN_PROCESSED), (test, X_TEST_PROCESSED)):
        features = (preprocessor.transform(chunk) for chunk in columns.chunks_of(book))
        with storage.create(name) as sink:
            columns.write_matrix(features, preprocessor.names, sink)
    with storage.create(PREPROCESSOR) as sink:
        sink.write(json.dumps(preprocessor.to_json(), sort_keys=True, allow_nan=False).encode())
    return {"features": len(preprocessor.names)}


def train_xgboost_model(storage: Storage) -> dict[str, int]:
    """Train the trees: `xgb_model`, XGBoost's UBJSON.

    Raises:
        FormatError: The data is malformed, or has one class only.
    """
    features, names = _matrix(storage, X_TRAIN_PROCESSED)
    with storage.open(Y_TRAIN) as source:
        labels = columns.read_labels(source)
    _check_lengths(len(features), len(labels))
    threads = 1 if len(features) < SMALL_ROWS else None
    trained = train_on_features(features, labels, names, TrainSettings(seed=SEED, threads=threads))
    with storage.create(XGB_MODEL) as sink:
        sink.write(bytes(trained.booster.save_raw("ubj")))
    return {"trees": trained.rounds}


def convert_xgboost_to_daal4py(storage: Storage) -> dict[str, str]:
    """Put trees and preprocessor into one bundle and see which engines score it: `daal4py_model`.

    oneDAL's own model would have to be a pickle, so the bundle is kept and oneDAL converts it when it is loaded. Here
    it is proved that it does so, and to the same scores as XGBoost.

    Raises:
        FormatError: Trees or preprocessor are malformed, or don't belong together.
    """
    with storage.open(PREPROCESSOR) as source:
        preprocessor = _parse_preprocessor(source.read(MAX_PREPROCESSOR_BYTES + 1))
    with storage.open(XGB_MODEL) as source:
        booster = _load_booster(source.read(MAX_MODEL_BYTES + 1))
    if tuple(booster.feature_names or ()) != preprocessor.names:
        raise FormatError("the trees don't belong to this preprocessor", code="loan.bundle")
    bundle = Bundle(booster, preprocessor, {"name": "loan", "note": "made by the pipeline"})
    scorer = load_scorer(bundle)
    engine = next(name for name in FASTEST if name in scorer.engines)
    bundle = replace(bundle, metadata={**bundle.metadata, "engine": engine, "refused_engines": dict(scorer.refused)})
    with storage.create(DAAL4PY_MODEL) as sink:
        sink.write(serialize_bundle(bundle))
    return {"engine": engine, **{f"refused_{name}": reason for name, reason in scorer.refused.items()}}


def daal4py_inference(storage: Storage) -> dict[str, float]:
    """Score the held-out rows: `prediction_data`, `report` (CSV).

    Returns:
        ``auc`` and ``accuracy`` in percent, and ``rows``: for everybody to see.

    Raises:
        FormatError: Model or rows are malformed.
    """
    with storage.open(DAAL4PY_MODEL) as source:
        bundle = read_bundle(source)
    features, names = _matrix(storage, X_TEST_PROCESSED)
    if names != bundle.preprocessor.names:
        raise FormatError("the features are not the model's", code="loan.bundle")
    with storage.open(Y_TEST) as source:
        labels = columns.read_labels(source)
    _check_lengths(len(features), len(labels))
    engines = load_scorer(bundle).engines
    probabilities = engines[next(name for name in FASTEST if name in engines)].score(features)
    evaluation = evaluate_scores(labels, probabilities)
    with storage.create(PREDICTIONS) as sink:
        columns.write_scores(labels, probabilities, sink)
    with storage.create(REPORT) as sink:
        sink.write(report_csv(evaluation.report).encode())
    accuracy = evaluation.report["precision"]["accuracy"]
    return {"auc": evaluation.scores["auc"] * 100, "accuracy": accuracy * 100, "rows": evaluation.rows}


@dataclass(frozen=True, slots=True)
class RocCurve:
    """A thinned ROC curve: columns of equal length, for everybody to see."""

    fall_out: list[float]
    recall: list[float]
    thresholds: list[float]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"fpr": self.fall_out, "tpr": self.recall, "threshold": self.thresholds}


def plot_roc_curve(storage: Storage) -> RocCurve:
    """The ROC curve of `prediction_data`, a few hundred points.

    Raises:
        FormatError: The predictions are malformed, or of one class only.
    """
    with storage.open(PREDICTIONS) as source:
        labels, probabilities = columns.read_scores(source)
    points = list(_distinct(evaluate_scores(labels, probabilities).roc))
    return RocCurve(*[list(column) for column in zip(*points, strict=True)])


def _distinct(points: list[tuple[float, float, float]]) -> Iterator[tuple[float, float, float]]:
    """Points with rounded numbers, one a place."""
    last = None
    for fall_out, recall, threshold in points:
        place = (round(fall_out, 4), round(recall, 4))
        if place != last:
            yield *place, round(threshold, THRESHOLD_DECIMALS)
        last = place


def _rows(storage: Storage, name: str) -> LoanBook:
    with storage.open(name) as source:
        return columns.read_rows(source)


def _matrix(storage: Storage, name: str) -> tuple[Any, tuple[str, ...]]:
    with storage.open(name) as source:
        return columns.read_matrix(source)


def _check_lengths(rows: int, labels: int) -> None:
    if rows != labels:
        raise FormatError(f"{rows} rows and {labels} outcomes don't belong together", code="loan.columns")


def _parse_preprocessor(raw: bytes) -> Preprocessor:
    try:
        data = json.loads(raw) if len(raw) <= MAX_PREPROCESSOR_BYTES else None
    except (ValueError, RecursionError):
        data = None
    return Preprocessor.from_json(data)


def _load_booster(raw: bytes) -> xgb.Booster:
    booster = xgb.Booster({"verbosity": 0})
    if not 0 < len(raw) <= MAX_MODEL_BYTES:  # nothing at all makes XGBoost end the process
        raise FormatError("not XGBoost's trees", code="loan.bundle")
    try:
        booster.load_model(bytearray(raw))
    except xgb.core.XGBoostError:
        raise FormatError("not XGBoost's trees", code="loan.bundle") from None
    return booster


__all__ = [
    "RocCurve",
    "convert_xgboost_to_daal4py",
    "create_train_test_set",
    "daal4py_inference",
    "load_data",
    "plot_roc_curve",
    "preprocess_features",
    "train_xgboost_model",
]
