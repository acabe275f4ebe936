"""XGBoost: ``model.ubj`` loaded from memory. One column per feature, or all of them in one tensor ``inputs``."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from strongroom.errors import ConfigurationError, FormatError
from strongroom.serving.engines import (
    CLASSIFY,
    DEFAULT_SIGNATURE,
    REGRESS,
    Engine,
    ModelFiles,
    Signature,
    TensorSpec,
)
from strongroom.serving.engines.ubjson import check_ubjson
from strongroom.serving.engines.xgboost_call import fast_predictor
from strongroom.serving.engines.xgboost_few_rows import few_rows_predictor
from strongroom.serving.engines.zeros import zero_row
from strongroom.serving.status import InvalidRequest
from strongroom.serving.tensors.dtypes import FLOAT, Array

FILE: Final = "model.ubj"
INPUTS: Final = "inputs"
OUTPUTS: Final = "outputs"
SCORES: Final = "scores"


class XGBoostEngine:
    """A booster behind `Engine`.

    The signatures: ``serving_default`` takes ``inputs`` [rows, features] and answers what the objective predicts as
    ``outputs``; ``regression`` (or ``classification``, for a classifier) answers the Regress and Classify calls; with
    feature names in the model, these two take one column per feature.

    Args:
        booster: A loaded `xgboost.Booster`.
        features: Number of features.
        classes: Number of classes; 1 for a regression.
    """

    platform = "xgboost"

    def __init__(self, booster: Any, features: int, classes: int) -> None:
        self._predict: Any = few_rows_predictor(booster, features, fast_predictor(booster, features))
        self._features = features
        self._classes = classes
        self._columns: tuple[str, ...] = tuple(booster.feature_names or ())
        self.signatures = MappingProxyType(self._describe())

    def _describe(self) -> dict[str, Signature]:
        dense = {INPUTS: TensorSpec("dmatrix:0", FLOAT, (None, self._features))}
        columns = {name: TensorSpec(name, FLOAT, (None,)) for name in self._columns} or dense
        outputs = {OUTPUTS: TensorSpec("prediction:0", FLOAT, (None, self._classes) if self._classes > 2 else (None,))}
        if self._classes == 1:
            return {
                DEFAULT_SIGNATURE: Signature(dense, outputs),
                "regression": Signature(columns, outputs, REGRESS),
            }
        scores = {SCORES: TensorSpec("scores:0", FLOAT, (None, self._classes))}
        return {
            DEFAULT_SIGNATURE: Signature(dense, outputs),
            "classification": Signature(columns, scores, CLASSIFY),
        }

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Predict rows; thread-safe, and the interpreter is free meanwhile.

        Raises:
            InvalidRequest: A value is infinite: XGBoost takes NaN as missing, but has no meaning for infinity.
        """
        rows = inputs[INPUTS] if INPUTS in inputs else np.stack([inputs[name] for name in self._columns], axis=1)
        if not len(rows):
            raise InvalidRequest("no rows to predict")
        if np.isinf(rows).any():
            raise InvalidRequest("a feature is infinite")
        predicted = self._predict(rows)
        if self.signatures[signature].method == CLASSIFY and self._classes == 2:
            predicted = np.stack([1 - predicted, predicted], axis=1)
        return dict.fromkeys(outputs, predicted)

    def example(self, signature: str) -> Mapping[str, Array]:
        """A row of zeros."""
        return zero_row(self.signatures[signature])

    def close(self) -> None:
        """Drop the booster."""
        self._predict = None


class XGBoostMaker:
    """Loads ``model.ubj`` (UBJSON, as `Booster.save_model` writes it). Nothing is written anywhere.

    Args:
        threads: Threads of one prediction; one is best for single rows.
    """

    name = "xgboost"

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads

    def recognises(self, names: frozenset[str]) -> bool:
        """Whether ``model.ubj`` is there."""
        return FILE in names

    def load(self, files: ModelFiles, concurrency: int = 1) -> Engine:
        """Load it.

        Raises:
            ConfigurationError: xgboost is not installed.
            FormatError: Not a model XGBoost can read.
        """
        del concurrency  # one thread for each prediction
        try:
            import xgboost
        except ImportError:
            raise ConfigurationError(
                "xgboost is not installed", code="serving.engine", hint="pip install 'strongroom[xgboost]'"
            ) from None
        raw = files.read(FILE)
        check_ubjson(raw)
        booster = xgboost.Booster({"nthread": self._threads})
        try:
            booster.load_model(bytearray(raw))
        except xgboost.core.XGBoostError:
            raise FormatError(f"{FILE} is not an XGBoost model in UBJSON", code="serving.model") from None
        booster.set_param({"nthread": self._threads})
        return XGBoostEngine(booster, booster.num_features(), _classes(booster))


def _classes(booster: Any) -> int:
    import json

    learner = json.loads(booster.save_config())["learner"]
    declared = int(learner["learner_model_param"]["num_class"])
    if declared:
        return declared
    return 2 if learner["objective"]["name"].startswith("binary:logistic") else 1
