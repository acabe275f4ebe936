"""What whoever starts a workload adds to its command. It is not measured, so the program must not trust it.

Outside Gramine it stands behind the command. Gramine takes the manifest's arguments or the host's, never both, and
who gives an interpreter all its arguments gives it code; so there it comes in one variable that the manifest lets
through, and the command stays what was measured.
"""

import json
from collections.abc import Sequence
from typing import Final

from strongroom.errors import FormatError
from strongroom.formats.canonical import parse_json_object

VARIABLE: Final = "STRONGROOM_ARGUMENTS"
MAX_BYTES: Final = 64 * 1024
_MEMBER: Final = "arguments"


def write_arguments(arguments: Sequence[str]) -> str:
    """The variable's text for arguments to add."""
    return json.dumps({_MEMBER: list(arguments)})


def read_arguments(text: str) -> tuple[str, ...]:
    """The arguments that a variable's text adds.

    Args:
        text: From whoever starts the workload; at most 64 KiB.

    Raises:
        FormatError: It doesn't say arguments, code ``workload.arguments``.
    """
    members = parse_json_object(text.encode("utf-8", "replace"), max_bytes=MAX_BYTES)
    found = members.get(_MEMBER)
    if members.keys() != {_MEMBER} or not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise FormatError(f"{VARIABLE} does not say arguments", code="workload.arguments")
    return tuple(found)
