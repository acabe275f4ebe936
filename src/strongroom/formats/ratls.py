"""RA-TLS certificates: attestation evidence inside a self-signed TLS certificate.

Two forms of evidence. Legacy (Gramine, all versions): the raw quote, whose report data is SHA-256 of the public key.
TCG DICE tagged evidence (Gramine 1.8 and later, RATS-TLS, Intel SGX SDK): a quote and claims, where the report data is
SHA-256 of the claims and the claims hold a hash of the public key. Where the second is present it alone decides.

The certificate is walked here and not by an X.509 library, because Gramine 1.4 and 1.5 write a stray NULL into the
signature algorithm of ECDSA certificates. Nothing but public key and evidence is taken from it: possession of the key
is proved by the TLS handshake, everything else by the quote.

Source: Gramine, tools/sgx/ra-tls; TCG DICE Attestation Architecture 1.1, section "Tagged Evidence Extension";
interoperable RA-TLS (CCC-Attestation/interoperable-ra-tls), docs; RFC 5280 section 4.1.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from strongroom.errors import FormatError, VerificationError
from strongroom.formats import der
from strongroom.formats.cbor import CborValue, Tagged, encode_cbor, parse_cbor
from strongroom.formats.certificate import parse_extensions

# The authors meant 1.2.840.113741.1337.6 and wrapped its DER header into the value; every Gramine does so.
LEGACY_OID: Final = "0.6.9.42.840.113741.1337.6"
TAGGED_EVIDENCE_OID: Final = "2.23.133.5.4.9"
EVIDENCE_TAG: Final = 60000
PUBLIC_KEY_CLAIM: Final = "pubkey-hash"
MAX_CERTIFICATE_BYTES: Final = 32 * 1024
MAX_EXTENSION_BYTES: Final = 8192  # what Gramine's verifier reads

_CODE: Final = "ratls.malformed"
_VERSION_TAG: Final = 0xA0
_EXTENSIONS_TAG: Final = 0xA3
_UNIQUE_ID_TAGS: Final = frozenset({0x81, 0x82})
# Source: IANA "Named Information Hash Algorithm Registry".
_SHA_256: Final = 1
_HASHES: Final[dict[int, Callable[[bytes], bytes]]] = {
    _SHA_256: lambda data: hashlib.sha256(data).digest(),
    7: lambda data: hashlib.sha384(data).digest(),
    8: lambda data: hashlib.sha512(data).digest(),
}


@dataclass(frozen=True, slots=True)
class RaTlsEvidence:
    """A quote from a certificate and what it must say.

    Args:
        quote: As it stands in the certificate, not parsed.
        report_data: What its report data must be so that it speaks about the certificate's key, 64 bytes.
        claims: Serialized claims; None for legacy evidence.
    """

    quote: bytes
    report_data: bytes
    claims: bytes | None = None


@dataclass(frozen=True, slots=True)
class RaTlsCertificate:
    """What an RA-TLS certificate says.

    Args:
        spki: DER of the SubjectPublicKeyInfo.
        tagged: TCG DICE tagged evidence, if present.
        legacy: Legacy evidence, if present.
    """

    spki: bytes
    tagged: RaTlsEvidence | None
    legacy: RaTlsEvidence | None

    @property
    def evidence(self) -> RaTlsEvidence:
        """The evidence that decides.

        Raises:
            FormatError: There is none (``ratls.no_evidence``).
        """
        evidence = self.tagged or self.legacy
        if evidence is None:
            raise FormatError("the certificate carries no attestation evidence", code="ratls.no_evidence")
        return evidence


def parse_ratls_certificate(raw: bytes) -> RaTlsCertificate:
    """Takes public key and evidence out of a certificate.

    Args:
        raw: DER, at most 32 KiB.

    Returns:
        The parts; at least one kind of evidence is present.

    Raises:
        FormatError: Malformed (``ratls.malformed``) or without evidence (``ratls.no_evidence``).
        VerificationError: The claims speak about another public key (``binding.public_key``).
    """
    if len(raw) > MAX_CERTIFICATE_BYTES:
        raise FormatError(f"certificate of {len(raw)} bytes, at most {MAX_CERTIFICATE_BYTES}", code=_CODE)
    spki, extensions = _walk(raw)
    tagged, legacy = extensions.get(TAGGED_EVIDENCE_OID), extensions.get(LEGACY_OID)
    certificate = RaTlsCertificate(
        spki,
        None if tagged is None else _parse_tagged(tagged, spki),
        None if legacy is None else RaTlsEvidence(legacy, legacy_report_data(spki)),
    )
    certificate.evidence  # noqa: B018 - raises when there is none
    return certificate


def legacy_report_data(spki: bytes) -> bytes:
    """Report data of legacy evidence: SHA-256 of the SubjectPublicKeyInfo, then zeros, 64 bytes."""
    return hashlib.sha256(spki).digest() + bytes(32)


def tagged_report_data(claims: bytes) -> bytes:
    """Report data of tagged evidence: SHA-256 of the serialized claims, then zeros, 64 bytes."""
    return hashlib.sha256(claims).digest() + bytes(32)


def build_claims(spki: bytes) -> bytes:
    """Claims that bind a public key, exactly as Gramine writes them.

    Args:
        spki: DER of the SubjectPublicKeyInfo.
    """
    return encode_cbor({PUBLIC_KEY_CLAIM: encode_cbor((_SHA_256, hashlib.sha256(spki).digest()))})


def build_tagged_extension(quote: bytes, claims: bytes) -> bytes:
    """Value of the tagged evidence extension.

    Args:
        quote: Its report data is `tagged_report_data` of the claims.
        claims: From `build_claims`.

    Returns:
        The extension value, not wrapped into an OCTET STRING.

    Raises:
        FormatError: Longer than Gramine reads (``ratls.length``).
    """
    return _bounded(encode_cbor(Tagged(EVIDENCE_TAG, (quote, claims))))


def build_legacy_extension(quote: bytes) -> bytes:
    """Value of the legacy extension: the quote itself.

    Args:
        quote: Its report data is `legacy_report_data` of the key.

    Returns:
        The extension value, not wrapped into an OCTET STRING.

    Raises:
        FormatError: Longer than Gramine reads (``ratls.length``).
    """
    return _bounded(quote)


def _bounded(value: bytes) -> bytes:
    if len(value) > MAX_EXTENSION_BYTES:
        raise FormatError(f"extension of {len(value)} bytes, at most {MAX_EXTENSION_BYTES}", code="ratls.length")
    return value


def _walk(raw: bytes) -> tuple[bytes, dict[str, bytes]]:
    certificate = der.parse_sequence(der.parse_one(raw, der.SEQUENCE, code=_CODE), code=_CODE)
    if len(certificate) != 3:
        raise FormatError("certificate is not made of three parts", code=_CODE)
    der.expect(certificate[2], der.BIT_STRING, code=_CODE)
    fields = der.parse_sequence(certificate[0], code=_CODE)
    # version, serial, algorithm, issuer, validity, subject, public key, then optional parts; extensions come last
    if len(fields) < 8:
        raise FormatError("certificate without extensions", code="ratls.no_evidence")
    if fields[0].raw != der.encode(_VERSION_TAG, der.encode_integer(2)):
        raise FormatError("certificate is not of version 3", code=_CODE)
    if any(field.tag not in _UNIQUE_ID_TAGS for field in fields[7:-1]):
        raise FormatError("certificate has unknown parts", code=_CODE)
    spki = der.parse_sequence(fields[6], code=_CODE)
    if [element.tag for element in spki] != [der.SEQUENCE, der.BIT_STRING]:
        raise FormatError("certificate's public key is malformed", code=_CODE)
    extensions = der.parse_one(der.expect(fields[-1], _EXTENSIONS_TAG, code=_CODE).content, der.SEQUENCE, code=_CODE)
    return fields[6].raw, {oid: found.value for oid, found in parse_extensions(extensions, code=_CODE).items()}


def _parse_tagged(value: bytes, spki: bytes) -> RaTlsEvidence:
    # What follows the item is ignored: builds with old libcbor leave the rest of a buffer there.
    item, _ = parse_cbor(value, code=_CODE)
    match item:
        case Tagged(tag=60000, value=(bytes() as quote, bytes() as claims)):
            _check_claims(claims, spki)
            return RaTlsEvidence(quote, tagged_report_data(claims), claims)
        case _:
            raise FormatError("tagged evidence is not a quote with claims", code=_CODE)


def _check_claims(claims: bytes, spki: bytes) -> None:
    members = _parse_whole(claims)
    if not isinstance(members, dict) or PUBLIC_KEY_CLAIM not in members:
        raise FormatError(f"claims without {PUBLIC_KEY_CLAIM}: the quote would not bind the key", code=_CODE)
    match members[PUBLIC_KEY_CLAIM]:
        case bytes() as serialized:
            pair = _parse_whole(serialized)
        case _:
            pair = None
    match pair:
        case (int() as algorithm, bytes() as digest) if algorithm in _HASHES and not isinstance(algorithm, bool):
            if _HASHES[algorithm](spki) != digest:
                raise VerificationError("the claims speak about another public key", code="binding.public_key")
        case _:
            raise FormatError(f"{PUBLIC_KEY_CLAIM} is malformed", code=_CODE)


def _parse_whole(raw: bytes) -> CborValue:
    value, rest = parse_cbor(raw, code=_CODE)
    if rest:
        raise FormatError("bytes after the claims", code=_CODE)
    return value
