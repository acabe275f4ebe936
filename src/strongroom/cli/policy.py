"""`strongroom policy`: appraisal policies as files."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from strongroom.cli.main import noun_app
from strongroom.cli.owner import Json, put, say
from strongroom.errors import ConfigurationError, WouldOverwrite

if TYPE_CHECKING:
    from strongroom.attestation.policy import Measurement, SignerIdentity
    from strongroom.formats.ra_config import Entry

app = noun_app("Appraisal policies: what evidence must say to be acceptable.")

SHOW_EPILOG: Final = "Example: strongroom policy show policy.toml --json"
IMPORT_EPILOG: Final = """Examples:

\b
  strongroom policy import ra_config.json --svn-as-minimum --out policy.toml
  strongroom authorize tf-serving.toml --policy policy.toml --provision serving/key/model

What the file's own key server would have let in besides is said on stderr.
"""

PIN_EPILOG: Final = """Examples:

\b
  strongroom platform show --out evidence.bin            (on the guest, or on a node of Azure)
  strongroom policy pin evidence.bin --out policy.toml
  strongroom policy pin evidence.bin --pcr 4 --pcr 7 --pcr 11 --out policy.toml
  strongroom authorize loan-train.toml --policy policy.toml
"""


@app.command(help="Check a policy file and print all it says.", epilog=SHOW_EPILOG)
def show(
    file: Annotated[Path, typer.Argument(metavar="POLICY.toml", help="The policy.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Check a policy file and print all it says."""
    from strongroom.cli.policy_file import load_policy, render_policy

    policy = load_policy(file)
    if as_json:
        put(json.dumps(policy.to_json() | {"policy_digest": policy.digest.hex()}, indent=2))
    else:
        put(render_policy(policy).rstrip("\n"))
        say(f"policy {policy.digest.hex()}")
    if policy.accept_simulated:
        say("warning: SIMULATED machines are accepted; they protect nothing")


@app.command("import", help="Make a policy of a Confidential Computing Zoo ra_config.json.", epilog=IMPORT_EPILOG)
def import_(
    file: Annotated[Path, typer.Argument(metavar="ra_config.json", help="The file.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", metavar="POLICY.toml", help="New file; else stdout.")] = None,
    svn_as_minimum: Annotated[
        bool, typer.Option("--svn-as-minimum", help="Take isv_svn as the smallest version, not the only one.")
    ] = False,
) -> None:
    """Make a policy of a Confidential Computing Zoo ``ra_config.json``.

    Raises:
        ConfigurationError: The file can't be read, or means what no policy may say.
        FormatError: It is malformed.
        WouldOverwrite: The output exists.
    """
    from strongroom.attestation.policy import ANY, AppraisalPolicy
    from strongroom.cli.policy_file import render_policy
    from strongroom.formats.ra_config import MAX_BYTES, parse_ra_config

    try:
        with file.open("rb") as source:
            config = parse_ra_config(source.read(MAX_BYTES + 1))
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}", code="policy.file") from None
    for finding in config.findings:
        say(f"warning: {finding.code}: {finding.detail}")
    if not config.entries:
        raise ConfigurationError("the file accepts nobody: there is nothing to import", code="policy.nobody")
    policy = AppraisalPolicy(
        measurements=tuple(_measurement(entry, svn_as_minimum=svn_as_minimum) for entry in config.entries),
        tees=frozenset({"sgx"}),
        tcb_statuses=frozenset({"UpToDate"}),
        advisories=(),
        min_tcb_eval_data_number=ANY,
    )
    _write(render_policy(policy, [f"imported from {file.name}: {finding.code}" for finding in config.findings]), out)


@app.command("pin", help="Make a policy that accepts the guest some evidence is of.", epilog=PIN_EPILOG)
def pin(
    file: Annotated[Path, typer.Argument(metavar="EVIDENCE", help="From `strongroom platform show --out`.")],
    pcr: Annotated[
        list[int] | None, typer.Option("--pcr", min=0, max=15, help="Pin this register (Azure); may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="POLICY.toml", help="New file; else stdout.")] = None,
) -> None:
    """Make a policy that accepts the guest some evidence is of.

    Raises:
        ConfigurationError: The file can't be read, or is of an enclave, or no register is named for an Azure guest.
        FormatError: It is no evidence.
        WouldOverwrite: The output exists.
    """
    from strongroom.cli.evidence import read_evidence
    from strongroom.cli.policy_file import render_policy
    from strongroom.cli.policy_pin import policy_of

    policy = policy_of(read_evidence(file), tuple(pcr or ()))
    _write(render_policy(policy, [f"what {file.name} said; nobody verified it"]), out)
    say("warning: look at every line: this is what a machine said of itself, and its versions became the minimum")


def _measurement(entry: "Entry", *, svn_as_minimum: bool) -> "Measurement":
    from strongroom.attestation.policy import EnclaveIdentity

    if entry.isv_svn is not None and not svn_as_minimum:
        raise ConfigurationError(
            "the file wants exactly one isv_svn; a policy says the smallest",
            code="policy.exact_svn",
            hint='--svn-as-minimum, or "minimum_isv_svn" in place of "isv_svn" in the file',
        )
    signer = _signer(entry)
    if entry.mr_enclave is not None:
        return EnclaveIdentity(entry.mr_enclave, signer)
    if signer is None:
        raise ConfigurationError(
            "the file accepts anybody's code, which no policy may say",
            code="policy.any_code",
            hint='switch "verify_mr_enclave" or "verify_mr_signer" on and name the code',
        )
    return signer


def _signer(entry: "Entry") -> "SignerIdentity | None":
    from strongroom.attestation.policy import SignerIdentity

    if entry.mr_signer is None:
        return None
    if entry.isv_prod_id is None:
        raise ConfigurationError(
            "the file names a signer but accepts every product of that signer",
            code="policy.any_product",
            hint='switch "verify_isv_prod_id" on and name the product',
        )
    minimum = entry.minimum_isv_svn if entry.isv_svn is None else entry.isv_svn
    return SignerIdentity(entry.mr_signer, entry.isv_prod_id, minimum or 0)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        put(text.rstrip("\n"))
        return
    try:
        with out.open("x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        raise WouldOverwrite(f"{out} exists", hint="name another file") from None
    except OSError as error:
        raise ConfigurationError(f"cannot write {out}: {error.strerror}", code="output.unwritable") from None
    say(f"wrote {out}; look at it: strongroom policy show {out}")
