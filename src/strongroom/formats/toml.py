"""TOML as people write it: settings, workload definitions, policies, lists. What is not TOML has one meaning."""

import tomllib
from typing import Any

from strongroom.errors import MalformedFile


def parse_toml(raw: bytes | str, *, what: str, code: str, hint: str | None = None) -> dict[str, Any]:
    """Read a TOML document whose size its caller has bounded.

    Args:
        raw: The document, UTF-8.
        what: What it is, for the error: a file's name or "the list of sources".
        code: Of the error.
        hint: Of the error.

    Returns:
        The document.

    Raises:
        MalformedFile: It is not TOML; says where.
    """
    try:
        return tomllib.loads(raw.decode("utf-8") if isinstance(raw, bytes) else raw)
    except tomllib.TOMLDecodeError as error:
        reason = f": {error}"
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        reason = f": not UTF-8 (at line {line})"
    except (ValueError, RecursionError):  # a number with thousands of digits, brackets nested thousands deep
        reason = ""
    raise MalformedFile(f"{what} is not TOML{reason}", code=code, hint=hint)
