"""`strongroom fetch-key`: one secret from a provisioning server, inside a trusted execution environment."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from strongroom.cli.main import noun_app
from strongroom.cli.owner import say
from strongroom.errors import ConfigurationError

if TYPE_CHECKING:
    from strongroom.platforms import Platform

STDOUT: Final = "-"
EPILOG: Final = """Examples:

\b
  strongroom fetch-key --server keys.example.com:4433 --ca ca.pem --out /tmp/wrap_key
  strongroom fetch-key --server keys.example.com --ca ca.pem --set-key default
  strongroom fetch-key --server localhost --ca ca.pem --out - --workload job.toml --simulated-machine machine | xxd

Under Gramine, write to a tmpfs mount or, with --set-key, straight into the keys of encrypted mounts.
"""

fetch_key_app = noun_app("")


class KeyChoice(StrEnum):
    """Kinds of key a connection can be made with."""

    P384 = "p384"
    P256 = "p256"
    RSA3072 = "rsa3072"


@fetch_key_app.command(help="Fetch this room's key from a provisioning server.", epilog=EPILOG)
def fetch_key(
    server: Annotated[str, typer.Option("--server", metavar="HOST[:4433]", help="The provisioning server.")],
    ca: Annotated[Path, typer.Option("--ca", metavar="CA.pem", help="The only roots that may vouch for the server.")],
    out: Annotated[str | None, typer.Option("--out", metavar="FILE|-", help="New file, or - for stdout.")] = None,
    set_key: Annotated[
        str | None, typer.Option("--set-key", metavar="NAME", help="Set this key of Gramine's encrypted mounts.")
    ] = None,
    kind: Annotated[
        KeyChoice, typer.Option("--key", help="Kind of key; servers of Gramine up to 1.3.1 take rsa3072 only.")
    ] = KeyChoice.P384,
    workload: Annotated[
        Path | None, typer.Option("--workload", metavar="FILE", help="Its definition; simulated machines only.")
    ] = None,
    simulated_machine: Annotated[
        Path | None, typer.Option("--simulated-machine", metavar="DIR", help="For trials.")
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait.")] = 30.0,
) -> None:
    """Fetch this room's key from a provisioning server.

    Raises:
        ConfigurationError: An option is wrong, or this is no trusted execution environment.
        StrongroomError: The server does not answer, is not the one expected, or did not accept our evidence.
    """
    from strongroom.formats.secret_provisioning import DEFAULT_PORT
    from strongroom.ratls.address import parse_address
    from strongroom.room.provisioning import fetch_provisioned

    if (out is None) == (set_key is None):
        raise ConfigurationError("where to? name --out or --set-key", code="fetch_key.out")
    if out == STDOUT and sys.stdout.isatty():
        raise ConfigurationError("a key is not for a terminal", code="fetch_key.out", hint="--out FILE, or pipe it")
    address = parse_address(server, default_port=DEFAULT_PORT)
    platform = _platform(workload, simulated_machine)
    secret = fetch_provisioned(platform, address, ca, kind=kind.value, timeout_s=timeout_s)
    if set_key is not None:
        _set(platform, set_key, secret)
    elif out is not None:
        _put(out, secret)


def _platform(workload: Path | None, machine: Path | None) -> "Platform":
    from strongroom.composition import platform_for

    return platform_for(workload, machine)


def _set(platform: "Platform", name: str, secret: bytes) -> None:
    from strongroom.platforms.gramine import GraminePlatform

    if not isinstance(platform, GraminePlatform):
        raise ConfigurationError("--set-key needs Gramine", code="fetch_key.set_key", hint="--out FILE")
    platform.provide_key(name, secret)
    say(f"set key {name}")


def _put(out: str, secret: bytes) -> None:
    if out == STDOUT:
        sys.stdout.buffer.write(secret)
        sys.stdout.buffer.flush()
        return
    from strongroom.broker.folder import write_new

    try:
        write_new(Path(out), secret)
    except OSError as error:
        raise ConfigurationError(f"cannot write {out}: {error.strerror}", code="output.unwritable") from None
    say(f"wrote {len(secret)} bytes to {out}")
