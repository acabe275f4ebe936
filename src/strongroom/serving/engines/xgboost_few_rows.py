"""A few rows of an XGBoost model through ONNX Runtime.

XGBoost 3.1 and later go over every node of every tree before they predict one row. ONNX Runtime adds up the same trees
without that: one row of 100 trees takes a third of the time, and leaves the processor's caches to the server. It takes
part only if it is installed, knows the model's kind, and agrees with XGBoost.
"""

import json
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from strongroom.errors import ConfigurationError, FormatError
from strongroom.formats.tree_ensemble import TreeEnsemble, onnx_model, parse_xgboost
from strongroom.serving.engines.onnx import open_session
from strongroom.serving.tensors.dtypes import Array

FEW_ROWS: Final = 16
MAX_NODES: Final = 200_000
TOLERANCE: Final = 1e-5
_MARGIN: Final = ["margin"]
_PROBES: Final = 64
_LARGEST_EXPONENT: Final = np.float32(88.7)  # more overflows float32
_ONE: Final = np.float32(1)

Predictor = Callable[[Array], Array]


class FewRowsPredictor:
    """Predicts a few rows through ONNX Runtime, more rows as before.

    Args:
        ensemble: The model's trees.
        many: Predicts any number of rows.

    Raises:
        ConfigurationError: There is no ONNX Runtime.
        FormatError: It does not take the trees.
    """

    def __init__(self, ensemble: TreeEnsemble, many: Predictor) -> None:
        self._margins = open_session(onnx_model(ensemble, *_MARGIN), threads=1).run
        self._many = many
        self._finish = _finish_of(ensemble)

    def __call__(self, rows: Array) -> Array:
        """Predict.

        Args:
            rows: float32 [rows, features]; NaN is missing.

        Returns:
            float32 [rows], or [rows, classes] for several classes.
        """
        if len(rows) > FEW_ROWS:
            return self._many(rows)
        return self._finish(self._margins(_MARGIN, {"features": rows})[0])


def few_rows_predictor(booster: Any, features: int, many: Predictor) -> Predictor:
    """The predictor that takes the shorter way for a few rows, if there is one; else `many`.

    Args:
        booster: An `xgboost.Booster`.
        features: Number of features.
        many: Predicts any number of rows, and is right by definition.
    """
    try:
        ensemble = parse_xgboost(json.loads(booster.save_raw("json")), max_nodes=MAX_NODES)
        quicker = FewRowsPredictor(ensemble, many)
    except (ConfigurationError, FormatError):
        return many
    rows = _probes(ensemble, features)
    for start in range(0, len(rows), FEW_ROWS):
        part = rows[start : start + FEW_ROWS]
        expected, found = many(part), quicker(part)
        if found.shape != expected.shape or not np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
            return many
    return quicker


def _probes(ensemble: TreeEnsemble, features: int) -> Array:
    """Rows on the very edges of the trees' decisions, just below them, far away, and without values."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((_PROBES, features), dtype=np.float32)
    edges = [(node.feature, node.value) for node in ensemble.nodes if node.left is not None]
    for position, at in enumerate(random.permutation(len(edges))[: _PROBES * features]):
        feature, value = edges[at]
        rows[position % _PROBES, feature] = np.float32(value)
    rows[::4] = np.nextafter(rows[::4], np.float32(-np.inf))
    rows[1::8] = np.copysign(np.float32(1e30), rows[1::8])
    rows[random.random(rows.shape) < 0.1] = np.nan
    rows[-1] = np.nan
    return rows


def _finish_of(ensemble: TreeEnsemble) -> Predictor:
    if ensemble.logistic:
        return _probability
    return _softmax if len(ensemble.base) > 1 else _only_column


def _probability(margins: Array) -> Array:
    return _ONE / (_ONE + np.exp(np.minimum(-margins[:, 0], _LARGEST_EXPONENT)))


def _softmax(margins: Array) -> Array:
    powers = np.exp(margins - margins.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _only_column(margins: Array) -> Array:
    return margins[:, 0]
