"""Genuine? The one way from bytes to a `VerifiedQuote`.

1. Our strict parser: every byte accounted for, zero padding only.
2. Our checks of the reports: no debug enclave, INIT bit, zero tail of the quoting enclave's report data.
3. Our checks of the endorsers (`endorsements`): chains, names, roles, dates, revocation, FMSPC and PCEID.
4. dcap-qvl (`engine`): all signatures, quoting enclave identity, TCB level.
5. Both readings of the quote must agree.

Whether genuine evidence is acceptable is another question: `appraise`.
"""

import hashlib
from datetime import UTC, datetime
from typing import Final, NoReturn

from strongroom.attestation.claims import Claims
from strongroom.attestation.collateral import Collateral
from strongroom.attestation.endorsements import Endorsements, check_endorsements
from strongroom.attestation.engine import Judgement, judge
from strongroom.attestation.roots import TrustRoot
from strongroom.errors import ConfigurationError, VerificationError
from strongroom.formats.quote import Quote, parse_quote
from strongroom.formats.report import SgxReport, TdReport

_PROOF: Final = object()


class VerifiedQuote:
    """A quote whose every signature and endorsement was good; only `verify_quote` makes one.

    Args:
        claims: What the quote says.
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
        """What the quote says."""
        return self._claims

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a VerifiedQuote does not change")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a VerifiedQuote is not copied or pickled: hand on its claims")


def verify_quote(raw: bytes, collateral: Collateral, root: TrustRoot, now: datetime) -> VerifiedQuote:
    """Verifies a quote.

    Args:
        raw: The quote as received, at most 16 KiB.
        collateral: From our own cache, never from the attested party.
        root: Whose signature counts.
        now: Time of verification, aware.

    Returns:
        The verified quote.

    Raises:
        FormatError: Malformed (``quote.*``, ``report.*``, ``pck.extension``).
        VerificationError: Not genuine (``quote.*``, ``pck.*``, ``root.*``, ``chain.*``, ``collateral.*``, ``tcb.*``,
            ``verification.*``).
        ConfigurationError: `now` has no time zone (``time.naive``).
    """
    if now.tzinfo is None:
        raise ConfigurationError("the time of verification has no time zone", code="time.naive")
    now = now.astimezone(UTC)
    quote = parse_quote(raw)
    _check_reports(quote)
    endorsements = check_endorsements(quote, collateral, root, now)
    judgement = judge(raw, collateral, root, now)
    _check_agreement(quote, endorsements, judgement)
    return VerifiedQuote(_claims(quote, endorsements, judgement, collateral, root), proof=_PROOF)


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
