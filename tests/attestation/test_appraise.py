"""Acceptable? One changed fact, one finding; every finding is reported; no outcome has a truth value."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from strongroom.attestation.appraise import Accepted, Rejected, appraise
from strongroom.attestation.claims import Claims
from strongroom.attestation.policy import (
    ANY,
    AcceptedAdvisory,
    AppraisalPolicy,
    EnclaveIdentity,
    Measurement,
    SignerIdentity,
    TdIdentity,
)
from strongroom.errors import ConfigurationError

if TYPE_CHECKING:
    from tests.attestation.conftest import Bench

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
ENCLAVE = EnclaveIdentity(b"\x11" * 32)
SIGNER = SignerIdentity(b"\x22" * 32, 3, 4)
POLICY = AppraisalPolicy(
    measurements=(ENCLAVE,),
    tees=frozenset({"sgx"}),
    tcb_statuses=frozenset({"UpToDate", "SWHardeningNeeded"}),
    advisories=(AcceptedAdvisory("INTEL-SA-00615", dt.date(2026, 11, 21)),),
    min_tcb_eval_data_number=20,
    accept_simulated=True,
)


def codes(claims: Claims, policy: AppraisalPolicy = POLICY, now: dt.datetime = NOW) -> list[str]:
    match appraise(claims, policy, now):
        case Accepted(accepted, digest):
            assert (accepted, digest) == (claims, policy.digest)
            return []
        case Rejected(findings, digest):
            assert findings
            assert digest == policy.digest
            return [finding.code for finding in findings]


def test_accepts_what_the_policy_names(claims: Claims) -> None:
    assert codes(claims) == []


CHANGES: dict[str, tuple[Callable[[Claims], Claims], list[str]]] = {
    "other code": (lambda c: replace(c, mr_enclave=b"\x12" + b"\x11" * 31), ["measurement.mr_enclave"]),
    "debug": (lambda c: replace(c, debug=True), ["debug.enabled"]),
    "status": (lambda c: replace(c, tcb_status="OutOfDate"), ["tcb.status"]),
    "accepted status": (lambda c: replace(c, tcb_status="SWHardeningNeeded"), []),
    "accepted advisory": (lambda c: replace(c, advisories=("INTEL-SA-00615",)), []),
    "other advisory": (lambda c: replace(c, advisories=("INTEL-SA-00614", "INTEL-SA-00615")), ["tcb.advisory"]),
    "old judgement": (lambda c: replace(c, tcb_eval_data_number=19), ["tcb.eval_number"]),
    "newer judgement": (lambda c: replace(c, tcb_eval_data_number=21), []),
    "expired": (lambda c: replace(c, collateral_expires=NOW), ["collateral.expired"]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_one_changed_fact_gives_one_finding(claims: Claims, name: str) -> None:
    change, expected = CHANGES[name]
    assert codes(change(claims)) == expected


def test_refuses_simulated_platform_unless_named(claims: Claims) -> None:
    assert codes(claims, replace(POLICY, accept_simulated=False)) == ["simulated.refused"]
    assert codes(replace(claims, simulated=False), replace(POLICY, accept_simulated=False)) == []
    assert codes(replace(claims, simulated=False)) == []


def test_no_policy_lets_a_debug_enclave_in(claims: Claims) -> None:
    assert codes(replace(claims, debug=True)) == ["debug.enabled"]


def test_advisory_is_accepted_to_the_end_of_its_day(claims: Claims) -> None:
    affected = replace(claims, advisories=("INTEL-SA-00615",))
    assert codes(affected, now=dt.datetime(2026, 11, 21, 23, 59, 59, tzinfo=dt.UTC)) == []
    assert codes(affected, now=dt.datetime(2026, 11, 22, tzinfo=dt.UTC)) == ["tcb.advisory"]
    # The day is a day in UTC, wherever the verifier stands.
    tokyo = dt.timezone(dt.timedelta(hours=9))
    assert codes(affected, now=dt.datetime(2026, 11, 22, 8, 59, tzinfo=tokyo)) == []


def test_any_must_be_written_out_and_then_accepts_all(claims: Claims) -> None:
    affected = replace(claims, advisories=("INTEL-SA-99999",), tcb_eval_data_number=0)
    assert codes(affected, replace(POLICY, advisories=ANY, min_tcb_eval_data_number=ANY)) == []
    assert codes(affected, replace(POLICY, advisories=())) == ["tcb.advisory", "tcb.eval_number"]


SIGNERS: dict[str, tuple[Callable[[Claims], Claims], list[str]]] = {
    "same": (lambda c: c, []),
    "newer": (lambda c: replace(c, isv_svn=5), []),
    "other code": (lambda c: replace(c, mr_enclave=bytes(32)), []),
    "older": (lambda c: replace(c, isv_svn=3), ["measurement.isv_svn"]),
    "other product": (lambda c: replace(c, isv_prod_id=2), ["measurement.isv_prod_id"]),
    "larger product": (lambda c: replace(c, isv_prod_id=4), ["measurement.isv_prod_id"]),
    "other signer": (lambda c: replace(c, mr_signer=bytes(32)), ["measurement.mr_signer"]),
    "everything": (
        lambda c: replace(c, mr_signer=bytes(32), isv_prod_id=0, isv_svn=0),
        ["measurement.mr_signer", "measurement.isv_prod_id", "measurement.isv_svn"],
    ),
}


@pytest.mark.parametrize("name", SIGNERS)
def test_signer_product_and_version(claims: Claims, name: str) -> None:
    change, expected = SIGNERS[name]
    assert codes(change(claims), replace(POLICY, measurements=(SIGNER,))) == expected


def test_one_of_several_measurements_is_enough(claims: Claims) -> None:
    others: tuple[Measurement, ...] = (EnclaveIdentity(bytes(32)), SignerIdentity(bytes(32), 0, 0))
    assert codes(claims, replace(POLICY, measurements=(*others, ENCLAVE))) == []


def test_findings_are_those_of_the_nearest_measurement(claims: Claims) -> None:
    old = replace(claims, mr_enclave=bytes(32), isv_svn=3)
    policy = replace(POLICY, measurements=(ENCLAVE, SignerIdentity(bytes(32), 3, 0), SIGNER))
    assert codes(old, policy) == ["measurement.isv_svn"]


def test_trust_domains(bench: "Bench") -> None:
    claims = bench.verify(bench.td_quote(4), bench.td_parts())
    exact = TdIdentity(b"\x33" * 48, (b"\x01" * 48, b"\x02" * 48, b"\x03" * 48, b"\x04" * 48))
    policy = replace(POLICY, tees=frozenset({"tdx"}), measurements=(exact,))
    assert codes(claims, policy) == []
    loose = replace(exact, rtmrs=(b"\x01" * 48, ANY, ANY, ANY))
    changed = replace(claims, rtmrs=(b"\x01" * 48, bytes(48), bytes(48), bytes(48)))
    assert codes(changed, replace(policy, measurements=(loose,))) == []
    assert codes(changed, policy) == ["measurement.rtmr_1", "measurement.rtmr_2", "measurement.rtmr_3"]
    assert codes(replace(claims, mr_td=bytes(48)), policy) == ["measurement.mr_td"]


def test_evidence_of_another_tee_matches_nothing(bench: "Bench", claims: Claims) -> None:
    td_claims = bench.verify(bench.td_quote(4), bench.td_parts())
    assert codes(td_claims) == ["measurement.tee", "tee.type"]
    assert codes(td_claims, replace(POLICY, measurements=(SIGNER,))) == ["measurement.tee", "tee.type"]
    domain = TdIdentity(b"\x33" * 48, (ANY, bytes(48), ANY, ANY))
    policy = replace(POLICY, tees=frozenset({"tdx"}), measurements=(domain,))
    assert codes(claims, policy) == ["measurement.tee", "tee.type"]


def test_every_finding_is_reported_with_what_was_found_and_expected(claims: Claims) -> None:
    bad = replace(
        claims,
        mr_enclave=bytes(32),
        debug=True,
        tcb_status="OutOfDate",
        advisories=("INTEL-SA-1", "INTEL-SA-2"),
        tcb_eval_data_number=1,
        collateral_expires=NOW,
    )
    outcome = appraise(bad, replace(POLICY, accept_simulated=False), NOW)
    assert isinstance(outcome, Rejected)
    assert [finding.code for finding in outcome.findings] == [
        "measurement.mr_enclave",
        "debug.enabled",
        "simulated.refused",
        "tcb.status",
        "tcb.advisory",
        "tcb.advisory",
        "tcb.eval_number",
        "collateral.expired",
    ]
    detail = outcome.findings[0].detail
    assert "00" * 32 in detail
    assert "11" * 32 in detail
    text = " ".join(finding.detail for finding in outcome.findings)
    assert "OutOfDate" in text
    assert "SWHardeningNeeded or UpToDate" in text
    assert "INTEL-SA-2" in text
    assert claims.ppid is not None
    assert claims.ppid.hex() not in text


def test_no_outcome_has_a_truth_value(claims: Claims) -> None:
    for outcome in (appraise(claims, POLICY, NOW), appraise(replace(claims, debug=True), POLICY, NOW)):
        with pytest.raises(TypeError, match="truth value"):
            bool(outcome)


def test_accepted_has_no_other_source(claims: Claims) -> None:
    with pytest.raises(TypeError):
        Accepted(claims, POLICY.digest)
    with pytest.raises(TypeError):
        Accepted(claims, POLICY.digest, object())
    outcome = appraise(claims, POLICY, NOW)
    assert isinstance(outcome, Accepted)
    with pytest.raises((TypeError, ValueError)):
        replace(outcome, claims=replace(claims, debug=True))


def test_refuses_time_without_zone(claims: Claims) -> None:
    with pytest.raises(ConfigurationError):
        appraise(claims, POLICY, NOW.replace(tzinfo=None))
