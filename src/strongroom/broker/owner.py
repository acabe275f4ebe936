"""How the owner's requests are authenticated: a signed statement about exactly one request.

Each request carries ``Authorization: Bearer <JWT>``, signed with the owner's Ed25519 key (RFC 8037, RFC 9864). The
claims name the broker, the method, the path with its query, the SHA-256 of the body, a life of at most 60 seconds and
an id that is accepted once. A statement overheard or taken from a log is therefore good for nothing. The broker's side
is `strongroom.broker.owner_gate`.
"""

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from strongroom.errors import ConfigurationError

ALGORITHM: Final = "Ed25519"
TYPE: Final = "strongroom-owner+jwt"
LIFETIME_S: Final = 60


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The parts of a request that the owner signs.

    Args:
        method: HTTP method in capitals.
        target: Path and query, exactly as sent.
        body: Body, exactly as sent.
    """

    method: str
    target: str
    body: bytes

    def claims(self) -> dict[str, str]:
        """The claims that bind a statement to this request."""
        return {"htm": self.method, "htu": self.target, "body_sha256": hashlib.sha256(self.body).hexdigest()}


class OwnerKey:
    """The owner's private key."""

    __slots__ = ("_key",)

    def __init__(self, key: OKPKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> "OwnerKey":
        """Make a new key pair."""
        return cls(OKPKey.generate_key("Ed25519", auto_kid=False))

    @classmethod
    def load(cls, path: Path) -> "OwnerKey":
        """Read the private key, PEM.

        Raises:
            ConfigurationError: Absent, or not an Ed25519 private key.
        """
        key = read_ed25519(path)
        if not key.is_private:
            raise ConfigurationError(f"not a private key: {path}", code="owner.key")
        return cls(key)

    def private_pem(self) -> bytes:
        """PKCS #8, not encrypted."""
        return self._key.as_pem(private=True)

    def public_pem(self) -> bytes:
        """SubjectPublicKeyInfo."""
        return self._key.as_pem(private=False)

    def sign(self, request: SignedRequest, *, broker_id: str, now_s: int) -> str:
        """Make the statement for one request, valid for 60 seconds.

        Args:
            request: What will be sent.
            broker_id: To whom.
            now_s: Unix time.

        Returns:
            A compact JWT.
        """
        claims: dict[str, object] = {**request.claims(), "aud": broker_id, "iat": now_s, "exp": now_s + LIFETIME_S}
        claims["jti"] = secrets.token_urlsafe(16)
        return jwt.encode({"alg": ALGORITHM}, claims, self._key, algorithms=[ALGORITHM], default_type=TYPE)

    def __repr__(self) -> str:
        return "OwnerKey(...)"


def read_ed25519(path: Path) -> OKPKey:
    """Read an Ed25519 key, private or public, PEM.

    Raises:
        ConfigurationError: Absent, or another kind of key.
    """
    try:
        key = OKPKey.import_key(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", code="owner.key") from None
    except (JoseError, ValueError, TypeError):
        key = None
    if key is None or key.curve_name != "Ed25519":
        raise ConfigurationError(f"not an Ed25519 key: {path}", code="owner.key")
    return key
