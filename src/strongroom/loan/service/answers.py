"""The reference's answers, exactly in their structure; Arrow puts predictions together, column by column."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import compute

from strongroom.loan.evaluation import Report
from strongroom.loan.explanation import Reason
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


@dataclass(frozen=True, slots=True)
class _Members:
    """Parts of the answer that only depend on the number of rows, one string a row."""

    keys: Any
    defaults: Any
    others: Any


class RowKeys:
    """The keys ``"0":``, ``"1":``, ..., alone and with both labels, made once and shared between calls."""

    def __init__(self) -> None:
        self._members = _members(0)

    def first(self, count: int) -> _Members:
        """The members of the first rows."""
        members = self._members
        if len(members.keys) < count:
            members = _members(count)
            if count <= MAX_KEPT:
                self._members = members
        return _Members(*(part.slice(0, count) for part in (members.keys, members.defaults, members.others)))


def _members(count: int) -> _Members:
    rows = pa.array(np.arange(count)).cast(pa.string())
    keys = compute.binary_join_element_wise('"', rows, '":', "")
    return _Members(keys, *(compute.binary_join_element_wise(keys, label, "") for label in ('"True"', '"False"')))


def predicted(predictions: Predictions, keys: RowKeys, reasons: Sequence[tuple[Reason, ...]] | None = None) -> bytes:
    """The answer of `/predict`: probability and "True" or "False" by row number, and reasons where asked for.

    Args:
        predictions: At least one row.
        keys: Shared between calls.
        reasons: Of the same rows.

    Returns:
        JSON text; numbers in the fewest digits that give back the float32.
    """
    members = keys.first(len(predictions.probabilities))
    numbers = pa.array(predictions.probabilities).cast(pa.string())
    probabilities = _joined(compute.binary_join_element_wise(members.keys, numbers, ""))
    labels = _joined(compute.if_else(pa.array(predictions.labels), members.defaults, members.others))
    end = _END if reasons is None else b'},"Reasons":' + _reasons(reasons) + b"}}"
    return b"".join((_HEAD, probabilities, _MIDDLE, labels, end))


def _reasons(reasons: Sequence[tuple[Reason, ...]]) -> bytes:
    """By row number, what raises the risk most first; a contribution is in log odds."""
    rows = {
        row: [{"column": r.column, "statement": r.statement, "contribution": round(r.contribution, 6)} for r in found]
        for row, found in enumerate(reasons)
    }
    return json.dumps(rows, separators=(",", ":")).encode()


def _joined(texts: Any) -> Any:
    """All strings of an array with commas between them, as a buffer."""
    everything = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    return compute.binary_join(everything, ",")[0].as_buffer()
