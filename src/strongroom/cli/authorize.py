"""`strongroom authorize` and `strongroom revoke`: which workload may have which keys."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from strongroom.cli.main import noun_app
from strongroom.cli.owner import Json, Owner, owner_client, put, say
from strongroom.errors import ConfigurationError

if TYPE_CHECKING:
    from strongroom.attestation.policy import AcceptedAdvisory, AppraisalPolicy, Measurement
    from strongroom.broker.grants import Grant
    from strongroom.workload import Workload


EXAMPLES: Final = """Examples:

\b
  strongroom authorize loan-train.toml --accept-simulated
  strongroom authorize loan-train.toml --mr-enclave 5f3c... --tcb-status UpToDate --tcb-status SWHardeningNeeded
  strongroom authorize loan-train.toml --mr-signer 83d7... --accept-advisory INTEL-SA-00615=2027-03-31
  strongroom authorize loan-train.toml --policy policy.toml      TDX, SEV-SNP, Azure: `strongroom policy pin`

`authorize --replace` of changed code ends the grant of the code before.
"""

authorize_app = noun_app("")
revoke_app = noun_app("")


class TcbStatusChoice(StrEnum):
    """Intel's judgements of a platform that may be accepted."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING = "SWHardeningNeeded"
    CONFIGURATION = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION = "OutOfDateConfigurationNeeded"
    TD_RELAUNCH = "TDRelaunchAdvised"
    TD_RELAUNCH_CONFIGURATION = "TDRelaunchAdvisedConfigurationNeeded"


@dataclass(frozen=True, slots=True)
class Described:
    """A policy as the options describe it."""

    mr_enclave: list[str] | None = None
    mr_signer: str | None = None
    accept_simulated: bool = False
    tcb_status: list[TcbStatusChoice] | None = None
    accept_advisory: list[str] | None = None
    min_tcb_eval: int | None = None


@authorize_app.command(help="Grant a workload the keys it names, pinned to its measurement.", epilog=EXAMPLES)
def authorize(
    workload: Annotated[Path, typer.Argument(metavar="WORKLOAD.toml", help="The workload.", show_default=False)],
    mr_enclave: Annotated[
        list[str] | None, typer.Option("--mr-enclave", metavar="HEX", help="Exactly this SGX code; may be repeated.")
    ] = None,
    mr_signer: Annotated[
        str | None,
        typer.Option("--mr-signer", metavar="HEX", help="SGX code of this signer with the workload's product id."),
    ] = None,
    accept_simulated: Annotated[
        bool, typer.Option("--accept-simulated", help="Accept the workload on a simulated machine: trials only.")
    ] = False,
    tcb_status: Annotated[
        list[TcbStatusChoice] | None,
        typer.Option("--tcb-status", help="Accepted status; may be repeated [default: UpToDate].", show_default=False),
    ] = None,
    accept_advisory: Annotated[
        list[str] | None,
        typer.Option("--accept-advisory", metavar="ID=DATE", help="Tolerate an advisory until the end of a day (UTC)."),
    ] = None,
    min_tcb_eval: Annotated[
        int | None, typer.Option("--min-tcb-eval", min=0, help="Smallest TCB evaluation data number.")
    ] = None,
    policy_file: Annotated[
        Path | None, typer.Option("--policy", metavar="POLICY.toml", help="This policy, in place of the options above.")
    ] = None,
    provision: Annotated[
        str | None,
        typer.Option("--provision", metavar="KEY", help="The key that clients of Gramine's secret provisioning get."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="DATE", help="The grant's last day (UTC); else until revoked.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of the workload's grant.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the grant; send nothing.")] = False,
    owner: Owner = None,
    as_json: Json = False,
) -> None:
    """Grant a workload the keys it names, pinned to its measurement.

    Raises:
        ConfigurationError: The workload or an option is wrong.
        WouldOverwrite: The workload has a grant already.
        StrongroomError: The broker does not answer, or refuses.
    """
    from strongroom.broker.grants import Grant
    from strongroom.formats.kbs import ResourcePath
    from strongroom.workload import load_workload

    loaded = load_workload(workload)
    described = Described(mr_enclave, mr_signer, accept_simulated, tcb_status, accept_advisory, min_tcb_eval)
    policy = _policy_from_file(policy_file, described) if policy_file else _policy(loaded, described)
    keys = tuple(sorted({ResourcePath.parse(path) for path in loaded.keys.values()}, key=str))
    grant = Grant(
        name=loaded.name,
        policy=policy,
        keys=keys,
        not_after=_end(until) if until else None,
        provision=ResourcePath.parse(provision) if provision else None,
    )
    if not dry_run:
        with owner_client(owner) as client:
            client.add_grant(grant, replace=replace)
    _report(grant, as_json=as_json or dry_run, sent=not dry_run)


