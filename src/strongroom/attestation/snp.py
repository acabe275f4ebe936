"""Genuine SEV-SNP reports: chain, revocation, signature, and that report and certificate speak of the same machine.

    ARK (its key is pinned) -> ASK or ASVK -> VCEK or VLEK -> report

AMD revokes issuers through the ARK's list; a chip's key is made anew for every set of security versions, and the
policy's minimum TCB takes the place of revoking it. Every VCEK and VLEK has the serial number 0, so no list could.

Source: AMD publications 57230 (certificates, KDS) and 56860 (report, signature).
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from strongroom.attestation.amd_collateral import AmdCollateral
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
from strongroom.attestation.collateral import chain_certificates
from strongroom.attestation.roots import AmdRoot
from strongroom.errors import VerificationError
from strongroom.formats.certificate import Certificate, parse_certificate
from strongroom.formats.endorsement_key import EndorsementKey, endorsement_key_of
from strongroom.formats.evidence import SnpEvidence
from strongroom.formats.layout import little
from strongroom.formats.snp_report import SIGNED_SIZE, SnpProduct, SnpReport

_AREA: Final = "endorsement_key"
_CHAIN: Final = f"{_AREA}.chain"
_RSA_BITS: Final = 4096
_PSS_SHA384: Final = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=48)


@dataclass(frozen=True, slots=True)
class SnpEndorsements:
    """What AMD says about the platform.

    Args:
        key: Which chip or cloud, at which security versions.
        expires: The first end of validity among all certificates and the revocation list.
    """

    key: EndorsementKey
    expires: datetime

    @property
    def product(self) -> SnpProduct:
        """Which processors."""
        return self.key.product


@dataclass(frozen=True, slots=True)
class Authorities:
    """Who may certify VCEKs or VLEKs of one product.

    Args:
        issuer: DER of the issuer's name.
        key: Its key.
        issued: When the revocation list was made.
        expires: The first end of validity among its certificate, the root's and the list.
    """

    issuer: bytes
    key: rsa.RSAPublicKey
    issued: datetime
    expires: datetime


def check_snp(evidence: SnpEvidence, collateral: AmdCollateral, root: AmdRoot, now: datetime) -> SnpEndorsements:
    """Checks that a report is genuine.

    Args:
        evidence: Report and VCEK or VLEK, from a stranger.
        collateral: Issuers and revocation list.
        root: Whose signature counts.
        now: Time of verification, aware.

    Returns:
        The facts for the claims.

    Raises:
        VerificationError: Codes ``snp.*``, ``endorsement_key.*``, ``collateral.*``, ``root.mismatch``.
        FormatError: The VCEK or VLEK is malformed (``endorsement_key.*``).
    """
    leaf = parse_certificate(evidence.endorsement_key, code=f"{_AREA}.malformed")
    key = endorsement_key_of(leaf)
    if evidence.report.debug:
        raise VerificationError("the host may read the memory of this guest (debug policy)", code="snp.debug")
    check_subject(evidence.report, key)
    if (collateral.product, collateral.signing_key) != (key.product, key.kind):
        raise VerificationError("the collateral is about other processors or keys", code="collateral.wrong_product")
    expires = _check_leaf(leaf, check_authorities(collateral, root, now), now)
    _check_signature(evidence, leaf)
    return SnpEndorsements(key, expires)


def check_subject(report: SnpReport, key: EndorsementKey) -> None:
    """Checks that a certificate is about the machine, the versions and the kind of key of a report.

    Args:
        report: Nothing about it is verified.
        key: What the certificate says.

    Raises:
        VerificationError: It is not (``snp.*``).
    """
    if report.signing_key != key.kind:
        raise VerificationError("report and certificate name different kinds of key", code="snp.signing_key")
    if report.product is not None and report.product != key.product:
        raise VerificationError("report and certificate are of different products", code="snp.product")
    if report.reported_tcb != key.tcb:
        raise VerificationError("the certificate was made for another TCB than the report's", code="snp.tcb_mismatch")
    hardware_id = key.hardware_id
    if hardware_id is not None and report.chip_id != hardware_id.ljust(len(report.chip_id), b"\0"):
        raise VerificationError("the certificate is another chip's", code="snp.chip_mismatch")


def check_authorities(collateral: AmdCollateral, root: AmdRoot, now: datetime) -> Authorities:
    """Checks the issuer of VCEKs or VLEKs, its root and the revocation list.

    Args:
        collateral: From anywhere.
        root: Whose signature counts.
        now: Time of verification, aware.

    Returns:
        The issuer, good until the list ends.

    Raises:
        VerificationError: Codes ``endorsement_key.*``, ``collateral.*``, ``root.mismatch``, ``chain.invalid``.
        FormatError: The issuer's certificate is malformed (``endorsement_key.chain``).
    """
    try:
        return _check_authorities(collateral, root, now)
    except UNREADABLE:
        raise VerificationError("a certificate or revocation list can't be read", code="chain.invalid") from None


def list_issued(collateral: AmdCollateral) -> datetime:
    """When the revocation list says it was made; nothing is verified.

    Raises:
        VerificationError: It can't be read (``collateral.crl``).
    """
    try:
        return x509.load_der_x509_crl(collateral.crl).last_update_utc
    except UNREADABLE:
        raise VerificationError("a certificate revocation list can't be read", code="collateral.crl") from None


def _check_authorities(collateral: AmdCollateral, root: AmdRoot, now: datetime) -> Authorities:
    issuer_der, anchor_der = chain_certificates(collateral.issuer_chain)
    issuer, anchor = load_certificate(issuer_der, _CHAIN), load_certificate(anchor_der, _CHAIN)
    anchor_key = _pinned_key(anchor, collateral.product, root)
    title = collateral.product.title()
    expected = f"SEV-VLEK-{title}" if collateral.signing_key == "vlek" else f"SEV-{title}"
    if common_name(issuer) != expected or common_name(anchor) != f"ARK-{title}":
        raise VerificationError("the chain is not that of the product's keys", code=_CHAIN)
    if issuer.issuer != anchor.subject or not _may_certify(issuer):
        raise VerificationError("the certificates of the chain do not follow each other", code=_CHAIN)
    crl = load_crl(collateral.crl, anchor)
    if any(extension.critical for extension in crl.extensions):
        raise VerificationError("the revocation list has a condition we don't know", code="collateral.crl")
    windows = [certificate_window(issuer, "collateral"), certificate_window(anchor, "collateral"), crl_window(crl)]
    check_windows(windows, now)
    _verify(anchor_key, crl.signature, crl.tbs_certlist_bytes, "collateral.crl_signature")
    _verify(anchor_key, issuer.signature, issuer.tbs_certificate_bytes, f"{_AREA}.signature")
    refuse_revoked(issuer, crl, "collateral.issuer_revoked")
    return Authorities(
        issuer=parse_certificate(issuer_der, code=_CHAIN).subject,
        key=_rsa_key(issuer),
        issued=crl.last_update_utc,
        expires=min(window.end for window in windows),
    )


def _check_leaf(leaf: Certificate, authorities: Authorities, now: datetime) -> datetime:
    if leaf.issuer != authorities.issuer:
        raise VerificationError("the certificates of the chain do not follow each other", code=_CHAIN)
    check_windows([Window("the VCEK or VLEK", _AREA, leaf.not_before, leaf.not_after)], now)
    _verify(authorities.key, leaf.signature, leaf.tbs, f"{_AREA}.signature")
    return min(leaf.not_after, authorities.expires)


def _pinned_key(anchor: x509.Certificate, product: SnpProduct, root: AmdRoot) -> rsa.RSAPublicKey:
    key = _rsa_key(anchor)
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if hashlib.sha256(spki).hexdigest() != root.keys.get(product):
        raise VerificationError("the chain does not end in the trusted root key", code="root.mismatch")
    return key


def _rsa_key(certificate: x509.Certificate) -> rsa.RSAPublicKey:
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size != _RSA_BITS:
        raise VerificationError("an authority's key is not RSA 4096", code=_CHAIN)
    return key


def _may_certify(issuer: x509.Certificate) -> bool:
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and usage.key_cert_sign


def _verify(key: rsa.RSAPublicKey, signature: bytes, signed: bytes, code: str) -> None:
    # Whatever algorithm the document names: this is the only one AMD uses and the only one that counts here.
    try:
        key.verify(signature, signed, _PSS_SHA384, hashes.SHA384())
    except InvalidSignature:
        raise VerificationError("a signature in the chain of the report is wrong", code=code) from None


def _check_signature(evidence: SnpEvidence, leaf: Certificate) -> None:
    try:
        key = load_der_public_key(leaf.spki)
    except (ValueError, UnsupportedAlgorithm):
        raise VerificationError("the VCEK's or VLEK's key can't be read", code=_CHAIN) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise VerificationError("the VCEK's or VLEK's key is not P-384", code=_CHAIN)
    report = evidence.report
    signature = encode_dss_signature(little(report.signature_r), little(report.signature_s))
    try:
        key.verify(signature, evidence.raw[:SIGNED_SIZE], ec.ECDSA(hashes.SHA384()))
    except InvalidSignature:
        raise VerificationError("the report's signature is wrong", code="snp.signature") from None
