"""dcap-qvl behind one function: verifies every signature and judges the TCB; its error texts become our codes.

dcap-qvl has no error codes, so its texts are mapped by prefix, most specific first; a text that is not in the table
still refuses, with the code ``verification.other``. Debug enclaves are always refused by it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import dcap_qvl

from strongroom.attestation.claims import MAX_ADVISORIES, MAX_ADVISORY_LENGTH, TcbStatus, parse_tcb_status
from strongroom.attestation.collateral import Collateral
from strongroom.attestation.roots import TrustRoot
from strongroom.errors import FormatError, VerificationError
from strongroom.formats.canonical import parse_json_object
from strongroom.formats.members import Members

UNKNOWN_REFUSAL: Final = "verification.other"
_PREFIX: Final = "Verification failed: "
_MAX_CLAIMS_BYTES: Final = 256 * 1024
_CODE: Final = "verification.inconsistent"

# Source: error texts of dcap-qvl 0.7.0; tests pin those that real and simulated evidence reaches.
REFUSALS: Final[tuple[tuple[str, str], ...]] = (
    ("Failed to decode quote", "quote.malformed"),
    ("Unsupported DCAP quote version", "quote.version"),
    ("SGX TEE quote must have version 3", "quote.version"),
    ("TDX TEE quote must have version 4 or 5", "quote.version"),
    ("Unsupported DCAP attestation key type", "quote.key_type"),
    ("Unknown QE vendor ID", "quote.vendor"),
    ("Unsupported TEE type", "quote.tee"),
    ("Unsupported DCAP PCK cert format", "quote.certification"),
    ("Debug mode is enabled", "quote.debug"),
    ("ISV enclave report signature is invalid", "quote.signature"),
    ("Signature is invalid for qe_report in quote", "quote.qe_signature"),
    ("QE report hash mismatch", "quote.qe_binding"),
    ("Invalid QE auth data length", "quote.qe_binding"),
    ("QE report validation failed", "quote.qe_identity"),
    ("QE MRSIGNER mismatch", "quote.qe_identity"),
    ("QE ISVPRODID mismatch", "quote.qe_identity"),
    ("QE MISCSELECT mismatch", "quote.qe_identity"),
    ("QE ATTRIBUTES mismatch", "quote.qe_identity"),
    ("QE ISVSVN", "tcb.no_level"),
    ("No TCB levels found in QE Identity", "tcb.no_level"),
    ("No matching TCB level found", "tcb.no_level"),
    ("TDX module identity check", "tcb.tdx_module"),
    ("TDX module TCB level check", "tcb.tdx_module"),
    ("Reserved bits in TD attributes are set", "quote.td_attributes"),
    ("TD profiling is enabled", "quote.td_attributes"),
    ("TD migration is enabled", "quote.migratable"),
    ("SEPT_VE_DISABLE is not enabled", "quote.td_attributes"),
    ("Invalid MR service TD", "quote.service_td"),
    ("Fmspc mismatch", "quote.fmspc_mismatch"),
    ("TCB status is invalid: Revoked", "tcb.revoked"),
    ("SGX quote with non-SGX TCB info", "collateral.wrong_tee"),
    ("TDX quote with non-TDX TCB info", "collateral.wrong_tee"),
    ("Unsupported QE Identity id/version", "collateral.wrong_tee"),
    ("TCBInfo expired", "collateral.expired"),
    ("QE Identity expired", "collateral.expired"),
    ("CrlExpired", "collateral.expired"),
    ("TCBInfo issue date is in the future", "collateral.not_yet_valid"),
    ("QE Identity issue date is in the future", "collateral.not_yet_valid"),
    ("Signature is invalid for tcb_info", "collateral.signature"),
    ("Signature is invalid for qe_identity", "collateral.signature"),
    ("Failed to decode TcbInfo", "collateral.malformed"),
    ("Failed to decode QeIdentity", "collateral.malformed"),
    ("Failed to parse TCB Info", "collateral.malformed"),
    ("Failed to parse QE Identity", "collateral.malformed"),
    ("Failed to parse root CA CRL", "collateral.crl"),
    ("Failed to parse PCK CRL", "collateral.crl"),
    ("Failed to parse CRL", "collateral.crl"),
    ("Failed to verify certificate chain", "chain.invalid"),
    ("CertRevoked", "root.revoked"),
    ("Failed to load root ca", "root.invalid"),
)
_HINTS: Final = {
    "tcb.no_level": "the platform's firmware is older than every level Intel lists: update it",
    "tcb.revoked": "Intel revoked the platform's security version: use another machine",
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """What dcap-qvl found in a quote whose signatures are all good.

    Args:
        tcb_status: Status of platform and quoting enclave together.
        advisories: Sorted, each once.
        report_data: As dcap-qvl read it, to compare with our own reading.
        measurement: MRENCLAVE or MRTD, likewise.
        fmspc: Likewise.
    """

    tcb_status: TcbStatus
    advisories: tuple[str, ...]
    report_data: bytes
    measurement: bytes
    fmspc: bytes


def judge(raw: bytes, collateral: Collateral, root: TrustRoot, now: datetime) -> Judgement:
    """Runs dcap-qvl.

    Args:
        raw: The quote.
        collateral: What the platform is judged by.
        root: The trusted root.
        now: Time of verification, aware.

    Returns:
        The judgement; its TCB status is anything but "Revoked".

    Raises:
        VerificationError: Not genuine; the codes are those of `REFUSALS` or ``verification.other``.
    """
    now_s = int(now.timestamp())
    if now_s < 0:
        raise VerificationError("the time of verification is before 1970", code="collateral.not_yet_valid")
    try:
        parts = dcap_qvl.QuoteCollateralV3.from_json(collateral.to_json())
        policy = dcap_qvl.QuotePolicy.claims_only(now_s)
        verifier = dcap_qvl.QuoteVerifier(root.certificate_der)
        text = verifier.verify_with_policy(raw, parts, now_s, policy).to_json()
    except ValueError as error:
        reason = str(error).removeprefix(_PREFIX)
        code = refusal_code(reason)
        raise VerificationError(f"the quote is not genuine: {reason[:200]}", code=code, hint=_HINTS.get(code)) from None
    try:
        judgement = _read_claims(text)
    except FormatError as error:
        raise VerificationError(error.message, code=_CODE) from None
    if judgement.tcb_status == "Revoked":
        raise VerificationError("the platform's TCB has been revoked", code="tcb.revoked")
    return judgement


def refusal_code(reason: str) -> str:
    """Our code for dcap-qvl's text; ``verification.other`` when it is not in the table."""
    return next((code for prefix, code in REFUSALS if reason.startswith(prefix)), UNKNOWN_REFUSAL)


