"""Policies that accept exactly the guest that some evidence is of."""

from typing import TYPE_CHECKING

from strongroom.errors import ConfigurationError, FormatError

if TYPE_CHECKING:
    from strongroom.attestation.policy import AppraisalPolicy, SnpExpectations, SnpIdentity, TdIdentity
    from strongroom.formats.evidence import DcapEvidence, SnpEvidence


def policy_of(raw: bytes, pcrs: tuple[int, ...]) -> "AppraisalPolicy":
    """A policy that accepts a guest as it is; nothing about it was verified.

    Args:
        raw: Evidence of a TDX or SEV-SNP guest, or of an Azure confidential VM.
        pcrs: Registers to pin, Azure only.

    Raises:
        ConfigurationError: Of an enclave (``policy.pin``), or registers are named where there are none, or none where
            they are needed (``policy.measurement``).
        FormatError: Not evidence, or a report that does not say its product (``policy.pin``).
    """
    from strongroom.attestation.policy import ANY, AppraisalPolicy, VtpmIdentity
    from strongroom.formats.evidence import SnpEvidence, VtpmEvidence, parse_evidence

    evidence = parse_evidence(raw)
    if evidence.tee == "sgx":
        raise ConfigurationError(
            "the evidence is an enclave's", code="policy.pin", hint="strongroom authorize --mr-enclave or --mr-signer"
        )
    azure = isinstance(evidence, VtpmEvidence)
    if pcrs and not azure:
        raise ConfigurationError("this guest has no registers to pin", code="policy.pin", hint="leave --pcr out")
    hardware = evidence.hardware if isinstance(evidence, VtpmEvidence) else evidence
    guest = _guest(hardware)
    measurement = (
        VtpmIdentity(guest, {i: evidence.pcrs[i] for i in pcrs}) if isinstance(evidence, VtpmEvidence) else guest
    )
    tees = frozenset({evidence.tee})
    if isinstance(hardware, SnpEvidence):
        return AppraisalPolicy(measurements=(measurement,), tees=tees, snp=_platform(hardware))
    return AppraisalPolicy(
        measurements=(measurement,),
        tees=tees,
        tcb_statuses=frozenset({"UpToDate"}),
        advisories=(),
        min_tcb_eval_data_number=ANY,
    )


def _guest(evidence: "DcapEvidence | SnpEvidence") -> "SnpIdentity | TdIdentity":
    from strongroom.attestation.policy import SnpIdentity, TdIdentity
    from strongroom.formats.evidence import SnpEvidence
    from strongroom.formats.report import TdReport

    if isinstance(evidence, SnpEvidence):
        report = evidence.report
        return SnpIdentity(report.measurement, report.host_data, report.id_key_digest)
    body = evidence.quote.body
    if not isinstance(body, TdReport):
        raise FormatError("the evidence is no guest's", code="policy.pin")
    first, second, third, fourth = body.rtmrs
    return TdIdentity(body.mr_td, (first, second, third, fourth))


def _platform(evidence: "SnpEvidence") -> "SnpExpectations":
    from strongroom.attestation.policy import SnpExpectations
    from strongroom.formats.certificate import parse_certificate
    from strongroom.formats.endorsement_key import endorsement_key_of
    from strongroom.formats.snp_report import PLATFORM_SMT, POLICY_SMT

    report = evidence.report
    product = endorsement_key_of(parse_certificate(evidence.endorsement_key, code="policy.pin")).product
    return SnpExpectations(
        min_tcb={product: report.reported_tcb},
        vmpl=report.vmpl,
        accept_smt=bool(report.policy & POLICY_SMT or report.platform_info & PLATFORM_SMT),
    )
