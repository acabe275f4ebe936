"""Reads a TOML table strictly: every key is asked for, of one type, within bounds; what is left over is refused."""

import difflib
import re
from itertools import pairwise
from typing import Any, Final, NoReturn

from strongroom.errors import ConfigurationError

MAX_TEXT: Final = 4096
_REQUIRED: Final = object()
_SHOWN: Final = 60


class Table:
    """One table of a TOML document.

    Args:
        values: What `parse_toml` made of it.
        where: Dotted name of the table for messages; "" for the document.

    Raises:
        ConfigurationError: `values` is not a table (``workload.field``).
    """

    def __init__(self, values: object, where: str = "") -> None:
        if not isinstance(values, dict):
            refuse_field(where, "must be a table")
        self._values: dict[str, Any] = values
        self._where = where
        self._asked: list[str] = []

    def text(
        self,
        name: str,
        *,
        pattern: str | None = None,
        says: str = "",
        default: object = _REQUIRED,
        limit: int = MAX_TEXT,
    ) -> str:
        """A string of at most `limit` characters without NUL.

        Args:
            name: The key.
            pattern: Regular expression that it must match whole.
            says: What `pattern` means, for the message.
            default: When the key is absent; without one the key is required.
            limit: Longest string, characters.
        """
        value = self._take(name, default)
        return check_text(value, self.where(name), pattern=pattern, says=says, limit=limit)

    def texts(self, name: str, *, most: int, default: object = _REQUIRED) -> list[str]:
        """A list of strings."""
        value = self._take(name, default)
        if not isinstance(value, list) or len(value) > most:
            refuse_field(self.where(name), f"must be a list of at most {most} strings")
        return [check_text(item, f"{self.where(name)}[{place}]") for place, item in enumerate(value)]

    def number(self, name: str, low: int, high: int, *, default: object = _REQUIRED) -> int:
        """An integer from `low` to `high`."""
        value = self._take(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            refuse_field(self.where(name), f"must be an integer from {low} to {high}")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """True or false."""
        value = self._take(name, default)
        if not isinstance(value, bool):
            refuse_field(self.where(name), "must be true or false")
        return value

    def table(self, name: str) -> "Table":
        """A table; empty when absent."""
        return Table(self._take(name, {}), self.where(name))

    def tables(self, name: str, *, most: int) -> "list[Table]":
        """A list of tables; empty when absent."""
        value = self._take(name, [])
        if not isinstance(value, list) or len(value) > most:
            refuse_field(self.where(name), f"must be at most {most} tables, each headed [[{name}]]")
        return [Table(item, f"{self.where(name)}[{place}]") for place, item in enumerate(value)]

    def names(self, *, most: int, pattern: str, says: str) -> list[str]:
        """All keys of a table whose keys are chosen by the author, sorted."""
        if len(self._values) > most:
            refuse_field(self._where, f"must have at most {most} entries")
        return [check_text(name, self.where(name), pattern=pattern, says=says) for name in sorted(self._values)]

    def finish(self) -> None:
        """Ends reading.

        Raises:
            ConfigurationError: A key was not asked for (``workload.unknown_key``).
        """
        unknown = sorted(self._values.keys() - set(self._asked))
        if unknown:
            close = difflib.get_close_matches(unknown[0], self._asked, n=1)
            known = ", ".join(self._asked)
            raise ConfigurationError(
                f"unknown key {_shown(self.where(unknown[0]))}",
                code="workload.unknown_key",
                hint=f"did you mean {close[0]!r}?" if close else f"known here: {known}",
            )

    def where(self, name: str) -> str:
        """Dotted name of a key, for messages."""
        return f"{self._where}.{name}" if self._where else name

    def _take(self, name: str, default: object) -> object:
        self._asked.append(name)
        value = self._values.get(name, default)
        if value is _REQUIRED:
            raise ConfigurationError(f"{self.where(name)} is missing", code="workload.field")
        return value


def check_text(value: object, where: str, *, pattern: str | None = None, says: str = "", limit: int = MAX_TEXT) -> str:
    """A string within bounds.

    Raises:
        ConfigurationError: It is not (``workload.field``).
    """
    if not isinstance(value, str):
        refuse_field(where, "must be a string")
    if len(value) > limit or "\0" in value:
        refuse_field(where, f"must have at most {limit} characters and no NUL")
    if pattern is not None and not re.fullmatch(pattern, value):
        refuse_field(where, f"is {_shown(value)}; it must be {says}")
    return value


def refuse_field(where: str, complaint: str, *, hint: str | None = None) -> NoReturn:
    """Refuses one field.

    Raises:
        ConfigurationError: Always (``workload.field``).
    """
    raise ConfigurationError(f"{_shown(where)} {complaint}", code="workload.field", hint=hint)


def no_duplicates(values: list[str], where: str) -> tuple[str, ...]:
    """The values, sorted: their order means nothing, so it must not change the measurement.

    Raises:
        ConfigurationError: One is there twice (``workload.duplicate``).
    """
    ordered = sorted(values)
    for one, next_one in pairwise(ordered):
        if one == next_one:
            raise ConfigurationError(f"{where} names {_shown(one)} twice", code="workload.duplicate")
    return tuple(ordered)


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
