"""Genuine? The one way from bytes to a `VerifiedQuote`.

1. Our strict parser: every byte accounted for, zero padding only; it alone says what the evidence is.
2. A DCAP quote:
   - our checks of the reports: no debug enclave, INIT bit, zero tail of the quoting enclave's report data;
   - our checks of the endorsers (`endorsements`): chains, names, roles, dates, revocation, FMSPC and PCEID;
   - dcap-qvl (`engine`): all signatures, quoting enclave identity, TCB level;
   - both readings of the quote must agree.
3. An SEV-SNP report: `snp`.
4. Azure's virtual TPM: its hardware's evidence as above, then `vtpm`.

Whether genuine evidence is acceptable is another question: `appraise`.
"""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, NoReturn

from strongroom.attestation.amd_collateral import AmdCollateral
from strongroom.attestation.claims import Claims
from strongroom.attestation.collateral import Collateral
from strongroom.attestation.endorsements import Endorsements, check_endorsements
from strongroom.attestation.engine import Judgement, judge
from strongroom.attestation.roots import AmdRoot, TrustRoot
from strongroom.attestation.snp import check_snp
from strongroom.attestation.snp_claims import SnpClaims
from strongroom.attestation.vtpm import check_vtpm
from strongroom.errors import ConfigurationError, VerificationError
from strongroom.formats.evidence import DcapEvidence, SnpEvidence, VtpmEvidence, parse_evidence
from strongroom.formats.quote import Quote
from strongroom.formats.report import SgxReport, TdReport

_PROOF: Final = object()


class VerifiedQuote:
    """Evidence whose every signature and endorsement was good; only `verify_quote` makes one.

    Args:
        claims: What the evidence says.
        proof: Known to this module alone.

    Raises:
        TypeError: Somebody else tried.
    """

    __slots__ = ("_claims",)
    _claims: Claims

    def __init__(self, claims: Claims, *, proof: object = None) -> None:
        if proof is not _PROOF:
            raise TypeError("only verify_quote makes a VerifiedQuote")
        object.__setattr__(self, "_claims", claims)

    @property
    def claims(self) -> Claims:
        """What the evidence says."""
        return self._claims

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a VerifiedQuote does not change")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a VerifiedQuote is not copied or pickled: hand on its claims")


def verify_quote(
    raw: bytes, collateral: Collateral | AmdCollateral, root: TrustRoot | AmdRoot, now: datetime
) -> VerifiedQuote:
    """Verifies evidence of any platform.

    Args:
        raw: The evidence as received, at most 16 KiB: a DCAP quote, or our envelope around what AMD and Azure give.
        collateral: From our own cache, never from the attested party; of the vendor of the processor.
        root: Whose signature counts, likewise.
        now: Time of verification, aware.

    Returns:
        The verified evidence.

    Raises:
        FormatError: Malformed (``quote.*``, ``report.*``, ``pck.extension``, ``evidence.*``, ``snp_report.*``,
            ``endorsement_key.*``, ``hcl.*``, ``tpm.*``, ``json.*``).
        VerificationError: Not genuine (``quote.*``, ``pck.*``, ``root.*``, ``chain.*``, ``collateral.*``, ``tcb.*``,
            ``verification.*``, ``snp.*``, ``endorsement_key.*``, ``vtpm.*``).
        ConfigurationError: `now` has no time zone (``time.naive``).
    """
    if now.tzinfo is None:
        raise ConfigurationError("the time of verification has no time zone", code="time.naive")
    now = now.astimezone(UTC)
    evidence = parse_evidence(raw)
    if not isinstance(evidence, VtpmEvidence):
        return VerifiedQuote(_genuine(evidence, collateral, root, now), proof=_PROOF)
    hardware = _genuine(evidence.hardware, collateral, root, now)
    check_vtpm(evidence)
    claims = replace(
        hardware,
        tee=evidence.tee,
        report_data=evidence.report_data,
        signed_sha256=hashlib.sha256(evidence.attest).digest(),
        pcrs=evidence.pcrs,
    )
    return VerifiedQuote(claims, proof=_PROOF)


