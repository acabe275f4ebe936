"""`strongroom platform`: what this machine can prove about itself."""

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Final

import typer

from strongroom.cli.main import noun_app
from strongroom.errors import ConfigurationError

SGX_DEVICE: Final = Path("/dev/sgx_enclave")

app = noun_app("Where evidence comes from: detect it, or simulate a machine to try Strongroom.")


@app.command(epilog="Example: strongroom platform detect --json")
def detect(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print the trusted execution environment this process runs in: gramine, relay, tdx, snp, azure-snp ... or none."""
    from strongroom.composition import detect_platform

    platform = detect_platform()
    name = platform.name if platform else "none"
    if as_json:
        print(json.dumps({"platform": name, "tee": platform.tee if platform else None}))  # noqa: T201
    else:
        print(name)  # noqa: T201
    if platform is None:
        if SGX_DEVICE.exists():
            _say("this machine has SGX, but this process is not inside an enclave")
        _say("hint: to try Strongroom without hardware: strongroom platform simulate FOLDER")


SHOW_EPILOG: Final = """Examples:

\b
  strongroom platform show
  strongroom platform show evidence.bin

Nothing that is shown is verified: it says what an owner may look up and pin, not that it is true.
"""
RELAY_EPILOG: Final = """Example: strongroom platform relay --socket /run/strongroom-evidence/evidence.sock

Runs on a node whose pods see neither its TPM nor configfs. Every pod that reaches the socket speaks for the whole
node: mount the socket's folder into those pods only that may have the node's keys.
"""


@app.command(help="Print what this machine's evidence says, or that in a file, as JSON.", epilog=SHOW_EPILOG)
def show(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Evidence; else fresh evidence.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the evidence to a new file.")] = None,
) -> None:
    """Print what evidence says.

    Raises:
        ConfigurationError: The file can't be read, or no platform is here.
        UnavailableError: The platform does not answer.
        FormatError: It is no evidence.
        WouldOverwrite: The output exists.
    """
    from strongroom.cli.evidence import describe, read_evidence, write_evidence
    from strongroom.composition import platform_for

    raw = read_evidence(file) if file else platform_for(None, None).quote(bytes(64))
    if out is not None:
        write_evidence(raw, out)
    print(json.dumps(describe(raw), indent=2))  # noqa: T201


@app.command(help="Answer pods on this node with its evidence, until SIGTERM or Ctrl-C.", epilog=RELAY_EPILOG)
def relay(
    socket: Annotated[Path, typer.Option("--socket", help="Unix socket to make; its folder must exist.")],
    mode: Annotated[str, typer.Option("--mode", help="Who may connect, as for chmod.")] = "666",
) -> None:
    """Answer pods on this node with its evidence.

    Raises:
        ConfigurationError: No platform is here, or the socket can't be made.
    """
    from strongroom.platforms.detect import detect as detect_platform
    from strongroom.platforms.relay import serve_relay

    if not (len(mode) == 3 and set(mode) <= set("01234567")):
        raise ConfigurationError(f"--mode: not like 666: {mode!r}", code="platform.relay")
    platform = detect_platform(relay_socket=None)
    if platform is None:
        raise ConfigurationError(
            "no trusted execution environment was found on this machine",
            code="platform.none",
            hint="a confidential VM's relay needs /dev/tpmrm0 or /sys/kernel/config/tsm, and the right to use it",
        )
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    _say(f"relaying evidence of {platform.name} on {socket}")
    serve_relay(socket, platform, stopped, _say, mode=int(mode, 8))


@app.command(epilog="Example: strongroom platform simulate machine")
def simulate(
    folder: Annotated[Path, typer.Argument(help="New folder for the machine's keys.", show_default=False)],
) -> None:
    """Make a simulated machine: evidence in the real format under a root of its own. It protects nothing."""
    from strongroom.composition import create_simulated_machine

    create_simulated_machine(folder)
    _say(f"made a simulated machine in {folder}: it protects nothing, see {folder / 'README.txt'}")


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201
