"""The newest record of the audit log that its owner has seen: what shows a log that was cut off or rolled back.

The log's own hashes can't show it: a log without its end, or an older copy of the whole database, is consistent in
itself. Only somebody who remembers a later record notices.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.broker.folder import write_new
from strongroom.broker.records import Record
from strongroom.errors import ConfigurationError, FormatError, VerificationError
from strongroom.formats.canonical import parse_json_object

FILE_NAME: Final = "log-head.json"
_MAX_BYTES: Final = 1024
_HASH_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class LogHead:
    """A record that was seen.

    Args:
        seq: Its sequence number, from 1.
        leaf_hash: Its leaf hash, 32 bytes.
    """

    seq: int
    leaf_hash: bytes


def read_head(path: Path) -> LogHead | None:
    """The record that was seen last; None if none was.

    Raises:
        ConfigurationError: The file can't be read.
        FormatError: It is not such a file.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", code="audit.head") from None
    members = parse_json_object(raw, max_bytes=_MAX_BYTES)
    seq, text = members.get("seq"), members.get("leaf_hash")
    try:
        leaf_hash = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        leaf_hash = b""
    if members.keys() != {"seq", "leaf_hash"} or type(seq) is not int or seq < 1 or len(leaf_hash) != _HASH_SIZE:
        raise FormatError(f"{path} does not say which record was seen last", code="audit.head")
    return LogHead(seq, leaf_hash)


def write_head(path: Path, head: LogHead) -> None:
    """Remember a record; durable when this returns.

    Raises:
        ConfigurationError: The file can't be written.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        write_new(fresh, json.dumps({"seq": head.seq, "leaf_hash": head.leaf_hash.hex()}).encode())
        fresh.replace(path)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}", code="audit.head") from None


def continuing(records: Iterable[Record], head: LogHead | None, *, after: int = 0) -> Iterator[Record]:
    """The records of a log, if it continues the one that was seen before.

    Args:
        records: In order, already checked among themselves (`strongroom.broker.records.verified`), to the log's end.
        head: The record seen last, one of them; None: nothing to compare with.
        after: Sequence number of the record before the first.

    Yields:
        The records.

    Raises:
        VerificationError: Another record stands in that place, or the log ends before it.
    """
    seq = after
    for record in records:
        seq = record.seq
        if head and seq == head.seq and record.leaf_hash != head.leaf_hash:
            raise VerificationError(f"audit record {seq} is not the one that was seen before", code="audit.rolled_back")
        yield record
    if head and seq < head.seq:
        raise VerificationError(
            f"the log ends at record {seq}, but record {head.seq} was seen before",
            code="audit.rolled_back",
            hint="an older copy of the broker's database may be in use: what was revoked since then counts again",
        )
