"""The reference's answers, exactly in their structure; predictions are put together without a dictionary a row."""

from typing import Any, Final

import numpy as np
import orjson

from strongroom.loan.evaluation import Report
from strongroom.loan.prediction import Predictions

MAX_KEPT: Final = 1_000_000
PING: Final = b'{"Message":"Server is Running"}'
_HEAD: Final = b'{"Message":"Model Inference Complete","Prediction Output":{"Probability":{'
_MIDDLE: Final = b'},"Prediction":{'
_END: Final = b"}}}"


def processed(filename: str) -> dict[str, Any]:
    """The answer of `/data_processing`."""
    return {"Message": f"{filename} successfully processed and saved"}


def trained(model_name: str, report: Report) -> dict[str, Any]:
    """The answer of `/train`, in the reference's spelling."""
    return {"Message": f"{model_name} model succesfully trained and saved", "Validation Scores": report}


class RowKeys:
    """The keys ``"0":``, ``"1":``, ... as bytes, made once."""

    def __init__(self) -> None:
        self._keys: list[bytes] = []

    def first(self, count: int) -> list[bytes]:
        """The first keys."""
        keys = self._keys
        if len(keys) < count:
            # A new list: another thread may be reading the old one.
            keys = [b'"%d":' % row for row in range(count)]
            self._keys = keys[:MAX_KEPT]
        return keys[:count] if len(keys) > count else keys


def predicted(predictions: Predictions, keys: RowKeys) -> bytes:
    """The answer of `/predict`: probability and "True" or "False" by row number.

    Args:
        predictions: At least one row.
        keys: Shared between calls.

    Returns:
        JSON text; numbers in the fewest digits that give back the float32.
    """
    probabilities = np.ascontiguousarray(predictions.probabilities)
    numbers = orjson.dumps(probabilities, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    rows = keys.first(len(numbers))
    scores = b",".join(map(bytes.__add__, rows, numbers))
    words = (b'"False"', b'"True"')
    labels = b",".join([key + words[label] for key, label in zip(rows, predictions.labels.tolist(), strict=True)])
    return b"".join((_HEAD, scores, _MIDDLE, labels, _END))
