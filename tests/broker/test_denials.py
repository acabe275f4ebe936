"""A stranger who is denied again and again: the log stays small and still says how often."""

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from strongroom.broker import denials
from strongroom.broker.audit import Entry
from strongroom.broker.denials import AT_ONCE, COUNTED, MAX_KINDS, OTHER, BoundedDenials
from strongroom.broker.periodic import repeating
from strongroom.broker.records import MAX_RECORD_BYTES, verify_records
from strongroom.errors import Finding, UnavailableError

if TYPE_CHECKING:
    from tests.broker.conftest import Broker, Clock, Kbc

NOW = datetime(2026, 6, 1, tzinfo=UTC)
BEYOND = 25


class Log:
    """An audit log in memory that can fail."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.full = False

    def append(self, entry: Entry, now: datetime) -> int:
        if self.full:
            raise UnavailableError("no space left")
        self.entries.append(entry)
        return len(self.entries)

    def append_within(self, connection: sa.Connection, entry: Entry, now: datetime) -> int:
        return self.append(entry, now)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def time() -> list[float]:
    """The monotonic clock."""
    return [0.0]


@pytest.fixture
def bounded(log: Log, time: list[float]) -> BoundedDenials:
    return BoundedDenials(log, lambda: time[0])


def denial(code: str = "evidence.nonce", **values: Any) -> Entry:
    return Entry("attest", "deny", findings=(Finding(code, "why"),), **values)


def repeat(log: BoundedDenials, times: int, entry: Entry) -> None:
    for _ in range(times):
        log.append(entry, NOW)


def test_the_first_denials_are_whole_and_the_rest_is_counted(log: Log, bounded: BoundedDenials) -> None:
    repeat(bounded, AT_ONCE + BEYOND, denial())
    assert log.entries == [denial()] * AT_ONCE
    bounded.flush(NOW + timedelta(seconds=60))
    assert log.entries[AT_ONCE:] == [Entry(COUNTED, "deny", counted={"attest evidence.nonce": BEYOND}, since=NOW)]
    bounded.flush(NOW + timedelta(seconds=120))
    assert len(log.entries) == AT_ONCE + 1


def test_every_denial_is_told_or_counted_and_the_log_does_not_grow_with_them(
    log: Log, bounded: BoundedDenials, time: list[float]
) -> None:
    for minute in range(10):
        time[0] = minute * 60.0
        repeat(bounded, 500, denial())
        bounded.flush(NOW)
    told = sum(entry == denial() for entry in log.entries)
    assert told + sum(sum(entry.counted.values()) for entry in log.entries) == 5000
    assert len(log.entries) <= AT_ONCE + 10 + 10


def test_denials_for_one_reason_do_not_hide_those_for_another(log: Log, bounded: BoundedDenials) -> None:
    repeat(bounded, 10 * AT_ONCE, denial())
    others = [
        denial("measurement.mr_enclave", who={"tee": "sgx"}, name="loan-train"),
        denial("measurement.mr_enclave", who={"tee": "sgx"}, name="loan-serve"),
        Entry("release", "deny", findings=(Finding("evidence.nonce", "why"),)),
        Entry("attest", "deny"),
    ]
    for entry in others:
        bounded.append(entry, NOW)
    assert log.entries[AT_ONCE:] == others


def test_a_name_that_a_stranger_makes_up_is_no_reason_of_its_own(log: Log, bounded: BoundedDenials) -> None:
    for number in range(AT_ONCE + BEYOND):
        bounded.append(denial(name=f"made-up-{number}"), NOW)
    assert len(log.entries) == AT_ONCE
    bounded.flush(NOW)
    assert log.entries[-1].counted == {"attest evidence.nonce": BEYOND}


def test_what_is_allowed_is_never_counted(log: Log, bounded: BoundedDenials) -> None:
    repeat(bounded, 3 * AT_ONCE, Entry("attest", "allow", name="loan-train"))
    assert len(log.entries) == 3 * AT_ONCE


def test_a_log_that_can_not_be_written_keeps_the_counts(log: Log, bounded: BoundedDenials) -> None:
    repeat(bounded, AT_ONCE + BEYOND, denial())
    log.full = True
    with pytest.raises(UnavailableError):
        bounded.flush(NOW + timedelta(seconds=60))
    with pytest.raises(UnavailableError):
        bounded.append(Entry("attest", "allow"), NOW)
    repeat(bounded, 1, denial())
    log.full = False
    bounded.flush(NOW + timedelta(seconds=120))
    assert log.entries[-1].counted == {"attest evidence.nonce": BEYOND + 1}
    assert log.entries[-1].since == NOW


def test_one_record_holds_all_kinds(broker: "Broker", time: list[float]) -> None:
    bounded = BoundedDenials(broker.parts.log, lambda: time[0])
    bounded._whole._burst = 0
    for number in range(2 * MAX_KINDS):
        bounded.append(denial("measurement.mr_enclave", who={"tee": "sgx"}, name=f"{number:0>63}"), NOW)
    bounded.flush(NOW)
    record = broker.parts.log.read()[-1].record
    assert len(record) < MAX_RECORD_BYTES
    counted = json.loads(record)["counted"]
    assert (len(counted), sum(counted.values())) == (MAX_KINDS + 1, 2 * MAX_KINDS)
    assert counted[OTHER] == MAX_KINDS


def test_many_threads_lose_no_denial(log: Log, bounded: BoundedDenials) -> None:
    threads = [threading.Thread(target=repeat, args=(bounded, 500, denial())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        bounded.flush(NOW)
    for thread in threads:
        thread.join()
    bounded.flush(NOW)
    told = sum(entry == denial() for entry in log.entries)
    assert told + sum(sum(entry.counted.values()) for entry in log.entries) == 8 * 500


class TestBroker:
    def test_a_flood_of_bad_evidence_leaves_a_small_log(self, granted: "Broker", kbc: "Kbc", clock: "Clock") -> None:
        before = len(granted.events())
        for _ in range(AT_ONCE + BEYOND):
            clock.advance(0.05)  # below the bound on requests
            kbc.nonce()
            assert kbc.send(kbc.evidence("another")).status_code == 401
        assert len(granted.events()) == before + AT_ONCE
        assert kbc.attest().status_code == 200
        granted.parts.denials.flush(clock())
        *_, allowed, counted = granted.events()
        assert (allowed["event"], allowed["decision"]) == ("attest", "allow")
        assert counted["event"] == COUNTED
        assert sum(counted["counted"].values()) == BEYOND
        assert counted["since"] <= counted["time"]
        verify_records(granted.parts.log.read())

    def test_what_was_counted_is_in_the_log_when_the_broker_ends(
        self, granted: "Broker", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written = Log()
        monkeypatch.setattr(granted.parts.denials, "_log", written)
        repeat(granted.parts.denials, AT_ONCE + BEYOND, denial())
        granted.parts.close()
        assert written.entries[-1].counted == {"attest evidence.nonce": BEYOND}


def test_repeating_goes_on_after_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    done = threading.Semaphore(0)

    def work() -> None:
        done.release()
        raise ValueError("secret text")

    with repeating("work", 0.001, work):
        assert all(done.acquire(timeout=30) for _ in range(3))
    line = json.loads(capsys.readouterr().err.splitlines()[0])
    assert (line["event"], line["work"], line["error"]) == ("broker.periodic", "work", "ValueError")


def test_the_bounds_are_what_the_reference_says() -> None:
    assert (AT_ONCE, denials.PER_S, denials.INTERVAL_S) == (100, 1 / 60, 60.0)
