"""Open challenges and live attestations in the database, where replicas share them: `/auth` may reach one replica and
`/attest` another.

A row is found by the SHA-256 of the id that the client shows, and everything else in it is wrapped: who can read the
database learns neither cookies nor nonces. A challenge is deleted in the statement that reads it, so whichever replica
is asked first has it. Its end is inside the wrapping: a database that brings back an answered challenge can do so until
that end only. The replicas' clocks must agree within a few seconds.
"""

import hashlib
from collections.abc import Callable
from typing import Final

import sqlalchemy as sa

from strongroom.attestation.claims import Claims
from strongroom.broker.limits import Busy
from strongroom.broker.sessions import Attested, Session, live, new_session, unanswered
from strongroom.broker.store import Store
from strongroom.broker.tables import attestations, challenges
from strongroom.formats.canonical import JsonValue, canonical_json, parse_json_object
from strongroom.formats.kbs import TeePublicKey
from strongroom.formats.members import Members

MAX_ROW_BYTES: Final = 64 * 1024
PURGED_AT_ONCE: Final = 1000
_CODE: Final = "session.malformed"


class SharedSessions:
    """Open challenges of all replicas.

    Args:
        store: The database.
        ttl_s: Life of a challenge.
        max_sessions: At most so many at once.
        now_s: Wall clock, Unix time.
    """

    blocking: Final = True

    def __init__(self, store: Store, ttl_s: int, max_sessions: int, now_s: Callable[[], float]) -> None:
        self._store = store
        self._ttl_s = ttl_s
        self._max_sessions = max_sessions
        self._now_s = now_s

    def open(self, tee: str, workload: str | None) -> Session:
        """Make a challenge.

        Raises:
            Busy: Too many are open.
            UnavailableError: The database can't be written.
        """
        now_s = int(self._now_s())
        session = new_session(tee, workload, now_s + self._ttl_s)
        payload: dict[str, JsonValue] = {"nonce": session.nonce, "tee": tee, "expires_s": now_s + self._ttl_s}
        if workload is not None:
            payload["workload"] = workload
        digest = _digest(session.id)
        wrapped = self._store.seal_row(challenges.name, {"digest": digest.hex()}, canonical_json(payload))
        with self._store.sharing() as connection:
            _make_room(connection, challenges, now_s, self._max_sessions, "too many open sessions")
            connection.execute(
                sa.insert(challenges).values(digest=digest, expires_s=now_s + self._ttl_s, wrapped=wrapped)
            )
        return session

    def take(self, session_id: str) -> Session:
        """Hand out a challenge to be answered, and forget it; one replica gets it, once.

        Raises:
            VerificationError: Unknown, answered before, too old, or altered in the database.
            FormatError: Altered in the database.
            UnavailableError: The database can't be written.
        """
        digest = _digest(session_id)
        taken = sa.delete(challenges).where(challenges.c.digest == digest).returning(challenges.c.wrapped)
        with self._store.sharing() as connection:
            wrapped = connection.execute(taken).scalar()
        session = self._opened(session_id, digest, wrapped) if wrapped is not None else None
        return unanswered(session, self._now_s())

    def _opened(self, session_id: str, digest: bytes, wrapped: bytes) -> Session:
        payload = self._store.open_row(challenges.name, {"digest": digest.hex()}, wrapped)
        members = Members(parse_json_object(payload, max_bytes=MAX_ROW_BYTES), what="session", code=_CODE)
        session = Session(
            session_id,
            members.text("nonce"),
            members.text("tee"),
            members.text("workload") if "workload" in members else None,
            members.number("expires_s"),
        )
        members.finish()
        return session


class SharedAttestations:
    """Live attestations of all replicas.

    Args:
        store: The database.
        max_tokens: At most so many at once.
    """

    def __init__(self, store: Store, max_tokens: int) -> None:
        self._store = store
        self._max_tokens = max_tokens

    def add(self, attested: Attested, now_s: int) -> None:
        """Remember an attestation until it expires.

        Raises:
            Busy: Too many are live.
            UnavailableError: The database can't be written.
        """
        digest = _digest(attested.id)
        wrapped = self._store.seal_row(attestations.name, {"digest": digest.hex()}, canonical_json(_to_json(attested)))
        row = {
            "digest": digest,
            "session_digest": _digest(attested.session_id),
            "expires_s": attested.expires_s,
            "wrapped": wrapped,
        }
        with self._store.sharing() as connection:
            _make_room(connection, attestations, now_s, self._max_tokens, "too many live tokens")
            connection.execute(sa.insert(attestations).values(row))

    def by_id(self, token_id: str, now_s: int) -> Attested:
        """Find by token id.

        Raises:
            VerificationError: Unknown, expired, or altered in the database.
            FormatError: Altered in the database.
            UnavailableError: The database can't be read.
        """
        return live(self._find(attestations.c.digest == _digest(token_id)), now_s)

    def by_session(self, session_id: str, now_s: int) -> Attested:
        """Find by session cookie.

        Raises:
            VerificationError: Unknown, expired, or altered in the database.
            FormatError: Altered in the database.
            UnavailableError: The database can't be read.
        """
        found = self._find(attestations.c.session_digest == _digest(session_id))
        return live(found if found and found.session_id == session_id else None, now_s)

    def _find(self, which: sa.ColumnElement[bool]) -> Attested | None:
        query = sa.select(attestations.c.digest, attestations.c.wrapped).where(which)
        with self._store.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        payload = self._store.open_row(attestations.name, {"digest": row.digest.hex()}, row.wrapped)
        return _from_json(parse_json_object(payload, max_bytes=MAX_ROW_BYTES))


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _make_room(connection: sa.Connection, table: sa.Table, now_s: int, places: int, full: str) -> None:
    """Purge what has expired, then check the bound; transactions at the same moment may each find the last place free.

    Raises:
        Busy: The bound is reached.
    """
    old = sa.select(table.c.digest).where(table.c.expires_s <= now_s).limit(PURGED_AT_ONCE)
    # What another replica purges at this moment is left to it; to wait for each other could end in a deadlock.
    connection.execute(sa.delete(table).where(table.c.digest.in_(old.with_for_update(skip_locked=True))))
    live_rows = sa.select(sa.func.count()).select_from(table).where(table.c.expires_s > now_s)
    if connection.execute(live_rows).scalar_one() >= places:
        raise Busy(full)


def _to_json(attested: Attested) -> dict[str, JsonValue]:
    values: dict[str, JsonValue] = {
        "id": attested.id,
        "session_id": attested.session_id,
        "claims": attested.claims.to_json(),
        "tee_pubkey": dict(attested.tee_pubkey.members),
        "expires_s": attested.expires_s,
    }
    return values | ({"workload": attested.workload} if attested.workload is not None else {})


def _from_json(value: dict[str, object]) -> Attested:
    members = Members(value, what="attestation", code=_CODE)
    claims = members.value("claims")
    attested = Attested(
        id=members.text("id"),
        session_id=members.text("session_id"),
        claims=Claims.from_json(claims if isinstance(claims, dict) else {}),
        tee_pubkey=TeePublicKey.parse(members.value("tee_pubkey")),
        workload=members.text("workload") if "workload" in members else None,
        expires_s=members.number("expires_s"),
    )
    members.finish()
    return attested
