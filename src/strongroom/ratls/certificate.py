"""Makes certificates that carry a quote about their own key.

Both forms of evidence go in, each with a quote of its own, as Gramine 1.8 and later do: what such a certificate is
shown to may know only one of them.

Source: Gramine, tools/sgx/ra-tls (ra_tls_attest.c): names, serial number, validity, extensions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID, ObjectIdentifier

from strongroom.formats.ratls import (
    LEGACY_OID,
    TAGGED_EVIDENCE_OID,
    build_claims,
    build_legacy_extension,
    build_tagged_extension,
    legacy_report_data,
    tagged_report_data,
)
from strongroom.platforms import Platform
from strongroom.ratls.tls import PrivateKey

KeyKind = Literal["p384", "p256", "rsa3072"]

# Dates say nothing here: the quote and the verifier's collateral decide how long evidence is good.
NOT_BEFORE: Final = datetime(2001, 1, 1, tzinfo=UTC)
NOT_AFTER: Final = datetime(2030, 12, 31, 23, 59, 59, tzinfo=UTC)
_NAME: Final = x509.Name(
    [
        x509.NameAttribute(NameOID.COMMON_NAME, "RATLS"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Strongroom"),
        x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
    ]
)
_KEYS: Final[dict[KeyKind, Callable[[], PrivateKey]]] = {
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "rsa3072": lambda: rsa.generate_private_key(65537, 3072),
}


@dataclass(frozen=True, slots=True)
class AttestedCertificate:
    """A certificate and its private key.

    Args:
        certificate: Self-signed.
        key: Its key; it never needs to leave memory.
    """

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def der(self) -> bytes:
        """DER of the certificate."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def __repr__(self) -> str:
        return "AttestedCertificate(...)"


def attested_certificate(
    platform: Platform,
    *,
    kind: KeyKind = "p384",
    names: Sequence[x509.GeneralName] = (),
    validity: tuple[datetime, datetime] = (NOT_BEFORE, NOT_AFTER),
    legacy_only: bool = False,
) -> AttestedCertificate:
    """Makes a new key and a certificate in which the platform vouches for it.

    Args:
        platform: Makes the quotes.
        kind: Of the key. Verifiers of Gramine up to 1.3.1 take RSA-3072 only, those from 1.4 on the curves only.
        names: Subject alternative names, for clients that compare host names.
        validity: First and last moment of validity.
        legacy_only: Leave the TCG DICE evidence out, as Gramine before 1.8 does.

    Returns:
        Certificate and key.

    Raises:
        UnavailableError: The platform does not answer.
        FormatError: A quote is longer than verifiers read (``ratls.length``).
    """
    key = _KEYS[kind]()
    public = key.public_key()
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    builder = (
        x509.CertificateBuilder(_NAME, _NAME, public, 1, *validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in _evidence(platform, spki, legacy_only=legacy_only):
        builder = builder.add_extension(extension, critical=False)
    return AttestedCertificate(builder.sign(key, hashes.SHA256()), key)


def _evidence(platform: Platform, spki: bytes, *, legacy_only: bool) -> list[x509.UnrecognizedExtension]:
    legacy = build_legacy_extension(platform.quote(legacy_report_data(spki)))
    extensions = [x509.UnrecognizedExtension(ObjectIdentifier(LEGACY_OID), legacy)]
    if not legacy_only:
        claims = build_claims(spki)
        tagged = build_tagged_extension(platform.quote(tagged_report_data(claims)), claims)
        extensions.append(x509.UnrecognizedExtension(ObjectIdentifier(TAGGED_EVIDENCE_OID), tagged))
    return extensions
