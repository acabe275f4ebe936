"""Evidence of executors at their driver: what is taken, what is refused, and who may not be missing in a receipt."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.analytics.receipts import EXECUTOR, executor_statement, verify_receipt
from strongroom.analytics.spark import evidence
from strongroom.analytics.spark.evidence import Attester, Participants
from strongroom.errors import KeyReleaseError, VerificationError
from strongroom.platforms.simulated import SimulatedMachine

JOB, SIGNER = b"j" * 32, b"s" * 32
FIRST, SECOND = "app-1/0", "app-1/1"


@pytest.fixture(scope="module")
def attester(tmp_path_factory: pytest.TempPathFactory) -> Attester:
    machine = SimulatedMachine.create(tmp_path_factory.mktemp("machine") / "m", datetime.now(UTC))
    platform = machine.platform(mr_enclave=b"m" * 32, isv_prod_id=1, isv_svn=1)
    return Attester(platform.quote, "simulated", "taxi")


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def participants(told: list[str]) -> Participants:
    return Participants(JOB, SIGNER, told.append)


def about(participants: Participants) -> bytes:
    return bytes.fromhex(participants.settings("")["spark.strongroom.job"])


def test_lists_every_executor_with_its_evidence(participants: Participants, attester: Attester) -> None:
    for name in (FIRST, SECOND):
        participants.operations[b"J"](name, b"")
        participants.operations[b"E"](name, attester.as_executor(name, about(participants)))
        participants.operations[b"T"](name, b"")
    workers = participants.workers(timeout_s=0)
    assert [(w.role, w.name, w.platform, w.workload) for w in workers] == [
        (EXECUTOR, FIRST, "simulated", "taxi"),
        (EXECUTOR, SECOND, "simulated", "taxi"),
    ]


def test_lists_an_executor_that_is_gone(participants: Participants, attester: Attester) -> None:
    participants.operations[b"J"](FIRST, b"")
    participants.operations[b"E"](FIRST, attester.as_executor(FIRST, about(participants)))
    participants.operations[b"L"](FIRST, b"")
    assert [worker.name for worker in participants.workers(timeout_s=0)] == [FIRST]


def test_without_executors_there_is_nothing_to_list(participants: Participants) -> None:
    assert participants.workers(timeout_s=0) == ()


@pytest.mark.parametrize("events", [b"J", b"T", b"JT", b"JTL"])
def test_refuses_a_receipt_without_an_executor_that_took_part(participants: Participants, events: bytes) -> None:
    for event in events:
        participants.operations[bytes([event])](FIRST, b"")
    with pytest.raises(VerificationError, match=f"{FIRST} took part and handed in no evidence"):
        participants.workers(timeout_s=0)


def test_one_that_left_before_its_first_task_had_no_part(participants: Participants) -> None:
    participants.operations[b"J"](FIRST, b"")
    participants.operations[b"L"](FIRST, b"")
    assert participants.workers(timeout_s=0) == ()


@pytest.mark.parametrize(
    "statement",
    [
        executor_statement(JOB, SIGNER, SECOND),
        executor_statement(b"k" * 32, SIGNER, FIRST),
        executor_statement(JOB, b"x" * 32, FIRST),
        bytes(64),
    ],
)
def test_refuses_forged_evidence_and_says_so(
    participants: Participants, attester: Attester, told: list[str], statement: bytes
) -> None:
    quote = base64.b64encode(attester.quote(statement)).decode()
    forged = json.dumps({"platform": "gramine", "workload": "taxi", "quote": quote}).encode()
    with pytest.raises(KeyReleaseError, match="another executor or another job"):
        participants.take(FIRST, forged)
    assert [FIRST in line for line in told] == [True]
    assert participants.workers(timeout_s=0) == ()


def test_refuses_evidence_for_the_same_executor_twice(participants: Participants, attester: Attester) -> None:
    made = attester.as_executor(FIRST, about(participants))
    participants.take(FIRST, made)
    with pytest.raises(KeyReleaseError, match="there already"):
        participants.take(FIRST, made)


def test_refuses_more_executors_than_a_receipt_lists(
    participants: Participants, attester: Attester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "MAX_EXECUTORS", 1)
    participants.take(FIRST, attester.as_executor(FIRST, about(participants)))
    with pytest.raises(KeyReleaseError, match="too many"):
        participants.take(SECOND, attester.as_executor(SECOND, about(participants)))


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=100)
    | st.fixed_dictionaries(
        {"platform": st.text(max_size=5), "workload": st.text(max_size=5), "quote": st.text(max_size=50) | st.none()}
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_refused_in_our_own_words(raw: bytes) -> None:
    told: list[str] = []
    with pytest.raises(KeyReleaseError):
        Participants(JOB, SIGNER, told.append).take(FIRST, raw)
    assert len(told) == 1


@pytest.mark.parametrize("size", [0, 32, 63, 65])
def test_an_executor_speaks_about_a_job_and_a_signer_only(attester: Attester, size: int) -> None:
    with pytest.raises(KeyReleaseError):
        attester.as_executor(FIRST, bytes(size))


def test_an_application_s_own_plugins_stay(participants: Participants) -> None:
    assert participants.settings("com.example.Own")["spark.plugins"] == f"com.example.Own,{evidence.PLUGIN}"
    again = participants.settings(participants.settings("com.example.Own")["spark.plugins"])
    assert again["spark.plugins"] == f"com.example.Own,{evidence.PLUGIN}"


def test_a_context_of_the_application_s_own_gets_the_plugin(participants: Participants) -> None:
    from strongroom.analytics.spark.unmodified import _attesting

    class Settings(dict[str, str]):
        def set(self, name: str, value: str) -> None:
            self[name] = value

    class Session:
        class driver:  # noqa: N801  # stands for an object
            pass

    opened: Any = Session()
    opened.driver.participants = participants
    given = Settings({"spark.plugins": "com.example.Own"})
    _attesting(lambda _, settings: settings, opened)(None, given)
    assert given["spark.plugins"] == f"com.example.Own,{evidence.PLUGIN}"


@pytest.mark.slow
def test_in_local_mode_the_driver_is_the_only_executor_and_the_receipt_says_so(opened: Any, signer: Any) -> None:
    assert opened.spark.range(10).count() == 10
    statement = verify_receipt(opened.receipt(b"app"), trusted=frozenset({signer.public}))
    assert [(worker["role"], worker["platform"]) for worker in statement["workers"]] == [
        ("driver and executor", "none")
    ]
    assert (statement["job"], statement["tables"], statement["outputs"]) == ("", [], [])
    assert statement["query"] == hashlib.sha256(b"app").hexdigest()


@pytest.mark.slow
def test_a_receipt_names_every_table_that_was_read_and_written(
    opened: Any, signer: Any, folder: Path, rows: Any, write_table: Any
) -> None:
    """Also two versions of one, read one after the other."""
    first = write_table(folder / "trips", rows)
    opened.table("trips", folder / "trips")
    write_table(folder / "trips", rows.slice(0, 100), previous=first)
    trips = opened.table("trips", folder / "trips")
    written = opened.write(trips, "copy", folder / "copy", key="taxi/key/trips")
    statement = verify_receipt(opened.receipt(b"app"), trusted=frozenset({signer.public}), manifests=[first])
    assert [(table["name"], table["version"]) for table in statement["tables"]] == [("trips", 1), ("trips", 2)]
    assert statement["outputs"] == [{"form": "sealed", "name": "copy", "digest": written.digest.hex(), "rows": 100}]
