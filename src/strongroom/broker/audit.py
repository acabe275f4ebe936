"""The audit log: every decision, appended and on the disk before its answer leaves the broker.

A record is one canonical JSON object. Its leaf hash is SHA-256(0x00 || record), the leaf hash of RFC 6962 section 2.1,
and every record names the leaf hash of the one before it, so nothing inside the log can be changed, removed or
reordered without changing the last hash. Cutting off the end is noticed by whoever remembers a later hash.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol

import sqlalchemy as sa

from strongroom.broker.store import Store, audit
from strongroom.errors import Finding, VerificationError
from strongroom.formats.canonical import JsonValue, canonical_json, parse_json_object

LEAF_PREFIX: Final = b"\x00"
NO_RECORD: Final = bytes(32)
MAX_RECORD_BYTES: Final = 64 * 1024
MAX_DETAIL_CHARS: Final = 500
MAX_PAGE: Final = 1000

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
    """

    event: str
    decision: Decision
    name: str | None = None
    who: dict[str, JsonValue] = field(default_factory=dict)
    path: str | None = None
    policy_digest: str | None = None
    collateral_digest: str | None = None
    findings: Sequence[Finding] = ()


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it stands in the log."""

    seq: int
    record: bytes
    leaf_hash: bytes


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
    }
    return members | {name: value for name, value in optional.items() if value is not None}


def _plain(detail: str) -> str:
    """Bounded text without lone surrogates: a detail may quote what a stranger sent."""
    return detail[:MAX_DETAIL_CHARS].encode(errors="replace").decode()


def leaf_hash(record: bytes) -> bytes:
    """SHA-256(0x00 || record): leaf hash of RFC 6962 section 2.1."""
    return hashlib.sha256(LEAF_PREFIX + record).digest()


def verify_records(records: Iterable[Record], *, seq: int = 0, head: bytes = NO_RECORD) -> tuple[int, bytes]:
    """Check that records follow each other without gap or change.

    Args:
        records: In order.
        seq: Sequence number of the record before the first.
        head: Leaf hash of the record before the first.

    Returns:
        Sequence number and leaf hash of the last record (of the arguments, if there is none).

    Raises:
        VerificationError: A record was changed, removed, reordered or inserted.
        FormatError: A record is not JSON.
    """
    for record in records:
        members = parse_json_object(record.record, max_bytes=MAX_RECORD_BYTES)
        expected = {"seq": seq + 1, "previous": head.hex()}
        if record.seq != seq + 1 or leaf_hash(record.record) != record.leaf_hash:
            raise VerificationError(f"audit record {seq + 1} was altered or is missing", code="audit.record")
        if {name: members.get(name) for name in expected} != expected:
            raise VerificationError(f"audit record {seq + 1} does not follow the one before it", code="audit.chain")
        seq, head = record.seq, record.leaf_hash
    return seq, head


def verified(read: Callable[[int], list[Record]], *, after: int = 0, head: bytes = NO_RECORD) -> Iterator[Record]:
    """A whole log, page by page, each page checked before it is handed on.

    Args:
        read: Gives the page after a sequence number; at most 1000 records.
        after: Sequence number of the last record already known.
        head: Its leaf hash; zeros for the beginning.

    Yields:
        Records in order.

    Raises:
        VerificationError: A record was changed, removed, reordered or inserted.
        FormatError: A record is not JSON.
    """
    while True:
        page = read(after)
        after, head = verify_records(page, seq=after, head=head)
        yield from page
        if len(page) < MAX_PAGE:
            return
