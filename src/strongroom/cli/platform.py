"""`strongroom platform`: what this machine can prove about itself."""

import json
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from strongroom.cli.main import noun_app

SGX_DEVICE: Final = Path("/dev/sgx_enclave")

app = noun_app("Where evidence comes from: detect it, or simulate a machine to try Strongroom.")


@app.command(epilog="Example: strongroom platform detect --json")
def detect(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print the trusted execution environment this process runs in: gramine, tdx or none."""
    from strongroom.platforms.detect import detect as detect_platform

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
