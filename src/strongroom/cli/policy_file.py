"""Appraisal policies as TOML files."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strongroom.errors import ConfigurationError

if TYPE_CHECKING:
    from strongroom.attestation.policy import AppraisalPolicy

MAX_POLICY_BYTES: Final = 256 * 1024
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")


def load_policy(path: Path) -> "AppraisalPolicy":
    """Reads a policy.

    Args:
        path: TOML, at most 256 KiB.

    Returns:
        The policy, complete.

    Raises:
        ConfigurationError: The file can't be read or is not TOML, or an expectation is not set (``policy.*``).
        FormatError: A member is unknown or malformed (``policy.malformed``).
    """
    from strongroom.attestation.policy import AppraisalPolicy
    from strongroom.formats.toml import parse_toml

    try:
        with path.open("rb") as file:
            raw = file.read(MAX_POLICY_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", code="policy.file") from None
    if len(raw) > MAX_POLICY_BYTES:
        raise ConfigurationError(f"{path} is longer than {MAX_POLICY_BYTES} bytes", code="policy.file")
    return AppraisalPolicy.from_json(parse_toml(raw, what=str(path), code="policy.file"))


def render_policy(policy: "AppraisalPolicy", comments: Sequence[str] = ()) -> str:
    """Writes a policy as TOML; `load_policy` reads it back.

    Args:
        policy: What to write.
        comments: Lines above it.
    """
    values = policy.to_json()
    lines = [f"# {line}" for comment in comments for line in comment.splitlines()]
    tables: list[str] = []
    for name, value in values.items():
        if name == "measurements" and isinstance(value, list):
            for measurement in value:
                tables += [
                    "",
                    "[[measurements]]",
                    *(f"{key} = {_toml(item)}" for key, item in measurement.items()),
                ]
        elif isinstance(value, dict):
            tables += ["", f"[{name}]", *(f"{_key(key)} = {_toml(item)}" for key, item in value.items())]
        else:
            lines.append(f"{name} = {json.dumps(value)}")
    return "\n".join([*lines, *tables]) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(name)} = {_toml(item)}" for name, item in value.items()) + " }"
    return json.dumps(value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)
