"""What the broker remembers between two requests of one workload: open challenges and live attestations.

Both are bounded. Here they live in memory only: after a restart a workload attests again. Where replicas share them:
`strongroom.broker.shared_sessions`.
"""

import base64
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from strongroom.attestation.claims import Claims
from strongroom.broker.limits import Busy
from strongroom.errors import VerificationError
from strongroom.formats.kbs import NONCE_SIZE, TeePublicKey


@dataclass(frozen=True, slots=True)
class Session:
    """One open challenge.

    Args:
        id: 32 hexadecimal digits, the cookie.
        nonce: Base64 text of 32 random bytes.
        tee: Kind of TEE the client announced.
        workload: Grant the client says it is meant for; a hint for explaining a refusal, nothing else.
        expires_s: Time after which it can't be answered, by the clock of who made it.
    """

    id: str
    nonce: str
    tee: str
    workload: str | None
    expires_s: float


class Sessions(Protocol):
    """Open challenges; each can be answered once.

    Attributes:
        blocking: It may wait for a database: not for an event loop.
    """

    @property
    def blocking(self) -> bool: ...  # noqa: D102

    def open(self, tee: str, workload: str | None) -> Session:
        """Make a challenge.

        Raises:
            Busy: Too many are open.
            UnavailableError: It can't be remembered.
        """
        ...

    def take(self, session_id: str) -> Session:
        """Hand out a challenge to be answered, and forget it.

        Raises:
            VerificationError: Unknown, answered before, or too old.
            UnavailableError: It can't be looked up.
        """
        ...


def new_session(tee: str, workload: str | None, expires_s: float) -> Session:
    """A challenge nobody has seen."""
    nonce = base64.b64encode(secrets.token_bytes(NONCE_SIZE)).decode()
    return Session(secrets.token_hex(16), nonce, tee, workload, expires_s)


def unanswered(session: Session | None, now_s: float) -> Session:
    """A challenge that was found and is not too old.

    Raises:
        VerificationError: Unknown, answered before, or too old.
    """
    if session is None:
        raise VerificationError("no such session", code="session.unknown")
    if session.expires_s <= now_s:
        raise VerificationError("the challenge is too old", code="session.stale")
    return session


class MemorySessions:
    """Open challenges of one process.

    Args:
        ttl_s: Life of a challenge.
        max_sessions: At most so many at once.
        monotonic_s: Clock that never goes back.
    """

    blocking: Final = False

    def __init__(self, ttl_s: int, max_sessions: int, monotonic_s: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._max_sessions = max_sessions
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Session] = OrderedDict()  # all live equally long: the oldest ends first

    def open(self, tee: str, workload: str | None) -> Session:
        """Make a challenge.

        Raises:
            Busy: Too many are open.
        """
        now_s = self._monotonic_s()
        session = new_session(tee, workload, now_s + self._ttl_s)
        with self._lock:
            while self._open and next(iter(self._open.values())).expires_s <= now_s:
                self._open.popitem(last=False)
            if len(self._open) >= self._max_sessions:
                raise Busy("too many open sessions")
            self._open[session.id] = session
        return session

    def take(self, session_id: str) -> Session:
        """Hand out a challenge to be answered, and forget it.

        Raises:
            VerificationError: Unknown, answered before, or too old.
        """
        with self._lock:
            session = self._open.pop(session_id, None)
        return unanswered(session, self._monotonic_s())


@dataclass(frozen=True, slots=True)
class Attested:
    """A workload whose evidence was genuine and accepted by at least one grant.

    Args:
        id: ``jti`` of its token.
        session_id: The cookie that may be sent instead of the token.
        claims: What the evidence proved.
        tee_pubkey: Everything released goes to this key.
        workload: The client's hint.
        expires_s: Unix time.
    """

    id: str
    session_id: str
    claims: Claims
    tee_pubkey: TeePublicKey
    workload: str | None
    expires_s: int


class Attestations(Protocol):
    """Live attestations, found by token id or by session cookie."""

    def add(self, attested: Attested, now_s: int) -> None:
        """Remember an attestation until it expires.

        Raises:
            Busy: Too many are live.
            UnavailableError: It can't be remembered.
        """
        ...

    def by_id(self, token_id: str, now_s: int) -> Attested:
        """Find by token id.

        Raises:
            VerificationError: Unknown or expired.
            UnavailableError: It can't be looked up.
        """
        ...

    def by_session(self, session_id: str, now_s: int) -> Attested:
        """Find by session cookie.

        Raises:
            VerificationError: Unknown or expired.
            UnavailableError: It can't be looked up.
        """
        ...


class MemoryAttestations:
    """Live attestations of one process.

    Args:
        max_tokens: At most so many at once.
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._lock = threading.Lock()
        self._by_id: dict[str, Attested] = {}
        self._id_of_session: dict[str, str] = {}

    def add(self, attested: Attested, now_s: int) -> None:
        """Remember an attestation until it expires.

        Raises:
            Busy: Too many are live.
        """
        with self._lock:
            if len(self._by_id) >= self._max_tokens:
                self._forget_expired(now_s)
            if len(self._by_id) >= self._max_tokens:
                raise Busy("too many live tokens")
            self._by_id[attested.id] = attested
            self._id_of_session[attested.session_id] = attested.id

    def by_id(self, token_id: str, now_s: int) -> Attested:
        """Find by token id.

        Raises:
            VerificationError: Unknown or expired.
        """
        with self._lock:
            attested = self._by_id.get(token_id)
        return live(attested, now_s)

    def by_session(self, session_id: str, now_s: int) -> Attested:
        """Find by session cookie.

        Raises:
            VerificationError: Unknown or expired.
        """
        with self._lock:
            attested = self._by_id.get(self._id_of_session.get(session_id, ""))
        return live(attested, now_s)

    def _forget_expired(self, now_s: int) -> None:
        for attested in [a for a in self._by_id.values() if a.expires_s <= now_s]:
            del self._by_id[attested.id]
            del self._id_of_session[attested.session_id]


def live(attested: Attested | None, now_s: int) -> Attested:
    """An attestation that was found and has not expired.

    Raises:
        VerificationError: Unknown or expired.
    """
    if attested is None:
        raise VerificationError("no such attestation", code="token.unknown")
    if attested.expires_s <= now_s:
        raise VerificationError("the token has expired", code="token.expired")
    return attested
