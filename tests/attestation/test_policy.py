"""Policies: complete or not at all; nothing dangerous by default; one digest per meaning."""

import datetime as dt
import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation.policy import (
    ANY,
    AcceptedAdvisory,
    AppraisalPolicy,
    EnclaveIdentity,
    SignerIdentity,
    TdIdentity,
)
from strongroom.errors import ConfigurationError, FormatError, StrongroomError
from strongroom.formats.canonical import canonical_json

STRICT = AppraisalPolicy(
    measurements=(EnclaveIdentity(b"\x11" * 32),),
    tees=frozenset({"sgx"}),
    tcb_statuses=frozenset({"UpToDate"}),
    advisories=(),
    min_tcb_eval_data_number=17,
)
WIDE = AppraisalPolicy(
    measurements=(
        EnclaveIdentity(b"\x11" * 32),
        SignerIdentity(b"\x22" * 32, 3, 4),
        TdIdentity(b"\x33" * 48, (b"\x44" * 48, ANY, ANY, ANY)),
    ),
    tees=frozenset({"sgx", "tdx"}),
    tcb_statuses=frozenset({"UpToDate", "SWHardeningNeeded"}),
    advisories=(AcceptedAdvisory("INTEL-SA-00615", dt.date(2027, 1, 31)),),
    min_tcb_eval_data_number=ANY,
    accept_simulated=True,
)
EVERYTHING_SET: dict[str, Any] = {
    "measurements": STRICT.measurements,
    "tees": STRICT.tees,
    "tcb_statuses": STRICT.tcb_statuses,
    "advisories": STRICT.advisories,
    "min_tcb_eval_data_number": 17,
}


@pytest.mark.parametrize("name", EVERYTHING_SET)
def test_unset_expectation_is_an_error(name: str) -> None:
    AppraisalPolicy(**EVERYTHING_SET)
    with pytest.raises(ConfigurationError, match=name) as refusal:
        AppraisalPolicy(**{key: value for key, value in EVERYTHING_SET.items() if key != name})
    assert refusal.value.code == "policy.unset"
    value = STRICT.to_json()
    del value[name]
    with pytest.raises(ConfigurationError, match=name) as refusal:
        AppraisalPolicy.from_json(value)
    assert refusal.value.code == "policy.unset"


