"""The broker's own small certificate authority and the TLS certificate it gives the server.

Clients trust exactly this authority, so no public one can be tricked into vouching for another server.
Source: RFC 5280 section 4.2.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from strongroom.errors import ConfigurationError

CA_LIFETIME: Final = timedelta(days=3650)
SERVER_LIFETIME: Final = timedelta(days=397)
_CLOCK_SKEW: Final = timedelta(minutes=5)
_MAX_COMMON_NAME: Final = 64  # RFC 5280, upper bound of a common name
_DNS_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9-]{1,63})*")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    private_key: bytes

    def __repr__(self) -> str:
        return "Issued(...)"


def make_authority(name: str, now: datetime) -> Issued:
    """Make a self-signed certificate authority that may sign end-entity certificates only.

    Args:
        name: Common name.
        now: Aware time; validity starts a few minutes before.

    Returns:
        The authority.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _certificate(subject, subject, key.public_key(), now, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _issued(builder.sign(key, hashes.SHA256()), key)


def issue_server(
    authority: Issued, hosts: Sequence[str], now: datetime, *, common_name: str = "Strongroom broker"
) -> Issued:
    """Issue a TLS server certificate.

    Args:
        authority: What `make_authority` returned.
        hosts: DNS names and IP addresses clients will use; at least one.
        now: Aware time; validity starts a few minutes before.
        common_name: For people; clients compare the hosts.

    Returns:
        Certificate and new private key.

    Raises:
        ConfigurationError: No host, or not a DNS name or IP address.
    """
    return _issue(authority, hosts, now, common_name, ExtendedKeyUsageOID.SERVER_AUTH)


def issue_client(authority: Issued, name: str, now: datetime) -> Issued:
    """Issue a TLS client certificate.

    Args:
        authority: What `make_authority` returned.
        name: DNS name of the client.
        now: Aware time; validity starts a few minutes before.

    Returns:
        Certificate and new private key.

    Raises:
        ConfigurationError: Not a DNS name or IP address.
    """
    return _issue(authority, (name,), now, name, ExtendedKeyUsageOID.CLIENT_AUTH)


def _issue(
    authority: Issued, hosts: Sequence[str], now: datetime, common_name: str, usage: x509.ObjectIdentifier
) -> Issued:
    if not hosts:
        raise ConfigurationError("a certificate needs at least one host", code="broker.host")
    ca_certificate = x509.load_pem_x509_certificate(authority.certificate)
    ca_key = serialization.load_pem_private_key(authority.private_key, None)
    if not isinstance(ca_key, ec.EllipticCurvePrivateKey):
        raise ConfigurationError("the authority's key is not an EC key", code="broker.ca")
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([general_name(host) for host in hosts])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_MAX_COMMON_NAME])])
    builder = (
        _certificate(subject, ca_certificate.subject, key.public_key(), now, SERVER_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(names, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
    )
    return _issued(builder.sign(ca_key, hashes.SHA256()), key)


def general_name(host: str) -> x509.GeneralName:
    """A host as a subject alternative name.

    Raises:
        ConfigurationError: Neither an IP address nor a DNS name.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not _DNS_NAME.fullmatch(host):
            raise ConfigurationError(f"not a host name or address: {host}", code="broker.host") from None
        return x509.DNSName(host)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - _CLOCK_SKEW,
        not_valid_after=now + lifetime,
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _issued(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Issued:
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Issued(certificate.public_bytes(pem), private)
