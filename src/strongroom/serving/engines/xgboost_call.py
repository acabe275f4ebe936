"""One prediction through XGBoost's C function, without what the Python package does around it.

For a single row, what stands around the trees takes longer than the trees: the Python package prepares the call, and
for each call without a proxy of its own the library makes one, which reads the machine's processor limits from files.
The functions are documented and stable: XGProxyDMatrixCreate and XGBoosterPredictFromDense, xgboost/c_api.h.
"""

import ctypes
import json
import math
import weakref
from typing import Any, Final

import numpy as np

from strongroom.serving.tensors.dtypes import Array

_CONFIG: Final = json.dumps(
    {
        "type": 0,  # the value of the objective
        "training": False,
        "iteration_begin": 0,
        "iteration_end": 0,  # all trees
        "missing": math.nan,
        "strict_shape": False,
        "cache_id": 0,
    }
).encode()
FEW_ROWS: Final = 16
_INTERFACE: Final = b'{"data":[%d,true],"strides":null,"typestr":"<f4","shape":[%d,%d],"version":3}'


class DensePredictor:
    """Predicts rows of a booster.

    A few rows are predicted without giving the interpreter lock away: getting it back under load takes several times as
    long as the trees do. While it is held nobody else calls, so all such calls share one proxy.

    Args:
        booster: An `xgboost.Booster`.
        library: The loaded C library, `xgboost.core._LIB`.
    """

    def __init__(self, booster: Any, library: Any) -> None:
        self._booster = booster  # keeps the handle alive
        self._handle = booster.handle
        self._predict = library.XGBoosterPredictFromDense
        holding = ctypes.PyDLL(library._name)  # noqa: SLF001  # ctypes' own name
        self._predict_few = holding.XGBoosterPredictFromDense
        self._proxy = ctypes.c_void_p()
        if holding.XGProxyDMatrixCreate(ctypes.byref(self._proxy)) != 0:
            raise RuntimeError("XGBoost gives no proxy")
        weakref.finalize(self, library.XGDMatrixFree, ctypes.c_void_p(self._proxy.value))

    def __call__(self, rows: Array) -> Array:
        """Predict.

        Args:
            rows: float32 [rows, features]; NaN is missing.

        Raises:
            RuntimeError: XGBoost reports an error.
        """
        if rows.dtype != np.float32 or not (rows.flags.c_contiguous and rows.flags.aligned):
            rows = np.require(rows, np.float32, ["C_CONTIGUOUS", "ALIGNED"])
        shape = ctypes.POINTER(ctypes.c_uint64)()
        dimensions = ctypes.c_uint64()
        result = ctypes.POINTER(ctypes.c_float)()
        few = len(rows) <= FEW_ROWS
        status = (self._predict_few if few else self._predict)(
            self._handle,
            _INTERFACE % (rows.__array_interface__["data"][0], *rows.shape),
            _CONFIG,
            self._proxy if few else None,
            ctypes.byref(shape),
            ctypes.byref(dimensions),
            ctypes.byref(result),
        )
        if status != 0:
            raise RuntimeError("XGBoost refused to predict")
        sizes = tuple(shape[: dimensions.value])
        # The buffer is this thread's and is reused by its next call: hence the copy.
        return np.frombuffer(ctypes.string_at(result, math.prod(sizes) * 4), np.float32).reshape(sizes)


def fast_predictor(booster: Any, features: int) -> Any:
    """The direct way, if it gives exactly what the package gives; else the package's own.

    Args:
        booster: An `xgboost.Booster`.
        features: Number of features.
    """
    rows = np.random.default_rng(0).standard_normal((3, features), dtype=np.float32)
    rows[0, 0] = np.nan
    expected = booster.inplace_predict(rows, validate_features=False)
    try:
        import xgboost

        predict = DensePredictor(booster, xgboost.core._LIB)  # noqa: SLF001  # checked right below
        if np.array_equal(predict(rows), expected):
            return predict
    except (AttributeError, RuntimeError, ctypes.ArgumentError):
        pass  # another XGBoost than the one this was written for
    return lambda rows: booster.inplace_predict(rows, validate_features=False)
