"""What a policy says about SEV-SNP platforms and Azure's guests: complete, exact, refused unless named."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from strongroom.attestation.appraise import Rejected, appraise
from strongroom.attestation.claims import Claims
from strongroom.attestation.policy import (
    ANY,
    AppraisalPolicy,
    EnclaveIdentity,
    SnpExpectations,
    SnpIdentity,
    TdIdentity,
    VtpmIdentity,
)
from strongroom.attestation.verify import verify_quote
from strongroom.errors import ConfigurationError, FormatError
from strongroom.formats.evidence import DcapEvidence, Tee, serialize_evidence
from strongroom.formats.hcl import report_data_of
from strongroom.formats.quote import parse_quote
from strongroom.formats.snp_report import SnpTcb

if TYPE_CHECKING:
    from tests.attestation.conftest import Bench
    from tests.guest_double import AmdDouble, VtpmDouble

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
GUEST = SnpIdentity(b"\x5a" * 48, b"\x0d" * 32, b"\x1d" * 48)
MIN_TCB = SnpTcb(bootloader=4, tee=1, snp=24, microcode=219)
PLATFORM = SnpExpectations(min_tcb={"milan": MIN_TCB}, vmpl=0, accept_smt=False)
POLICY = AppraisalPolicy(measurements=(GUEST,), tees=frozenset({"snp"}), snp=PLATFORM, accept_simulated=True)


@pytest.fixture(scope="module")
def claims(amd: "AmdDouble") -> Claims:
    return verify_quote(amd.evidence(), amd.collateral(), amd.root, NOW).claims


@pytest.fixture(scope="module")
def azure_claims(amd: "AmdDouble", vtpm: "VtpmDouble") -> Claims:
    evidence = vtpm.parts(amd.parts(report_data_of(vtpm.runtime_data())), bytes(64))
    return verify_quote(serialize_evidence(evidence), amd.collateral(), amd.root, NOW).claims


def codes(claims: Claims, policy: AppraisalPolicy = POLICY) -> list[str]:
    outcome = appraise(claims, policy, NOW)
    return sorted(finding.code for finding in outcome.findings) if isinstance(outcome, Rejected) else []


def with_snp(claims: Claims, **changes: Any) -> Claims:
    assert claims.snp is not None
    return replace(claims, snp=replace(claims.snp, **changes))


def with_platform(**changes: Any) -> AppraisalPolicy:
    return replace(POLICY, snp=replace(PLATFORM, **changes))


def test_exactly_this_guest_is_accepted(claims: Claims) -> None:
    assert codes(claims) == []
    assert codes(claims, replace(POLICY, measurements=(SnpIdentity(GUEST.measurement, ANY, ANY),))) == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"measurement": bytes(48)}, ["measurement.launch"]),
        ({"host_data": bytes(32)}, ["measurement.host_data"]),
        ({"id_key_digest": bytes(48)}, ["measurement.id_key_digest"]),
        ({"vmpl": 1}, ["snp.vmpl"]),
        ({"guest_policy": 1 << 17 | 1 << 16}, ["snp.smt"]),
        ({"platform_info": 1}, ["snp.smt"]),
        ({"guest_policy": 1 << 17 | 1 << 18}, ["snp.migration_agent"]),
        ({"reported_tcb": replace(MIN_TCB, microcode=218)}, ["snp.reported_tcb"]),
        ({"reported_tcb": replace(MIN_TCB, bootloader=255, tee=0)}, ["snp.reported_tcb"]),
        ({"launch_tcb": replace(MIN_TCB, snp=23)}, ["snp.launch_tcb"]),
        ({"product": "genoa"}, ["snp.product"]),
        ({"reported_tcb": replace(MIN_TCB, bootloader=255, microcode=255)}, []),
    ],
)
def test_each_difference_is_a_finding(claims: Claims, changes: dict[str, Any], found: list[str]) -> None:
    assert codes(with_snp(claims, **changes)) == found


def test_a_migration_agent_cannot_be_accepted(claims: Claims) -> None:
    lax = with_platform(min_tcb={"milan": ANY}, accept_smt=True)
    assert codes(with_snp(claims, guest_policy=1 << 17 | 1 << 18), lax) == ["snp.migration_agent"]


def test_what_is_accepted_must_be_named(claims: Claims) -> None:
    assert codes(with_snp(claims, vmpl=2), with_platform(vmpl=2)) == []
    assert codes(with_snp(claims, platform_info=1), with_platform(accept_smt=True)) == []
    assert codes(with_snp(claims, reported_tcb=replace(MIN_TCB, snp=0)), with_platform(min_tcb={"milan": ANY})) == []
    assert codes(claims, replace(POLICY, accept_simulated=False)) == ["simulated.refused"]


def test_a_report_of_a_more_privileged_level_is_another_one(claims: Claims) -> None:
    assert codes(claims, with_platform(vmpl=2)) == ["snp.vmpl"]


def test_an_older_first_mutable_code_is_an_older_platform() -> None:
    turin = replace(MIN_TCB, fmc=2)
    assert turin.at_least(turin)
    assert not replace(turin, fmc=1).at_least(turin)
    assert not MIN_TCB.at_least(turin)


TD = TdIdentity(bytes(48), (ANY, ANY, ANY, ANY))


def intel_policy(measurement: TdIdentity | VtpmIdentity, tee: Tee) -> AppraisalPolicy:
    return AppraisalPolicy(
        measurements=(measurement,),
        tees=frozenset({tee}),
        tcb_statuses=frozenset({"OutOfDate"}),
        advisories=ANY,
        min_tcb_eval_data_number=ANY,
        accept_simulated=True,
    )


def test_a_policy_for_intels_processors_accepts_none_of_amds(claims: Claims) -> None:
    assert codes(claims, intel_policy(TD, "tdx")) == ["measurement.tee", "snp.unset", "tee.type"]


def test_intels_judgement_counts_behind_a_virtual_tpm(bench: "Bench", vtpm: "VtpmDouble") -> None:
    quote = bench.td_quote(4, report_data=report_data_of(vtpm.runtime_data()))
    raw = serialize_evidence(vtpm.parts(DcapEvidence(quote, parse_quote(quote)), bytes(64)))
    claims = verify_quote(raw, bench.td_parts(), bench.root, NOW).claims
    assert claims.mr_td is not None
    identity = VtpmIdentity(TdIdentity(claims.mr_td, TD.rtmrs), {4: vtpm.pcrs[4]})
    policy = intel_policy(identity, "az-tdx-vtpm")
    assert codes(claims, policy) == ["tcb.status"]
    assert claims.tcb_status is not None
    assert codes(claims, replace(policy, tcb_statuses=frozenset({claims.tcb_status}))) == []


def test_stale_judgements_end(claims: Claims) -> None:
    assert codes(replace(claims, collateral_expires=NOW)) == ["collateral.expired"]


class TestAzure:
    IDENTITY = VtpmIdentity(GUEST, {4: b"\x04" * 32, 11: b"\x0b" * 32})
    POLICY = replace(POLICY, tees=frozenset({"az-snp-vtpm"}), measurements=(IDENTITY,))

    def test_paravisor_and_registers_together_are_accepted(self, azure_claims: Claims) -> None:
        assert codes(azure_claims, self.POLICY) == []

    def test_another_guest_under_the_same_paravisor_is_refused(self, azure_claims: Claims) -> None:
        pcrs = (*azure_claims.pcrs[:4], bytes(32), *azure_claims.pcrs[5:]) if azure_claims.pcrs else None
        assert codes(replace(azure_claims, pcrs=pcrs), self.POLICY) == ["measurement.pcr_4"]

    def test_another_paravisor_is_refused(self, azure_claims: Claims) -> None:
        assert codes(with_snp(azure_claims, measurement=bytes(48)), self.POLICY) == ["measurement.launch"]

    def test_a_paravisors_measurement_is_not_a_guests(self, azure_claims: Claims, claims: Claims) -> None:
        both: frozenset[Tee] = frozenset({"snp", "az-snp-vtpm"})
        assert codes(azure_claims, replace(POLICY, tees=both)) == ["measurement.tee"]
        assert codes(claims, replace(self.POLICY, tees=both)) == ["measurement.tee"]

    @pytest.mark.parametrize("pcrs", [{}, {16: bytes(32)}, {-1: bytes(32)}, {4: bytes(31)}])
    def test_registers_must_be_named_exactly(self, pcrs: dict[int, bytes]) -> None:
        with pytest.raises(ConfigurationError) as caught:
            VtpmIdentity(GUEST, pcrs)
        assert caught.value.code == "policy.measurement"


def refusal(attempt: Callable[[], object]) -> str:
    with pytest.raises((ConfigurationError, FormatError)) as caught:
        attempt()
    return caught.value.code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"snp": None}, "policy.unset"),
        ({"tcb_statuses": frozenset({"UpToDate"})}, "policy.invalid"),
        ({"advisories": ()}, "policy.invalid"),
        ({"min_tcb_eval_data_number": ANY}, "policy.invalid"),
        ({"tees": frozenset({"snp", "tdx"})}, "policy.unset"),
        ({"tees": frozenset({"sgx"})}, "policy.unset"),
        ({"measurements": (EnclaveIdentity(bytes(32)),)}, "policy.invalid"),
        ({"measurements": (VtpmIdentity(GUEST, {4: bytes(32)}),)}, "policy.invalid"),
    ],
)
def test_incomplete_or_contradictory_policies_are_errors(changes: dict[str, Any], code: str) -> None:
    assert refusal(lambda: replace(POLICY, **changes)) == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"min_tcb": {}}, "policy.unset"),
        ({"vmpl": 4}, "policy.invalid"),
        ({"min_tcb": {"turin": MIN_TCB}}, "policy.invalid"),
        ({"min_tcb": {"milan": replace(MIN_TCB, fmc=1)}}, "policy.invalid"),
    ],
)
def test_expectations_of_platforms_make_sense(changes: dict[str, Any], code: str) -> None:
    assert refusal(lambda: with_platform(**changes)) == code


@pytest.mark.parametrize(
    "measurement",
    [
        GUEST,
        SnpIdentity(GUEST.measurement, ANY, ANY),
        VtpmIdentity(GUEST, {0: bytes(32), 15: b"\x01" * 32}),
        VtpmIdentity(TdIdentity(bytes(48), (ANY, ANY, ANY, ANY)), {4: bytes(32)}),
    ],
)
def test_policies_survive_their_json_form(measurement: Any) -> None:
    td = isinstance(measurement, VtpmIdentity) and isinstance(measurement.hardware, TdIdentity)
    tee: Any = "az-tdx-vtpm" if td else "az-snp-vtpm" if isinstance(measurement, VtpmIdentity) else "snp"
    intel: dict[str, Any] = {"tcb_statuses": frozenset({"UpToDate"}), "advisories": (), "min_tcb_eval_data_number": ANY}
    policy = AppraisalPolicy(measurements=(measurement,), tees=frozenset({tee}), **(intel if td else {"snp": PLATFORM}))
    assert AppraisalPolicy.from_json(policy.to_json()) == policy


@pytest.mark.parametrize("name", ["min_tcb", "vmpl", "accept_smt"])
def test_nothing_about_the_platform_may_be_left_out(name: str) -> None:
    values: Any = POLICY.to_json()
    del values["snp"][name]
    assert refusal(lambda: AppraisalPolicy.from_json(values)) == "policy.malformed"


@pytest.mark.parametrize(
    "change",
    [
        {"measurement": "00"},
        {"host_data": "anything"},
        {"pcrs": {"4": "any"}},
        {"pcrs": {"16": "00" * 32}},
        {"pcrs": {"04": "00" * 32}},
        {"pcrs": []},
        {"mr_td": "00" * 48},
    ],
)
def test_malformed_identities_are_refused(change: dict[str, Any]) -> None:
    values: Any = POLICY.to_json()
    values["measurements"][0] |= change
    assert refusal(lambda: AppraisalPolicy.from_json(values)) == "policy.malformed"
