"""The federation's certificate authority: derived from a secret that only attested workloads receive.

Every process that was given the secret is the authority and issues a certificate to itself, so there is nobody to ask
and nothing to sign for a stranger. A process without it has no certificate, and nobody in the federation talks to it.

Source: RFC 5869 (HKDF); FIPS 186-5, appendix A.2.1 (a private key from 64 extra bits).
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.x509.oid import NameOID

from strongroom.broker.certificates import Issued, issue_client, issue_server
from strongroom.broker.folder import write_new
from strongroom.errors import ConfigurationError

MIN_SECRET_SIZE: Final = 16
LIFETIME: Final = timedelta(days=7)
_CLOCK_SKEW: Final = timedelta(minutes=5)
_PURPOSE: Final = b"strongroom federation authority 1"
_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Strongroom federation")])
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_CANDIDATE_SIZE: Final = 40


class Identity(NamedTuple):
    """The files of one member; XGBoost takes paths, so they must lie on the process's own memory.

    Args:
        authority: PEM of the federation's authority.
        certificate: PEM of this member.
        private_key: PEM of this member, mode 0600.
    """

    authority: Path
    certificate: Path
    private_key: Path


def federation_authority(secret: bytes, now: datetime) -> Issued:
    """The authority that belongs to a federation's secret: always the same key and name.

    Args:
        secret: At least 16 bytes.
        now: Aware time; validity starts a few minutes before and lasts a week.

    Raises:
        ConfigurationError: The secret is shorter.
    """
    if len(secret) < MIN_SECRET_SIZE:
        raise ConfigurationError(f"a federation's secret has at least {MIN_SECRET_SIZE} bytes", code="federate.secret")
    candidate = HKDF(algorithm=hashes.SHA256(), length=_CANDIDATE_SIZE, salt=None, info=_PURPOSE).derive(secret)
    key = ec.derive_private_key(int.from_bytes(candidate, "big") % (_P256_ORDER - 1) + 1, ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=False,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder(
            _NAME, _NAME, key.public_key(), x509.random_serial_number(), now - _CLOCK_SKEW, now + LIFETIME
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return Issued(certificate.public_bytes(pem), key.private_bytes(pem, private, serialization.NoEncryption()))


def write_identity(folder: Path, secret: bytes, now: datetime, *, host: str | None = None, name: str = "") -> Identity:
    """Issue a certificate to this process and write it where XGBoost finds it.

    Args:
        folder: Private folder on memory.
        secret: The federation's secret.
        now: Aware time.
        host: Host by which parties reach the coordinator; None for a party.
        name: DNS name of a party.

    Raises:
        ConfigurationError: The secret is too short, or host or name are none.
    """
    authority = federation_authority(secret, now)
    issued = (
        issue_server(authority, [host], now, common_name="coordinator") if host else issue_client(authority, name, now)
    )
    files = Identity(folder / "authority.pem", folder / "certificate.pem", folder / "private.pem")
    contents = (authority.certificate, issued.certificate, issued.private_key)
    for path, content in zip(files, contents, strict=True):
        write_new(path, content)
    return files
