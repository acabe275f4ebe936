"""dcap-qvl's texts and our codes."""

import datetime as dt
import json
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import dcap_qvl
import pytest

from strongroom.attestation.engine import REFUSALS, UNKNOWN_REFUSAL, judge, refusal_code
from strongroom.errors import VerificationError

if TYPE_CHECKING:
    from tests.attestation.conftest import Bench

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)


def test_every_text_of_the_table_is_still_in_dcap_qvl() -> None:
    library = next(Path(dcap_qvl.__file__).parent.glob("_dcap_qvl*.so")).read_bytes()
    missing = [text for text, _ in REFUSALS if text.encode() not in library]
    assert missing == []


def test_no_text_of_the_table_hides_another() -> None:
    for (first, _), (second, _) in combinations(REFUSALS, 2):
        assert not second.startswith(first), (first, second)


def test_unknown_text_is_a_refusal_of_its_own() -> None:
    assert refusal_code("a reason nobody has heard of") == UNKNOWN_REFUSAL == "verification.other"
    assert refusal_code("") == UNKNOWN_REFUSAL
    assert refusal_code("Verified") == UNKNOWN_REFUSAL


class _Claims:
    def __init__(self, text: str) -> None:
        self._text = text

    def to_json(self) -> str:
        return self._text


class _Verifier:
    answer: ValueError | str = ""

    def __init__(self, root: bytes) -> None:
        assert root

    def verify_with_policy(self, *_: object) -> _Claims:
        if isinstance(self.answer, ValueError):
            raise self.answer
        return _Claims(self.answer)


def test_unknown_refusal_refuses(bench: "Bench", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Verifier, "answer", ValueError("Verification failed: brand new reason"))
    monkeypatch.setattr(dcap_qvl, "QuoteVerifier", _Verifier)
    with pytest.raises(VerificationError, match="brand new reason") as refusal:
        judge(bench.quote, bench.parts, bench.root, NOW)
    assert refusal.value.code == "verification.other"


GOOD = {
    "tcb": {"status": "UpToDate", "advisory_ids": []},
    "platform": {"pck": {"fmspc": [0, 1, 2, 3, 4, 5]}},
    "report": {"SgxEnclave": {"mr_enclave": "00" * 32, "report_data": "00" * 64}},
}
BAD = {
    "revoked": (GOOD | {"tcb": {"status": "Revoked", "advisory_ids": []}}, "tcb.revoked"),
    "unknown status": (GOOD | {"tcb": {"status": "Fine", "advisory_ids": []}}, "verification.inconsistent"),
    "no status": (GOOD | {"tcb": {"advisory_ids": []}}, "verification.inconsistent"),
    "unknown report": (GOOD | {"report": {"New": {}}}, "verification.inconsistent"),
    "short report data": (
        GOOD | {"report": {"SgxEnclave": {"mr_enclave": "00" * 32, "report_data": "00"}}},
        "verification.inconsistent",
    ),
    "fmspc is text": (GOOD | {"platform": {"pck": {"fmspc": ["a"] * 6}}}, "verification.inconsistent"),
    "empty": ({}, "verification.inconsistent"),
}


def test_good_claims_are_read(bench: "Bench", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Verifier, "answer", json.dumps(GOOD))
    monkeypatch.setattr(dcap_qvl, "QuoteVerifier", _Verifier)
    assert judge(bench.quote, bench.parts, bench.root, NOW).fmspc == bytes(range(6))


@pytest.mark.parametrize("name", BAD)
def test_claims_of_another_shape_refuse(bench: "Bench", monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    value, code = BAD[name]
    monkeypatch.setattr(_Verifier, "answer", json.dumps(value))
    monkeypatch.setattr(dcap_qvl, "QuoteVerifier", _Verifier)
    with pytest.raises(VerificationError) as refusal:
        judge(bench.quote, bench.parts, bench.root, NOW)
    assert refusal.value.code == code