@revoke_app.command(
    help="Take a workload's grant back; it counts at once, also for tokens that are out.",
    epilog="Example: strongroom revoke loan-train",
)
def revoke(
    name: Annotated[str, typer.Argument(help="Name of the workload.", show_default=False)], owner: Owner = None
) -> None:
    """Take a workload's grant back."""
    with owner_client(owner) as client:
        client.revoke(name)
    say(f"revoked {name}")


def _policy_from_file(file: Path, described: Described) -> "AppraisalPolicy":
    from strongroom.cli.policy_file import load_policy

    if described != Described():
        raise ConfigurationError(
            "--policy takes the place of the options that describe one", code="authorize.policy", hint="use either"
        )
    return load_policy(file)


def _policy(workload: "Workload", described: Described) -> "AppraisalPolicy":
    from strongroom.attestation.policy import ANY, AppraisalPolicy

    statuses = described.tcb_status or [TcbStatusChoice.UP_TO_DATE]
    simulated = described.accept_simulated
    return AppraisalPolicy(
        measurements=_measurements(
            workload, described.mr_enclave or [], described.mr_signer, accept_simulated=simulated
        ),
        tees=frozenset({"sgx"}),
        tcb_statuses=frozenset(status.value for status in statuses),
        advisories=tuple(_advisory(text) for text in described.accept_advisory or []),
        min_tcb_eval_data_number=ANY if described.min_tcb_eval is None else described.min_tcb_eval,
        accept_simulated=simulated,
    )


def _measurements(
    workload: "Workload", mr_enclaves: list[str], mr_signer: str | None, *, accept_simulated: bool
) -> "tuple[Measurement, ...]":
    from strongroom.attestation.policy import EnclaveIdentity, SignerIdentity
    from strongroom.workload import measure

    found: list[Measurement] = [EnclaveIdentity(_hex(text, "--mr-enclave")) for text in mr_enclaves]
    if mr_signer is not None:
        signer = _hex(mr_signer, "--mr-signer")
        found.append(SignerIdentity(signer, workload.product_id, workload.security_version))
    if accept_simulated:
        found.append(EnclaveIdentity(measure(workload).mr_enclave))
    if not found:
        raise ConfigurationError(
            "which code? nothing says how the hardware will measure this workload",
            code="authorize.measurement",
            hint="--mr-enclave or --mr-signer HEX (gramine-sgx-sign prints them); a virtual machine: --policy FILE; "
            "--accept-simulated for a trial",
        )
    return tuple(found)


def _hex(text: str, option: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigurationError(f"{option} is not hexadecimal", code="authorize.measurement") from None


def _advisory(text: str) -> "AcceptedAdvisory":
    from strongroom.attestation.policy import AcceptedAdvisory

    name, _, day = text.partition("=")
    return AcceptedAdvisory(name, _date(day, "--accept-advisory"))


def _end(text: str) -> datetime:
    return datetime.combine(_date(text, "--until"), time(23, 59, 59), UTC)


def _date(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{option}: not a day: {text!r}", code="authorize.date", hint="a day like 2027-03-31"
        ) from None


def _report(grant: "Grant", *, as_json: bool, sent: bool) -> None:
    if as_json:
        put(json.dumps(grant.to_json() | {"policy_digest": grant.policy.digest.hex()}, indent=2))
    if sent:
        say(f"authorized {grant.name}: {', '.join(map(str, grant.keys))}")
        say(f"policy {grant.policy.digest.hex()}")
    if grant.policy.accept_simulated:
        say("warning: a SIMULATED machine is accepted, which protects nothing")
