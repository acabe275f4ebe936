"""`strongroom broker collateral` and `fetch-collateral`: what Intel says about platforms, in the broker's folder."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from strongroom.cli.main import noun_app
from strongroom.cli.owner import Json, put, say
from strongroom.errors import ConfigurationError

if TYPE_CHECKING:
    from strongroom.broker.collateral_update import Stored
    from strongroom.broker.pcs import Tee, Wanted

app = noun_app("Collateral: what Intel says about platforms.")

MAX_QUOTE_BYTES: Final = 16 * 1024

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The broker's folder.", show_default=False)]

INSTALL_EPILOG: Final = """Examples:

\b
  strongroom broker collateral broker                       what is there, and when it expires
  strongroom broker collateral broker collateral.json       install; a running broker uses it at once
"""
FETCH_EPILOG: Final = """Examples:

\b
  strongroom broker fetch-collateral broker --quote quote.bin
  strongroom broker fetch-collateral broker --fmspc 00606A000000 --ca platform
  strongroom broker fetch-collateral broker --tee tdx --fmspc 00806F050000 --ca platform
  strongroom broker fetch-collateral broker                 all that is there, again: once a day

\b
It asks Intel's service; `pccs_url` and `pccs_ca` in broker.toml (or STRONGROOM_BROKER_PCCS_URL and ..._PCCS_CA) name
a cache of it. Neither is trusted: signatures are checked up to Intel's root before anything is stored, and older
collateral than what is stored is refused.
"""


@app.command(help="Install collateral for Intel platforms, or show what is there.", epilog=INSTALL_EPILOG)
def collateral(
    folder: Folder,
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="QuoteCollateralV3 JSON.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Install collateral, or show what is there.

    Raises:
        ConfigurationError: A file can't be read or written.
        FormatError: A file is not collateral.
        VerificationError: A file is not genuine, not valid now, or older than what is there.
    """
    from strongroom.attestation.collateral import MAX_COLLATERAL_BYTES, Collateral
    from strongroom.attestation.roots import INTEL_ROOT
    from strongroom.broker.collateral_update import read_stored, store_collateral
    from strongroom.broker.folder import BrokerFolder
    from strongroom.broker.settings import load_settings

    broker = BrokerFolder(folder)
    load_settings(broker.settings)  # that it is a broker's folder
    now = _now()
    shown = read_stored(broker.collateral, INTEL_ROOT) if not files else []
    for file in files or ():
        text = _read(file, MAX_COLLATERAL_BYTES + 1)
        shown.append(store_collateral(broker.collateral, Collateral.from_json(text), INTEL_ROOT, now))
    _show(shown, now, as_json=as_json)


@app.command("fetch-collateral", help="Fetch collateral for Intel platforms and check it.", epilog=FETCH_EPILOG)
def fetch(
    folder: Folder,
    quotes: Annotated[
        list[Path] | None, typer.Option("--quote", help="For the platform of this quote; may be repeated.")
    ] = None,
    fmspc: Annotated[str | None, typer.Option("--fmspc", help="For this kind of processor: 12 hex digits.")] = None,
    tee: Annotated[Literal["sgx", "tdx"], typer.Option("--tee", help="With --fmspc.")] = "sgx",
    ca: Annotated[
        Literal["platform", "processor"],
        typer.Option("--ca", help="With --fmspc: platform for server processors of several sockets, else processor."),
    ] = "platform",
    as_json: Json = False,
) -> None:
    """Fetch collateral for named platforms, or again for those that there is collateral for.

    Raises:
        ConfigurationError: An option or setting is wrong, or nothing is named and nothing is there.
        UnavailableError: The service does not answer.
        FormatError: An answer is malformed.
        VerificationError: An answer is not genuine or older than what is there; that stays.
    """
    from strongroom.attestation.roots import INTEL_ROOT
    from strongroom.broker.collateral_update import fetch_collateral, stored_platforms
    from strongroom.broker.folder import BrokerFolder
    from strongroom.broker.pcs import CollateralService
    from strongroom.broker.settings import load_settings

    broker = BrokerFolder(folder)
    values = load_settings(broker.settings)
    wanted = [_of_quote(path) for path in quotes or ()] + ([_of_options(tee, fmspc, ca)] if fmspc else [])
    wanted = list(dict.fromkeys(wanted or stored_platforms(broker.collateral, INTEL_ROOT)))
    if not wanted:
        raise ConfigurationError(
            "no platform is named, and there is no collateral to renew",
            code="collateral.wanted",
            hint="--quote FILE, or --fmspc with --tee and --ca",
        )
    service = CollateralService(values.pccs_url, values.pccs_ca)
    now = _now()
    _show(list(fetch_collateral(broker.collateral, service, wanted, INTEL_ROOT, now)), now, as_json=as_json)


def _now() -> datetime:
    return datetime.now(UTC)


def _of_options(tee: "Tee", fmspc: str, ca: Literal["platform", "processor"]) -> "Wanted":
    from strongroom.broker.pcs import Wanted

    try:
        octets = bytes.fromhex(fmspc) if fmspc.isalnum() else b""
    except ValueError:
        octets = b""
    if len(octets) != 6:
        raise ConfigurationError("--fmspc is not 12 hexadecimal digits", code="collateral.wanted")
    return Wanted(tee, octets, ca)


def _of_quote(path: Path) -> "Wanted":
    from strongroom.broker.pcs import platform_of_quote

    return platform_of_quote(_read(path, MAX_QUOTE_BYTES + 1))


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", code="collateral.file") from None


def _show(shown: "list[Stored]", now: datetime, *, as_json: bool) -> None:
    rows = [_row(stored, now) for stored in shown]
    if as_json:
        put(json.dumps(rows, indent=2))
    for row in rows if not as_json else ():
        put("  ".join(f"{value}" for value in row.values()))
    for stored in shown:
        if stored.checked is None:
            say(f"warning: {stored.path.name} is not genuine: {stored.problem.message if stored.problem else ''}")
        elif stored.expires_soon(now):
            say(f"warning: {stored.path.name} expires on {stored.checked.expires:%Y-%m-%d}: fetch it again")


def _row(stored: "Stored", now: datetime) -> dict[str, Any]:
    found = stored.checked
    if found is None:
        return {"file": stored.path.name, "problem": stored.problem.code if stored.problem else None}
    return {
        "file": stored.path.name,
        "tee": found.tcb_info.tee,
        "fmspc": found.tcb_info.fmspc.hex(),
        "ca": found.ca,
        "tcb_evaluation_data_number": found.tcb_info.evaluation_data_number,
        "issued": found.tcb_info.issued.isoformat(),
        "expires": found.expires.isoformat(),
        "expired": found.expires <= now,
    }
