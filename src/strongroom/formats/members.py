"""Strict reading of one parsed JSON object: every member typed and bounded, unknown members refused."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from strongroom.errors import FormatError
from strongroom.formats.canonical import MAX_SAFE_INTEGER

MAX_TEXT: Final = 4096
TIMESTAMP_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"

_TIMESTAMP: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class Members:
    """Reads the members of a JSON object; call `finish` at the end to refuse unknown ones.

    Args:
        value: What the JSON parser gave, or the caller's mapping.
        what: Name of the object, for the messages.
        code: Code of every error.

    Raises:
        FormatError: `value` is not an object with string names.
    """

    def __init__(self, value: object, *, what: str, code: str) -> None:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise FormatError(f"{what}: not an object", code=code)
        self._left: dict[str, object] = dict(value)
        self._what = what
        self._code = code

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def refuse(self, name: str, reason: str) -> FormatError:
        """The error to raise for a member."""
        return FormatError(f"{self._what}: {name} {reason}", code=self._code)

    def value(self, name: str) -> object:
        """A member of any type.

        Raises:
            FormatError: It is missing or was read before.
        """
        if name not in self._left:
            raise self.refuse(name, "is missing")
        return self._left.pop(name)

    def text(self, name: str, *, max_length: int = MAX_TEXT) -> str:
        """A string.

        Raises:
            FormatError: Missing, another type, or too long.
        """
        value = self.value(name)
        if not isinstance(value, str) or len(value) > max_length:
            raise self.refuse(name, f"is not a string of at most {max_length} characters")
        return value

    def number(self, name: str, *, maximum: int = MAX_SAFE_INTEGER) -> int:
        """An integer from 0 to `maximum`.

        Raises:
            FormatError: Missing, another type (true and false included), or out of range.
        """
        value = self.value(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= maximum:
            raise self.refuse(name, f"is not an integer from 0 to {maximum}")
        return value

    def boolean(self, name: str) -> bool:
        """True or false.

        Raises:
            FormatError: Missing or another type.
        """
        value = self.value(name)
        if not isinstance(value, bool):
            raise self.refuse(name, "is not true or false")
        return value

    def octets(self, name: str, size: int | None = None, *, max_bytes: int = MAX_TEXT) -> bytes:
        """Bytes written in hexadecimal, either case.

        Args:
            name: Name of the member.
            size: Exact length in bytes, if it is fixed.
            max_bytes: Longest accepted otherwise.

        Raises:
            FormatError: Missing, not hexadecimal, or another length.
        """
        value = self.text(name, max_length=2 * (max_bytes if size is None else size))
        try:
            octets = bytes.fromhex(value)
        except ValueError:
            octets = None
        # `fromhex` passes over white space, which makes the text longer than it should be.
        if octets is None or len(value) != 2 * len(octets) or size not in (None, len(octets)):
            raise self.refuse(name, f"is not {'' if size is None else f'{size} bytes in '}hexadecimal")
        return octets

    def items(self, name: str, *, max_items: int) -> Sequence[object]:
        """An array.

        Raises:
            FormatError: Missing, another type, or too many items.
        """
        value = self.value(name)
        if not isinstance(value, list | tuple) or len(value) > max_items:
            raise self.refuse(name, f"is not a list of at most {max_items} items")
        return value

    def texts(self, name: str, *, max_items: int, max_length: int = MAX_TEXT) -> tuple[str, ...]:
        """An array of strings.

        Raises:
            FormatError: Missing, another type, or too long.
        """
        items = self.items(name, max_items=max_items)
        texts = [item for item in items if isinstance(item, str)]
        if len(texts) != len(items) or any(len(text) > max_length for text in texts):
            raise self.refuse(name, f"holds something else than strings of at most {max_length} characters")
        return tuple(texts)

    def moment(self, name: str) -> datetime:
        """A time written as ``2026-11-21T10:00:00Z``.

        Raises:
            FormatError: Missing or written otherwise.
        """
        value = self.text(name)
        try:
            if _TIMESTAMP.fullmatch(value):
                return datetime.strptime(value, TIMESTAMP_FORMAT).replace(tzinfo=UTC)
        except ValueError:
            pass
        raise self.refuse(name, "is not a time like 2026-11-21T10:00:00Z")

    def finish(self) -> None:
        """Ends reading.

        Raises:
            FormatError: Members were not read: they are unknown.
        """
        if self._left:
            name = min(self._left)
            raise self.refuse(repr(name[:64]), "is unknown")


def timestamp(moment: datetime) -> str:
    """A time as `Members.moment` reads it, UTC, fractions of a second dropped.

    Raises:
        FormatError: The time has no time zone (``format.time``).
    """
    if moment.tzinfo is None:
        raise FormatError("a time without time zone", code="format.time")
    return moment.astimezone(UTC).strftime(TIMESTAMP_FORMAT)
