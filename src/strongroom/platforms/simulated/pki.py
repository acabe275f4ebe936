"""The simulated machine's certificates and revocation lists, shaped like those of Intel's SGX PKI.

    root CA -+- PCK Platform CA -- PCK leaf (with the SGX extension of `formats.pck`)
             +- TCB Signing

Source: Intel SGX PCK Certificate and CRL Profile Specification (profiles, key usage, path lengths). The common names
keep Intel's phrases ("SGX PCK Platform CA"), which verifiers look for, and add "Strongroom Simulated", so that nobody
takes such a certificate for Intel's. Every function takes its parts as arguments: a test that needs a wrong chain
builds it from the same pieces.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from strongroom.errors import ConfigurationError
from strongroom.formats.pck import SGX_EXTENSION_OID

ORGANIZATION: Final = "Strongroom simulation - not Intel"
ROOT_CA: Final = "Strongroom Simulated SGX Root CA"
PCK_CA: Final = "Strongroom Simulated SGX PCK Platform CA"
PCK: Final = "Strongroom Simulated SGX PCK Certificate"
TCB_SIGNER: Final = "Strongroom Simulated SGX TCB Signing"

# RFC 2606 reserves .invalid: nobody can serve a list of revoked certificates from there.
CRL_URL: Final = "https://simulated.invalid/{}.crl"

CLOCK_SKEW: Final = dt.timedelta(hours=1)
CERTIFICATE_YEARS: Final = 25
# Intel's lists live 30 days and are renewed by a service. A simulated machine has no such service behind it: a
# year is long enough for whoever tries Strongroom to never meet the expiry, and short enough that the path that
# handles it isn't forgotten. Renewal is a new machine.
COLLATERAL_VALIDITY: Final = dt.timedelta(days=365)


@dataclass(frozen=True, slots=True)
class Validity:
    """A span of time.

    Args:
        start: First valid moment, aware, whole seconds.
        end: Last valid moment, aware, whole seconds.
    """

    start: dt.datetime
    end: dt.datetime

    @classmethod
    def of(cls, now: dt.datetime, length: dt.timedelta) -> "Validity":
        """From one hour before `now`, so that a verifier whose clock is a little behind doesn't refuse.

        Raises:
            ConfigurationError: `now` has no time zone (``simulated.time``).
        """
        if now.tzinfo is None:
            raise ConfigurationError("the time has no time zone", code="simulated.time")
        start = now.astimezone(dt.UTC).replace(microsecond=0) - CLOCK_SKEW
        return cls(start, start + CLOCK_SKEW + length)

    @classmethod
    def of_certificate(cls, now: dt.datetime) -> "Validity":
        """25 years: the certificates outlive the machine's use."""
        return cls.of(now, dt.timedelta(days=365 * CERTIFICATE_YEARS))


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """A private key with its certificate.

    Args:
        certificate: The X.509 certificate.
        private_key: Its P-256 private key.
    """

    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(Encoding.DER)

    def __repr__(self) -> str:
        return f"CertifiedKey({self.certificate.subject.rfc4514_string()})"


@dataclass(frozen=True, slots=True)
class Pki:
    """All certified keys of one simulated machine."""

    root: CertifiedKey
    pck_ca: CertifiedKey
    pck: CertifiedKey
    tcb_signer: CertifiedKey

    @classmethod
    def create(cls, now: dt.datetime, sgx_extension: bytes) -> "Pki":
        """Four fresh keys and their certificates.

        Args:
            now: Time of creation, aware.
            sgx_extension: DER of the PCK leaf's SGX extension.
        """
        validity = Validity.of_certificate(now)
        root = certify_authority(ROOT_CA, None, validity, path_length=1)
        pck_ca = certify_authority(PCK_CA, root, validity, path_length=0)
        return cls(
            root=root,
            pck_ca=pck_ca,
            pck=certify_leaf(PCK, pck_ca, validity, sgx_extension=sgx_extension),
            tcb_signer=certify_leaf(TCB_SIGNER, root, validity),
        )


def certify_authority(
    common_name: str, issuer: CertifiedKey | None, validity: Validity, *, path_length: int
) -> CertifiedKey:
    """A fresh key with a CA certificate.

    Args:
        common_name: Subject.
        issuer: Who signs; None makes it self-signed.
        validity: Of the certificate.
        path_length: How many CAs may follow below it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(common_name, issuer, key, validity)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    return CertifiedKey(builder.sign(issuer.private_key if issuer else key, hashes.SHA256()), key)


def certify_leaf(
    common_name: str, issuer: CertifiedKey, validity: Validity, *, sgx_extension: bytes | None = None
) -> CertifiedKey:
    """A fresh key with an end-entity certificate.

    Args:
        common_name: Subject.
        issuer: Who signs.
        validity: Of the certificate.
        sgx_extension: DER of the SGX extension for a PCK certificate; None leaves it out.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(common_name, issuer, key, validity)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    if sgx_extension is not None:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(SGX_EXTENSION_OID), sgx_extension), critical=False
        )
    return CertifiedKey(builder.sign(issuer.private_key, hashes.SHA256()), key)


def create_crl(issuer: CertifiedKey, validity: Validity, *, revoked: tuple[int, ...] = (), number: int = 1) -> bytes:
    """A certificate revocation list.

    Args:
        issuer: The CA whose certificates it lists.
        validity: thisUpdate and nextUpdate.
        revoked: Serial numbers of revoked certificates.
        number: CRL number; grows with every issue.

    Returns:
        DER.
    """
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
    builder = builder.last_update(validity.start).next_update(validity.end)
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    builder = builder.add_extension(_authority_key_identifier(issuer), critical=False)
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(validity.start)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.private_key, hashes.SHA256()).public_bytes(Encoding.DER)


def chain_pem(*keys: CertifiedKey) -> str:
    """The certificates as PEM text, leaf first."""
    return "".join(key.certificate.public_bytes(Encoding.PEM).decode() for key in keys)


def _builder(
    common_name: str, issuer: CertifiedKey | None, key: ec.EllipticCurvePrivateKey, validity: Validity
) -> x509.CertificateBuilder:
    subject = _name(common_name)
    subject_key = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    authority = (
        _authority_key_identifier(issuer)
        if issuer
        else x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject_key)
    )
    builder = x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer.certificate.subject if issuer else subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=validity.start,
        not_valid_after=validity.end,
    )
    builder = builder.add_extension(subject_key, critical=False)
    builder = builder.add_extension(authority, critical=False)
    return builder.add_extension(_crl_distribution_point(issuer), critical=False)


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
        ]
    )


def _authority_key_identifier(issuer: CertifiedKey) -> x509.AuthorityKeyIdentifier:
    identifier = x509.SubjectKeyIdentifier.from_public_key(issuer.private_key.public_key())
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def _crl_distribution_point(issuer: CertifiedKey | None) -> x509.CRLDistributionPoints:
    # Intel's verification library refuses a certificate without this extension.
    under_pck_ca = issuer is not None and issuer.certificate.issuer != issuer.certificate.subject
    url = x509.UniformResourceIdentifier(CRL_URL.format("pck-platform" if under_pck_ca else "root"))
    return x509.CRLDistributionPoints([x509.DistributionPoint([url], None, None, None)])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=not signs_certificates,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
