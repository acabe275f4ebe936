"""What the room makes of a broker's answers: it may be anybody until its TLS name is checked, and wrong after."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import FormatError, KeyReleaseError, PolicyRejected, UnavailableError
from strongroom.formats.kbs import ERROR_TYPE_PREFIX
from strongroom.room import client


def test_finding_codes_become_findings_with_an_explanation() -> None:
    problem = {"type": ERROR_TYPE_PREFIX + "PolicyDeny", "findings": ["measurement.mr_enclave", "made.up"]}
    refusal = client.refusal(403, json.dumps(problem).encode())
    assert isinstance(refusal, PolicyRejected)
    assert [finding.code for finding in refusal.findings] == ["measurement.mr_enclave", "made.up"]
    assert all(finding.detail for finding in refusal.findings)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_or_broken_broker_is_unavailable_not_a_refusal(status: int) -> None:
    assert isinstance(client.refusal(status, b""), UnavailableError)


def test_a_refusal_without_findings_names_its_kind_only() -> None:
    refusal = client.refusal(401, json.dumps({"type": ERROR_TYPE_PREFIX + "TokenVerifierError"}).encode())
    assert isinstance(refusal, KeyReleaseError)
    assert "TokenVerifierError" in refusal.message


@given(st.integers(400, 499), st.binary(max_size=200))
def test_any_answer_is_some_refusal(status: int, raw: bytes) -> None:
    assert isinstance(client.refusal(status, raw), KeyReleaseError | PolicyRejected | UnavailableError)


@given(
    st.dictionaries(
        st.sampled_from(["type", "findings", "detail"]), st.none() | st.text() | st.lists(st.text() | st.integers())
    )
)
def test_any_problem_document_is_some_refusal(problem: dict[str, object]) -> None:
    refusal = client.refusal(403, json.dumps(problem).encode())
    assert isinstance(refusal, KeyReleaseError | PolicyRejected)


@pytest.mark.parametrize("challenge", [{}, {"nonce": 5}, {"nonce": ""}, {"nonce": "AAAA"}, {"nonce": "!" * 44}])
def test_refuses_a_challenge_without_a_proper_nonce(challenge: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        client._nonce(challenge)
