"""The audit log: every decision, appended and on the disk before its answer leaves the broker.

What a record is and how a log is checked: `strongroom.broker.records`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol

import sqlalchemy as sa

from strongroom.broker.records import MAX_PAGE, NO_RECORD, Record, leaf_hash
from strongroom.broker.store import Store
from strongroom.broker.tables import audit
from strongroom.errors import Finding
from strongroom.formats.canonical import JsonValue, canonical_json

MAX_DETAIL_CHARS: Final = 500

Decision = Literal["allow", "deny"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision, to be logged. Never a key, a token, a whole quote or a platform identifier.

    Args:
        event: What was asked: ``attest``, ``release``, ``key.create`` ...
        decision: Allowed or denied.
        name: Grant or workload.
        who: What the evidence proved: TEE, measurement, TCB status, whether simulated.
        path: Key.
        policy_digest: Digest of the policy that decided, hexadecimal.
        collateral_digest: Digest of the collateral the evidence was verified with, hexadecimal.
        findings: Why it was denied.
        counted: In a record about many denials (`strongroom.broker.denials`): how many of each kind.
        since: Then: when the first of them was.
    """

    event: str
    decision: Decision
    name: str | None = None
    who: dict[str, JsonValue] = field(default_factory=dict)
    path: str | None = None
    policy_digest: str | None = None
    collateral_digest: str | None = None
    findings: Sequence[Finding] = ()
    counted: Mapping[str, int] = field(default_factory=dict)
    since: datetime | None = None


class AuditLog(Protocol):
    """Where decisions are written down."""

    def append(self, entry: Entry, now: datetime) -> int:
        """Append one entry durably; its sequence number."""
        ...

    def append_within(self, connection: sa.Connection, entry: Entry, now: datetime) -> int:
        """Append one entry inside a write transaction, so that it stands or falls with it."""
        ...


class StoredAuditLog:
    """The log in the broker's database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def append(self, entry: Entry, now: datetime) -> int:
        """Append one entry in a transaction of its own; it is on the disk when this returns.

        Raises:
            UnavailableError: The log can't be written; nothing may be released.
        """
        with self._store.writing() as connection:
            return self.append_within(connection, entry, now)

    def append_within(self, connection: sa.Connection, entry: Entry, now: datetime) -> int:
        """Append one entry inside a write transaction.

        Args:
            connection: From `Store.writing`.
            entry: What to write down.
            now: Aware time.

        Returns:
            The sequence number, counted from 1 without gaps.
        """
        newest = connection.execute(
            sa.select(audit.c.seq, audit.c.leaf_hash).order_by(audit.c.seq.desc()).limit(1)
        ).first()
        seq, previous = (newest.seq + 1, newest.leaf_hash) if newest else (1, NO_RECORD)
        record = canonical_json(_members(entry, seq, now, previous))
        connection.execute(sa.insert(audit).values(seq=seq, record=record, leaf_hash=leaf_hash(record)))
        return seq

    def read(self, after: int = 0, limit: int = MAX_PAGE) -> list[Record]:
        """Read records in order.

        Args:
            after: Sequence number before the first one wanted.
            limit: At most so many, at most 1000.

        Returns:
            The records.

        Raises:
            UnavailableError: The database can't be read.
        """
        query = sa.select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(min(limit, MAX_PAGE))
        with self._store.reading() as connection:
            return [Record(row.seq, row.record, row.leaf_hash) for row in connection.execute(query)]


def _members(entry: Entry, seq: int, now: datetime, previous: bytes) -> dict[str, JsonValue]:
    members: dict[str, JsonValue] = {
        "seq": seq,
        "time": now.isoformat(timespec="milliseconds"),
        "event": entry.event,
        "decision": entry.decision,
        "previous": previous.hex(),
    }
    optional: dict[str, JsonValue] = {
        "name": entry.name,
        "who": entry.who or None,
        "path": entry.path,
        "policy_digest": entry.policy_digest,
        "collateral_digest": entry.collateral_digest,
        "findings": [{"code": f.code, "detail": _plain(f.detail)} for f in entry.findings] or None,
        "counted": dict(entry.counted) or None,
        "since": entry.since.isoformat(timespec="milliseconds") if entry.since else None,
    }
    return members | {name: value for name, value in optional.items() if value is not None}


def _plain(detail: str) -> str:
    """Bounded text without lone surrogates: a detail may quote what a stranger sent."""
    return detail[:MAX_DETAIL_CHARS].encode(errors="replace").decode()
