"""Endorsements: who vouches for the platform and for the collateral, and until when.

These checks stand beside dcap-qvl's, which verifies every signature: shapes of chains, names, roles, dates and
revocation. Some of them dcap-qvl 0.7 lacks, and each lack matters: a leaked PCK key must not be able to sign "UpToDate"
collateral for its own platform, so collateral is only taken from a certificate that the root itself issued for that.

Source: Intel SGX PCK Certificate and CRL Profile Specification; Intel SGX DCAP Quote Verification Library
(verification of PCK certificates, TCB info and enclave identity).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

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
from strongroom.attestation.roots import TrustRoot
from strongroom.errors import VerificationError
from strongroom.formats.pck import PckExtension, pck_extension_of, sgx_extension_bytes
from strongroom.formats.quote import Quote

_PCK_PHRASE: Final = "SGX PCK Certificate"
_PCK_CA_PHRASES: Final = ("SGX PCK Processor CA", "SGX PCK Platform CA")
_SIGNER_PHRASE: Final = "SGX TCB Signing"


@dataclass(frozen=True, slots=True)
class Endorsements:
    """What the endorsements say about the platform.

    Args:
        pck: Which platform, at which security version.
        tcb_info: What judges the platform.
        qe_identity: What judges its quoting enclave.
        expires: The first end of validity among all certificates, lists and documents.
    """

    pck: PckExtension
    tcb_info: TcbInfo
    qe_identity: QeIdentity
    expires: datetime


def check_endorsements(quote: Quote, collateral: Collateral, root: TrustRoot, now: datetime) -> Endorsements:
    """Checks everything about the endorsers but their signatures.

    Args:
        quote: The quote, whose PCK chain is looked at.
        collateral: What the platform is judged by.
        root: Who must stand at the top of every chain.
        now: Time of verification, aware.

    Returns:
        The facts for the claims.

    Raises:
        VerificationError: Codes ``pck.*``, ``collateral.*``, ``root.mismatch``, ``quote.certification``,
            ``quote.fmspc_mismatch``, ``quote.pce_id_mismatch``.
        FormatError: The SGX extension of the PCK certificate is malformed (``pck.extension``).
    """
    try:
        return _check(quote, collateral, root, now)
    except UNREADABLE:  # the X.509 library reads some fields only when they are asked for
        raise VerificationError("a certificate or revocation list can't be read", code="chain.invalid") from None


def _check(quote: Quote, collateral: Collateral, root: TrustRoot, now: datetime) -> Endorsements:
    leaf, authority, anchor = _pck_chain(quote, root)
    chains = dict.fromkeys((collateral.tcb_info_issuer_chain, collateral.qe_identity_issuer_chain))  # mostly one
    signers = [signing_certificate(chain, root, anchor) for chain in chains]
    pck = pck_extension_of(leaf)
    tcb_info, qe_identity = parse_tcb_info(collateral.tcb_info), parse_qe_identity(collateral.qe_identity)
    _check_subject(quote, pck, tcb_info)
    root_crl = load_crl(collateral.root_ca_crl, anchor)
    pck_crl = load_crl(collateral.pck_crl, authority)
    windows = [
        *(certificate_window(certificate, "pck") for certificate in (leaf, authority, anchor)),
        *(certificate_window(signer, "collateral") for signer in signers),
        crl_window(root_crl),
        crl_window(pck_crl),
        Window("TCB info", "collateral", tcb_info.issued, tcb_info.next_update),
        Window("QE identity", "collateral", qe_identity.issued, qe_identity.next_update),
    ]
    check_windows(windows, now)
    refuse_revoked(leaf, pck_crl, "pck.revoked")
    refuse_revoked(authority, root_crl, "pck.revoked")
    for signer in signers:
        refuse_revoked(signer, root_crl, "collateral.issuer_revoked")
    return Endorsements(pck, tcb_info, qe_identity, min(window.end for window in windows))


def _pck_chain(quote: Quote, root: TrustRoot) -> tuple[x509.Certificate, x509.Certificate, x509.Certificate]:
    chain = quote.certification.chain_der
    if not chain:
        raise VerificationError(
            f"the quote does not carry its PCK chain (certification data type {quote.certification.kind.value})",
            code="quote.certification",
            hint="configure the quoting service of the platform to embed the PCK certificate chain",
        )
    if len(chain) != 3:
        raise VerificationError(f"the PCK chain has {len(chain)} certificates, expected 3", code="pck.chain")
    require_root(chain[2], root)
    leaf, authority, anchor = (load_certificate(der, "pck.chain") for der in chain)
    if _PCK_PHRASE not in common_name(leaf):
        raise VerificationError("the first certificate of the PCK chain is no PCK certificate", code="pck.chain")
    if not any(phrase in common_name(authority) for phrase in _PCK_CA_PHRASES):
        raise VerificationError("the second certificate of the PCK chain is no PCK CA", code="pck.chain")
    if leaf.issuer != authority.subject or authority.issuer != anchor.subject:
        raise VerificationError("the certificates of the PCK chain do not follow each other", code="pck.chain")
    return leaf, authority, anchor


def signing_certificate(chain_pem: str, root: TrustRoot, anchor: x509.Certificate) -> x509.Certificate:
    """The certificate that signs TCB info and QE identities.

    Args:
        chain_pem: That certificate and the root's, PEM.
        root: What the second one must be.
        anchor: The root's certificate.

    Raises:
        VerificationError: Not such a chain (``collateral.issuer_chain``, ``root.mismatch``).
        FormatError: Not PEM (``collateral.pem``).
    """
    code = "collateral.issuer_chain"
    chain = chain_certificates(chain_pem)
    if len(chain) != 2:
        raise VerificationError(f"a collateral issuer chain has {len(chain)} certificates, expected 2", code=code)
    require_root(chain[1], root)
    signer = load_certificate(chain[0], code)
    if _SIGNER_PHRASE not in common_name(signer) or sgx_extension_bytes(signer) is not None:
        raise VerificationError("collateral is not signed by a TCB signing certificate", code=code)
    try:
        signer.verify_directly_issued_by(anchor)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        raise VerificationError("the TCB signing certificate was not issued by the root", code=code) from None
    return signer


def require_root(der: bytes, root: TrustRoot) -> None:
    """Checks that a chain's last certificate is the trusted root, byte for byte.

    Raises:
        VerificationError: It is not (``root.mismatch``).
    """
    if der != root.certificate_der:
        raise VerificationError(
            f"a chain ends at another root than the trusted one ({root.kind})",
            code="root.mismatch",
            hint="simulated evidence needs the root of its own simulated machine to be trusted by name",
        )


def _check_subject(quote: Quote, pck: PckExtension, tcb_info: TcbInfo) -> None:
    if tcb_info.tee != quote.tee:
        raise VerificationError(f"the collateral judges {tcb_info.tee}, not {quote.tee}", code="collateral.wrong_tee")
    if tcb_info.fmspc != pck.fmspc:
        raise VerificationError("the collateral judges another processor (FMSPC)", code="quote.fmspc_mismatch")
    if tcb_info.pce_id != pck.pce_id:
        raise VerificationError("the collateral judges another PCE (PCEID)", code="quote.pce_id_mismatch")
