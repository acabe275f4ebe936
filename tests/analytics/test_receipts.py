"""Receipts and signatures: what is stated is what was done, and nothing else passes."""

import base64
import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.analytics.engine import query_digest
from strongroom.analytics.manifest import Manifest
from strongroom.analytics.receipts import (
    DRIVER,
    EXECUTOR,
    Output,
    Receipt,
    Together,
    Worker,
    executor_statement,
    sign_receipt,
    signer_statement,
    verify_receipt,
    vouched_signer,
)
from strongroom.analytics.signing import Signer, verify_signature
from strongroom.attestation.collateral import Collateral
from strongroom.attestation.policy import ANY, AppraisalPolicy, EnclaveIdentity
from strongroom.attestation.roots import TrustRoot
from strongroom.attestation.verify import verify_quote
from strongroom.errors import ConfigurationError, FormatError, PolicyRejected, StrongroomError, VerificationError
from strongroom.platforms.simulated import SimulatedMachine

SQL = "SELECT count(*) FROM trips"
SIGNER = Signer.from_seed(b"s" * 32)
TRUSTED = frozenset({SIGNER.public})
TRIPS = Manifest(table="trips", version=3, previous=b"p" * 32, key="taxi/key/trips", columns=(), parts=())
RECEIPT = Receipt(
    query=hashlib.sha256(SQL.encode()).digest(),
    tables=(TRIPS,),
    engine=("duckdb", "2.0.0"),
    workers=(Worker("query", "simulated", "taxi-report", "cXVvdGU="),),
    outputs=(Output("csv", hashlib.sha256(b"42\n").digest(), 1),),
    started=datetime(2026, 11, 21, tzinfo=UTC),
    finished=datetime(2026, 11, 21, 0, 1, tzinfo=UTC),
)


TOGETHER = Together(
    coordinator="keys.example.com:9000",
    parties=3,
    rank=1,
    rounds=30,
    agreement=b"a" * 32,
    parameters={"objective": "binary:logistic", "eta": "0.2"},
)


def test_states_with_whom_and_how_a_federation_trained() -> None:
    raw = sign_receipt(replace(RECEIPT, federation=TOGETHER), SIGNER)
    statement = verify_receipt(raw, trusted=TRUSTED, agreement=TOGETHER.agreement)
    assert statement["federation"] == {
        "coordinator": "keys.example.com:9000",
        "parties": 3,
        "rank": 1,
        "rounds": 30,
        "agreement": TOGETHER.agreement.hex(),
        "parameters": {"objective": "binary:logistic", "eta": "0.2"},
    }
    with pytest.raises(VerificationError) as refusal:
        verify_receipt(raw.replace(b"30", b"31"), trusted=TRUSTED)
    assert refusal.value.code == "analytics.signature"


@pytest.mark.parametrize("together", [None, replace(TOGETHER, agreement=b"b" * 32)])
def test_refuses_a_receipt_of_another_federation(together: Together | None) -> None:
    with pytest.raises(VerificationError) as refusal:
        verify_receipt(
            sign_receipt(replace(RECEIPT, federation=together), SIGNER), trusted=TRUSTED, agreement=TOGETHER.agreement
        )
    assert refusal.value.code == "receipt.federation"


def test_states_everything() -> None:
    statement = verify_receipt(
        sign_receipt(RECEIPT, SIGNER),
        trusted=TRUSTED,
        query=query_digest(SQL),
        output=RECEIPT.outputs[0].digest,
        manifests=[TRIPS],
    )
    assert statement["tables"] == [{"name": "trips", "version": 3, "manifest": TRIPS.digest.hex()}]
    assert statement["engine"] == {"name": "duckdb", "version": "2.0.0"}
    assert statement["workers"][0]["quote"] == "cXVvdGU="
    assert statement["outputs"][0]["rows"] == 1


@pytest.mark.parametrize(
    "compared",
    [
        {"query": query_digest(SQL + " ")},
        {"output": hashlib.sha256(b"43\n").digest()},
        {"manifests": [replace(TRIPS, version=2)]},
        {"manifests": [replace(TRIPS, table="other")]},
    ],
)
def test_refuses_a_receipt_about_something_else(compared: dict[str, Any]) -> None:
    with pytest.raises(VerificationError, match="about another"):
        verify_receipt(sign_receipt(RECEIPT, SIGNER), trusted=TRUSTED, **compared)


def test_refuses_a_signer_who_is_not_trusted() -> None:
    with pytest.raises(VerificationError, match="not trusted"):
        verify_receipt(sign_receipt(RECEIPT, Signer.generate()), trusted=TRUSTED)


def test_refuses_an_altered_statement() -> None:
    envelope = json.loads(sign_receipt(RECEIPT, SIGNER))
    envelope["receipt"] = envelope["receipt"].replace('"rows":1', '"rows":2')
    with pytest.raises(VerificationError, match="signature"):
        verify_receipt(json.dumps(envelope).encode(), trusted=TRUSTED)


def test_a_manifests_signature_is_no_receipts() -> None:
    payload = b"{}"
    with pytest.raises(VerificationError):
        verify_signature(SIGNER.public, "analytics receipt", payload, SIGNER.sign("table manifest", payload))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_an_error_of_ours(raw: bytes) -> None:
    with pytest.raises(StrongroomError):
        verify_receipt(raw, trusted=TRUSTED)


