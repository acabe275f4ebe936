"""JSON values <-> numpy, strict: no string becomes a number, nothing is rounded to an integer, nothing overflows."""

import base64
import binascii
import json
from typing import Any

import numpy as np
import orjson

from strongroom.serving.status import InvalidRequest
from strongroom.serving.tensors.bounds import MAX_RANK, checked_shape
from strongroom.serving.tensors.dtypes import STRING, Array, DType

B64 = "b64"
_ACCEPTED_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}


def parse_json(body: bytes) -> Any:
    """A JSON document; ``NaN`` and ``Infinity`` are accepted as TensorFlow Serving accepts them.

    Raises:
        InvalidRequest: Not JSON, not UTF-8, or nested too deeply.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if b"NaN" not in body and b"Infinity" not in body:
            raise InvalidRequest(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest("JSON Parse error: not a JSON document") from None


def render_json(value: Any) -> bytes:
    """JSON of plain values and numpy arrays; floats as short as they round-trip; NaN as ``NaN``."""
    if _has_non_finite(value):
        return json.dumps(value, default=_plain, separators=(",", ":")).encode()
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY, default=_plain)


def array_from_json(value: Any, dtype: DType) -> Array:
    """The array a nested list stands for.

    Args:
        value: A JSON value: nested lists, or a single element.
        dtype: What the elements must be.

    Raises:
        InvalidRequest: Ragged lists, elements of another type or out of range.
    """
    if dtype.is_string:
        return _strings(value)
    try:
        array = np.array(value)
    except (ValueError, OverflowError, TypeError):
        raise InvalidRequest("encountered list at unexpected size: the lists of a tensor must have one shape") from None
    checked_shape(array.shape, dtype)
    if array.size == 0 and array.dtype.kind == "f":
        return array.astype(dtype.numpy)
    if array.dtype.kind not in _ACCEPTED_KINDS[dtype.numpy.kind]:
        raise InvalidRequest(f"JSON value is not of expected type: {dtype.name}")
    return _cast(array, dtype)


def json_from_array(name: str, array: Array) -> Any:
    """What stands in the answer for one output: an array orjson can write, or nested lists of strings.

    Args:
        name: Name of the output; one that ends with ``_bytes`` is always base64, as in TensorFlow Serving.
        array: Its values.
    """
    if array.dtype.kind == "O":
        as_text = not name.endswith("_bytes")
        return _nested([_text(item, as_text) for item in array.ravel().tolist()], array.shape)
    return np.ascontiguousarray(array) if array.ndim else array.item()


def b64_bytes(value: Any) -> bytes:
    """The bytes of ``{"b64": "..."}``.

    Raises:
        InvalidRequest: Anything else, or not base64.
    """
    if not isinstance(value, dict) or value.keys() != {B64} or not isinstance(value[B64], str):
        raise InvalidRequest('expected a string or {"b64": "..."}')
    try:
        return base64.b64decode(value[B64], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest("JSON value not formatted correctly for base64 data") from None


def is_b64(value: Any) -> bool:
    """Whether a JSON object is a base64 value rather than a row of named inputs."""
    return isinstance(value, dict) and value.keys() == {B64}


def _cast(array: Array, dtype: DType) -> Array:
    if dtype.numpy.kind in "iu" and array.size:
        limits = np.iinfo(dtype.numpy)
        if int(array.min()) < limits.min or int(array.max()) > limits.max:
            raise InvalidRequest(f"conversion of a JSON value to {dtype.name} overflows")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype.numpy)
    if dtype.numpy.kind == "f" and array.dtype.kind == "f" and np.any(np.isinf(cast) & ~np.isinf(array)):
        raise InvalidRequest(f"conversion of a JSON value to {dtype.name} overflows")
    return cast


def _strings(value: Any) -> Array:
    leaves: list[bytes] = []
    shape = _string_shape(value, 0)
    checked_shape(shape, STRING)
    _collect(value, shape, 0, leaves)
    array = np.empty(len(leaves), dtype=object)
    array[:] = leaves
    return array.reshape(shape)


def _string_shape(value: Any, depth: int) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    if depth >= MAX_RANK:
        raise InvalidRequest(f"a tensor has more than {MAX_RANK} dimensions")
    return (len(value), *(_string_shape(value[0], depth + 1) if value else ()))


def _collect(value: Any, shape: tuple[int, ...], depth: int, leaves: list[bytes]) -> None:
    if depth == len(shape):
        leaves.append(value.encode("utf-8", "surrogatepass") if isinstance(value, str) else b64_bytes(value))
        return
    if not isinstance(value, list) or len(value) != shape[depth]:
        raise InvalidRequest("encountered list at unexpected size: the lists of a tensor must have one shape")
    for item in value:
        _collect(item, shape, depth + 1, leaves)


def _text(item: bytes, as_text: bool) -> Any:
    if as_text:
        try:
            return item.decode("utf-8")
        except UnicodeDecodeError:
            pass  # bytes that are no text can only travel as base64
    return {B64: base64.b64encode(item).decode("ascii")}


def _nested(items: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return items[0]
    for size in reversed(shape[1:]):
        items = [items[start : start + size] for start in range(0, len(items), size)] if size else [[]] * shape[0]
    return items


def _has_non_finite(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f" and not bool(np.isfinite(value).all())
    if isinstance(value, float):
        return not np.isfinite(value)
    if isinstance(value, dict):
        return any(_has_non_finite(item) for item in value.values())
    return isinstance(value, list) and any(_has_non_finite(item) for item in value)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError
