"""Genuine collateral? Everything that can be said of collateral before there is a quote for it.

A verifier looks at collateral again with every quote; this is what must be true before it is stored at all, so that
nobody between Intel and the store can put something else, or something older, in its place.

Source: Intel SGX Provisioning Certification Service API v4 (what signs what); Intel SGX PCK Certificate and CRL
Profile Specification.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from strongroom.attestation.authorities import (
    UNREADABLE,
    Window,
    certificate_window,
    check_windows,
    common_name,
    crl_window,
    load_certificate,
    load_crl,
    refuse_revoked,
)
from strongroom.attestation.collateral import (
    Collateral,
    QeIdentity,
    TcbInfo,
    chain_certificates,
    parse_qe_identity,
    parse_tcb_info,
)
from strongroom.attestation.endorsements import require_root, signing_certificate
from strongroom.attestation.roots import TrustRoot
from strongroom.errors import VerificationError

PckCa = Literal["platform", "processor"]

_CAS: Final[dict[PckCa, str]] = {"platform": "SGX PCK Platform CA", "processor": "SGX PCK Processor CA"}
_IDENTITY_OF: Final = {"sgx": "QE", "tdx": "TD_QE"}


@dataclass(frozen=True, slots=True)
class CheckedCollateral:
    """Collateral whose every signature leads to the root; whether it is valid now is another question.

    Args:
        collateral: It.
        tcb_info: What its TCB info says.
        qe_identity: What its QE identity says.
        ca: Which CA's revocation list it holds.
        crls_issued: When the root's list and the PCK CA's were made.
        windows: When each part is valid.
    """

    collateral: Collateral
    tcb_info: TcbInfo
    qe_identity: QeIdentity
    ca: PckCa
    crls_issued: tuple[datetime, datetime]
    windows: tuple[Window, ...]

    @property
    def expires(self) -> datetime:
        """The first end of validity among all parts."""
        return min(window.end for window in self.windows)


def check_collateral(collateral: Collateral, root: TrustRoot, now: datetime) -> CheckedCollateral:
    """Checks signatures, chains, roles, revocation and dates of collateral.

    Args:
        collateral: From anywhere.
        root: Whose signature counts.
        now: Time of the check, aware.

    Returns:
        The collateral, checked.

    Raises:
        VerificationError: Not genuine, or not valid now (``collateral.*``, ``root.mismatch``, ``pck.revoked``).
    """
    checked = check_signatures(collateral, root)
    check_windows(checked.windows, now)
    return checked


def check_signatures(collateral: Collateral, root: TrustRoot) -> CheckedCollateral:
    """Checks collateral as `check_collateral` does, but for its dates: it may have expired.

    Raises:
        VerificationError: Not genuine.
    """
    try:
        return _check(collateral, root)
    except UNREADABLE:  # the X.509 library reads some fields only when they are asked for
        raise VerificationError("a certificate or revocation list can't be read", code="chain.invalid") from None


def refuse_older(new: CheckedCollateral, stored: CheckedCollateral) -> None:
    """Checks that collateral is not older, in any part, than what it would replace.

    Collateral is valid for weeks after Intel has published a newer one: whoever answers for Intel could go back to a
    time before a TCB recovery or a revocation.

    Raises:
        VerificationError: It is (``collateral.rolled_back``).
    """
    documents: tuple[tuple[str, TcbInfo | QeIdentity, TcbInfo | QeIdentity], ...] = (
        ("TCB info", new.tcb_info, stored.tcb_info),
        ("QE identity", new.qe_identity, stored.qe_identity),
    )
    for what, ours, theirs in documents:
        if ours.evaluation_data_number < theirs.evaluation_data_number:
            numbers = f"{ours.evaluation_data_number}, stored is {theirs.evaluation_data_number}"
            _rolled_back(f"{what} has tcbEvaluationDataNumber {numbers}")
        if ours.issued < theirs.issued:
            _rolled_back(f"{what} was issued on {ours.issued:%Y-%m-%d}, stored one on {theirs.issued:%Y-%m-%d}")
    lists = zip(("root's", "PCK CA's"), new.crls_issued, stored.crls_issued, strict=True)
    for what, issued, before in lists:
        if issued < before:
            _rolled_back(f"the {what} revocation list is of {issued:%Y-%m-%d}, the stored one of {before:%Y-%m-%d}")


def _rolled_back(what: str) -> None:
    raise VerificationError(
        f"older than what is stored: {what}",
        code="collateral.rolled_back",
        hint="ask again later or elsewhere; what is stored stays in use",
    )


def _check(collateral: Collateral, root: TrustRoot) -> CheckedCollateral:
    anchor = load_certificate(root.certificate_der, "root.invalid")
    tcb_signer = signing_certificate(collateral.tcb_info_issuer_chain, root, anchor)
    qe_signer = signing_certificate(collateral.qe_identity_issuer_chain, root, anchor)
    authority, ca = _pck_authority(collateral.pck_crl_issuer_chain, root, anchor)
    tcb_info, qe_identity = parse_tcb_info(collateral.tcb_info), parse_qe_identity(collateral.qe_identity)
    _require_signature(tcb_signer, collateral.tcb_info, collateral.tcb_info_signature, "TCB info")
    _require_signature(qe_signer, collateral.qe_identity, collateral.qe_identity_signature, "QE identity")
    if qe_identity.id != _IDENTITY_OF[tcb_info.tee]:
        raise VerificationError("TCB info and QE identity are about different TEEs", code="collateral.wrong_tee")
    root_crl, pck_crl = _signed_crl(collateral.root_ca_crl, anchor), _signed_crl(collateral.pck_crl, authority)
    windows = (
        certificate_window(anchor, "collateral"),
        *(certificate_window(certificate, "collateral") for certificate in (tcb_signer, qe_signer, authority)),
        crl_window(root_crl),
        crl_window(pck_crl),
        Window("TCB info", "collateral", tcb_info.issued, tcb_info.next_update),
        Window("QE identity", "collateral", qe_identity.issued, qe_identity.next_update),
    )
    refuse_revoked(authority, root_crl, "pck.revoked")
    for signer in (tcb_signer, qe_signer):
        refuse_revoked(signer, root_crl, "collateral.issuer_revoked")
    return CheckedCollateral(
        collateral=collateral,
        tcb_info=tcb_info,
        qe_identity=qe_identity,
        ca=ca,
        crls_issued=(root_crl.last_update_utc, pck_crl.last_update_utc),
        windows=windows,
    )


def _pck_authority(chain_pem: str, root: TrustRoot, anchor: x509.Certificate) -> tuple[x509.Certificate, PckCa]:
    code = "collateral.issuer_chain"
    chain = chain_certificates(chain_pem)
    if len(chain) != 2:
        raise VerificationError(f"a revocation list's chain has {len(chain)} certificates, expected 2", code=code)
    require_root(chain[1], root)
    authority = load_certificate(chain[0], code)
    name = common_name(authority)
    ca = next((ca for ca, phrase in _CAS.items() if phrase in name), None)
    if ca is None:
        raise VerificationError("a revocation list's chain begins with no PCK CA", code=code)
    try:
        authority.verify_directly_issued_by(anchor)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        raise VerificationError("the PCK CA was not issued by the root", code=code) from None
    return authority, ca


def _signed_crl(der: bytes, issuer: x509.Certificate) -> x509.CertificateRevocationList:
    crl = load_crl(der, issuer)
    key = issuer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not crl.is_signature_valid(key):
        raise VerificationError("a revocation list's signature is invalid", code="collateral.crl_signature")
    return crl


def _require_signature(signer: x509.Certificate, text: str, signature: bytes, what: str) -> None:
    # ECDSA over P-256 with SHA-256; r and s have 32 bytes each.
    key = signer.public_key()
    encoded = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    good = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(encoded, text.encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        good = False
    if not good:
        raise VerificationError(f"the signature of the {what} is invalid", code="collateral.signature")
