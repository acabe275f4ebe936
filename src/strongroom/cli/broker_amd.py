"""`strongroom broker amd-collateral`: who may certify AMD's chips and clouds, in the broker's folder."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from strongroom.cli.main import noun_app
from strongroom.cli.owner import Json, put, say
from strongroom.errors import ConfigurationError

if TYPE_CHECKING:
    from strongroom.broker.amd_collateral import StoredAmd

app = noun_app("Collateral of AMD's platforms.")

EPILOG: Final = """Examples:

\b
  curl -O https://kdsintf.amd.com/vcek/v1/Milan/cert_chain      (VLEKs: /vlek/v1/...)
  curl -O https://kdsintf.amd.com/vcek/v1/Milan/crl
  strongroom broker amd-collateral broker --product milan --chain cert_chain --crl crl
  strongroom broker amd-collateral broker                       what is there, and when it expires

\b
Where the files come from does not matter: they are checked up to AMD's root keys before anything is stored, and an
older revocation list than what is stored is refused. Azure's SEV-SNP machines are Milan, Genoa or Turin, with VCEKs.
"""


@app.command("amd-collateral", help="Install collateral for AMD's platforms, or show what is there.", epilog=EPILOG)
def amd_collateral(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The broker's folder.", show_default=False)],
    product: Annotated[Literal["milan", "genoa", "turin"] | None, typer.Option("--product", help="Processors.")] = None,
    signing_key: Annotated[
        Literal["vcek", "vlek"], typer.Option("--key", help="vcek: keys of chips; vlek: keys of clouds.")
    ] = "vcek",
    chain: Annotated[Path | None, typer.Option("--chain", help="Issuer and root, PEM.")] = None,
    crl: Annotated[Path | None, typer.Option("--crl", help="Revocation list, DER.")] = None,
    as_json: Json = False,
) -> None:
    """Install collateral, or show what is there.

    Raises:
        ConfigurationError: An option is missing, or a file can't be read or written.
        FormatError: A file is malformed.
        VerificationError: A file is not genuine, not valid now, or older than what is there.
    """
    from strongroom.attestation.amd_collateral import AmdCollateral
    from strongroom.attestation.collateral import MAX_CHAIN_BYTES, MAX_CRL_BYTES
    from strongroom.attestation.roots import AMD_ROOT
    from strongroom.broker.amd_collateral import store_amd_collateral, stored_amd_collateral
    from strongroom.broker.folder import BrokerFolder
    from strongroom.broker.settings import load_settings

    broker = BrokerFolder(folder)
    load_settings(broker.settings)  # that it is a broker's folder
    now = datetime.now(UTC)
    if product is None and chain is None and crl is None:
        _show(list(stored_amd_collateral(broker.collateral, AMD_ROOT, now)), as_json=as_json)
        return
    if product is None or chain is None or crl is None:
        raise ConfigurationError("--product, --chain and --crl belong together", code="collateral.wanted")
    collateral = AmdCollateral(
        product=product,
        signing_key=signing_key,
        issuer_chain=_read(chain, MAX_CHAIN_BYTES + 1).decode("ascii", "replace"),
        crl=_read(crl, MAX_CRL_BYTES + 1),
    )
    _show([store_amd_collateral(broker.collateral, collateral, AMD_ROOT, now)], as_json=as_json)


def _read(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", code="collateral.file") from None


def _show(shown: "list[StoredAmd]", *, as_json: bool) -> None:
    rows = [_row(stored) for stored in shown]
    if as_json:
        put(json.dumps(rows, indent=2))
    for row in rows if not as_json else ():
        put("  ".join(f"{value}" for value in row.values()))
    for stored in shown:
        if stored.problem is not None:
            say(f"warning: {stored.path.name} is not good: {stored.problem.message}")


def _row(stored: "StoredAmd") -> dict[str, Any]:
    if stored.expires is None or stored.issued is None:
        return {"file": stored.path.name, "problem": stored.problem.code if stored.problem else None}
    return {
        "file": stored.path.name,
        "issued": stored.issued.isoformat(),
        "expires": stored.expires.isoformat(),
    }