def _read_claims(text: str) -> Judgement:
    claims = Members(parse_json_object(text.encode(), max_bytes=_MAX_CLAIMS_BYTES), what="dcap-qvl", code=_CODE)
    tcb = Members(claims.value("tcb"), what="dcap-qvl tcb", code=_CODE)
    platform = Members(claims.value("platform"), what="dcap-qvl platform", code=_CODE)
    pck = Members(platform.value("pck"), what="dcap-qvl pck", code=_CODE)
    report_data, measurement = _read_report(claims.value("report"))
    advisories = tcb.texts("advisory_ids", max_items=MAX_ADVISORIES, max_length=MAX_ADVISORY_LENGTH)
    return Judgement(
        tcb_status=parse_tcb_status(tcb.text("status")),
        advisories=tuple(sorted(set(advisories))),
        report_data=report_data,
        measurement=measurement,
        fmspc=bytes(_octet(item) for item in pck.items("fmspc", max_items=6)),
    )


def _read_report(value: object) -> tuple[bytes, bytes]:
    report = Members(value, what="dcap-qvl report", code=_CODE)
    for kind in ("SgxEnclave", "TD10", "TD15"):
        if kind in report:
            body = Members(report.value(kind), what="dcap-qvl report", code=_CODE)
            if "base" in body:  # a TDX 1.5 report extends a 1.0 report
                body = Members(body.value("base"), what="dcap-qvl report", code=_CODE)
            measurement = body.octets("mr_enclave", 32) if kind == "SgxEnclave" else body.octets("mr_td", 48)
            return body.octets("report_data", 64), measurement
    raise report.refuse("body", "is of an unknown kind")


def _octet(item: object) -> int:
    if isinstance(item, int) and 0 <= item <= 0xFF:
        return item
    raise FormatError("dcap-qvl: not an octet", code=_CODE)
