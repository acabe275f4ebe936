"""The audit log: what a record says, and that nothing in it can be changed unnoticed."""

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.broker.audit import Entry, StoredAuditLog
from strongroom.broker.records import MAX_PAGE, NO_RECORD, Record, leaf_hash, verified, verify_records
from strongroom.broker.tables import audit as audit_table
from strongroom.errors import Finding, FormatError, UnavailableError, VerificationError

if TYPE_CHECKING:
    from tests.broker.conftest import Broker

NOW = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
on_both = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def log(broker: "Broker") -> StoredAuditLog:
    for number in range(4):
        broker.parts.log.append(Entry("release", "allow", name=f"w{number}"), NOW)
    return broker.parts.log


def test_record_is_canonical_json_of_the_entry(broker: "Broker") -> None:
    entry = Entry(
        "release",
        "deny",
        name="loan-train",
        who={"tee": "sgx"},
        path="loan/key/book",
        policy_digest="aa",
        collateral_digest="bb",
        findings=(Finding("tcb.status", "found OutOfDate"),),
    )
    seq = broker.parts.log.append(entry, NOW)
    record = broker.parts.log.read()[-1]
    previous = broker.parts.log.read()[-2].leaf_hash.hex()
    assert record.record.decode() == (
        '{"collateral_digest":"bb","decision":"deny","event":"release",'
        '"findings":[{"code":"tcb.status","detail":"found OutOfDate"}],"name":"loan-train","path":"loan/key/book",'
        f'"policy_digest":"aa","previous":"{previous}","seq":{seq},"time":"2026-11-21T12:00:00.123+00:00",'
        '"who":{"tee":"sgx"}}'
    )


def test_leaf_hash_is_the_one_of_rfc_6962() -> None:
    # RFC 6962 section 2.1: MTH({d(0)}) = SHA-256(0x00 || d(0)); for the empty string a well-known value.
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert leaf_hash(b"record") == hashlib.sha256(b"\x00record").digest()


@on_both
def test_numbers_have_no_gap_and_the_chain_holds(log: StoredAuditLog) -> None:
    records = log.read()
    assert [record.seq for record in records] == [1, 2, 3, 4, 5]
    assert verify_records(records) == (5, records[-1].leaf_hash)
    assert json.loads(records[0].record)["previous"] == NO_RECORD.hex()


def test_verifies_the_rest_of_a_known_beginning(log: StoredAuditLog) -> None:
    records = log.read()
    assert verify_records(records[2:], seq=2, head=records[1].leaf_hash)[0] == 5
    with pytest.raises(VerificationError):
        verify_records(records[2:], seq=2, head=bytes(32))


@on_both
def test_nothing_is_added_by_a_transaction_that_fails(broker: "Broker") -> None:
    before = broker.parts.log.read()

    def fail() -> None:
        with broker.parts.store.writing() as connection:
            broker.parts.log.append_within(connection, Entry("key.create", "allow"), NOW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert broker.parts.log.read() == before


@on_both
def test_append_fails_when_the_database_does(broker: "Broker") -> None:
    with broker.parts.store.writing() as connection:
        connection.execute(sa.text("DROP TABLE audit"))
    with pytest.raises(UnavailableError):
        broker.parts.log.append(Entry("release", "allow"), NOW)


def rehash(record: Record, **changes: object) -> Record:
    text = json.dumps(json.loads(record.record) | changes, sort_keys=True, separators=(",", ":")).encode()
    return Record(record.seq, text, leaf_hash(text))


class TestTampering:
    def test_notices_changed_record(self, log: StoredAuditLog) -> None:
        records = log.read()
        records[2] = Record(3, records[2].record.replace(b"allow", b"deny!"), records[2].leaf_hash)
        with pytest.raises(VerificationError):
            verify_records(records)

    def test_notices_changed_record_with_a_new_hash(self, log: StoredAuditLog) -> None:
        records = log.read()
        records[2] = rehash(records[2], decision="deny")
        with pytest.raises(VerificationError):
            verify_records(records)

    def test_notices_removed_record(self, log: StoredAuditLog) -> None:
        records = log.read()
        del records[2]
        with pytest.raises(VerificationError):
            verify_records(records)

    def test_notices_removed_and_renumbered_record(self, log: StoredAuditLog) -> None:
        records = log.read()
        renumbered = rehash(Record(3, records[3].record, b""), seq=3)
        with pytest.raises(VerificationError):
            verify_records([*records[:2], renumbered])

    def test_notices_reordered_records(self, log: StoredAuditLog) -> None:
        records = log.read()
        with pytest.raises(VerificationError):
            verify_records([records[0], records[2], records[1], *records[3:]])

    def test_notices_missing_beginning(self, log: StoredAuditLog) -> None:
        with pytest.raises(VerificationError):
            verify_records(log.read()[1:])

    def test_notices_number_that_differs_from_the_record(self, log: StoredAuditLog) -> None:
        records = log.read()
        records[2] = Record(3, records[1].record, records[1].leaf_hash)
        with pytest.raises(VerificationError):
            verify_records(records)

    def test_refuses_record_that_is_not_json(self) -> None:
        with pytest.raises(FormatError):
            verify_records([Record(1, b"x", leaf_hash(b"x"))])


def test_reads_a_long_log_page_by_page(broker: "Broker") -> None:
    with broker.parts.store.writing() as connection:
        for _ in range(MAX_PAGE + 5):
            broker.parts.log.append_within(connection, Entry("attest", "deny"), NOW)
    records = list(verified(broker.parts.log.read))
    assert len(records) == MAX_PAGE + 6
    assert len(broker.parts.log.read(0, 10 * MAX_PAGE)) == MAX_PAGE
    with broker.parts.store.writing() as connection:
        connection.execute(sa.delete(audit_table).where(audit_table.c.seq == MAX_PAGE + 1))
    with pytest.raises(VerificationError):
        list(verified(broker.parts.log.read))


@given(st.text(max_size=700))
@settings(max_examples=50)
def test_any_detail_can_be_logged(detail: str) -> None:
    from strongroom.broker.audit import _members
    from strongroom.formats.canonical import canonical_json

    entry = Entry("attest", "deny", findings=(Finding("x.y", detail + "\ud800"),))
    record = json.loads(canonical_json(_members(entry, 1, NOW, NO_RECORD)))
    assert len(record["findings"][0]["detail"]) <= 500
