"""Where the key of a sealed file comes from on the command line."""

import os
import stat
import sys
from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli.owner import Owner, owner_client
from strongroom.errors import ConfigurationError
from strongroom.outcome import one_line

KEY_SIZE = 16

KeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", metavar="FILE", help="The key: a file of exactly 16 raw bytes.", show_default=False),
]
KeyName = Annotated[
    str | None,
    typer.Option("--key", metavar="NAME", help="The key: its name at the broker, as the owner.", show_default=False),
]


def sealing_key(key_file: Path | None, key_name: str | None = None, owner: Owner = None) -> bytes:
    """The 16-byte key that the options name.

    Args:
        key_file: `--key-file`: a file of exactly 16 raw bytes, as Gramine's `wrap_key`.
        key_name: `--key`: name of a key at the broker, which hands it to its owner and logs that.
        owner: `--owner`: the owner's folder, for `key_name`.

    Returns:
        The key; it stays in memory.

    Raises:
        ConfigurationError: If not exactly one key is named, the file can't be read, or it is not a key.
    """
    if key_file is not None and key_name is not None:
        raise ConfigurationError("--key and --key-file exclude each other", code="arguments.conflict")
    if key_name is not None:
        return _key_of_broker(key_name, owner)
    if key_file is None:
        raise ConfigurationError(
            "no key: say which one with --key NAME (at the broker) or --key-file FILE",
            code="key.missing",
            hint="a new key: `strongroom key create NAME`, or without a broker `strongroom key generate FILE`",
        )
    return _read_key_file(key_file)


def _key_of_broker(name: str, owner: Path | None) -> bytes:
    from strongroom.formats.kbs import ResourcePath

    path = ResourcePath.parse(name)
    with owner_client(owner) as client:
        key = client.export_key(path)
    if len(key) != KEY_SIZE:
        raise ConfigurationError(
            f"{name} has {len(key)} bytes; sealed files need a key of {KEY_SIZE}",
            code="key.length",
            hint="`strongroom key create NAME` makes one of 128 bits",
        )
    return key


def _read_key_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = file.read(KEY_SIZE + 1)
    except OSError as error:
        raise ConfigurationError(f"can't read the key file {path}: {error.strerror}", code="key.unreadable") from None
    if len(key) != KEY_SIZE:
        found = "more" if len(key) > KEY_SIZE else len(key)
        raise ConfigurationError(
            f"the key file {path} must have exactly {KEY_SIZE} bytes, it has {found}",
            code="key.length",
            hint="raw bytes without a newline; turn 32 hex digits into a key with: xxd -r -p HEX > wrap_key",
        )
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        print(f"warning: others can read the key file; chmod 600 {one_line(str(path))}", file=sys.stderr)  # noqa: T201
    return key
