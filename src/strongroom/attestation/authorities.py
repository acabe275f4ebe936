"""Certificates of authorities and their revocation lists: read them, and say when they are good."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from strongroom.errors import VerificationError

# What the X.509 library raises for what it can't read; some fields it reads only when they are asked for.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_STALE_HINT: Final = "refresh the collateral"


@dataclass(frozen=True, slots=True)
class Window:
    """A span of validity.

    Args:
        what: Whose, for the message.
        area: First part of the code for a moment outside of it.
        start: First moment.
        end: First moment after it.
    """

    what: str
    area: str
    start: datetime
    end: datetime


def load_certificate(der: bytes, code: str) -> x509.Certificate:
    """Reads a certificate.

    Raises:
        VerificationError: It can't be read (`code`).
    """
    try:
        return x509.load_der_x509_certificate(der)
    except UNREADABLE:
        raise VerificationError("a certificate can't be read", code=code) from None


def common_name(certificate: x509.Certificate) -> str:
    """The subject's only common name; empty if there is none or more than one."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""


def load_crl(der: bytes, issuer: x509.Certificate) -> x509.CertificateRevocationList:
    """Reads a revocation list; its signature is another matter.

    Raises:
        VerificationError: It can't be read (``collateral.crl``) or is another authority's (``collateral.crl_issuer``).
    """
    try:
        crl = x509.load_der_x509_crl(der)
        canonical = crl.public_bytes(Encoding.DER) == der
        same_issuer = crl.issuer == issuer.subject
    except UNREADABLE:
        raise VerificationError("a certificate revocation list can't be read", code="collateral.crl") from None
    if not canonical:
        raise VerificationError("a certificate revocation list is not DER", code="collateral.crl")
    if not same_issuer:
        raise VerificationError("a certificate revocation list is another CA's", code="collateral.crl_issuer")
    return crl


def certificate_window(certificate: x509.Certificate, area: str) -> Window:
    """When a certificate is valid."""
    return Window("a certificate", area, certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def crl_window(crl: x509.CertificateRevocationList) -> Window:
    """When a revocation list is good.

    Raises:
        VerificationError: It never expires (``collateral.crl``).
    """
    if crl.next_update_utc is None:
        raise VerificationError("a certificate revocation list never expires", code="collateral.crl")
    return Window("a certificate revocation list", "collateral", crl.last_update_utc, crl.next_update_utc)


def check_windows(windows: Iterable[Window], now: datetime) -> None:
    """Checks that a moment is in every span.

    Raises:
        VerificationError: It is not (``<area>.not_yet_valid``, ``<area>.expired``).
    """
    for window in windows:
        if now < window.start:
            raise VerificationError(
                f"{window.what} is not valid before {window.start:%Y-%m-%d %H:%M:%SZ}",
                code=f"{window.area}.not_yet_valid",
                hint="check the clock",
            )
        if now >= window.end:  # as dcap-qvl does for revocation lists
            raise VerificationError(
                f"{window.what} expired at {window.end:%Y-%m-%d %H:%M:%SZ}",
                code=f"{window.area}.expired",
                hint=_STALE_HINT,
            )


def refuse_revoked(certificate: x509.Certificate, crl: x509.CertificateRevocationList, code: str) -> None:
    """Checks that a list does not name a certificate.

    Raises:
        VerificationError: It does (`code`).
    """
    if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
        raise VerificationError("a certificate of the chain has been revoked", code=code)
