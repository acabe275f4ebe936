"""What a step lets out of the room in the clear: one JSON object on stdout, and nothing else.

The script that calls `publish` is measured, so the owner of the data knows what it publishes when they authorize it.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from strongroom.errors import ConfigurationError, FormatError

MAX_PUBLISHED_BYTES: Final = 256 * 1024
MAX_NUMBER: Final = 2**53


def publish(values: Mapping[str, Any]) -> None:
    """Print values for whoever runs the step: numbers, texts and lists of numbers.

    Args:
        values: By name.
    """
    print(json.dumps(values, allow_nan=False, sort_keys=True), flush=True)  # noqa: T201 -- stdout is the way out


def parse_published(raw: bytes) -> dict[str, Any]:
    """Read what `publish` printed; it comes from a process that is not trusted by its reader.

    Args:
        raw: The whole stdout.

    Returns:
        Names and values: finite numbers, texts of at most 1,000 characters, or lists of finite numbers.

    Raises:
        FormatError: Anything else, code ``pipeline.published``.
    """
    try:
        data = json.loads(raw) if len(raw) <= MAX_PUBLISHED_BYTES else None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or not all(_plain(value) for value in data.values()):
        raise FormatError("the step did not say what it did", code="pipeline.published", hint="see its log")
    return data


def _plain(value: object) -> bool:
    if isinstance(value, list):
        return all(_finite(item) for item in value)
    return _finite(value) or (isinstance(value, str) and len(value) <= 1000)


def _finite(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) <= MAX_NUMBER


def whole_number(text: str) -> int:
    """The number an argument stands for.

    Raises:
        ConfigurationError: It is not one, code ``pipeline.argument``.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise ConfigurationError("data_size must be a whole number", code="pipeline.argument")
    return int(text)
