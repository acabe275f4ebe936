"""numpy <-> TensorProto (tensorflow/core/framework/tensor.proto)."""

from typing import Any

import numpy as np

from strongroom.serving.status import InvalidRequest
from strongroom.serving.tensors.bounds import checked_shape
from strongroom.serving.tensors.dtypes import Array, DType, dtype_by_number, dtype_of

_INT_FIELDS = frozenset({"int_val", "half_val"})


def decode_tensor(proto: Any) -> Array:
    """The array a TensorProto describes. It may be a read-only view of the message's bytes.

    Args:
        proto: A TensorProto.

    Returns:
        An array of exactly the shape the message states.

    Raises:
        InvalidRequest: Unknown type or shape, contents that do not fit the shape, values out of the type's range.
    """
    dtype = dtype_by_number(proto.dtype)
    if proto.tensor_shape.unknown_rank:
        raise InvalidRequest("a tensor of a request must have a known rank")
    shape, count = checked_shape((dim.size for dim in proto.tensor_shape.dim), dtype)
    if proto.tensor_content:
        return _from_content(proto.tensor_content, dtype, shape, count)
    return _from_values(getattr(proto, dtype.proto_field), dtype, shape, count)


def fill_tensor(proto: Any, array: Array) -> None:
    """Write an array into an empty TensorProto: strings in `string_val`, the rest as little-endian `tensor_content`.

    Raises:
        InvalidRequest: The array's type has no counterpart.
    """
    dtype = dtype_of(array)
    proto.dtype = dtype.number
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype.is_string:
        proto.string_val.extend(array.ravel().tolist())
    else:
        proto.tensor_content = np.ascontiguousarray(array, dtype=dtype.numpy).tobytes()


def _from_content(content: bytes, dtype: DType, shape: tuple[int, ...], count: int) -> Array:
    if dtype.is_string:
        raise InvalidRequest("a string tensor must be sent in string_val")
    if len(content) != count * dtype.numpy.itemsize:
        raise InvalidRequest(
            f"tensor_content has {len(content)} bytes, a {dtype.name} of shape {list(shape)} has "
            f"{count * dtype.numpy.itemsize}"
        )
    if dtype.numpy.kind == "b" and content.strip(b"\0\1"):
        raise InvalidRequest("a DT_BOOL tensor holds a byte other than 0 and 1")
    return np.frombuffer(content, dtype=dtype.numpy).reshape(shape)


def _from_values(values: Any, dtype: DType, shape: tuple[int, ...], count: int) -> Array:
    given = len(values)
    if given > count or (given == 0 and count > 0):
        raise InvalidRequest(f"{dtype.proto_field} has {given} values, a tensor of shape {list(shape)} has {count}")
    if dtype.is_string:
        array = np.empty(given, dtype=object)
        array[:] = list(values)
    elif dtype.proto_field in _INT_FIELDS:
        array = _narrowed(np.array(values, dtype=np.int32), dtype)
    else:
        array = np.array(values, dtype=dtype.numpy)
    if given < count:  # the last value stands for the rest (tensorflow/core/framework/tensor.proto)
        array = np.concatenate([array, np.repeat(array[-1:], count - given)])
    return array.reshape(shape)


def _narrowed(wide: Array, dtype: DType) -> Array:
    """Values that travel as int32 but belong to a smaller type; DT_HALF travels as its 16 bits.

    Raises:
        InvalidRequest: A value is out of the smaller type's range.
    """
    target = np.dtype("<u2") if dtype.numpy.kind == "f" else dtype.numpy
    limits = np.iinfo(target)
    if wide.size and (wide.min() < limits.min or wide.max() > limits.max):
        raise InvalidRequest(f"{dtype.proto_field} holds a value outside {dtype.name}")
    return wide.astype(target).view(dtype.numpy)
