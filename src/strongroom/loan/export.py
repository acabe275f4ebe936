"""Writes a model in other tools' formats, for those who need the files. None of them is ever read here.

- ``ubj``: the trees as XGBoost's UBJSON, beside the preprocessor as JSON.
- ``joblib``: the reference's two files: the pickled booster and a pickled scikit-learn preprocessor (with the
  reference's recipe only). Opening a pickle runs code: hand them to people who trust you.
- ``onnx``: the trees as an ONNX model over the preprocessor's features.
- ``csv``: processed rows as the reference's four matrices (no header), made by the model's preprocessor.
"""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv

from strongroom.errors import ConfigurationError
from strongroom.loan.book import LoanBook
from strongroom.loan.bundle import Bundle
from strongroom.loan.features import IMPUTED, TRANSFORMED, Preprocessor
from strongroom.loan.processing import read_rows
from strongroom.loan.schema import CATEGORIES, CATEGORY_BY_NAME, INPUT_NAMES, TARGET
from strongroom.loan.storage import Storage

Format = Literal["ubj", "joblib", "onnx"]

SIDES: Final[tuple[Literal["train", "test"], ...]] = ("train", "test")
CHUNK_ROWS: Final = 250_000
SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "ubj": (".ubj", ".preprocessor.json"),
    "joblib": (".joblib", ".preprocessor.sav"),
    "onnx": (".onnx",),
}
HOT_COLUMNS: Final = ("person_home_ownership", "loan_intent", "loan_grade", "cb_person_default_on_file")


def export_model(storage: Storage, bundle: Bundle, to: Format, out: str) -> tuple[str, ...]:
    """Write a model's files.

    Args:
        storage: Where to write.
        bundle: The model.
        to: Format.
        out: Path of the files, without suffix.

    Returns:
        The paths written.

    Raises:
        ConfigurationError: Unknown format; or ``joblib`` for a model whose preprocessor scikit-learn can't express.
    """
    makers = {"ubj": _ubj_files, "joblib": _joblib_files, "onnx": _onnx_files}
    if to not in makers:
        raise ConfigurationError("the format is ubj, joblib or onnx", code="loan.export")
    paths = model_paths(to, out)
    for path, content in zip(paths, makers[to](bundle), strict=True):
        with storage.create(path) as sink:
            sink.write(content)
    return paths


def model_paths(to: Format, out: str) -> tuple[str, ...]:
    """What `export_model` would write, with the same arguments."""
    return tuple(f"{out}{suffix}" for suffix in SUFFIXES[to])


def export_matrices(storage: Storage, bundle: Bundle, data: str, out: str) -> tuple[str, ...]:
    """Write processed rows as the reference's four files, named by the number of rows: ``X_train_N.csv`` and so on.

    Args:
        storage: Where to read and write.
        bundle: Its preprocessor makes the features.
        data: Processed folder.
        out: Folder to write to.

    Returns:
        The paths written.

    Raises:
        FormatError: The folder doesn't hold processed rows.
    """
    sides = {side: read_rows(storage, data, side).book for side in SIDES}
    paths = matrix_paths(sum(len(book) for book in sides.values()), out)
    for book, pair in zip(sides.values(), (paths[:2], paths[2:]), strict=True):
        with storage.create(pair[0]) as features, storage.create(pair[1]) as target:
            write_matrices(bundle, book, features, target)
    return paths


def matrix_paths(rows: int, out: str) -> tuple[str, ...]:
    """What `export_matrices` would write for so many processed rows, train before test."""
    return tuple(f"{out}/{kind}_{side}_{rows}.csv" for side in SIDES for kind in ("X", "y"))


def write_matrices(bundle: Bundle, book: LoanBook, features: BinaryIO, target: BinaryIO) -> None:
    """Write rows as the reference's CSV matrices: features and outcomes, no header, no index.

    Args:
        bundle: Its preprocessor makes the features.
        book: Rows with a target.
        features: File for the features; stays open.
        target: File for the outcomes; stays open.
    """
    options = pa_csv.WriteOptions(include_header=False)
    for start in range(0, len(book), CHUNK_ROWS):
        part = book.between(start, start + CHUNK_ROWS)
        matrix = bundle.preprocessor.transform(part)
        columns = {name: matrix[:, i] for i, name in enumerate(bundle.preprocessor.names)}
        pa_csv.write_csv(pa.table(columns), pa.PythonFile(features, mode="w"), options)
        if part.target is not None:
            pa_csv.write_csv(pa.table({TARGET: part.target}), pa.PythonFile(target, mode="w"), options)


def _ubj_files(bundle: Bundle) -> list[bytes]:
    preprocessor = json.dumps(bundle.preprocessor.to_json(), indent=1, sort_keys=True).encode()
    return [bytes(bundle.booster.save_raw("ubj")), preprocessor]


def _onnx_files(bundle: Bundle) -> list[bytes]:
    from strongroom.loan.onnx_trees import onnx_file

    return [onnx_file(bundle)]


def _joblib_files(bundle: Bundle) -> list[bytes]:
    import joblib

    if bundle.preprocessor.recipe != "reference":
        raise ConfigurationError(
            "joblib holds the reference's preprocessor, and this model has another one",
            code="loan.export",
            hint="train with `--preset reference`, or export ubj or onnx",
        )
    files = []
    for value in (bundle.booster, scikit_preprocessor(bundle.preprocessor)):
        buffer = io.BytesIO()
        joblib.dump(value, buffer)
        files.append(buffer.getvalue())
    return files


def scikit_preprocessor(preprocessor: Preprocessor) -> Any:
    """The reference's ColumnTransformer with our fitted parameters.

    Its input are the columns of `strongroom.loan.schema.INPUT_NAMES` in that order.

    Args:
        preprocessor: Of the ``reference`` recipe.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder, PowerTransformer

    steps = ColumnTransformer(
        [
            ("impute", SimpleImputer(strategy="median"), _places(IMPUTED)),
            ("power", PowerTransformer(), _places(TRANSFORMED)),
            ("one_hot", OneHotEncoder(handle_unknown="ignore"), _places(HOT_COLUMNS)),
        ],
        sparse_threshold=0,
    )
    steps.fit(_every_category())
    steps.named_transformers_["impute"].statistics_ = np.array([preprocessor.medians[name] for name in IMPUTED])
    powers = [preprocessor.powers[name] for name in TRANSFORMED]
    power = steps.named_transformers_["power"]
    power.lambdas_ = np.array([p.power for p in powers])
    scaler = power._scaler  # noqa: SLF001  # scikit-learn keeps the standardisation there and nowhere else
    scaler.mean_, scaler.scale_ = np.array([p.mean for p in powers]), np.array([p.scale for p in powers])
    scaler.var_ = scaler.scale_**2
    return steps


def _places(names: tuple[str, ...]) -> list[int]:
    return [INPUT_NAMES.index(name) for name in names]


def _every_category() -> npt.NDArray[np.object_]:
    """A few rows in which every category occurs, so that the encoder knows them all."""
    rows = max(len(category.values) for category in CATEGORIES)
    table = np.empty((rows, len(INPUT_NAMES)), object)
    for place, name in enumerate(INPUT_NAMES):
        values: Sequence[Any] = CATEGORY_BY_NAME[name].values if name in CATEGORY_BY_NAME else range(1, rows + 1)
        table[:, place] = [values[row % len(values)] for row in range(rows)]
    return table
