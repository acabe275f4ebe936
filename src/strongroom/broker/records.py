"""Records of the audit log, and how anybody checks that none was changed, removed or reordered.

A record is one canonical JSON object. Its leaf hash is SHA-256(0x00 || record), the leaf hash of RFC 6962 section 2.1,
and every record names the leaf hash of the one before it, so nothing inside the log can be changed, removed or
reordered without changing the last hash. Cutting off the end is noticed by whoever remembers a later hash.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from strongroom.errors import VerificationError
from strongroom.formats.canonical import parse_json_object

LEAF_PREFIX: Final = b"\x00"
NO_RECORD: Final = bytes(32)
MAX_RECORD_BYTES: Final = 64 * 1024
MAX_PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it stands in the log."""

    seq: int
    record: bytes
    leaf_hash: bytes


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
