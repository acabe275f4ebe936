"""How the owner's requests are authenticated: a signed statement about exactly one request.

Each request carries ``Authorization: Bearer <JWT>``, signed with the owner's Ed25519 key (RFC 8037, RFC 9864). The
claims name the broker, the method, the path with its query, the SHA-256 of the body, a life of at most 60 seconds and
an id that is accepted once. A statement overheard or taken from a log is therefore good for nothing. The broker's side
is `strongroom.broker.owner_gate`.
"""

import hashlib
import os
import secrets
import stat
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
MAX_KEY_BYTES: Final = 4096

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


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
            ConfigurationError: Absent, readable by others (as ssh refuses one), or not an Ed25519 private key.
        """
        key = read_ed25519(path, private=True)
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


def read_ed25519(path: Path, *, private: bool = False) -> OKPKey:
    """Read an Ed25519 key, private or public, PEM.

    Args:
        path: The file.
        private: Whether nobody but the file's owner may read it.

    Raises:
        ConfigurationError: Absent, readable by others though private, or another kind of key.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(MAX_KEY_BYTES)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", code="owner.key") from None
    if private and mode & _OTHERS:
        raise ConfigurationError(f"others may read {path}", code="owner.key_mode", hint=f"chmod 600 {path}")
    try:
        key = OKPKey.import_key(text)
    except (JoseError, ValueError, TypeError):
        key = None
    if key is None or key.curve_name != "Ed25519":
        raise ConfigurationError(f"not an Ed25519 key: {path}", code="owner.key")
    return key
