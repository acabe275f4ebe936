"""Thrift's compact protocol, the little of it that Parquet's metadata uses: structs, lists, integers, binary.

A struct becomes a dictionary of field id to `Field`, in the order of the bytes, so that an unknown field survives a
round trip. Maps and sets don't occur in Parquet's metadata and are refused.

Source: Apache Thrift, doc/specs/thrift-compact-protocol.md; Apache Parquet, parquet.thrift.
"""

from typing import Any, Final, NamedTuple

from strongroom.errors import FormatError

TRUE: Final = 1
FALSE: Final = 2
I8: Final = 3
I16: Final = 4
I32: Final = 5
I64: Final = 6
DOUBLE: Final = 7
BINARY: Final = 8
LIST: Final = 9
STRUCT: Final = 12

MAX_DEPTH: Final = 32
MAX_VARINT_BYTES: Final = 10
_LONG_LIST: Final = 15
_DOUBLE_BYTES: Final = 8


class Field(NamedTuple):
    """One field of a struct.

    Args:
        kind: Thrift's compact type (TRUE and FALSE are a boolean's two types).
        value: int, bool, bytes (BINARY and DOUBLE), `Items` or `Struct`.
    """

    kind: int
    value: Any


class Items(NamedTuple):
    """A list.

    Args:
        kind: Type of every element.
        values: The elements.
    """

    kind: int
    values: list[Any]


Struct = dict[int, Field]


def read_struct(raw: bytes | memoryview, start: int = 0) -> tuple[Struct, int]:
    """Decode one struct.

    Args:
        raw: Bytes that hold it.
        start: Offset of its first byte.

    Returns:
        The struct and the offset behind it.

    Raises:
        FormatError: The bytes end early, nest deeper than 32, or hold a type Parquet doesn't use.
    """
    try:
        return _struct(raw, start, 0)
    except IndexError:
        raise FormatError("thrift: the bytes end inside a struct", code="thrift.truncated") from None


def write_struct(struct: Struct) -> bytes:
    """Encode a struct; fields are written in ascending order of their ids."""
    out = bytearray()
    _put_struct(out, struct)
    return bytes(out)


def read_varint(raw: bytes | memoryview, position: int) -> tuple[int, int]:
    """Decode an unsigned varint (at most 10 bytes).

    Returns:
        The number and the offset behind it.

    Raises:
        FormatError: Longer than 10 bytes.
        IndexError: The bytes end early.
    """
    value = shift = 0
    for _ in range(MAX_VARINT_BYTES):
        byte = raw[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise FormatError("thrift: a varint has more than 10 bytes", code="thrift.malformed")


def varint(value: int) -> bytes:
    """Encode an unsigned varint."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value: int) -> bytes:
    """Encode a signed integer as a zigzag varint."""
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _struct(raw: bytes | memoryview, position: int, depth: int) -> tuple[Struct, int]:
    if depth > MAX_DEPTH:
        raise FormatError(f"thrift: nested deeper than {MAX_DEPTH}", code="thrift.malformed")
    fields: Struct = {}
    number = 0
    while header := raw[position]:
        position += 1
        kind = header & 0x0F
        if header >> 4:
            number += header >> 4
        else:
            encoded, position = read_varint(raw, position)
            number = (encoded >> 1) ^ -(encoded & 1)
        value, position = _value(raw, position, kind, depth)
        fields[number] = Field(kind, value)
    return fields, position + 1


def _value(raw: bytes | memoryview, position: int, kind: int, depth: int) -> tuple[Any, int]:  # noqa: PLR0911  # one return a type reads best
    if kind in {I16, I32, I64}:
        encoded, position = read_varint(raw, position)
        return (encoded >> 1) ^ -(encoded & 1), position
    if kind == BINARY:
        size, position = read_varint(raw, position)
        return _take(raw, position, size)
    if kind == STRUCT:
        return _struct(raw, position, depth + 1)
    if kind == LIST:
        return _items(raw, position, depth + 1)
    if kind in {TRUE, FALSE}:
        return kind == TRUE, position
    if kind == I8:
        return raw[position], position + 1
    if kind == DOUBLE:
        return _take(raw, position, _DOUBLE_BYTES)
    raise FormatError(f"thrift: type {kind} does not occur in Parquet", code="thrift.malformed")


def _take(raw: bytes | memoryview, position: int, size: int) -> tuple[bytes, int]:
    if size > len(raw) - position:
        raise IndexError
    return bytes(raw[position : position + size]), position + size


def _items(raw: bytes | memoryview, position: int, depth: int) -> tuple[Items, int]:
    header = raw[position]
    position += 1
    kind, count = header & 0x0F, header >> 4
    if count == _LONG_LIST:
        count, position = read_varint(raw, position)
    if count > len(raw) - position:  # every element takes at least one byte
        raise IndexError
    values: list[Any] = []
    for _ in range(count):
        if kind in {TRUE, FALSE}:
            value, position = raw[position] == TRUE, position + 1
        else:
            value, position = _value(raw, position, kind, depth)
        values.append(value)
    return Items(kind, values), position


def _put_struct(out: bytearray, struct: Struct) -> None:
    last = 0
    for number in sorted(struct):
        kind, value = struct[number]
        delta = number - last
        if 0 < delta < 16:
            out.append(delta << 4 | kind)
        else:
            out.append(kind)
            out += zigzag(number)
        _put_value(out, kind, value)
        last = number
    out.append(0)


def _put_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in {I16, I32, I64}:
        out += zigzag(value)
    elif kind == BINARY:
        out += varint(len(value))
        out += value
    elif kind == STRUCT:
        _put_struct(out, value)
    elif kind == LIST:
        _put_items(out, value)
    elif kind == I8:
        out.append(value)
    elif kind == DOUBLE:
        out += value


def _put_items(out: bytearray, items: Items) -> None:
    count = len(items.values)
    out.append(min(count, _LONG_LIST) << 4 | items.kind)
    if count >= _LONG_LIST:
        out += varint(count)
    for value in items.values:
        if items.kind in {TRUE, FALSE}:
            out.append(TRUE if value else FALSE)
        else:
            _put_value(out, items.kind, value)
