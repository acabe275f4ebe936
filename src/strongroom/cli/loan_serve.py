"""`strongroom loan serve`: the loan-default application over HTTPS, inside the room."""

import sys
from contextlib import ExitStack, closing
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from strongroom.errors import ConfigurationError

if TYPE_CHECKING:
    from strongroom.loan.service import Root, TlsMaterial
    from strongroom.loan.storage import Storage
    from strongroom.room import Room

DEFAULT_ROOT: Final = "/loan_app/azure-fileshare="
HTTP_WARNING: Final = "INSECURE: plain HTTP; everybody between the caller and this room reads and changes the data"
HELP: Final = (
    "Serve /data_processing, /train and /predict over HTTPS until SIGTERM. The log goes to stderr as JSON lines."
)
EPILOG: Final = """Examples:

\b
  strongroom workload run serve/workload.toml
  strongroom loan serve --host 0.0.0.0 --certificate tls/chain.pem --key tls/key.pem
  strongroom loan serve --host 0.0.0.0 --port 8080 --insecure-http

Runs inside a workload (`strongroom workload run`). Without --certificate the service shows an attested certificate: its
key never leaves the room, and the platform vouches for it.
"""


class PresetChoice(StrEnum):
    """Named training settings."""

    DEFAULT = "default"
    REFERENCE = "reference"


class Keep(StrEnum):
    """Which predictions stay in the storage."""

    EACH = "each"
    LATEST = "latest"


def serve(
    host: Annotated[str, typer.Option("--host", help="IP address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="TCP port; 0: any.")] = 5000,
    root: Annotated[
        list[str] | None,
        typer.Option(
            "--root",
            metavar="NAME=PLACE",
            help=f"What az_file_path may say, and its folder below the storage, or abfs://...; repeatable "
            f"[default: {DEFAULT_ROOT}].",
        ),
    ] = None,
    root_key: Annotated[
        str, typer.Option("--root-key", metavar="ALIAS", help="The workload's key for roots at abfs://.")
    ] = "storage",
    certificate: Annotated[
        str | None, typer.Option("--certificate", help="Sealed PEM file: the certificate chain.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="Sealed PEM file: its private key.")] = None,
    client_ca: Annotated[
        str | None, typer.Option("--client-ca", help="Sealed PEM file: authorities whose clients are let in.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Name in the attested certificate; repeatable.")
    ] = None,
    insecure_http: Annotated[
        bool, typer.Option("--insecure-http", help="INSECURE: no TLS at all, for trials behind a load balancer.")
    ] = False,
    preset: Annotated[PresetChoice, typer.Option("--preset", help="Training settings.")] = PresetChoice.DEFAULT,
    rounds: Annotated[int | None, typer.Option("--rounds", help="Trees [default: the preset's].")] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Data steps and trainings at once.")] = 2,
    max_upload_mib: Annotated[int, typer.Option("--max-upload-mib", min=1, help="Longest request body.")] = 2048,
    max_size: Annotated[int, typer.Option("--max-size", min=1, help="Largest `size` and file, rows.")] = 20_000_000,
    keep_results: Annotated[
        Keep, typer.Option("--keep-results", help="A file for each prediction, or the latest only.")
    ] = Keep.EACH,
    drain_seconds: Annotated[
        float, typer.Option("--drain-seconds", min=0.1, help="For running work after SIGTERM.")
    ] = 25.0,
    spool: Annotated[
        Path | None, typer.Option("--spool", help="Folder for long uploads, sealed while they wait.")
    ] = None,
    ready_file: Annotated[
        Path | None, typer.Option("--ready-file", help="Write the URL here once connections are accepted.")
    ] = None,
) -> None:
    """Serve /data_processing, /train and /predict over HTTPS until SIGTERM or Ctrl-C.

    Raises:
        ConfigurationError: An option is wrong.
    """
    from strongroom.composition import enter
    from strongroom.loan.presets import TrainSettings
    from strongroom.loan.service import Limits, Listen, ServiceSettings
    from strongroom.loan.service import serve as serve_loans
    from strongroom.loan.service.logs import configure_logging

    if insecure_http and (certificate or key or client_ca or name):
        raise ConfigurationError(
            "--insecure-http excludes --certificate, --key, --client-ca and --name",
            code="loan.tls",
            hint="leave --insecure-http out to serve with TLS",
        )
    limits = Limits(max_upload_bytes=max_upload_mib << 20, workers=workers, max_size=max_size, drain_s=drain_seconds)
    training = TrainSettings(preset.value, rounds)
    with enter() as room, ExitStack() as stack:
        tls = None if insecure_http else _tls(room, (certificate, key, client_ca), name or [])
        settings = ServiceSettings(
            _roots(room, root or [DEFAULT_ROOT], root_key, stack),
            limits,
            training,
            spool,
            keep_results.value,
            room.identity.simulated,
        )
        if tls is None:
            print(f"warning: {HTTP_WARNING}", file=sys.stderr)  # noqa: T201
        configure_logging()
        serve_loans(settings, Listen(host, port, tls, ready_file))


def _roots(room: "Room", texts: list[str], key: str, stack: ExitStack) -> dict[str, "Root"]:
    from strongroom.loan.service.settings import parse_root

    named = [parse_root(text) for text in texts]
    if len({name for name, _ in named}) != len(named):
        raise ConfigurationError("a storage root is named twice", code="loan.roots", hint="one --root for each name")
    # Two names of one place are one root: a model is trained by one job at a time, whatever callers call its place.
    places = {place: _root(room, place, key, stack) for place in dict.fromkeys(place for _, place in named)}
    return {name: places[place] for name, place in named}


def _root(room: "Room", place: str, key: str, stack: ExitStack) -> "Root":
    from strongroom.loan.service import Root
    from strongroom.loan.service.remote import open_remote

    if "://" in place:
        return Root(stack.enter_context(closing(open_remote(place, _root_key(room, key)))))
    return Root(room, place, partial(room.create, durable=False))


def _root_key(room: "Room", alias: str) -> bytes:
    try:
        return room.key(alias)
    except ConfigurationError:
        raise ConfigurationError(
            f"the workload has no key {alias!r} for roots at abfs://",
            code="loan.roots",
            hint="name it in the workload's [keys] and authorize it again, or name another with --root-key",
        ) from None


def _tls(storage: "Storage", files: tuple[str | None, str | None, str | None], names: list[str]) -> "TlsMaterial":
    from strongroom.composition import find_platform, room_settings
    from strongroom.loan.service import TlsMaterial, attested_material, read_pem
    from strongroom.workload import load_workload

    certificate, key, client_ca = files
    authorities = read_pem(storage, client_ca) if client_ca else b""
    if certificate and key:
        return TlsMaterial(read_pem(storage, certificate), read_pem(storage, key), authorities)
    if certificate or key:
        raise ConfigurationError(
            "--certificate and --key belong together",
            code="loan.tls",
            hint="give both, or neither for an attested certificate",
        )
    settings = room_settings()
    return attested_material(find_platform(settings, load_workload(settings.workload)), names, authorities)
