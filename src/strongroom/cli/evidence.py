"""What evidence says, before anybody verified it: what an owner looks up to pin it."""

from pathlib import Path
from typing import TYPE_CHECKING

from strongroom.errors import ConfigurationError, WouldOverwrite

if TYPE_CHECKING:
    from strongroom.formats.canonical import JsonValue
    from strongroom.formats.evidence import DcapEvidence, SnpEvidence


def read_evidence(file: Path) -> bytes:
    """Reads a file of evidence, bounded.

    Raises:
        ConfigurationError: It can't be read (``evidence.file``).
    """
    from strongroom.formats.evidence import MAX_EVIDENCE_BYTES

    try:
        with file.open("rb") as source:
            return source.read(MAX_EVIDENCE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}", code="evidence.file") from None


def write_evidence(raw: bytes, out: Path) -> None:
    """Writes evidence to a new file.

    Raises:
        WouldOverwrite: The file exists.
        ConfigurationError: It can't be written (``output.unwritable``).
    """
    try:
        with out.open("xb") as target:
            target.write(raw)
    except FileExistsError:
        raise WouldOverwrite(f"{out} exists", hint="name another file") from None
    except OSError as error:
        raise ConfigurationError(f"cannot write {out}: {error.strerror}", code="output.unwritable") from None


def describe(raw: bytes) -> "dict[str, JsonValue]":
    """What evidence says, with the names that policies use; nothing in it is verified.

    Raises:
        FormatError: Not evidence of any platform.
    """
    from strongroom.formats.evidence import VtpmEvidence, parse_evidence

    evidence = parse_evidence(raw)
    hardware = evidence.hardware if isinstance(evidence, VtpmEvidence) else evidence
    values: dict[str, JsonValue] = {
        "tee": evidence.tee,
        "verified": False,
        "report_data": evidence.report_data.hex(),
        **_hardware(hardware),
    }
    if isinstance(evidence, VtpmEvidence):
        values["pcrs"] = {str(index): value.hex() for index, value in enumerate(evidence.pcrs)}
        values["runtime_data"] = evidence.runtime_data.decode("utf-8", "replace")
    return values


def _hardware(evidence: "DcapEvidence | SnpEvidence") -> "dict[str, JsonValue]":
    from strongroom.attestation.snp_claims import tcb_to_json
    from strongroom.formats.evidence import SnpEvidence
    from strongroom.formats.report import SgxReport

    if isinstance(evidence, SnpEvidence):
        report = evidence.report
        return {
            "debug": report.debug,
            "product": report.product,
            "signing_key": report.signing_key,
            "measurement": report.measurement.hex(),
            "host_data": report.host_data.hex(),
            "id_key_digest": report.id_key_digest.hex(),
            "guest_policy": report.policy,
            "platform_info": report.platform_info,
            "vmpl": report.vmpl,
            "reported_tcb": tcb_to_json(report.reported_tcb),
            "launch_tcb": tcb_to_json(report.launch_tcb),
        }
    body = evidence.quote.body
    if isinstance(body, SgxReport):
        return {
            "debug": body.debug,
            "mr_enclave": body.mr_enclave.hex(),
            "mr_signer": body.mr_signer.hex(),
            "isv_prod_id": body.isv_prod_id,
            "isv_svn": body.isv_svn,
        }
    return {"debug": body.debug, "mr_td": body.mr_td.hex(), "rtmrs": [rtmr.hex() for rtmr in body.rtmrs]}
