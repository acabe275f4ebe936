"""Messages that differ from one seen before in the bytes of one tensor only: they need no parsing and no building.

A client sends the same names, types and shapes again and again. In protobuf a bytes field says its length, so its
content can be exchanged without touching anything else. Where it lies is not guessed: it is proved by exchanging it and
parsing. Nothing of a tensor is kept.
"""

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError

from strongroom.serving.models.repository import Chosen
from strongroom.serving.tensors.dtypes import Array, dtype_of

MAX_KNOWN: Final = 64
MAX_REQUEST_BYTES: Final = 16 * 1024 * 1024
MAX_FRAME_BYTES: Final = 4096
MAX_OUTPUT_BYTES: Final = 4096
SMALL_REQUEST_BYTES: Final = 4096
MAX_TRIES: Final = 8
MAX_SIZES: Final = 1024
_FLIP: Final = bytes(range(255, -1, -1))


@dataclass(slots=True)
class Asked:
    """A prediction that is asked for, in either API.

    Args:
        chosen: Which model and version.
        signature: Name of the signature; empty for the default one.
        inputs: Arrays by name.
        outputs: Outputs wanted; empty for all.
        request_id: To be repeated in the answer.
        raw: Whether the answer's tensors are to be raw bytes.
    """

    chosen: Chosen
    signature: str
    inputs: dict[str, Array]
    outputs: tuple[str, ...]
    request_id: str = ""
    raw: bool = True


@dataclass(frozen=True, slots=True)
class _Known:
    before: bytes
    after: bytes
    asked: Asked
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def read(self, body: bytes) -> Asked | None:
        """The prediction another body asks for, if it looks like this one."""
        if not (body.startswith(self.before) and body.endswith(self.after)):
            return None
        content = body[len(self.before) : len(body) - len(self.after)]  # a copy: aligned, as engines want it
        array = np.frombuffer(content, self.dtype).reshape(self.shape)
        asked = self.asked
        return Asked(asked.chosen, asked.signature, {self.name: array}, asked.outputs, asked.request_id, asked.raw)


@dataclass(frozen=True)
class Reader:
    """Reads one kind of request.

    Args:
        request_class: Its message class.
        decode: From the message to what it asks for; raises `InvalidRequest`.
        content: The bytes of the message's only tensor, or nothing.
        exchange: Puts other bytes in their place.
    """

    request_class: Any
    decode: Callable[[Any], Asked]
    content: Callable[[Any], bytes]
    exchange: Callable[[Any, bytes], None]
    _known: dict[int, _Known] = field(default_factory=dict)
    _tries: dict[int, int] = field(default_factory=dict)
    _learning: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, body: bytes) -> Asked:
        """What a request asks for; raises what `decode` raises, and protobuf's `DecodeError`."""
        known = self._known.get(len(body))
        if known is not None and (asked := known.read(body)) is not None:
            return asked
        request = self.request_class.FromString(body)
        asked = self.decode(request)
        # One at a time: learning takes several times the memory of the request.
        if len(body) <= MAX_REQUEST_BYTES and len(asked.inputs) == 1 and self._learning.acquire(blocking=False):
            try:
                if self._worth_learning(len(body)):
                    self._learn(body, request, asked)
            finally:
                self._learning.release()
        return asked

    def _worth_learning(self, size: int) -> bool:
        """Not for ever: a client may put another id of the same length into each request.

        Nor a large one that comes once: learning takes longer than parsing.
        """
        if len(self._tries) >= MAX_SIZES and size not in self._tries:
            self._tries.pop(next(iter(self._tries)))
        tries = self._tries[size] = self._tries.get(size, 0) + 1
        return tries <= MAX_TRIES and (tries > 1 or size <= SMALL_REQUEST_BYTES)

    def _learn(self, body: bytes, request: Any, asked: Asked) -> None:
        ((name, array),) = asked.inputs.items()
        content = self.content(request)
        if not content or array.dtype.kind not in "fiu" or array.nbytes != len(content):
            return
        if len(body) - len(content) > MAX_FRAME_BYTES:  # all but the content is kept
            return
        start = body.find(content, 0, len(content) + MAX_FRAME_BYTES)
        if start < 0:
            return
        before, after = body[:start], body[start + len(content) :]
        flipped = content.translate(_FLIP)
        self.exchange(request, flipped)
        try:
            exchanged = self.request_class.FromString(before + flipped + after)
        except DecodeError:  # the same bytes stand elsewhere before
            return
        if _bytes_of(exchanged) != _bytes_of(request):
            return
        if len(self._known) >= MAX_KNOWN and len(body) not in self._known:
            self._known.pop(next(iter(self._known)))
        empty = Asked(asked.chosen, asked.signature, {}, asked.outputs, asked.request_id, asked.raw)
        self._known[len(body)] = _Known(before, after, empty, name, array.dtype, array.shape)


class Writer:
    """Writes responses that differ in the bytes of one tensor."""

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[bytes, bytes]] = {}

    def __call__(self, key: Hashable, array: Array, build: Callable[[Array], Any]) -> bytes:
        """The response's bytes.

        Args:
            key: All the response depends on but the array's type, shape and values.
            array: The only output.
            build: Makes the message around an array.
        """
        if array.dtype.kind not in "fiu" or not array.size or array.nbytes > MAX_OUTPUT_BYTES:
            return _bytes_of(build(array))
        full = (key, array.dtype, array.shape)
        known = self._known.get(full)
        if known is None:
            known = self._learn(full, array, build)
        content = np.ascontiguousarray(array, dtype_of(array).numpy).tobytes()
        return b"".join((known[0], content, known[1]))

    def _learn(self, full: Hashable, array: Array, build: Callable[[Array], Any]) -> tuple[bytes, bytes]:
        zeros = np.zeros(array.shape, array.dtype)
        ones = np.frombuffer(b"\xff" * array.nbytes, array.dtype).reshape(array.shape)
        first, second = _bytes_of(build(zeros)), _bytes_of(build(ones))
        start = next(i for i, (one, other) in enumerate(zip(first, second, strict=True)) if one != other)
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[full] = found = first[:start], first[start + array.nbytes :]
        return found


def _bytes_of(message: Any) -> bytes:
    raw: bytes = message.SerializeToString(deterministic=True)
    return raw
