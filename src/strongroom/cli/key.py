"""`strongroom key`: keys held by the broker, and key files for use without one."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from strongroom.cli.main import noun_app
from strongroom.cli.owner import Json, Owner, owner_client, put, say
from strongroom.errors import ConfigurationError, WouldOverwrite

SEALING_KEY_SIZE: Final = 16
MAX_IMPORT_BYTES: Final = 64 * 1024

app = noun_app("Keys held by the broker: create, import, list, export, delete; and key files for use without a broker.")

Name = Annotated[str, typer.Argument(metavar="PATH", help="Name of the key, e.g. loan/key/book.", show_default=False)]


@app.command(
    help="Let the broker make a key; it never leaves the broker but to workloads that you authorize.",
    epilog="Example: strongroom key create loan/key/book",
)
def create(
    path: Name,
    bits: Annotated[int, typer.Option("--bits", help="128 (sealed files) or 256.")] = 128,
    owner: Owner = None,
) -> None:
    """Let the broker make a key; it never leaves the broker but to workloads that you authorize.

    Raises:
        ConfigurationError: The number of bits is wrong.
        StrongroomError: The broker does not answer, or refuses.
    """
    from strongroom.formats.kbs import ResourcePath

    if bits not in {128, 256}:
        raise ConfigurationError("a key has 128 or 256 bits", code="key.size")
    name = ResourcePath.parse(path)
    with owner_client(owner) as client:
        client.create_key(name, bits=bits)
    say(f"created {name}, {bits} bits")


@app.command(
    "import",
    help="Give the broker a key you have: Gramine's wrap_key, or any secret a workload shall get.",
    epilog="Example: strongroom key import serving/key/model wrap_key",
)
def import_(
    path: Name,
    file: Annotated[Path, typer.Argument(help="The raw key; every byte of the file counts.", show_default=False)],
    owner: Owner = None,
) -> None:
    """Give the broker a key you have.

    Raises:
        ConfigurationError: The file can't be read, is empty or too long.
        StrongroomError: The broker does not answer, or refuses.
    """
    from strongroom.formats.kbs import ResourcePath

    name = ResourcePath.parse(path)
    try:
        with file.open("rb") as source:
            value = source.read(MAX_IMPORT_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}", code="key.file") from None
    if not 0 < len(value) <= MAX_IMPORT_BYTES:
        raise ConfigurationError(f"{file} has not 1 to {MAX_IMPORT_BYTES} bytes", code="key.file")
    with owner_client(owner) as client:
        version = client.store_key(name, value)
    say(f"stored {name}, version {version}, {len(value)} bytes; now remove {file} where it is not needed")


@app.command("list", epilog="Example: strongroom key list --json")
def list_(owner: Owner = None, as_json: Json = False) -> None:
    """List keys and their versions; values are never shown."""
    with owner_client(owner) as client:
        keys = client.list_keys()
    if as_json:
        put(json.dumps([asdict(key) for key in keys], indent=2))
        return
    for key in keys:
        put(f"{key.path}  version {key.version}  {8 * key.size_bytes} bits  {key.created}")


@app.command(
    help="Write a key to a file. The broker logs that you did.",
    epilog="Example: strongroom key export loan/key/book wrap_key",
)
def export(
    path: Name,
    file: Annotated[Path, typer.Argument(help="New file for the raw key, mode 0600.", show_default=False)],
    version: Annotated[int | None, typer.Option("--version", help="Which version; else the newest.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    owner: Owner = None,
) -> None:
    """Write a key to a file. The broker logs that you did.

    Raises:
        WouldOverwrite: The file exists.
        StrongroomError: The broker does not answer, or refuses.
    """
    from strongroom.formats.kbs import ResourcePath

    name = ResourcePath.parse(path)
    if file.exists() and not force:
        raise WouldOverwrite(f"there is already a file {file}", hint="--force replaces it")
    with owner_client(owner) as client:
        value = client.export_key(name, version=version)
    _write_private(file, value, force=force)
    say(f"wrote {file}, {8 * len(value)} bits: whoever reads it opens everything sealed with {name}")


@app.command(
    help="Delete a key for good: what was sealed with it can never be opened again.",
    epilog="Example: strongroom key delete loan/key/book --yes",
)
def delete(
    path: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    owner: Owner = None,
) -> None:
    """Delete a key for good: what was sealed with it can never be opened again.

    Raises:
        ConfigurationError: Nobody said yes.
        StrongroomError: The broker does not answer, or refuses.
    """
    from strongroom.formats.kbs import ResourcePath

    name = ResourcePath.parse(path)
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigurationError(
                f"deleting {name} can't be undone", code="key.delete", hint="--yes says that you mean it"
            )
        typer.confirm(f"Delete {name} for good?", abort=True, err=True)
    with owner_client(owner) as client:
        client.delete_key(name)
    say(f"deleted {name}")


@app.command(epilog="Example: strongroom key generate wrap_key")
def generate(
    file: Annotated[Path, typer.Argument(help="New file for 16 random bytes, mode 0600.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Make a key file for `seal --key-file` (Gramine's `wrap_key`), without a broker."""
    _write_private(file, os.urandom(SEALING_KEY_SIZE), force=force)
    say(f"wrote {file}, 128 bits")


def _write_private(file: Path, value: bytes, *, force: bool) -> None:
    """Write a private file; an existing one is replaced whole, and only with `force`.

    Raises:
        WouldOverwrite: The file exists.
        ConfigurationError: It can't be written.
    """
    from strongroom.broker.folder import write_new

    try:
        if not force:
            write_new(file, value)
            return
        fresh = file.with_name(f".{file.name}.{os.getpid()}.new")
        write_new(fresh, value)
        fresh.replace(file)
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}", code="key.file") from None
