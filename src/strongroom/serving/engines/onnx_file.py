"""Checks that an ONNX model holds all its weights itself.

A model may name files for its weights. Both engines would look for them relative to the working directory when the
model comes from memory: files that nobody sealed. Such a model is refused.

Source: onnx/onnx.proto: TensorProto.external_data and data_location, and every place a tensor can be.
"""

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.message import DecodeError

from strongroom.errors import FormatError
from strongroom.serving.wire.describe import Description, register

MAX_DEPTH: Final = 32
_MESSAGES: Final = register(
    Description(
        file="strongroom/onnx_outline.proto",
        package="strongroom.onnx",
        messages={
            "Entry": {"key": "1 string"},
            "Tensor": {"external_data": "13 repeated Entry", "data_location": "14 int32"},
            "Sparse": {"values": "1 Tensor", "indices": "2 Tensor"},
            "Attribute": {
                "t": "5 Tensor",
                "g": "6 Graph",
                "tensors": "10 repeated Tensor",
                "graphs": "11 repeated Graph",
                "sparse_tensor": "22 Sparse",
                "sparse_tensors": "23 repeated Sparse",
            },
            "Node": {"attribute": "5 repeated Attribute"},
            "Graph": {
                "node": "1 repeated Node",
                "initializer": "5 repeated Tensor",
                "sparse_initializer": "15 repeated Sparse",
            },
            "Function": {"node": "7 repeated Node", "attribute_proto": "11 repeated Attribute"},
            "TrainingInfo": {"initialization": "1 Graph", "algorithm": "2 Graph"},
            "Model": {
                "graph": "7 Graph",
                "training_info": "20 repeated TrainingInfo",
                "functions": "25 repeated Function",
            },
        },
    )
)


def check_self_contained(raw: bytes) -> None:
    """Look at every tensor of a model.

    Args:
        raw: The ONNX file.

    Raises:
        FormatError: Not a protobuf message, nested too deeply, or with weights in other files.
    """
    try:
        model = _MESSAGES["Model"].FromString(raw)
    except DecodeError:
        raise FormatError("not an ONNX model", code="serving.model") from None
    for tensor in _tensors(model, 0):
        if tensor.data_location or tensor.external_data:
            raise FormatError("the ONNX model keeps weights in other files", code="serving.external_weights")


def _tensors(message: Any, depth: int) -> Iterator[Any]:
    """Every tensor below a message.

    Raises:
        FormatError: Nested too deeply.
    """
    if depth > MAX_DEPTH:
        raise FormatError("the ONNX model is nested too deeply", code="serving.model")
    if message.DESCRIPTOR.name == "Tensor":
        yield message
        return
    for field, value in message.ListFields():
        for part in value if field.is_repeated else (value,):
            yield from _tensors(part, depth + 1)
