"""Dates and signature of a self-signed certificate, also of one that X.509 libraries refuse.

Gramine 1.4 and 1.5 write a NULL parameter into the ECDSA signature algorithm (mbedTLS before 3.5.0). What is signed is
unharmed by that, so the certificate is walked here and its signature checked over the bytes as they stand.

Source: RFC 5280 sections 4.1.1, 4.1.2.5 and 4.1.2.7; RFC 5758 section 3.2 (ECDSA, parameters absent); RFC 4055
section 5 (RSA, parameter NULL).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from strongroom.errors import FormatError, VerificationError
from strongroom.formats import der

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

_CODE: Final = "ratls.malformed"
_NULL: Final = b"\x05\x00"
_TIMES: Final = {0x17: ("%y%m%d%H%M%SZ", 13), 0x18: ("%Y%m%d%H%M%SZ", 15)}
_HASHES: Final[dict[str, Callable[[], hashes.HashAlgorithm]]] = {
    "1.2.840.10045.4.3.2": hashes.SHA256,  # ecdsa-with-SHA256
    "1.2.840.10045.4.3.3": hashes.SHA384,
    "1.2.840.113549.1.1.11": hashes.SHA256,  # sha256WithRSAEncryption
    "1.2.840.113549.1.1.12": hashes.SHA384,
}
_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
_MIN_RSA_BITS: Final = 3072


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """A certificate as its bytes say.

    Args:
        not_before: Start of validity.
        not_after: End of validity.
        signed: The bytes under the signature.
        algorithm: Object identifier of the signature algorithm.
        signature: The signature.
        public_key: The key, of a kind attested TLS uses: P-256, P-384, or RSA with at least 3072 bits.
    """

    not_before: datetime
    not_after: datetime
    signed: bytes
    algorithm: str
    signature: bytes
    public_key: PublicKey


def parse_self_signed(raw: bytes) -> SelfSigned:
    """Walks a certificate.

    Args:
        raw: DER.

    Returns:
        The parts.

    Raises:
        FormatError: Malformed (``ratls.malformed``), or a kind of key or signature nobody uses here (``ratls.key``).
    """
    certificate = der.parse_sequence(der.parse_one(raw, der.SEQUENCE, code=_CODE), code=_CODE)
    if len(certificate) != 3:
        raise FormatError("certificate is not made of three parts", code=_CODE)
    fields = der.parse_sequence(certificate[0], code=_CODE)
    if len(fields) < 7:
        raise FormatError("certificate is cut", code=_CODE)
    dates = der.parse_sequence(fields[4], code=_CODE)
    if len(dates) != 2 or fields[2].raw != certificate[1].raw:
        raise FormatError("certificate's validity or algorithm is malformed", code=_CODE)
    signature = der.expect(certificate[2], der.BIT_STRING, code=_CODE).content
    if signature[:1] != b"\0":
        raise FormatError("certificate's signature is malformed", code=_CODE)
    return SelfSigned(
        _time(dates[0]),
        _time(dates[1]),
        certificate[0].raw,
        _algorithm(certificate[1]),
        signature[1:],
        _public_key(fields[6].raw),
    )


def check_self_signed(certificate: SelfSigned, now: datetime) -> None:
    """Checks the dates, and that the holder of the key made the certificate.

    Args:
        certificate: From `parse_self_signed`.
        now: Aware time.

    Raises:
        VerificationError: Not valid yet or any more (``ratls.expired``), or the signature is another key's
            (``ratls.signature``).
    """
    if not certificate.not_before <= now <= certificate.not_after:
        raise VerificationError("the attested certificate is not valid now", code="ratls.expired")
    algorithm = _HASHES[certificate.algorithm]()
    key = certificate.public_key
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(certificate.signature, certificate.signed, ec.ECDSA(algorithm))
        else:
            key.verify(certificate.signature, certificate.signed, padding.PKCS1v15(), algorithm)
    except InvalidSignature:
        raise VerificationError("the certificate is not signed by its own key", code="ratls.signature") from None


def _time(element: der.Element) -> datetime:
    text = element.content.decode("ascii", "replace")
    pattern, size = _TIMES.get(element.tag, ("", 0))
    if len(text) != size or not text[:-1].isdigit():
        raise FormatError("certificate's validity is malformed", code=_CODE)
    try:
        return datetime.strptime(text, pattern).replace(tzinfo=UTC)
    except ValueError:
        raise FormatError("certificate's validity is malformed", code=_CODE) from None


def _algorithm(element: der.Element) -> str:
    parts = der.parse_sequence(element, code=_CODE)
    oid = der.parse_oid(parts[0], code=_CODE) if parts else ""
    if oid not in _HASHES or [part.raw for part in parts[1:]] not in ([], [_NULL]):
        raise FormatError("certificate is signed in a way nobody uses here", code="ratls.key")
    return oid


def _public_key(spki: bytes) -> PublicKey:
    try:
        key = serialization.load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm):
        raise FormatError("certificate's public key is malformed", code="ratls.key") from None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _CURVES):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    raise FormatError("certificate's key is not P-256, P-384 or RSA-3072", code="ratls.key")
