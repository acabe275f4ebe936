"""`strongroom verify`: who is behind a TLS port, and why it is trusted or not."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from strongroom.cli.main import noun_app
from strongroom.cli.owner import Json, put, say
from strongroom.errors import ConfigurationError, PolicyRejected, StrongroomError

if TYPE_CHECKING:
    from strongroom.attestation.claims import Claims
    from strongroom.formats.canonical import JsonValue
    from strongroom.ratls.verify import AttestedPeer, QuoteVerifier

EPILOG: Final = """Examples:

\b
  strongroom verify model.example.com:8500 --policy policy.toml --collateral sgx-00606a000000.json
  strongroom verify localhost:8500 --policy policy.toml --simulated-machine machine --json
  strongroom verify model.example.com:8500 --policy policy.toml --collateral c.json --save server.pem

Exit status 0: trusted; 3: not genuine; 4: genuine, but not what the policy expects; 5: no answer. A certificate
that was saved is good for exactly this server process: clients take it as their only root.
"""
_IDENTITY: Final = ("mr_enclave", "mr_signer", "isv_prod_id", "isv_svn", "mr_td", "rtmrs", "snp", "pcrs")
_SAID: Final = ("tee", "simulated", "debug", *_IDENTITY, "tcb_status", "advisories", "collateral_expires")

verify_app = noun_app("")


@verify_app.command(help="Say who is behind a TLS port, and why it is trusted or not.", epilog=EPILOG)
def verify(
    server: Annotated[str, typer.Argument(metavar="HOST:PORT", help="The server.", show_default=False)],
    policy: Annotated[Path, typer.Option("--policy", metavar="POLICY.toml", help="What is expected of it.")],
    collateral: Annotated[
        list[Path] | None,
        typer.Option("--collateral", metavar="FILE", help="Collateral of Intel or AMD; may be repeated."),
    ] = None,
    simulated_machine: Annotated[
        Path | None, typer.Option("--simulated-machine", metavar="DIR", help="Believe this simulated machine: trials.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE.pem", help="Write the certificate of a trusted server.")
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait.")] = 30.0,
    as_json: Json = False,
) -> None:
    """Say who is behind a TLS port, and why it is trusted or not.

    Raises:
        ConfigurationError: An option or a file is wrong.
        StrongroomError: The server is not trusted, or does not answer.
    """
    from strongroom.cli.policy_file import load_policy
    from strongroom.ratls.address import parse_address
    from strongroom.ratls.pin import fetch_certificate
    from strongroom.ratls.verify import check_peer, verify_certificate

    expected, address = load_policy(policy), parse_address(server)
    genuine = _verifier(collateral or [], simulated_machine)
    now = datetime.now(UTC)
    peer: AttestedPeer | None = None
    try:
        peer = verify_certificate(fetch_certificate(address, timeout_s=timeout_s), genuine, now)
        check_peer(peer, expected, now)
    except StrongroomError as error:
        _tell(server, peer, error, as_json=as_json)
        raise
    _tell(server, peer, None, as_json=as_json)
    if save is not None:
        _save(peer, save)


def _verifier(files: list[Path], machine: Path | None) -> "QuoteVerifier":
    from strongroom.attestation.amd_collateral import AmdCollateral, is_amd_collateral
    from strongroom.attestation.collateral import Collateral
    from strongroom.attestation.roots import AMD_ROOT, INTEL_ROOT, AmdRoot, TrustRoot
    from strongroom.attestation.verify import verify_quote
    from strongroom.composition import simulated_trust
    from strongroom.errors import VerificationError

    believed: list[tuple[TrustRoot | AmdRoot, Collateral | AmdCollateral]] = []
    for text in map(_read, files):
        amd = is_amd_collateral(text)
        believed.append((AMD_ROOT, AmdCollateral.from_json(text)) if amd else (INTEL_ROOT, Collateral.from_json(text)))
    if machine is not None:
        trust = simulated_trust(machine)
        believed.append((TrustRoot("simulated", trust.root_der), Collateral.from_json(trust.collateral)))
    if not believed:
        raise ConfigurationError(
            "nothing to verify evidence with",
            code="verify.collateral",
            hint="--collateral FILE; for a trial --simulated-machine DIR",
        )

    def genuine(quote: bytes, now: datetime) -> "Claims":
        refusal: VerificationError | None = None
        for root, collateral in believed:
            try:
                return verify_quote(quote, collateral, root, now).claims
            except VerificationError as error:
                refusal = error
        raise refusal or VerificationError("nothing to verify evidence with", code="verify.collateral")

    return genuine


def _read(file: Path) -> bytes:
    from strongroom.attestation.collateral import MAX_COLLATERAL_BYTES

    try:
        with file.open("rb") as source:
            return source.read(MAX_COLLATERAL_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}", code="verify.collateral") from None


def _tell(server: str, peer: "AttestedPeer | None", error: StrongroomError | None, *, as_json: bool) -> None:
    values: dict[str, JsonValue] = {"server": server, "trusted": error is None}
    if peer is not None:
        claims = peer.claims.to_json()
        values |= {"public_key_sha256": peer.public_key_sha256.hex(), "evidence": peer.evidence}
        values |= {name: claims[name] for name in _SAID if name in claims}
    if isinstance(error, PolicyRejected):
        values["findings"] = [{"code": finding.code, "detail": finding.detail} for finding in error.findings]
    elif error is not None:
        values["findings"] = [{"code": error.code, "detail": error.message}]
    if as_json:
        put(json.dumps(values, indent=2))
        return
    for name, value in values.items():
        if name != "findings":
            put(f"{name:<18} {_shown(value)}")
    if values.get("simulated"):
        say("warning: a SIMULATED machine: it protects nothing")


def _shown(value: "JsonValue") -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " ".join(f"{name}={_shown(item)}" for name, item in value.items())
    return " ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _save(peer: "AttestedPeer", file: Path) -> None:
    from strongroom.errors import WouldOverwrite
    from strongroom.ratls.pin import pem

    try:
        with file.open("x", encoding="ascii") as target:
            target.write(pem(peer))
    except FileExistsError:
        raise WouldOverwrite(f"{file} exists", hint="name another file") from None
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror}", code="output.unwritable") from None
    say(f"wrote {file}")
