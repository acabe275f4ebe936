"""How the owner's requests are authenticated: a signed statement about exactly one request.

Each request carries ``Authorization: Bearer <JWT>``, signed with the owner's Ed25519 key (RFC 8037, RFC 9864). The
claims name the broker, the method, the path with its query, the SHA-256 of the body, a life of at most 60 seconds and
an id that is accepted once. A statement overheard or taken from a log is therefore good for nothing.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from strongroom.broker.store import Store, owner_requests
from strongroom.errors import ConfigurationError, VerificationError

ALGORITHM: Final = "Ed25519"
TYPE: Final = "strongroom-owner+jwt"
LIFETIME_S: Final = 60
CLOCK_SKEW_S: Final = 10
MAX_TOKEN_CHARS: Final = 2048
_ID = re.compile(r"[A-Za-z0-9_-]{22,64}")
_CLAIMS: Final = frozenset({"aud", "htm", "htu", "body_sha256", "iat", "exp", "jti"})


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
        key = _import(path)
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


class OwnerGate:
    """The broker's side: lets a request through if the owner signed it, once.

    Args:
        public_key: PEM file with the owner's public key.
        broker_id: Our own name.
        store: Remembers which statements were used, also across a restart.
    """

    def __init__(self, public_key: Path, broker_id: str, store: Store) -> None:
        self._key = _import(public_key)
        self._broker_id = broker_id
        self._store = store

    def check(self, token: str, request: SignedRequest, *, now_s: int) -> None:
        """Check a statement and use it up.

        Args:
            token: From the Authorization header.
            request: What was received.
            now_s: Unix time.

        Raises:
            VerificationError: Not signed by the owner, about another request or broker, stale, or used before.
            UnavailableError: The database can't be written.
        """
        claims = self._verified_claims(token)
        expected = {**request.claims(), "aud": self._broker_id}
        if claims.keys() != _CLAIMS or not all(_same(claims[name], value) for name, value in expected.items()):
            raise VerificationError("signed for another request or broker", code="owner.request")
        issued, expires, jti = claims["iat"], claims["exp"], claims["jti"]
        if type(issued) is not int or type(expires) is not int or expires - issued > LIFETIME_S:
            raise VerificationError("lives too long", code="owner.lifetime")
        if issued > now_s + CLOCK_SKEW_S or now_s >= expires + CLOCK_SKEW_S:
            raise VerificationError("stale, or from the future", code="owner.stale")
        if not isinstance(jti, str) or not _ID.fullmatch(jti):
            raise VerificationError("no usable id", code="owner.id")
        self._use_up(jti, expires + CLOCK_SKEW_S, now_s)

    def _verified_claims(self, token: str) -> dict[str, object]:
        if len(token) > MAX_TOKEN_CHARS:
            raise VerificationError("too long", code="owner.token")
        try:
            decoded = jwt.decode(token, self._key, algorithms=[ALGORITHM])
        except (JoseError, ValueError):
            raise VerificationError("not signed by the owner", code="owner.signature") from None
        if decoded.header != {"alg": ALGORITHM, "typ": TYPE}:
            raise VerificationError("not an owner's statement", code="owner.token")
        return decoded.claims

    def _use_up(self, jti: str, expires_s: int, now_s: int) -> None:
        with self._store.writing() as connection:
            connection.execute(sa.delete(owner_requests).where(owner_requests.c.expires_s < now_s))
            try:
                connection.execute(sa.insert(owner_requests).values(jti=jti, expires_s=expires_s))
            except sa.exc.IntegrityError:
                raise VerificationError("used before", code="owner.replay") from None


def _same(claim: object, expected: str) -> bool:
    return isinstance(claim, str) and hmac.compare_digest(claim.encode(), expected.encode())


def _import(path: Path) -> OKPKey:
    try:
        key = OKPKey.import_key(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", code="owner.key") from None
    except (JoseError, ValueError, TypeError):
        key = None
    if key is None or key.curve_name != "Ed25519":
        raise ConfigurationError(f"not an Ed25519 key: {path}", code="owner.key")
    return key
