"""Receipts and signatures: what is stated is what was done, and nothing else passes."""

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.analytics.manifest import Manifest
from strongroom.analytics.receipts import Output, Receipt, Worker, sign_receipt, verify_receipt
from strongroom.analytics.signing import Signer, verify_signature
from strongroom.errors import ConfigurationError, FormatError, StrongroomError, VerificationError

SQL = "SELECT count(*) FROM trips"
SIGNER = Signer.from_seed(b"s" * 32)
TRUSTED = frozenset({SIGNER.public})
TRIPS = Manifest(table="trips", version=3, previous=b"p" * 32, key="taxi/key/trips", columns=(), parts=())
RECEIPT = Receipt(
    query=hashlib.sha256(SQL.encode()).digest(),
    tables=(TRIPS,),
    engine=("duckdb", "2.0.0"),
    workers=(Worker("query", "simulated", "taxi-report", "cXVvdGU="),),
    output=Output("csv", hashlib.sha256(b"42\n").digest(), 1),
    started=datetime(2026, 11, 21, tzinfo=UTC),
    finished=datetime(2026, 11, 21, 0, 1, tzinfo=UTC),
)


def test_states_everything() -> None:
    statement = verify_receipt(
        sign_receipt(RECEIPT, SIGNER), trusted=TRUSTED, sql=SQL, output=RECEIPT.output.digest, manifests=[TRIPS]
    )
    assert statement["tables"] == [{"name": "trips", "version": 3, "manifest": TRIPS.digest.hex()}]
    assert statement["engine"] == {"name": "duckdb", "version": "2.0.0"}
    assert statement["workers"][0]["quote"] == "cXVvdGU="
    assert statement["output"]["rows"] == 1


@pytest.mark.parametrize(
    "compared",
    [
        {"sql": SQL + " "},
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