def _genuine(
    evidence: DcapEvidence | SnpEvidence,
    collateral: Collateral | AmdCollateral,
    root: TrustRoot | AmdRoot,
    now: datetime,
) -> Claims:
    match evidence:
        case DcapEvidence() if isinstance(collateral, Collateral) and isinstance(root, TrustRoot):
            return _genuine_dcap(evidence, collateral, root, now)
        case SnpEvidence() if isinstance(collateral, AmdCollateral) and isinstance(root, AmdRoot):
            return _genuine_snp(evidence, collateral, root, now)
        case _:
            raise VerificationError("the collateral or the root is another vendor's", code="collateral.wrong_vendor")


def _genuine_dcap(evidence: DcapEvidence, collateral: Collateral, root: TrustRoot, now: datetime) -> Claims:
    quote = evidence.quote
    _check_reports(quote)
    endorsements = check_endorsements(quote, collateral, root, now)
    judgement = judge(evidence.raw, collateral, root, now)
    _check_agreement(quote, endorsements, judgement)
    return _claims(quote, endorsements, judgement, collateral, root)


def _genuine_snp(evidence: SnpEvidence, collateral: AmdCollateral, root: AmdRoot, now: datetime) -> Claims:
    endorsements = check_snp(evidence, collateral, root, now)
    return Claims(
        tee="snp",
        simulated=root.simulated,
        debug=evidence.report.debug,
        report_data=evidence.report_data,
        collateral_expires=endorsements.expires,
        collateral=collateral.digests(),
        signed_sha256=hashlib.sha256(evidence.report.signed).digest(),
        snp=SnpClaims.of(evidence.report, endorsements.product),
    )


def _check_reports(quote: Quote) -> None:
    # The signatures come later; these bits refuse whoever signed them.
    if quote.body.debug:
        raise VerificationError(
            "a debug enclave: the host can read its memory",
            code="quote.debug",
            hint="build the enclave for production (Gramine: sgx.debug = false)",
        )
    if any(quote.qe_report.report_data[32:]):
        raise VerificationError("the quoting enclave's report data has a tail", code="quote.qe_binding")
    reports = [quote.qe_report, *([quote.body] if isinstance(quote.body, SgxReport) else [])]
    if not all(report.initialized for report in reports):
        raise VerificationError("a report of an enclave that was never initialized", code="quote.not_initialized")


def _check_agreement(quote: Quote, endorsements: Endorsements, judgement: Judgement) -> None:
    body = quote.body
    ours = (body.report_data, body.mr_enclave if isinstance(body, SgxReport) else body.mr_td, endorsements.pck.fmspc)
    if ours != (judgement.report_data, judgement.measurement, judgement.fmspc):
        raise VerificationError("two readings of the quote differ", code="verification.inconsistent")


def _claims(
    quote: Quote, endorsements: Endorsements, judgement: Judgement, collateral: Collateral, root: TrustRoot
) -> Claims:
    body = quote.body
    enclave = body if isinstance(body, SgxReport) else None
    domain = body if isinstance(body, TdReport) else None
    return Claims(
        tee=quote.tee,
        simulated=root.simulated,
        debug=body.debug,
        report_data=body.report_data,
        config_id=body.config_id if isinstance(body, SgxReport) else body.mr_config_id,
        tcb_status=judgement.tcb_status,
        advisories=judgement.advisories,
        tcb_eval_data_number=min(
            endorsements.tcb_info.evaluation_data_number, endorsements.qe_identity.evaluation_data_number
        ),
        fmspc=endorsements.pck.fmspc,
        collateral_expires=endorsements.expires,
        collateral=collateral.digests(),
        signed_sha256=hashlib.sha256(quote.signed).digest(),
        mr_enclave=enclave.mr_enclave if enclave else None,
        mr_signer=enclave.mr_signer if enclave else None,
        isv_prod_id=enclave.isv_prod_id if enclave else None,
        isv_svn=enclave.isv_svn if enclave else None,
        mr_td=domain.mr_td if domain else None,
        rtmrs=domain.rtmrs if domain else None,
        ppid=endorsements.pck.ppid,
        platform_instance_id=endorsements.pck.platform_instance_id,
    )
