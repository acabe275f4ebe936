"""Tensors of the Open Inference Protocol V2: raw bytes, typed contents, JSON data.

Source: the protocol's "Predict Protocol - Version 2" (kserve/open-inference-protocol) and its binary tensor data
extension: little-endian, row-major; each BYTES element behind a 4-byte length.
"""

import struct
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from strongroom.serving.status import InvalidRequest
from strongroom.serving.tensors.bounds import checked_shape
from strongroom.serving.tensors.dtypes import Array, DType, dtype_by_v2, dtype_of
from strongroom.serving.tensors.json_values import array_from_json, json_from_array

_LENGTH: Final = struct.Struct("<I")


def from_raw(datatype: str, sizes: Sequence[int], raw: bytes | memoryview) -> Array:
    """The array of raw bytes; a read-only view of them where the type allows.

    Raises:
        InvalidRequest: Unknown type, or bytes that do not fit the shape.
    """
    dtype = dtype_by_v2(datatype)
    shape, count = checked_shape(sizes, dtype)
    if dtype.is_string:
        return _objects(_split(raw, count)).reshape(shape)
    if len(raw) != count * dtype.numpy.itemsize:
        raise InvalidRequest(f"{len(raw)} raw bytes do not fit {datatype} of shape {list(shape)}")
    array = np.frombuffer(raw, dtype=dtype.numpy)
    if dtype.numpy.kind == "b" and (array.view(np.uint8) > 1).any():
        raise InvalidRequest("a BOOL tensor holds a byte other than 0 and 1")
    # Behind a JSON head the bytes may begin anywhere; engines want numbers on their own boundaries.
    return array.reshape(shape) if array.flags.aligned else array.copy().reshape(shape)


def to_raw(array: Array) -> bytes:
    """The raw bytes of an array.

    Raises:
        Refused: Its type has no counterpart.
    """
    dtype = dtype_of(array)
    if not dtype.is_string:
        return np.ascontiguousarray(array, dtype=dtype.numpy).tobytes()
    return b"".join(_LENGTH.pack(len(item)) + item for item in array.ravel().tolist())


def from_contents(datatype: str, sizes: Sequence[int], contents: Any) -> Array:
    """The array of an InferTensorContents message.

    Raises:
        InvalidRequest: Unknown type, another field than the type's, values that do not fit.
    """
    dtype = dtype_by_v2(datatype)
    shape, count = checked_shape(sizes, dtype)
    if dtype.v2_field is None:
        raise InvalidRequest(f"{datatype} must be sent as raw contents")
    values = getattr(contents, dtype.v2_field)
    if len(values) != count or any(field.name != dtype.v2_field for field, _ in contents.ListFields()):
        raise InvalidRequest(f"{datatype} of shape {list(shape)} needs {count} values in {dtype.v2_field}")
    if dtype.is_string:
        return _objects(list(values)).reshape(shape)
    return _narrow(np.array(values, dtype=_wide(dtype)), dtype).reshape(shape)


def fill_contents(contents: Any, array: Array) -> None:
    """Write an array into an InferTensorContents message.

    Raises:
        InvalidRequest: Its type travels as raw contents only.
    """
    dtype = dtype_of(array)
    if dtype.v2_field is None:
        raise InvalidRequest(f"{dtype.v2} can only be answered as raw contents")
    getattr(contents, dtype.v2_field).extend(array.ravel().tolist())


def from_json(datatype: str, sizes: Sequence[int], data: Any) -> Array:
    """The array of a JSON ``data`` field, flat or nested.

    Raises:
        InvalidRequest: Unknown type, or values that do not fit type and shape.
    """
    dtype = dtype_by_v2(datatype)
    shape, count = checked_shape(sizes, dtype)
    if dtype.v2_field is None:
        raise InvalidRequest(f"{datatype} must be sent as binary data")
    array = array_from_json(data, dtype)
    if array.size != count or array.shape not in {shape, (count,)}:
        raise InvalidRequest(f"data of shape {list(array.shape)} does not fit shape {list(shape)}")
    return array.reshape(shape)


def to_json(array: Array) -> Any:
    """The flat JSON ``data`` of an array.

    Raises:
        InvalidRequest: Its type travels as binary data only.
    """
    if dtype_of(array).v2_field is None:
        raise InvalidRequest(f"{dtype_of(array).v2} can only be answered as binary data")
    return json_from_array("", array.ravel())


def _split(raw: bytes | memoryview, count: int) -> list[bytes]:
    items = []
    position = 0
    for _ in range(count):
        if position + _LENGTH.size > len(raw):
            raise InvalidRequest("raw BYTES end before the last element")
        (length,) = _LENGTH.unpack_from(raw, position)
        position += _LENGTH.size
        if position + length > len(raw):
            raise InvalidRequest("raw BYTES end within an element")
        items.append(bytes(raw[position : position + length]))
        position += length
    if position != len(raw):
        raise InvalidRequest("raw BYTES go on after the last element")
    return items


def _objects(items: list[bytes]) -> Array:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def _wide(dtype: DType) -> Any:
    """The type the contents field itself has."""
    wide = {"int_contents": np.int32, "uint_contents": np.uint32}
    return wide.get(dtype.v2_field or "", dtype.numpy)


def _narrow(array: Array, dtype: DType) -> Array:
    if dtype.numpy.kind in "iu" and array.size:
        limits = np.iinfo(dtype.numpy)
        if array.min() < limits.min or array.max() > limits.max:
            raise InvalidRequest(f"a value is outside {dtype.v2}")
    return array.astype(dtype.numpy)
