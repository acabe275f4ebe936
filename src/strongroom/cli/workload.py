"""`strongroom workload`: write, show, measure and run workload definitions."""

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from strongroom.cli.main import noun_app
from strongroom.errors import ConfigurationError, WouldOverwrite

if TYPE_CHECKING:
    from strongroom.formats.canonical import JsonValue

app = noun_app("Workload definitions: write, show, measure and run them.")

File = Annotated[Path, typer.Argument(help="The workload's TOML file.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
# What Spark on Kubernetes asks of a pod (strongroom.analytics.spark.pod); the workload checks every word of it.
HOSTS_WORD: Final = "STRONGROOM_SPARK_CALL"


class PlatformChoice(StrEnum):
    """Which platform `run` uses."""

    AUTO = "auto"
    SIMULATED = "simulated"


@app.command(epilog="Example: strongroom workload init loan-train")
def init(
    name: Annotated[str, typer.Argument(help="Name of the workload: a-z, 0-9 and '-'.", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write [default: NAME.toml].")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a commented workload definition to start from."""
    from strongroom.workload.template import render_template

    text = render_template(name)
    path = output or Path(f"{name}.toml")
    _write(path, text, force=force)
    _say(f"wrote {path}; next: strongroom workload measure {path}")


@app.command(
    help="Print the simulated measurement: one changed byte of code or definition gives another one. With "
    "--sigstruct: how SGX measures the enclave that was signed, and by whom.",
    epilog="Example: strongroom workload measure loan-train.toml --files; "
    "strongroom workload measure --sigstruct app.sig --json",
)
def measure(
    file: Annotated[Path | None, typer.Argument(help="The workload's TOML file.", show_default=False)] = None,
    as_json: Json = False,
    files: Annotated[bool, typer.Option("--files", help="Also print the digest of every trusted file.")] = False,
    sigstruct: Annotated[
        Path | None, typer.Option("--sigstruct", metavar="FILE.sig", help="Verify and print a signed enclave instead.")
    ] = None,
) -> None:
    """Print the simulated measurement, or what a SIGSTRUCT says after its signature was verified.

    Raises:
        ConfigurationError: A file can't be read, or the enclave was signed for another product or version.
    """
    from strongroom.workload import load_workload
    from strongroom.workload import measure as measure_workload

    if sigstruct is not None:
        from strongroom.cli.signed_enclave import describe_signature

        _print_values(describe_signature(sigstruct, load_workload(file) if file else None), as_json=as_json)
        return
    if file is None:
        raise ConfigurationError("which workload? name its TOML file", code="workload.file", hint="or --sigstruct FILE")
    workload = load_workload(file)
    measurement = measure_workload(workload)
    digests = {name: digest.hex() for name, digest in measurement.files.items()}
    values: dict[str, JsonValue] = {
        "workload": workload.name,
        "simulated": True,
        "mr_enclave": measurement.mr_enclave.hex(),
        "workload_digest": measurement.workload_digest.hex(),
        "isv_prod_id": workload.product_id,
        "isv_svn": workload.security_version,
        "file_count": len(digests),
    }
    _print_values({**values, "files": digests} if files and as_json else values, as_json=as_json)
    if files and not as_json:
        for name, digest in digests.items():
            print(f"{digest}  {_printable(name)}")  # noqa: T201


@app.command(epilog="Example: strongroom workload show loan-train.toml")
def show(file: File) -> None:
    """Print the definition as Strongroom reads it, every default filled in, as JSON."""
    from strongroom.workload import load_workload
    from strongroom.workload.measure import definition

    _print_json(definition(load_workload(file)))


@app.command(
    epilog="Example: strongroom workload run loan-train.toml --room room --platform simulated "
    "--simulated-machine machine"
)
def run(
    file: File,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="After --: appended to the command, if the definition allows it.", show_default=False),
    ] = None,
    room: Annotated[
        Path, typer.Option(envvar="STRONGROOM_ROOM", help="Folder with the broker's address and certificate.")
    ] = Path("room"),
    storage: Annotated[Path, typer.Option(envvar="STRONGROOM_STORAGE", help="Folder of the sealed files.")] = Path(),
    platform: Annotated[
        PlatformChoice, typer.Option(envvar="STRONGROOM_PLATFORM", help="simulated must be asked for by name.")
    ] = PlatformChoice.AUTO,
    simulated_machine: Annotated[
        Path | None,
        typer.Option(envvar="STRONGROOM_SIMULATED_MACHINE", help="Folder of the simulated machine."),
    ] = None,
) -> None:
    """Start a workload's command with only its declared environment and Strongroom's settings.

    The exit status is the command's own.
    """
    from strongroom.composition import EVIDENCE_SOCKET
    from strongroom.workload import load_workload
    from strongroom.workload.launch import launch

    workload = load_workload(file)
    settings = {
        "STRONGROOM_WORKLOAD": os.path.abspath(file),  # noqa: PTH100 - links stay, as `load_workload` keeps them
        "STRONGROOM_ROOM": str(room.absolute()),
        "STRONGROOM_STORAGE": str(storage.absolute()),
        "STRONGROOM_PLATFORM": platform.value,
    }
    settings |= {name: os.environ[name] for name in (HOSTS_WORD, EVIDENCE_SOCKET) if name in os.environ}
    if platform is PlatformChoice.SIMULATED:
        settings |= _simulated_settings(simulated_machine)
        _say("platform: simulated (nothing is protected from the owner of this machine)")
    launch(workload, settings, arguments or ())


def _simulated_settings(machine: Path | None) -> dict[str, str]:
    if machine is None:
        raise ConfigurationError(
            "the simulated platform needs --simulated-machine FOLDER",
            code="platform.simulated_machine",
            hint="`strongroom platform simulate FOLDER` makes one",
        )
    return {"STRONGROOM_SIMULATED_MACHINE": str(machine.absolute())}


def _write(path: Path, text: str, *, force: bool) -> None:
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise WouldOverwrite(f"{path} exists", hint="--force replaces it") from None
    except OSError as error:
        raise ConfigurationError(f"can't write {path}: {error.strerror}", code="output.unwritable") from error


def _print_json(value: "JsonValue") -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))  # noqa: T201


def _print_values(values: "dict[str, JsonValue]", *, as_json: bool) -> None:
    if as_json:
        _print_json(values)
        return
    for name, value in values.items():
        print(f"{name:<16} {str(value).lower() if isinstance(value, bool) else value}")  # noqa: T201


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201


def _printable(text: str) -> str:
    from strongroom.outcome import one_line

    return one_line(text)
