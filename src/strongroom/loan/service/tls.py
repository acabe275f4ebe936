"""TLS of the service: a certificate of the owner's, kept sealed, or one that carries evidence about its own key.

Keys come from memory. OpenSSL reads them from a file, so they pass through one that is encrypted under a password
nobody else has, and gone a moment later.
"""

import ipaddress
import secrets
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from strongroom.errors import ConfigurationError
from strongroom.loan.storage import Storage
from strongroom.platforms import Platform
from strongroom.ratls.certificate import attested_certificate

MAX_PEM_BYTES: Final = 256 << 10
PEM: Final = serialization.Encoding.PEM


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What the service shows, and whom it accepts.

    Args:
        certificate: PEM certificates, the service's own first.
        key: PEM private key, not encrypted.
        client_ca: PEM authorities of accepted clients; empty: clients need no certificate.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes = b""


def attested_material(platform: Platform, hosts: Sequence[str] = (), client_ca: bytes = b"") -> TlsMaterial:
    """A new key, in whose certificate the platform vouches for it.

    Args:
        platform: Makes the quotes.
        hosts: Names and addresses of the service, beside localhost.
        client_ca: See `TlsMaterial`.

    Raises:
        UnavailableError: The platform does not answer.
        FormatError: Its quote is too long for a certificate.
    """
    made = attested_certificate(
        platform, names=[_name(host) for host in dict.fromkeys(("localhost", "127.0.0.1", *hosts))]
    )
    key = made.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return TlsMaterial(made.certificate.public_bytes(PEM), key, client_ca)


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def read_pem(storage: Storage, path: str) -> bytes:
    """A PEM file from the storage.

    Raises:
        ConfigurationError: It is too long.
        FileNotFoundError: There is none.
        SealedDataError: It is damaged.
    """
    with storage.open(path) as source:
        raw = source.read(MAX_PEM_BYTES + 1)
    if len(raw) > MAX_PEM_BYTES:
        raise ConfigurationError(f"{path} is too long", code="loan.tls")
    return raw


def server_context(material: TlsMaterial) -> ssl.SSLContext:
    """TLS 1.2 and 1.3 with the certificate; with `client_ca` only clients of these authorities get in.

    Raises:
        ConfigurationError: Certificate and key do not work together, or something is not PEM.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    password = secrets.token_bytes(32).hex().encode()
    try:
        key = serialization.load_pem_private_key(material.key, None)
        encrypted = key.private_bytes(
            PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(password)
        )
        with tempfile.TemporaryDirectory(prefix="strongroom-tls-") as folder:
            file = Path(folder) / "identity.pem"
            file.touch(0o600)
            file.write_bytes(encrypted + material.certificate)
            context.load_cert_chain(file, password=password)
        if material.client_ca:
            context.load_verify_locations(cadata=material.client_ca.decode("ascii"))
            context.verify_mode = ssl.CERT_REQUIRED
    except (ssl.SSLError, ValueError, TypeError):
        raise ConfigurationError(
            "the service's certificate and key do not work together",
            code="loan.tls",
            hint="PEM files; the key belongs to the first certificate and is not encrypted",
        ) from None
    return context
