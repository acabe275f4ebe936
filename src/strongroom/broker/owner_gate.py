"""The broker's side of the owner's requests: a statement counts for one request, once, also across a restart."""

import hmac
import re
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from joserfc import jwt
from joserfc.errors import JoseError

from strongroom.broker.owner import ALGORITHM, LIFETIME_S, TYPE, SignedRequest, read_ed25519
from strongroom.broker.store import Store
from strongroom.broker.tables import owner_requests
from strongroom.errors import VerificationError

CLOCK_SKEW_S: Final = 10
MAX_TOKEN_CHARS: Final = 2048
_ID = re.compile(r"[A-Za-z0-9_-]{22,64}")
_CLAIMS: Final = frozenset({"aud", "htm", "htu", "body_sha256", "iat", "exp", "jti"})


class OwnerGate:
    """The broker's side: lets a request through if the owner signed it, once.

    Args:
        public_key: PEM file with the owner's public key.
        broker_id: Our own name.
        store: Remembers which statements were used, also across a restart.
    """

    def __init__(self, public_key: Path, broker_id: str, store: Store) -> None:
        self._key = read_ed25519(public_key)
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
