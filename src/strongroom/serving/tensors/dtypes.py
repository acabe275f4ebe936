"""One table of tensor types: TensorFlow's number, numpy's type, the V2 name, and the typed field of each message."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from strongroom.serving.status import InvalidRequest

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class DType:
    """A tensor element type.

    Args:
        name: TensorFlow's name ("DT_FLOAT").
        number: TensorFlow's number (tensorflow/core/framework/types.proto).
        numpy: numpy's type, little-endian; bytes objects for DT_STRING.
        v2: Name in the Open Inference Protocol.
        proto_field: Typed field of TensorProto.
        v2_field: Typed field of InferTensorContents; None where V2 allows raw contents only.
    """

    name: str
    number: int
    numpy: np.dtype[Any]
    v2: str
    proto_field: str
    v2_field: str | None

    @property
    def is_string(self) -> bool:
        """Whether elements are byte strings of any length."""
        return self.numpy.kind == "O"


_ROWS: Final = (
    ("DT_FLOAT", 1, "<f4", "FP32", "float_val", "fp32_contents"),
    ("DT_DOUBLE", 2, "<f8", "FP64", "double_val", "fp64_contents"),
    ("DT_INT32", 3, "<i4", "INT32", "int_val", "int_contents"),
    ("DT_UINT8", 4, "<u1", "UINT8", "int_val", "uint_contents"),
    ("DT_INT16", 5, "<i2", "INT16", "int_val", "int_contents"),
    ("DT_INT8", 6, "<i1", "INT8", "int_val", "int_contents"),
    ("DT_STRING", 7, "O", "BYTES", "string_val", "bytes_contents"),
    ("DT_INT64", 9, "<i8", "INT64", "int64_val", "int64_contents"),
    ("DT_BOOL", 10, "?", "BOOL", "bool_val", "bool_contents"),
    ("DT_UINT16", 17, "<u2", "UINT16", "int_val", "uint_contents"),
    ("DT_HALF", 19, "<f2", "FP16", "half_val", None),
    ("DT_UINT32", 22, "<u4", "UINT32", "uint32_val", "uint_contents"),
    ("DT_UINT64", 23, "<u8", "UINT64", "uint64_val", "uint64_contents"),
)
DTYPES: Final = tuple(DType(n, i, np.dtype(np_), v2, p, c) for n, i, np_, v2, p, c in _ROWS)
_BY_NUMBER: Final = {dtype.number: dtype for dtype in DTYPES}
_BY_NUMPY: Final = {dtype.numpy: dtype for dtype in DTYPES}
_BY_V2: Final = {dtype.v2: dtype for dtype in DTYPES}
FLOAT: Final = _BY_NUMBER[1]
STRING: Final = _BY_NUMBER[7]
INT64: Final = _BY_NUMBER[9]


def dtype_by_number(number: int) -> DType:
    """The type with TensorFlow's number.

    Raises:
        InvalidRequest: No such type here (complex, quantized and reference types are not served).
    """
    if number not in _BY_NUMBER:
        raise InvalidRequest(f"tensor type {number} is not supported")
    return _BY_NUMBER[number]


def dtype_by_v2(name: str) -> DType:
    """The type with a V2 name.

    Raises:
        InvalidRequest: No such type here.
    """
    if name not in _BY_V2:
        raise InvalidRequest(f"unsupported datatype {name[:16]!r}")
    return _BY_V2[name]


def dtype_of(array: Array) -> DType:
    """The type of an array an engine returned.

    Raises:
        InvalidRequest: The engine returned something that can't travel.
    """
    found = _BY_NUMPY.get(array.dtype)
    if found is None and array.dtype.kind != "O":
        found = _BY_NUMPY.get(array.dtype.newbyteorder("<"))
    if found is None:
        raise InvalidRequest(f"an output of type {array.dtype} can't be sent")
    return found


def dtype_by_numpy(kind: Any) -> DType:
    """The type for a numpy type or its name ("float32").

    Raises:
        InvalidRequest: No such type here.
    """
    found = _BY_NUMPY.get(np.dtype(kind))
    if found is None:
        raise InvalidRequest(f"tensor type {kind} is not supported")
    return found
