"""Fixed binary layouts as data: one table per structure, one strict reader, one writer.

A table lists every byte of its structure. Fields whose name starts with ``reserved`` must be zero when read, are
written as zeros and never appear among the values, so whatever parses serializes back to the same bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.errors import FormatError

RESERVED: Final = "reserved"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a fixed layout.

    Args:
        name: Vendor's field name in snake case; ``reserved...`` must be zero.
        offset: Bytes from the start of the structure.
        size: Length in bytes.
    """

    name: str
    offset: int
    size: int

    @property
    def reserved(self) -> bool:
        """Whether the field must be zero."""
        return self.name.startswith(RESERVED)


Table = tuple[Field, ...]


def size_of(table: Table) -> int:
    """Length of the structure in bytes."""
    return table[-1].offset + table[-1].size


def read(table: Table, raw: bytes, *, what: str = "structure") -> dict[str, bytes]:
    """Splits `raw` into the fields of `table`.

    Args:
        table: The layout.
        raw: Exactly `size_of(table)` bytes.
        what: Name of the structure, for the message and as first part of the code (spaces become underscores).

    Returns:
        Field name to its bytes, reserved fields left out.

    Raises:
        FormatError: Wrong length (``<what>.length``) or a reserved field that is not zero (``<what>.reserved``).
    """
    prefix = what.replace(" ", "_")
    if len(raw) != size_of(table):
        raise FormatError(f"{what}: {len(raw)} bytes, expected {size_of(table)}", code=f"{prefix}.length")
    values: dict[str, bytes] = {}
    for field in table:
        value = raw[field.offset : field.offset + field.size]
        if not field.reserved:
            values[field.name] = value
        elif any(value):
            raise FormatError(f"{what}: {field.name} at offset {field.offset} is not zero", code=f"{prefix}.reserved")
    return values


def write(table: Table, values: Mapping[str, bytes], *, what: str = "structure") -> bytes:
    """Joins field values into the structure; the inverse of `read`.

    Args:
        table: The layout.
        values: One entry of the exact size for every field that is not reserved, and nothing else.
        what: Name of the structure, for the message and the code.

    Returns:
        Exactly `size_of(table)` bytes.

    Raises:
        FormatError: A field is missing, unknown or has another size (``<what>.field``).
    """
    code = what.replace(" ", "_") + ".field"
    if set(values) != {field.name for field in table if not field.reserved}:
        raise FormatError(f"{what}: fields missing or unknown", code=code)
    parts = []
    for field in table:
        value = bytes(field.size) if field.reserved else values[field.name]
        if len(value) != field.size:
            raise FormatError(f"{what}: {field.name} has {len(value)} bytes, expected {field.size}", code=code)
        parts.append(value)
    return b"".join(parts)


def little(raw: bytes) -> int:
    """Unsigned little-endian integer."""
    return int.from_bytes(raw, "little")


def little_bytes(value: int, size: int, *, what: str) -> bytes:
    """Unsigned little-endian integer of exactly `size` bytes.

    Raises:
        FormatError: The value is negative or does not fit (``format.integer``).
    """
    if not 0 <= value < 1 << (8 * size):
        raise FormatError(f"{what}: {value} does not fit {size} bytes", code="format.integer")
    return value.to_bytes(size, "little")


class Reader:
    """Reads variable-length structures front to back; every refusal names the offset.

    Args:
        raw: The bytes to read.
        what: Name of the structure, also the first part of the codes.
        start: Offset of `raw` in the enclosing structure, for the messages only.
    """

    def __init__(self, raw: bytes, *, what: str, start: int = 0) -> None:
        self._raw = raw
        self._what = what
        self._start = start
        self._position = 0

    @property
    def offset(self) -> int:
        """Offset of the next byte in the enclosing structure."""
        return self._start + self._position

    def take(self, size: int, name: str) -> bytes:
        """The next `size` bytes.

        Raises:
            FormatError: Fewer bytes are left (``<what>.truncated``).
        """
        end = self._position + size
        if end > len(self._raw):
            left = len(self._raw) - self._position
            raise FormatError(
                f"{self._what}: {name} at offset {self.offset} needs {size} bytes, {left} left",
                code=f"{self._what}.truncated",
            )
        value = self._raw[self._position : end]
        self._position = end
        return value

    def number(self, size: int, name: str) -> int:
        """The next `size` bytes as an unsigned little-endian integer."""
        return little(self.take(size, name))

    def big(self, size: int, name: str) -> int:
        """The next `size` bytes as an unsigned big-endian integer."""
        return int.from_bytes(self.take(size, name), "big")

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(len(self._raw) - self._position, "rest")

    def finish(self) -> None:
        """Ends reading.

        Raises:
            FormatError: Bytes are left (``<what>.trailing``).
        """
        left = len(self._raw) - self._position
        if left:
            raise FormatError(
                f"{self._what}: {left} bytes too many at offset {self.offset}", code=f"{self._what}.trailing"
            )
