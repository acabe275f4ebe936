"""An enclave identity that also names the signer: all of it must match."""

import datetime as dt
from typing import Any

import pytest

from strongroom.attestation.appraise import Accepted, Rejected, appraise
from strongroom.attestation.claims import Claims
from strongroom.attestation.collateral import Collateral
from strongroom.attestation.policy import ANY, AppraisalPolicy, EnclaveIdentity, SignerIdentity
from strongroom.attestation.roots import TrustRoot
from strongroom.attestation.verify import verify_quote
from strongroom.errors import FormatError
from strongroom.platforms.simulated import SimulatedMachine

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
IDENTITY = EnclaveIdentity(b"\xab" * 32, SignerIdentity(b"\xcd" * 32, 7, 3))


@pytest.fixture(scope="module")
def simulated() -> SimulatedMachine:
    return SimulatedMachine.build(NOW)


def policy(identity: EnclaveIdentity) -> AppraisalPolicy:
    return AppraisalPolicy(
        measurements=(identity,),
        tees=frozenset({"sgx"}),
        tcb_statuses=frozenset({"UpToDate"}),
        advisories=(),
        min_tcb_eval_data_number=ANY,
        accept_simulated=True,
    )


def claims(machine: SimulatedMachine, **changes: Any) -> Claims:
    values: dict[str, Any] = {"mr_enclave": b"\xab" * 32, "mr_signer": b"\xcd" * 32, "isv_prod_id": 7, "isv_svn": 3}
    quote = machine.platform(**(values | changes)).quote(bytes(64))
    collateral = Collateral.from_json(machine.collateral())
    return verify_quote(quote, collateral, TrustRoot("simulated", machine.root_der), NOW).claims


@pytest.mark.parametrize("changes", [{}, {"isv_svn": 4}])
def test_accepts_the_code_of_its_signer_at_this_version_or_later(
    simulated: SimulatedMachine, changes: dict[str, Any]
) -> None:
    assert isinstance(appraise(claims(simulated, **changes), policy(IDENTITY), NOW), Accepted)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"mr_signer": b"\x01" * 32}, "measurement.mr_signer"),
        ({"isv_prod_id": 8}, "measurement.isv_prod_id"),
        ({"isv_svn": 2}, "measurement.isv_svn"),
        ({"mr_enclave": b"\x01" * 32}, "measurement.mr_enclave"),
    ],
)
def test_refuses_the_same_code_released_by_somebody_else(
    simulated: SimulatedMachine, changes: dict[str, Any], code: str
) -> None:
    outcome = appraise(claims(simulated, **changes), policy(IDENTITY), NOW)
    assert isinstance(outcome, Rejected)
    assert [finding.code for finding in outcome.findings] == [code]


def test_without_a_signer_anybody_may_have_released_the_code(simulated: SimulatedMachine) -> None:
    found = claims(simulated, mr_signer=b"\x01" * 32, isv_prod_id=9, isv_svn=0)
    assert isinstance(appraise(found, policy(EnclaveIdentity(b"\xab" * 32)), NOW), Accepted)


def test_json_reads_back_and_differs_from_the_identity_without_signer() -> None:
    with_signer, without = policy(IDENTITY), policy(EnclaveIdentity(b"\xab" * 32))
    assert AppraisalPolicy.from_json(with_signer.to_json()) == with_signer
    assert with_signer.digest != without.digest


@pytest.mark.parametrize("missing", ["isv_prod_id", "min_isv_svn"])
def test_half_a_signer_is_refused(missing: str) -> None:
    value: Any = policy(IDENTITY).to_json()
    del value["measurements"][0][missing]
    with pytest.raises(FormatError):
        AppraisalPolicy.from_json(value)


def test_product_without_signer_is_refused() -> None:
    value: Any = policy(IDENTITY).to_json()
    del value["measurements"][0]["mr_signer"]
    with pytest.raises(FormatError):
        AppraisalPolicy.from_json(value)
