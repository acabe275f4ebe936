"""X.509 certificates, walked without an X.509 library: the parts that a signature check needs, as they were signed.

AMD gives every VCEK and VLEK the serial number 0, which RFC 5280 forbids and X.509 libraries begin to refuse.

Source: RFC 5280, section 4.1.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from strongroom.errors import FormatError
from strongroom.formats import der

MAX_CERTIFICATE_BYTES: Final = 8 * 1024

_VERSION_3: Final = der.encode(0xA0, der.encode_integer(2))
_EXTENSIONS: Final = 0xA3
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_MAX_SERIAL: Final = (1 << 160) - 1
_FIELDS: Final = 8  # version, serial, algorithm, issuer, validity, subject, public key, extensions


@dataclass(frozen=True, slots=True)
class Extension:
    """One extension of a certificate.

    Args:
        critical: Who does not know it must refuse the certificate.
        value: Content of its OCTET STRING.
    """

    critical: bool
    value: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A well-formed certificate, nothing verified.

    Args:
        tbs: The signed bytes.
        issuer: DER of the name.
        subject: DER of the name.
        not_before: First moment of validity, UTC.
        not_after: Last moment of validity, UTC.
        spki: DER of the SubjectPublicKeyInfo.
        extensions: By dotted object identifier.
        signature: Over `tbs`.
    """

    tbs: bytes
    issuer: bytes
    subject: bytes
    not_before: datetime
    not_after: datetime
    spki: bytes
    extensions: dict[str, Extension]
    signature: bytes


def parse_certificate(raw: bytes, *, code: str) -> Certificate:
    """Walks a certificate of version 3 that has extensions and no unique identifiers.

    Args:
        raw: DER, at most 8 KiB.
        code: Code of the error.

    Returns:
        Its parts.

    Raises:
        FormatError: Not exactly that (`code`).
    """
    if len(raw) > MAX_CERTIFICATE_BYTES:
        raise FormatError(f"certificate of {len(raw)} bytes, at most {MAX_CERTIFICATE_BYTES}", code=code)
    parts = der.parse_sequence(der.parse_one(raw, der.SEQUENCE, code=code), code=code)
    if len(parts) != 3:
        raise FormatError("certificate is not made of three parts", code=code)
    tbs, algorithm, signature = parts
    fields = der.parse_sequence(tbs, code=code)
    if len(fields) != _FIELDS or fields[0].raw != _VERSION_3:
        raise FormatError("certificate is not of version 3 with extensions", code=code)
    der.parse_integer(fields[1], maximum=_MAX_SERIAL, code=code)
    if fields[2].raw != algorithm.raw:
        raise FormatError("certificate names two signature algorithms", code=code)
    validity = der.parse_sequence(fields[4], code=code)
    if len(validity) != 2:
        raise FormatError("certificate's validity is malformed", code=code)
    extensions = der.parse_one(der.expect(fields[7], _EXTENSIONS, code=code).content, der.SEQUENCE, code=code)
    bits = der.expect(signature, der.BIT_STRING, code=code).content
    if bits[:1] != b"\0":
        raise FormatError("certificate's signature is not whole bytes", code=code)
    return Certificate(
        tbs=tbs.raw,
        issuer=der.expect(fields[3], der.SEQUENCE, code=code).raw,
        subject=der.expect(fields[5], der.SEQUENCE, code=code).raw,
        not_before=_time(validity[0], code),
        not_after=_time(validity[1], code),
        spki=der.expect(fields[6], der.SEQUENCE, code=code).raw,
        extensions=parse_extensions(extensions, code=code),
        signature=bits[1:],
    )


def parse_extensions(sequence: der.Element, *, code: str) -> dict[str, Extension]:
    """The extensions of a certificate.

    Args:
        sequence: Their SEQUENCE.
        code: Code of the error.

    Returns:
        By dotted object identifier.

    Raises:
        FormatError: Malformed, or one stands there twice (`code`).
    """
    found: dict[str, Extension] = {}
    for element in der.parse_sequence(sequence, code=code):
        parts = der.parse_sequence(element, code=code)
        if len(parts) not in {2, 3}:
            raise FormatError("extension is malformed", code=code)
        oid = der.parse_oid(parts[0], code=code)
        critical = len(parts) == 3 and der.parse_boolean(parts[1], code=code)
        if oid in found:
            raise FormatError(f"extension {oid} twice", code=code)
        found[oid] = Extension(critical, der.expect(parts[-1], der.OCTET_STRING, code=code).content)
    return found


def _time(element: der.Element, code: str) -> datetime:
    form = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}.get(element.tag, "")
    size = {_UTC_TIME: 13, _GENERALIZED_TIME: 15}.get(element.tag)
    text = element.content.decode("ascii", "replace")
    try:
        if len(text) == size and text[:-1].isascii() and text[:-1].isdigit():
            return datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        pass
    raise FormatError("certificate's validity is malformed", code=code)
