"""What is asked and answered, free of any transport."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError

from strongroom.errors import FormatError
from strongroom.serving.receipts import Receipt
from strongroom.serving.tensors.dtypes import Array, dtype_of
from strongroom.serving.tensors.tensor_proto import decode_tensor, fill_tensor
from strongroom.serving.tensors.v2 import from_json, from_raw, to_raw
from strongroom.serving.v2 import SIGNATURE_PARAMETER
from strongroom.serving.wire.tensorflow import PredictRequest, PredictResponse

PREDICT: Final = "/tensorflow.serving.PredictionService/Predict"
BINARY_HEADER: Final = "inference-header-content-length"
_CODE: Final = "client.answer"


@dataclass(frozen=True, slots=True)
class Question:
    """One prediction.

    Args:
        model: Name of the model.
        inputs: Arrays by name.
        version: Version number; None for the highest.
        signature: Name of the signature; empty for the default one.
        outputs: Names of wanted outputs; empty for all.
        receipt: Whether the answer must be signed.
    """

    model: str
    inputs: Mapping[str, Any]
    version: int | None = None
    signature: str = ""
    outputs: Sequence[str] = ()
    receipt: bool = False


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer.

    Args:
        outputs: Arrays by name.
        model: Name of the model that answered.
        version: Its version.
        receipt: Verified against this exchange; None when none was asked for.
    """

    outputs: Mapping[str, Array]
    model: str
    version: int
    receipt: Receipt | None = None


def as_predict_request(question: Question) -> bytes:
    """PredictRequest of TensorFlow Serving.

    Raises:
        Refused: An input of a type that can't travel.
    """
    request = PredictRequest(output_filter=question.outputs)
    request.model_spec.name = question.model
    request.model_spec.signature_name = question.signature
    if question.version is not None:
        request.model_spec.version.value = question.version
    for name, value in question.inputs.items():
        fill_tensor(request.inputs[name], _array(value))
    raw: bytes = request.SerializeToString()
    return raw


def from_predict_response(raw: bytes, receipt: Receipt | None) -> Prediction:
    """The answer in a PredictResponse.

    Raises:
        FormatError: Not one.
        Refused: A tensor that is none.
    """
    try:
        response = PredictResponse.FromString(raw)
    except DecodeError:
        raise FormatError("the answer is no PredictResponse", code=_CODE) from None
    outputs = {name: decode_tensor(tensor) for name, tensor in response.outputs.items()}
    return Prediction(outputs, response.model_spec.name, response.model_spec.version.value, receipt)


def infer_path(question: Question) -> str:
    """Path of the V2 REST request."""
    from urllib.parse import quote

    version = "" if question.version is None else f"/versions/{question.version}"
    return f"/v2/models/{quote(question.model, safe='')}{version}/infer"


def as_infer_request(question: Question) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a V2 REST request with binary tensors.

    Raises:
        Refused: An input of a type that can't travel.
    """
    parameters: dict[str, Any] = {"binary_data_output": True}
    if question.signature:
        parameters[SIGNATURE_PARAMETER] = question.signature
    entries, parts = [], []
    for name, value in question.inputs.items():
        array = _array(value)
        parts.append(to_raw(array))
        entries.append(
            {
                "name": name,
                "datatype": dtype_of(array).v2,
                "shape": array.shape,
                "parameters": {"binary_data_size": len(parts[-1])},
            }
        )
    outputs = [{"name": name} for name in question.outputs]
    head = json.dumps({"parameters": parameters, "inputs": entries, "outputs": outputs}).encode()
    return b"".join((head, *parts)), {BINARY_HEADER: str(len(head)), "content-type": "application/octet-stream"}


def from_infer_response(body: bytes, headers: Mapping[str, str], receipt: Receipt | None) -> Prediction:
    """The answer in a V2 REST response.

    Raises:
        FormatError: Not one.
        Refused: A tensor that is none.
    """
    try:
        length = int(headers.get(BINARY_HEADER, str(len(body))))
        document = json.loads(body[:length])
        binary = memoryview(body)[length:]
        outputs: dict[str, Array] = {}
        for entry in document["outputs"]:
            size = entry.get("parameters", {}).get("binary_data_size")
            if size is None:
                outputs[entry["name"]] = from_json(entry["datatype"], entry["shape"], entry["data"])
            else:
                outputs[entry["name"]] = from_raw(entry["datatype"], entry["shape"], binary[:size])
                binary = binary[size:]
        return Prediction(outputs, str(document["model_name"]), int(document["model_version"]), receipt)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise FormatError("the answer is no V2 response", code=_CODE) from None


def _array(value: Any) -> Array:
    """The value as numpy; text and bytes become arrays of bytes."""
    array: Array = value if isinstance(value, np.ndarray) else np.array(value, dtype=object)
    items = array.ravel().tolist()
    if array.dtype.kind not in "USO" or not any(isinstance(item, (str, bytes)) for item in items):
        return np.asarray(value)
    objects = np.empty(len(items), dtype=object)
    objects[:] = [item.encode() if isinstance(item, str) else bytes(item) for item in items]
    return objects.reshape(array.shape)