@pytest.mark.parametrize("name", ["measurements", "tees", "tcb_statuses"])
def test_empty_allow_list_is_an_error(name: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        AppraisalPolicy(**EVERYTHING_SET | {name: type(EVERYTHING_SET[name])()})
    assert refusal.value.code == "policy.unset"


def test_nothing_dangerous_by_default() -> None:
    assert not STRICT.accept_simulated
    value = STRICT.to_json()
    del value["accept_simulated"]
    assert AppraisalPolicy.from_json(value) == STRICT


NONSENSE: dict[str, Callable[[], object]] = {
    "revoked": lambda: replace(STRICT, tcb_statuses=frozenset({"Revoked"})),
    "unknown tee": lambda: replace(STRICT, tees=frozenset({"sgx", "sev"})),  # type: ignore[arg-type]
    "measurement of a refused tee": lambda: replace(STRICT, tees=frozenset({"tdx"})),
    "too many measurements": lambda: replace(STRICT, measurements=STRICT.measurements * 257),
    "advisory twice": lambda: replace(WIDE, advisories=WIDE.advisories * 2),  # type: ignore[operator, arg-type]
    "negative number": lambda: replace(STRICT, min_tcb_eval_data_number=-1),
    "short mr_enclave": lambda: EnclaveIdentity(bytes(31)),
    "short mr_signer": lambda: SignerIdentity(bytes(31), 0, 0),
    "prod id": lambda: SignerIdentity(bytes(32), 65536, 0),
    "svn": lambda: SignerIdentity(bytes(32), 0, -1),
    "short mr_td": lambda: TdIdentity(bytes(32), (ANY, ANY, ANY, ANY)),
    "three rtmrs": lambda: TdIdentity(bytes(48), (ANY, ANY, ANY)),  # type: ignore[arg-type]
    "short rtmr": lambda: TdIdentity(bytes(48), (ANY, ANY, ANY, bytes(32))),
    "nameless advisory": lambda: AcceptedAdvisory("", dt.date(2027, 1, 1)),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_refuses_nonsense(name: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        NONSENSE[name]()
    assert refusal.value.code.startswith("policy.")


@pytest.mark.parametrize("policy", [STRICT, WIDE])
def test_json_form_round_trips(policy: AppraisalPolicy) -> None:
    assert AppraisalPolicy.from_json(json.loads(canonical_json(policy.to_json()))) == policy


def test_toml_form_is_the_json_form() -> None:
    text = f"""
        tees = ["sgx", "tdx"]
        tcb_statuses = ["UpToDate", "SWHardeningNeeded"]
        min_tcb_eval_data_number = "any"
        accept_simulated = true
        [advisories]
        INTEL-SA-00615 = "2027-01-31"
        [[measurements]]
        mr_enclave = "{"11" * 32}"
        [[measurements]]
        mr_signer = "{"22" * 32}"
        isv_prod_id = 3
        min_isv_svn = 4
        [[measurements]]
        mr_td = "{"33" * 48}"
        rtmrs = ["{"44" * 48}", "any", "any", "any"]
    """
    assert AppraisalPolicy.from_json(tomllib.loads(text)) == WIDE


def test_digest_follows_the_meaning() -> None:
    assert len(STRICT.digest) == 32
    assert STRICT.digest == AppraisalPolicy.from_json(STRICT.to_json()).digest
    reordered = replace(WIDE, tees=frozenset(sorted(WIDE.tees, reverse=True)))
    assert reordered.digest == WIDE.digest
    variants = [
        STRICT,
        replace(STRICT, measurements=(EnclaveIdentity(b"\x12" * 32),)),
        replace(STRICT, tcb_statuses=frozenset({"OutOfDate"})),
        replace(STRICT, advisories=ANY),
        replace(STRICT, advisories=WIDE.advisories),
        replace(STRICT, min_tcb_eval_data_number=18),
        replace(STRICT, min_tcb_eval_data_number=ANY),
        replace(STRICT, accept_simulated=True),
    ]
    assert len({policy.digest for policy in variants}) == len(variants)


def test_digest_is_stable() -> None:
    # Digests are stored in logs and receipts: a change of the JSON form must not go unnoticed.
    assert STRICT.digest.hex() == "bbc7354ec299a7ef90103812bf04022631dfe5639ebb9632ef39d8d089bd4a57"


FAULTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "unknown member": lambda v: v.update(accept_everything=True),
    "measurements as object": lambda v: v.update(measurements={}),
    "measurement as text": lambda v: v.update(measurements=["11" * 32]),
    "empty measurement": lambda v: v.update(measurements=[{}]),
    "two identities in one": lambda v: v["measurements"][0].update(mr_signer="22" * 32),
    "signer without product": lambda v: v.update(measurements=[{"mr_signer": "22" * 32, "min_isv_svn": 1}]),
    "measurement any": lambda v: v.update(measurements="any"),
    "mr_enclave any": lambda v: v.update(measurements=[{"mr_enclave": "any"}]),
    "rtmrs any": lambda v: v.update(measurements=[{"mr_td": "33" * 48, "rtmrs": "any"}]),
    "three rtmrs": lambda v: v.update(measurements=[{"mr_td": "33" * 48, "rtmrs": ["any"] * 3}]),
    "tee any": lambda v: v.update(tees="any"),
    "unknown tee": lambda v: v.update(tees=["sev"]),
    "unknown status": lambda v: v.update(tcb_statuses=["Fine"]),
    "advisories as list": lambda v: v.update(advisories=["INTEL-SA-00615"]),
    "advisory without date": lambda v: v.update(advisories={"INTEL-SA-00615": True}),
    "advisory with time": lambda v: v.update(advisories={"INTEL-SA-00615": "2027-01-31T00:00:00Z"}),
    "advisory on no day": lambda v: v.update(advisories={"INTEL-SA-00615": "2027-02-30"}),
    "minimum as text": lambda v: v.update(min_tcb_eval_data_number="17"),
    "minimum as boolean": lambda v: v.update(min_tcb_eval_data_number=True),
    "debug accepted": lambda v: v.update(dangerous_accept_debug=True),
    "simulated as number": lambda v: v.update(accept_simulated=1),
}


@pytest.mark.parametrize("name", FAULTS)
def test_refuses_faulty_json(name: str) -> None:
    value = json.loads(canonical_json(STRICT.to_json()))
    FAULTS[name](value)
    with pytest.raises(FormatError):
        AppraisalPolicy.from_json(value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["any", "sgx", "UpToDate", "11" * 32]) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["mr_enclave", "x"]), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(list(EVERYTHING_SET)), json_values))
@settings(max_examples=150)
def test_any_json_is_read_or_refused(value: dict[str, object]) -> None:
    try:
        policy = AppraisalPolicy.from_json(dict(STRICT.to_json()) | value)
    except StrongroomError as refusal:
        assert isinstance(refusal, FormatError | ConfigurationError)
    else:
        assert AppraisalPolicy.from_json(policy.to_json()) == policy
