"""Bounds what strangers can make the audit log grow by: repeated denials are counted instead of told one by one.

A denial costs whoever asks nothing, and a disk that is full of them stops every release. So each reason may fill the
log at once with a number of whole records, and afterwards with one a minute; what comes beyond is counted, and one
record a minute says how many of which kind. Denials for one reason never hide those for another. Every decision is
still in the log, as a record or in a count; a broker that is killed loses the counts of its last minute.
"""

import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from strongroom.broker.audit import AuditLog, Entry
from strongroom.broker.limits import RateLimit, TooManyRequests

AT_ONCE: Final = 100
PER_S: Final = 1 / 60
INTERVAL_S: Final = 60.0
MAX_KINDS: Final = 256
"""Kinds that one record tells apart; a kind has at most some 150 characters, a record at most 64 KiB."""
COUNTED: Final = "denials.counted"
OTHER: Final = "other"


class BoundedDenials:
    """An audit log that counts repeated denials.

    Args:
        log: Where records go.
        monotonic_s: Clock that never goes back.
    """

    def __init__(self, log: AuditLog, monotonic_s: Callable[[], float]) -> None:
        self._log = log
        self._whole = RateLimit(PER_S, AT_ONCE, monotonic_s)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._since: datetime | None = None

    def append(self, entry: Entry, now: datetime) -> int:
        """Append one entry, or count it.

        Args:
            entry: One decision; anything but a denial is always appended.
            now: Aware time.

        Returns:
            The sequence number; 0: it was counted.

        Raises:
            UnavailableError: The log can't be written; nothing may be released.
        """
        if entry.decision == "deny":
            kind = _kind(entry)
            try:
                self._whole.take(kind)
            except TooManyRequests:
                self._count(Counter({kind: 1}), now)
                return 0
        return self._log.append(entry, now)

    def append_within(self, connection: sa.Connection, entry: Entry, now: datetime) -> int:
        """Append one entry inside a write transaction; such entries are the owner's and are never counted."""
        return self._log.append_within(connection, entry, now)

    def flush(self, now: datetime) -> None:
        """Append one record about the denials that were counted, if any were.

        Args:
            now: Aware time.

        Raises:
            UnavailableError: The log can't be written; the counts are kept.
        """
        with self._lock:
            counts, since = self._counts, self._since or now
            self._counts, self._since = Counter(), None
        if not counts:
            return
        try:
            self._log.append(Entry(COUNTED, "deny", counted=dict(sorted(counts.items())), since=since), now)
        except BaseException:
            self._count(counts, since)
            raise

    def _count(self, counts: Counter[str], since: datetime) -> None:
        with self._lock:
            for kind, number in counts.items():
                known = kind in self._counts or len(self._counts) < MAX_KINDS
                self._counts[kind if known else OTHER] += number
            self._since = min(self._since or since, since)


def _kind(entry: Entry) -> str:
    """Event, first reason and, where the evidence was genuine, the grant: nothing a stranger chooses freely."""
    reason = entry.findings[0].code if entry.findings else "-"
    return " ".join(filter(None, (entry.event, reason, entry.name if entry.who else None)))
