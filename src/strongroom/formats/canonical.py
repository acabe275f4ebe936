"""Canonical JSON: one byte string per value, so that it can be hashed and signed.

Source: RFC 8785 (JSON Canonicalization Scheme), restricted to what Strongroom hashes: strings, integers, booleans,
null, arrays and objects with string names. Floating-point numbers are refused instead of being formatted, because
their canonical form (section 3.2.2.3) is where implementations differ.
"""

import json
from collections.abc import Mapping, Sequence

from strongroom.errors import FormatError

MAX_SAFE_INTEGER = 2**53 - 1  # RFC 8785 section 3.2.2.3, RFC 7493 section 2.2

_scalar = json.JSONEncoder(ensure_ascii=False).encode

JsonValue = str | int | bool | None | Sequence["JsonValue"] | Mapping[str, "JsonValue"]


def canonical_json(value: JsonValue) -> bytes:
    """Serialise a value in canonical form.

    Args:
        value: str, int (at most 2**53 - 1 in magnitude), bool, None, list or tuple, dict with str names; nested.

    Returns:
        UTF-8 bytes: no white space, names sorted by UTF-16 code units (section 3.2.3).

    Raises:
        FormatError: A float, an integer out of range, a lone surrogate or another type is inside.
    """
    try:
        return _text(value).encode("utf-8")
    except UnicodeEncodeError:
        raise FormatError("a string holds a lone surrogate", code="json.not_canonical") from None


def _text(value: JsonValue) -> str:
    if value is None or isinstance(value, bool | str):
        return _scalar(value)
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise FormatError("integer beyond 2**53 - 1", code="json.not_canonical")
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(_member(name, value[name]) for name in sorted(value, key=_utf16)) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_text(item) for item in value) + "]"
    raise FormatError(f"{type(value).__name__} has no canonical form", code="json.not_canonical")


def _member(name: str, value: JsonValue) -> str:
    return _scalar(name) + ":" + _text(value)


def _utf16(name: object) -> bytes:
    if not isinstance(name, str):
        raise FormatError("an object name is not a string", code="json.not_canonical")
    return name.encode("utf-16-be", "surrogatepass")


def parse_json_object(raw: bytes, *, max_bytes: int) -> dict[str, object]:
    """Parse one JSON object strictly: bounded, UTF-8, no duplicate names, no NaN or Infinity.

    Args:
        raw: The text as received.
        max_bytes: Longest text accepted.

    Returns:
        The object.

    Raises:
        FormatError: Too long, not UTF-8, not JSON, not an object, duplicate names, or nested too deeply.
    """
    if len(raw) > max_bytes:
        raise FormatError(f"JSON text longer than {max_bytes} bytes", code="json.too_long")
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError, ValueError):
        raise FormatError("not valid JSON", code="json.malformed") from None
    if not isinstance(value, dict):
        raise FormatError("not a JSON object", code="json.malformed")
    return value


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate name")
    return members


def _no_constant(name: str) -> object:
    raise ValueError(name)
