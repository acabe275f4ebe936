"""The last look at evidence before it leaves a platform: is it about what was asked?"""

from strongroom.attestation.snp import check_subject
from strongroom.errors import FormatError, UnavailableError, VerificationError
from strongroom.formats.certificate import parse_certificate
from strongroom.formats.endorsement_key import endorsement_key_of
from strongroom.formats.evidence import SnpEvidence, parse_evidence
from strongroom.formats.snp_report import SnpReport


def about(evidence: bytes, report_data: bytes) -> bytes:
    """`evidence`, if it is well formed and carries `report_data`. A mix-up shows here and not at a stranger's verifier.

    Args:
        evidence: What the platform gave.
        report_data: What it was asked to carry.

    Raises:
        UnavailableError: Malformed, or about other report data (``platform.quote``).
    """
    try:
        said = parse_evidence(evidence).report_data
    except FormatError:
        raise UnavailableError("the platform's quote is malformed", code="platform.quote") from None
    if said != report_data:
        raise UnavailableError("the platform's quote is about other report data", code="platform.quote")
    return evidence


def with_certificate(raw: bytes, report: SnpReport, certificate: bytes, *, code: str) -> SnpEvidence:
    """An SEV-SNP report and its VCEK or VLEK, if they are of the same machine and versions.

    Args:
        raw: The report as the hardware gave it.
        report: The same, parsed.
        certificate: DER, from the host.
        code: Of the errors.

    Raises:
        UnavailableError: The certificate is malformed or about something else (`code`).
    """
    try:
        check_subject(report, endorsement_key_of(parse_certificate(certificate, code=code)))
    except FormatError as error:
        raise UnavailableError(f"the host's certificate is malformed: {error.message}", code=code) from None
    except VerificationError as error:
        raise UnavailableError(
            f"the host's certificate does not belong to the report: {error.message}",
            code=code,
            hint="firmware that was updated under a running machine needs a new certificate, or the machine a restart",
        ) from None
    return SnpEvidence(raw, report, certificate)
