"""Genuine quotes of Azure's virtual TPM: hardware report (VMPL 0) -> runtime data -> attestation key -> quote -> PCRs.

Source: Microsoft, "Azure confidential VM guest attestation"; TCG TPM 2.0 Library, Part 1, "Attestation".
"""

import hmac

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from strongroom.errors import VerificationError
from strongroom.formats.evidence import SnpEvidence, VtpmEvidence
from strongroom.formats.hcl import attestation_key_of, report_data_of
from strongroom.formats.tpm_quote import extra_data_of, parse_tpm_quote, pcr_digest_of


def check_vtpm(evidence: VtpmEvidence) -> None:
    """Checks everything between hardware evidence that is known to be genuine and the report data.

    Args:
        evidence: Its hardware evidence was verified.

    Raises:
        VerificationError: The parts do not belong to each other (``vtpm.*``).
        FormatError: Runtime data or quote is malformed (``hcl.*``, ``json.*``, ``tpm.*``).
    """
    if isinstance(evidence.hardware, SnpEvidence) and evidence.hardware.report.vmpl != 0:
        # The guest runs above level 0: of a report that it asked for itself, it could choose the report data.
        raise VerificationError("the hardware report is not the paravisor's (VMPL)", code="vtpm.vmpl")
    if not hmac.compare_digest(evidence.hardware.report_data, report_data_of(evidence.runtime_data)):
        raise VerificationError("the hardware report is about other runtime data", code="vtpm.runtime_data")
    key = attestation_key_of(evidence.runtime_data)
    try:
        key.verify(evidence.signature, evidence.attest, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise VerificationError("the TPM quote's signature is wrong", code="vtpm.signature") from None
    quote = parse_tpm_quote(evidence.attest)
    if not hmac.compare_digest(quote.extra_data, extra_data_of(evidence.report_data)):
        raise VerificationError("the TPM quote is about other report data", code="vtpm.extra_data")
    if quote.pcr_digest != pcr_digest_of(evidence.pcrs):
        raise VerificationError("the PCR values are not those of the quote", code="vtpm.pcrs")
