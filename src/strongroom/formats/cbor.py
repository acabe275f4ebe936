"""A small strict CBOR reader and writer for what RA-TLS evidence needs; bounded depth and size, no floats.

Source: RFC 8949. Lengths must be definite. Integers and lengths may be written wider than needed, because libcbor
writes them so; the bytes that are hashed are always the bytes as received.
"""

from dataclasses import dataclass
from typing import Final

from strongroom.errors import FormatError

MAX_DEPTH: Final = 4
MAX_ITEMS: Final = 64

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_SIMPLE_VALUES: Final = {20: False, 21: True, 22: None}


@dataclass(frozen=True, slots=True)
class Tagged:
    """A tagged value.

    Args:
        tag: Its number.
        value: What is tagged.
    """

    tag: int
    value: "CborValue"


CborValue = int | bytes | str | bool | None | Tagged | tuple["CborValue", ...] | dict[str, "CborValue"]


def parse_cbor(raw: bytes, *, code: str) -> tuple[CborValue, bytes]:
    """Reads one item.

    Args:
        raw: The item and what follows it.
        code: Code of the error.

    Returns:
        The value (arrays as tuples, maps with text names only) and the bytes that follow.

    Raises:
        FormatError: Malformed, indefinite, too deep, too many items, a repeated name or an unsupported type (`code`).
    """
    value, end = _Parser(raw, code).item(0, 0)
    return value, raw[end:]


def encode_cbor(value: CborValue) -> bytes:
    """The shortest encoding; map members in the order of the dict.

    Raises:
        FormatError: A number is negative or needs more than 8 bytes (``cbor.number``).
    """
    match value:
        case None | bool():
            encoded = _head(_SIMPLE, {False: 20, True: 21, None: 22}[value])
        case int():
            encoded = _head(_UNSIGNED, value)
        case bytes():
            encoded = _head(_BYTES, len(value)) + value
        case str():
            encoded = _head(_TEXT, len(value.encode())) + value.encode()
        case tuple():
            encoded = _head(_ARRAY, len(value)) + b"".join(encode_cbor(item) for item in value)
        case dict():
            members = (encode_cbor(name) + encode_cbor(item) for name, item in value.items())
            encoded = _head(_MAP, len(value)) + b"".join(members)
        case _:
            encoded = _head(_TAG, value.tag) + encode_cbor(value.value)
    return encoded


class _Parser:
    def __init__(self, raw: bytes, code: str) -> None:
        self._raw = raw
        self._code = code

    def item(self, position: int, depth: int) -> tuple[CborValue, int]:
        if depth > MAX_DEPTH:
            raise self._refusal("nested too deeply", position)
        major, argument, start = self._read_head(position)
        if major in {_UNSIGNED, _NEGATIVE}:
            return (argument if major == _UNSIGNED else -1 - argument), start
        if major in {_BYTES, _TEXT}:
            return self._string(major, argument, start)
        if major == _ARRAY:
            return self._array(argument, start, depth)
        if major == _MAP:
            return self._map(argument, start, depth)
        if major == _TAG:
            value, end = self.item(start, depth + 1)
            return Tagged(argument, value), end
        if start == position + 1 and argument in _SIMPLE_VALUES:
            return _SIMPLE_VALUES[argument], start
        raise self._refusal("unsupported simple value", position)

    def _read_head(self, position: int) -> tuple[int, int, int]:
        if position >= len(self._raw):
            raise self._refusal("truncated", position)
        major, info = self._raw[position] >> 5, self._raw[position] & 0x1F
        if info < 24:
            return major, info, position + 1
        end = position + 1 + (1 << (info - 24) if info < 28 else 0)
        if info >= 28 or end > len(self._raw):
            raise self._refusal("truncated or indefinite", position)
        return major, int.from_bytes(self._raw[position + 1 : end], "big"), end

    def _string(self, major: int, size: int, start: int) -> tuple[CborValue, int]:
        end = start + size
        if end > len(self._raw):
            raise self._refusal("truncated", start)
        value = self._raw[start:end]
        if major == _BYTES:
            return value, end
        try:
            return value.decode("utf-8"), end
        except UnicodeDecodeError:
            raise self._refusal("text is not UTF-8", start) from None

    def _array(self, count: int, position: int, depth: int) -> tuple[CborValue, int]:
        items: list[CborValue] = []
        for _ in range(self._bounded(count, position)):
            value, position = self.item(position, depth + 1)
            items.append(value)
        return tuple(items), position

    def _map(self, count: int, position: int, depth: int) -> tuple[CborValue, int]:
        members: dict[str, CborValue] = {}
        for _ in range(self._bounded(count, position)):
            name, position = self.item(position, depth + 1)
            if not isinstance(name, str) or name in members:
                raise self._refusal("a name is not text, or is repeated", position)
            members[name], position = self.item(position, depth + 1)
        return members, position

    def _bounded(self, count: int, position: int) -> int:
        if count > MAX_ITEMS:
            raise self._refusal(f"more than {MAX_ITEMS} items", position)
        return count

    def _refusal(self, reason: str, position: int) -> FormatError:
        return FormatError(f"CBOR: {reason} at offset {position}", code=self._code)


def _head(major: int, argument: int) -> bytes:
    if 0 <= argument < 24:
        return bytes((major << 5 | argument,))
    for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if 0 <= argument < 1 << (8 * size):
            return bytes((major << 5 | info,)) + argument.to_bytes(size, "big")
    raise FormatError("CBOR: number out of range", code="cbor.number")
