"""What server and engine process say to each other: a JSON head, then the raw bytes of tensors.

Both sides check what they read: the engine process may have been taken over by a hostile model.
"""

import socket
import struct
from collections.abc import Mapping
from typing import Any, Final

import orjson

from strongroom.errors import FormatError
from strongroom.serving.engines import Signature, TensorSpec
from strongroom.serving.status import Refused
from strongroom.serving.tensors.dtypes import Array, dtype_by_v2, dtype_of
from strongroom.serving.tensors.v2 import from_raw, to_raw

MAX_HEAD_BYTES: Final = 1024 * 1024
MAX_BODY_BYTES: Final = 1024 * 1024 * 1024
_MALFORMED: Final = "not a frame of an engine process"
_CODE: Final = "serving.engine_frame"
_SIZES: Final = struct.Struct("<IQ")


def send(connection: socket.socket, head: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Send one frame.

    Raises:
        OSError: The other side is gone or does not read.
    """
    parts = [to_raw(array) for array in arrays.values()]
    tensors = [
        [name, dtype_of(array).v2, list(array.shape), len(part)]
        for (name, array), part in zip(arrays.items(), parts, strict=True)
    ]
    raw = orjson.dumps({**head, "tensors": tensors})
    connection.sendall(_SIZES.pack(len(raw), sum(map(len, parts))) + raw)
    for part in parts:
        connection.sendall(part)


def receive(connection: socket.socket) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read one frame.

    Returns:
        The head and the tensors.

    Raises:
        FormatError: Not a frame.
        OSError: The other side is gone or too slow.
    """
    head_size, body_size = _SIZES.unpack(_exactly(connection, _SIZES.size))
    if head_size > MAX_HEAD_BYTES or body_size > MAX_BODY_BYTES:
        raise FormatError(_MALFORMED, code=_CODE)
    raw = _exactly(connection, head_size)
    body = memoryview(_exactly(connection, body_size))
    try:
        head = orjson.loads(raw)
        arrays: dict[str, Array] = {}
        for name, datatype, shape, size in head.pop("tensors"):
            arrays[str(name)] = from_raw(datatype, shape, body[:size])
            body = body[size:]
    except (ValueError, TypeError, KeyError, AttributeError, Refused):
        raise FormatError(_MALFORMED, code=_CODE) from None
    if len(body):
        raise FormatError(_MALFORMED, code=_CODE)
    return head, arrays


def signatures_as_json(signatures: Mapping[str, Signature]) -> dict[str, Any]:
    """Signatures as plain values."""
    return {
        name: {
            "method": signature.method,
            "inputs": {alias: _spec_as_json(spec) for alias, spec in signature.inputs.items()},
            "outputs": {alias: _spec_as_json(spec) for alias, spec in signature.outputs.items()},
        }
        for name, signature in signatures.items()
    }


def signatures_from_json(value: Any) -> dict[str, Signature]:
    """The inverse.

    Raises:
        FormatError: Not signatures.
    """
    try:
        return {
            str(name): Signature(
                {str(alias): _spec_from_json(spec) for alias, spec in one["inputs"].items()},
                {str(alias): _spec_from_json(spec) for alias, spec in one["outputs"].items()},
                str(one["method"]),
            )
            for name, one in value.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, Refused):
        raise FormatError(_MALFORMED, code=_CODE) from None


def _spec_as_json(spec: TensorSpec) -> list[Any]:
    return [spec.name, spec.dtype.v2, None if spec.shape is None else list(spec.shape)]


def _spec_from_json(value: Any) -> TensorSpec:
    name, datatype, shape = value
    sizes = None if shape is None else tuple(None if size is None else int(size) for size in shape)
    return TensorSpec(str(name), dtype_by_v2(datatype), sizes)


def _exactly(connection: socket.socket, size: int) -> bytearray:
    """So many bytes.

    Raises:
        ConnectionError: They end before.
    """
    buffer = bytearray(size)
    view, position = memoryview(buffer), 0
    while position < size:
        count = connection.recv_into(view[position:])
        if not count:
            raise ConnectionError("the engine process ended")
        position += count
    return buffer
