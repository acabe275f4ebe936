"""`strongroom inspect`: what a sealed file says about itself, without decrypting the data."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from strongroom.cli.main import noun_app
from strongroom.cli.owner import Owner
from strongroom.cli.seal_jobs import progress, say
from strongroom.cli.sealing_key import KeyFile, KeyName, sealing_key
from strongroom.errors import ConfigurationError
from strongroom.outcome import one_line

if TYPE_CHECKING:
    from strongroom.room.sealed_reader import SealedReader

NODE_SIZE: Final = 4096
EXAMPLES: Final = """Examples:

\b
  strongroom inspect data/loans.csv
  strongroom inspect data/loans.csv --key-file wrap_key --verify
  strongroom inspect data/loans.csv --key-file wrap_key --json | jq -r .pin

Without the key nothing that is shown is authenticated.
"""

inspect_app = noun_app("")


@inspect_app.command(
    help="Show version, size and pin of a sealed file; with its key also path and size.", epilog=EXAMPLES
)
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sealed file.", show_default=False)],
    key_file: KeyFile = None,
    key_name: KeyName = None,
    owner: Owner = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check every node; needs the key.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a sealed file says about itself.

    Raises:
        ConfigurationError: If an argument is wrong.
    """
    from strongroom.room.files import ANY_PATH, inspect_header, open_sealed

    has_key = key_file is not None or key_name is not None
    if verify and not has_key:
        raise ConfigurationError("--verify needs the key: --key NAME or --key-file FILE", code="key.missing")
    header, host_size, pin = inspect_header(file)
    facts: dict[str, Any] = {
        "file": str(file),
        "version": header.version,
        "host_size_bytes": host_size,
        "pin": pin.hex(),
        "pending_write": header.pending_write,
    }
    warnings = _header_warnings(header.pending_write)
    if has_key:
        with open_sealed(file, sealing_key(key_file, key_name, owner), sealed_path=ANY_PATH, pin=pin) as reader:
            if verify:
                with progress("verify", reader.size) as advance:
                    reader.verify(advance)
            facts |= {"sealed_path": reader.sealed_path, "size_bytes": reader.size, "verified": verify}
            warnings += _content_warnings(reader)
    if as_json:
        sys.stdout.write(json.dumps(facts | {"warnings": warnings}, indent=2) + "\n")
        return
    sys.stdout.writelines(f"{name:<13} {one_line(text)}\n" for name, text in _lines(facts))
    for warning in warnings:
        say(f"warning: {warning}")


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [
        ("file", facts["file"]),
        ("format", f"Gramine encrypted file, version {facts['version']}"),
        ("size on disk", f"{facts['host_size_bytes']} bytes, {facts['host_size_bytes'] // NODE_SIZE} nodes"),
        ("pin", facts["pin"]),
    ]
    if "sealed_path" in facts:
        lines += [
            ("bound to", facts["sealed_path"]),
            ("plaintext", f"{facts['size_bytes']} bytes"),
            ("verified", "every node" if facts["verified"] else "the first node and the root of the hash tree"),
        ]
    return lines


def _header_warnings(pending_write: bool) -> list[str]:
    if not pending_write:
        return []
    return ["marked as not completely written: Gramine will demand its .gramine.recovery file (the mark can be forged)"]


def _content_warnings(reader: "SealedReader") -> list[str]:
    from strongroom.formats.sealed.geometry import node_count
    from strongroom.formats.sealed.paths import normalise_path

    found = []
    normal = normalise_path(reader.sealed_path)
    if normal != reader.sealed_path:
        found.append(f"the path is not normalised: Gramine compares with {normal!r} and will not open this file")
    extra = reader.host_size // NODE_SIZE - node_count(reader.size)
    if extra:
        found.append(f"{extra} nodes after the end of the data, which are ignored")
    return found
