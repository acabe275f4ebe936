"""Who this server is: an attested key, the certificate that proves it, and the keys it vouches for.

The identity document goes to anyone who asks, over any channel. It holds the attested certificate, and the sealing key
signed by the certificate's key: what a client behind a proxy verifies instead of the TLS handshake.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from strongroom.errors import ConfigurationError, FormatError, StrongroomError, VerificationError
from strongroom.ratls.certificate import AttestedCertificate
from strongroom.serving.config.tls import TlsMaterial
from strongroom.serving.sealing import key_id

log: Any = structlog.get_logger("strongroom.serving")
MAX_DOCUMENT_BYTES: Final = 256 * 1024
SEALING_KEY_BYTES: Final = 32
_DOMAIN: Final = b"strongroom sealing key v1\0"
_CODE: Final = "identity.malformed"


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """One attested key and what it vouches for.

    Args:
        certificate: The attested certificate, DER.
        key: Its private key, P-256.
        sealing_key: Requests are sealed to it.
    """

    certificate: bytes
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    sealing_key: X25519PrivateKey = field(repr=False)

    @classmethod
    def of(cls, attested: AttestedCertificate) -> "ServerIdentity":
        """An identity with a fresh sealing key.

        Raises:
            ConfigurationError: The certificate's key is not on P-256.
        """
        if not isinstance(attested.key, ec.EllipticCurvePrivateKey) or not isinstance(attested.key.curve, ec.SECP256R1):
            raise ConfigurationError("a server's attested key must be on P-256", code="identity.key")
        return cls(attested.der, attested.key, X25519PrivateKey.generate())

    @property
    def evidence_sha256(self) -> str:
        """SHA-256 of the certificate, hex: the reference to the evidence."""
        return hashlib.sha256(self.certificate).hexdigest()

    @property
    def sealing_public(self) -> bytes:
        """X25519 public key, 32 bytes."""
        return self.sealing_key.public_key().public_bytes_raw()

    def document(self) -> bytes:
        """The identity document, JSON."""
        signature = self.key.sign(_DOMAIN + self.sealing_public, ec.ECDSA(hashes.SHA256()))
        parts = {"certificate": self.certificate, "sealing_key": self.sealing_public, "signature": signature}
        return json.dumps({name: base64.b64encode(value).decode() for name, value in parts.items()}).encode()


def parse_identity(raw: bytes) -> tuple[bytes, bytes]:
    """Check an identity document's own signature.

    Args:
        raw: From a stranger.

    Returns:
        Certificate (DER), whose evidence the caller must verify, and the sealing key (32 bytes) its key vouches for.

    Raises:
        FormatError: Malformed (``identity.malformed``).
        VerificationError: The sealing key is not signed by the certificate's key (``identity.signature``).
    """
    certificate, sealing_key, signature = _members(raw)
    try:
        public = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise FormatError("an identity without a certificate", code=_CODE) from None
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise FormatError("an identity whose key is not on a curve", code=_CODE)
    try:
        public.verify(signature, _DOMAIN + sealing_key, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise VerificationError(
            "the sealing key is not signed by the attested key", code="identity.signature"
        ) from None
    return certificate, sealing_key


def _members(raw: bytes) -> tuple[bytes, bytes, bytes]:
    try:
        document = json.loads(raw) if len(raw) <= MAX_DOCUMENT_BYTES else None
        if not isinstance(document, dict) or document.keys() != {"certificate", "sealing_key", "signature"}:
            raise ValueError
        certificate, sealing_key, signature = (
            base64.b64decode(document[name], validate=True) for name in ("certificate", "sealing_key", "signature")
        )
    except (ValueError, TypeError, RecursionError):
        raise FormatError("not an identity document", code=_CODE) from None
    if len(sealing_key) != SEALING_KEY_BYTES:
        raise FormatError("a sealing key has 32 bytes", code=_CODE)
    return certificate, sealing_key, signature


class AttestedIdentity:
    """The identity in force, renewed before its evidence is too old; the one before it still opens requests.

    Args:
        make: Makes a new attested certificate.
        renew_s: Age at which a new one is made.
        monotonic_s: Clock that never goes back.

    Raises:
        UnavailableError: The platform does not answer.
        ConfigurationError: `make` makes keys of another kind.
    """

    def __init__(
        self, make: Callable[[], AttestedCertificate], renew_s: float, monotonic_s: Callable[[], float]
    ) -> None:
        self._make = make
        self._renew_s = renew_s
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._current = ServerIdentity.of(make())
        self._previous: ServerIdentity | None = None
        self._made_s = monotonic_s()

    @property
    def current(self) -> ServerIdentity:
        """The identity in force."""
        return self._current

    def opening_keys(self) -> dict[bytes, X25519PrivateKey]:
        """Key id to sealing key, of this identity and the one before."""
        known = (self._current, self._previous)
        return {key_id(one.sealing_public): one.sealing_key for one in known if one is not None}

    def material(self) -> TlsMaterial:
        """TLS material of the identity, renewed when it is due: a `Source` for `Tls`."""
        with self._lock:
            if self._monotonic_s() - self._made_s >= self._renew_s:
                self._renew()
            identity = self._current
        private = identity.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        certificate = x509.load_der_x509_certificate(identity.certificate)
        return TlsMaterial(private, certificate.public_bytes(serialization.Encoding.PEM))

    def _renew(self) -> None:
        """A platform that does not answer now is asked again at the next look; what is in force stays."""
        try:
            fresh = ServerIdentity.of(self._make())
        except StrongroomError as error:
            log.warning("attested key not renewed", code=error.code)
            return
        self._previous, self._current = self._current, fresh
        self._made_s = self._monotonic_s()
        log.info("attested key renewed", evidence=fresh.evidence_sha256)