@pytest.mark.parametrize("name", ["receipt", "signer", "signature"])
def test_refuses_a_receipt_without(name: str) -> None:
    envelope = json.loads(sign_receipt(RECEIPT, SIGNER))
    del envelope[name]
    with pytest.raises(FormatError):
        verify_receipt(json.dumps(envelope).encode(), trusted=TRUSTED)


def test_a_signer_needs_a_long_secret() -> None:
    with pytest.raises(ConfigurationError):
        Signer.from_seed(b"short")


def test_a_signers_text_shows_no_secret() -> None:
    assert repr(SIGNER) == f"Signer({SIGNER.public.hex()})"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> SimulatedMachine:
    return SimulatedMachine.create(tmp_path_factory.mktemp("machine") / "m", datetime.now(UTC))


JOB = b"j" * 32


def vouched(
    machine: SimulatedMachine,
    *,
    expected: bytes = b"m" * 32,
    about: bytes = SIGNER.public,
    executors: dict[str, bytes] | None = None,
    without: str = "",
    first: str = DRIVER,
) -> bytes:
    """The signer of a receipt of a driver and executors.

    Args:
        expected: Measurement in the policy.
        about: Signer that the driver's quote is about.
        executors: Name and what its quote is about.
        without: Name of the one that has no quote.
        first: Role of the first process.
    """
    platform = machine.platform(mr_enclave=b"m" * 32, isv_prod_id=1, isv_svn=1)

    def worker(role: str, about: bytes, name: str = "") -> Worker:
        quote = "" if name and name == without else base64.b64encode(platform.quote(about)).decode()
        return Worker(role, "simulated", "taxi-report", quote, name)

    workers = [worker(EXECUTOR, statement, name) for name, statement in (executors or {}).items()]
    policy = AppraisalPolicy(
        measurements=(EnclaveIdentity(expected),),
        tees=frozenset({"sgx"}),
        tcb_statuses=frozenset({"UpToDate"}),
        advisories=(),
        min_tcb_eval_data_number=ANY,
        accept_simulated=True,
    )
    root = TrustRoot("simulated", machine.root_der)

    def genuine(raw: bytes, now: datetime) -> Any:
        return verify_quote(raw, Collateral.from_json(machine.collateral().encode()), root, now).claims

    stated = replace(RECEIPT, workers=(worker(first, signer_statement(about)), *workers), job=JOB)
    return vouched_signer(sign_receipt(stated, SIGNER), genuine, policy, datetime.now(UTC))


def part(name: str, *, job: bytes = JOB, signer: bytes = SIGNER.public) -> bytes:
    return executor_statement(job, signer, name)


def test_evidence_vouches_for_a_signer_that_nobody_named(machine: SimulatedMachine) -> None:
    assert vouched(machine) == SIGNER.public
    assert vouched(machine, executors={"app/0": part("app/0"), "app/1": part("app/1")}) == SIGNER.public


def test_refuses_evidence_about_another_key(machine: SimulatedMachine) -> None:
    with pytest.raises(VerificationError, match="another signing key"):
        vouched(machine, about=Signer.generate().public)


def test_refuses_evidence_of_other_code(machine: SimulatedMachine) -> None:
    with pytest.raises(PolicyRejected):
        vouched(machine, expected=b"x" * 32)


def test_refuses_an_executor_without_evidence(machine: SimulatedMachine) -> None:
    with pytest.raises(VerificationError, match="no evidence"):
        vouched(machine, executors={"app/0": part("app/0"), "app/1": part("app/1")}, without="app/1")


@pytest.mark.parametrize(
    "statement",
    [
        part("app/1"),  # another executor's
        part("app/0", job=b"k" * 32),
        part("app/0", signer=b"x" * 32),
        signer_statement(SIGNER.public),  # a driver's
    ],
)
def test_refuses_evidence_of_another_part(machine: SimulatedMachine, statement: bytes) -> None:
    with pytest.raises(VerificationError, match="executor of another job"):
        vouched(machine, executors={"app/0": statement})


def test_refuses_executors_without_a_driver(machine: SimulatedMachine) -> None:
    with pytest.raises(VerificationError, match="about the signing key"):
        vouched(machine, first=EXECUTOR)


def test_refuses_an_unknown_role(machine: SimulatedMachine) -> None:
    with pytest.raises(FormatError):
        vouched(machine, first="bystander")


def test_refuses_evidence_that_is_none(machine: SimulatedMachine) -> None:
    def genuine(raw: bytes, now: datetime) -> Any:
        return verify_quote(
            raw, Collateral.from_json(machine.collateral().encode()), TrustRoot("simulated", machine.root_der), now
        ).claims

    with pytest.raises((VerificationError, FormatError)):
        vouched_signer(sign_receipt(RECEIPT, SIGNER), genuine, None, datetime.now(UTC))  # type: ignore[arg-type]


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"signer":"zz","receipt":"{}"}', b'{"signer":"00","receipt":"[]"}'])
def test_refuses_what_is_no_receipt_before_looking_at_evidence(raw: bytes) -> None:
    with pytest.raises(FormatError):
        vouched_signer(raw, None, None, datetime.now(UTC))  # type: ignore[arg-type]
