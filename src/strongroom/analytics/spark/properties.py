"""Java's properties files: Spark's settings as `spark-submit` and Kubernetes hand them over, and as a JVM reads ours.

Source: Java SE 17 API, java.util.Properties.load(Reader).
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from strongroom.errors import ConfigurationError
from strongroom.room.file_errors import file_errors

MAX_PROPERTIES_BYTES: Final = 1024 * 1024
_BLANKS: Final = " \t\f"
_LINES: Final = re.compile(r"\r\n|\r|\n")
_LETTERS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
# A name ends at the first blank, = or : that no backslash stands before.
_NAME: Final = re.compile(r"(?:\\.|[^\\=: \t\f])*", re.DOTALL)
_SEPARATOR: Final = re.compile(r"[ \t\f]*[=:]?[ \t\f]*")


def serialize_properties(settings: Mapping[str, str]) -> bytes:
    """Settings as a properties file, one line each."""
    return "".join(f"{_escaped(name)}={_escaped(value)}\n" for name, value in sorted(settings.items())).encode()


def _escaped(text: str) -> str:
    r"""Text as a properties file holds it: ``\uXXXX`` for whatever has a meaning there."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-/*,[]@$+;") else f"\0{c}" for c in text)
    return re.sub("\0(.)", lambda found: _units(found[1]), plain, flags=re.DOTALL)


def _units(character: str) -> str:
    encoded = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{encoded[i]:02x}{encoded[i + 1]:02x}" for i in range(0, len(encoded), 2))


def read_properties(path: Path) -> dict[str, str]:
    """Read a properties file.

    Args:
        path: At most 1 MiB of UTF-8.

    Returns:
        Name to value, without blanks around the value, as Spark takes them.

    Raises:
        ConfigurationError: It can't be read, is too long or malformed.
    """
    with file_errors(path), path.open("rb") as file:
        raw = file.read(MAX_PROPERTIES_BYTES + 1)
    if len(raw) > MAX_PROPERTIES_BYTES:
        raise ConfigurationError(f"{path} is longer than 1 MiB", code="spark.properties")
    try:
        settings = parse_properties(raw)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error.message}", code="spark.properties") from None
    return {name: value.strip() for name, value in settings.items()}


def parse_properties(raw: bytes) -> dict[str, str]:
    """Parse a properties file.

    Raises:
        ConfigurationError: It is not UTF-8, or an escape or a surrogate is incomplete.
    """
    settings: dict[str, str] = {}
    try:
        for line in _logical_lines(raw.decode()):
            name = _NAME.match(line)
            assert name is not None  # noqa: S101  # it matches the empty text too
            separator = _SEPARATOR.match(line, name.end())
            value = line[separator.end() if separator else name.end() :]
            settings[_plain(name[0])] = _plain(value)
    except ValueError:
        raise ConfigurationError("not a properties file in UTF-8", code="spark.properties") from None
    return settings


def _logical_lines(text: str) -> Iterator[str]:
    """Lines without comments; one that ends with a backslash goes on in the next."""
    begun = ""
    for natural in _LINES.split(text):
        line = natural.lstrip(_BLANKS)
        if not begun and (not line or line[0] in "#!"):
            continue
        begun += line
        if (len(begun) - len(begun.rstrip("\\"))) % 2:
            begun = begun[:-1] or " "
            continue
        yield begun.lstrip(_BLANKS)
        begun = ""
    if begun.strip(_BLANKS):
        yield begun.lstrip(_BLANKS)


def _plain(text: str) -> str:
    """Text without escapes.

    Raises:
        ValueError: An escape or a surrogate is incomplete.
    """
    plain = _ESCAPE.sub(lambda found: _meaning(found[1]), text)
    return plain.encode("utf-16-be", "surrogatepass").decode("utf-16-be")


def _meaning(escape: str) -> str:
    if len(escape) > 1:
        return chr(int(escape[1:], 16))
    if escape == "u":
        raise ValueError("incomplete")
    return _LETTERS.get(escape, escape)
