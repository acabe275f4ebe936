"""Thrift's compact protocol, the little of it that Parquet's metadata uses: structs, lists, integers, binary.

A struct becomes a dictionary of field id to `Field`, so that an unknown field survives a round trip. What is nested
deeper than the caller looks stays as it is written (`Raw`): a footer has thousands of statistics that nobody asks for.
Maps and sets don't occur in Parquet's metadata and are refused.

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
_INTEGERS: Final = frozenset({I16, I32, I64})
_FIXED_SIZES: Final = {I8: 1, DOUBLE: 8}
_SMALL: Final = [bytes([value]) for value in range(0x80)]


class Field(NamedTuple):
    """One field of a struct.

    Args:
        kind: Thrift's compact type (TRUE and FALSE are a boolean's two types).
        value: int, bool, bytes (BINARY, DOUBLE, I8), `Items`, `Struct`, or `Raw` instead of the last two.
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


class Raw(NamedTuple):
    """A list or struct that was not decoded.

    Args:
        text: Its bytes.
    """

    text: bytes


Struct = dict[int, Field]


def read_struct(raw: bytes, start: int = 0, *, depth: int = MAX_DEPTH) -> tuple[Struct, int]:
    """Decode one struct.

    Args:
        raw: Bytes that hold it.
        start: Offset of its first byte.
        depth: How many levels below it to decode (a list is one, a struct in it another); at most 32.

    Returns:
        The struct and the offset behind it.

    Raises:
        FormatError: The bytes end early, nest deeper than 32, or hold a type Parquet doesn't use.
    """
    try:
        return _struct(raw, start, min(depth, MAX_DEPTH), 0)
    except IndexError:
        raise FormatError("thrift: the bytes end inside a struct", code="thrift.truncated") from None


def struct_of(field: Field) -> Struct:
    """The struct that a field holds, decoded as a whole.

    Raises:
        FormatError: It is malformed.
    """
    value: Struct | Raw = field.value
    return read_struct(value.text)[0] if isinstance(value, Raw) else value


def write_struct(struct: Struct) -> bytes:
    """Encode a struct; fields are written in ascending order of their ids."""
    out = bytearray()
    _put_struct(out, struct)
    return bytes(out)


def read_varint(raw: bytes, position: int) -> tuple[int, int]:
    """Decode an unsigned varint (at most 10 bytes).

    Returns:
        The number and the offset behind it.

    Raises:
        FormatError: Longer than 10 bytes.
        IndexError: The bytes end early.
    """
    value = raw[position]
    if value < 0x80:
        return value, position + 1
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
    if value < 0x80:
        return _SMALL[value]
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value: int) -> bytes:
    """Encode a signed integer as a zigzag varint."""
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _struct(raw: bytes, position: int, depth: int, level: int) -> tuple[Struct, int]:
    _nested(level)
    fields: Struct = {}
    number = 0
    while header := raw[position]:
        number, position = _field_number(raw, position, header, number)
        kind = header & 0x0F
        value, position = _value(raw, position, kind, depth, level)
        fields[number] = Field(kind, value)
    return fields, position + 1


def _field_number(raw: bytes, position: int, header: int, last: int) -> tuple[int, int]:
    if header >> 4:
        return last + (header >> 4), position + 1
    encoded, position = read_varint(raw, position + 1)
    return (encoded >> 1) ^ -(encoded & 1), position


def _value(raw: bytes, position: int, kind: int, depth: int, level: int) -> tuple[Any, int]:
    if kind in _INTEGERS:
        encoded, position = read_varint(raw, position)
        return (encoded >> 1) ^ -(encoded & 1), position
    if kind == BINARY:
        size, position = read_varint(raw, position)
        return _take(raw, position, size)
    if kind in {STRUCT, LIST}:
        if depth <= level:
            end = _skip(raw, position, kind, level + 1)
            return Raw(raw[position:end]), end
        return (_struct if kind == STRUCT else _items)(raw, position, depth, level + 1)
    if kind in {TRUE, FALSE}:
        return kind == TRUE, position
    return _take(raw, position, _fixed_size(kind))


def _fixed_size(kind: int) -> int:
    if kind not in _FIXED_SIZES:
        raise FormatError(f"thrift: type {kind} does not occur in Parquet", code="thrift.malformed")
    return _FIXED_SIZES[kind]


def _skip(raw: bytes, position: int, kind: int, level: int) -> int:
    """The offset behind a value."""
    if kind in _INTEGERS:
        return read_varint(raw, position)[1]
    if kind == BINARY:
        size, position = read_varint(raw, position)
        return _within(raw, position + size)
    if kind in {STRUCT, LIST}:
        return (_skip_struct if kind == STRUCT else _skip_list)(raw, position, level)
    return position if kind in {TRUE, FALSE} else _within(raw, position + _fixed_size(kind))


def _skip_struct(raw: bytes, position: int, level: int) -> int:
    _nested(level)
    while header := raw[position]:
        _, position = _field_number(raw, position, header, 0)
        kind = header & 0x0F
        if kind in _INTEGERS:  # most are
            while raw[position] >= 0x80:
                position += 1
            position += 1
        else:
            position = _skip(raw, position, kind, level + 1)
    return position + 1


def _skip_list(raw: bytes, position: int, level: int) -> int:
    _nested(level)
    kind, count, position = _list_header(raw, position)
    for _ in range(count):
        position = position + 1 if kind in {TRUE, FALSE} else _skip(raw, position, kind, level + 1)
    return _within(raw, position)


def _nested(level: int) -> None:
    if level > MAX_DEPTH:
        raise FormatError(f"thrift: nested deeper than {MAX_DEPTH}", code="thrift.malformed")


def _within(raw: bytes, position: int) -> int:
    if position > len(raw):
        raise IndexError
    return position


def _take(raw: bytes, position: int, size: int) -> tuple[bytes, int]:
    end = _within(raw, position + size)
    return raw[position:end], end


def _list_header(raw: bytes, position: int) -> tuple[int, int, int]:
    header = raw[position]
    position += 1
    kind, count = header & 0x0F, header >> 4
    if count == _LONG_LIST:
        count, position = read_varint(raw, position)
    if count > len(raw) - position:  # every element takes at least one byte
        raise IndexError
    return kind, count, position


def _items(raw: bytes, position: int, depth: int, level: int) -> tuple[Items, int]:
    kind, count, position = _list_header(raw, position)
    values: list[Any] = []
    for _ in range(count):
        if kind in {TRUE, FALSE}:
            value, position = raw[position] == TRUE, position + 1
        else:
            value, position = _value(raw, position, kind, depth, level)
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
    if isinstance(value, Raw):
        out += value.text
    elif kind in _INTEGERS:
        out += zigzag(value)
    elif kind == BINARY:
        out += varint(len(value))
        out += value
    elif kind == STRUCT:
        _put_struct(out, value)
    elif kind == LIST:
        _put_items(out, value)
    elif kind in _FIXED_SIZES:
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
