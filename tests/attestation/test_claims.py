"""Claims: their JSON form is strict, complete and without anything that identifies the machine."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation.binding import check_report_data
from strongroom.attestation.claims import Claims
from strongroom.errors import ConfigurationError, FormatError, VerificationError
from strongroom.formats.canonical import canonical_json

if TYPE_CHECKING:
    from tests.attestation.conftest import Bench


@pytest.fixture(scope="module")
def td_claims(bench: "Bench") -> Claims:
    return bench.verify(bench.td_quote(5, version_15=True), bench.td_parts())


def anonymous(claims: Claims) -> Claims:
    return replace(claims, ppid=None, platform_instance_id=None)


def test_json_form_round_trips(claims: Claims, td_claims: Claims) -> None:
    for original in (claims, td_claims):
        text = canonical_json(original.to_json())
        assert Claims.from_json(json.loads(text)) == anonymous(original)


def test_machine_identifiers_are_neither_printed_nor_written(claims: Claims) -> None:
    assert claims.ppid is not None
    assert claims.platform_instance_id is not None
    for identifier in (claims.ppid, claims.platform_instance_id):
        for text in (repr(claims), json.dumps(claims.to_json())):
            assert identifier.hex() not in text
            assert repr(identifier)[2:-1] not in text


FAULTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "missing": lambda v: v.pop("simulated"),
    "unknown": lambda v: v.update(ppid="00" * 16),
    "tee": lambda v: v.update(tee="sev"),
    "other tee": lambda v: v.update(tee="tdx"),
    "simulated as text": lambda v: v.update(simulated="false"),
    "simulated as number": lambda v: v.update(simulated=0),
    "debug missing": lambda v: v.pop("debug"),
    "short report data": lambda v: v.update(report_data="00" * 63),
    "unknown status": lambda v: v.update(tcb_status="Fine"),
    "status in lower case": lambda v: v.update(tcb_status="uptodate"),
    "advisories as text": lambda v: v.update(advisories="INTEL-SA-00001"),
    "endless advisories": lambda v: v.update(advisories=["x"] * 257),
    "negative number": lambda v: v.update(tcb_eval_data_number=-1),
    "svn too large": lambda v: v.update(isv_svn=65536),
    "time without zone": lambda v: v.update(collateral_expires="2026-11-21T10:00:00"),
    "digest missing": lambda v: v["collateral"].pop("pck_crl"),
    "digest unknown": lambda v: v["collateral"].update(other="00" * 32),
    "both kinds": lambda v: v.update(mr_td="00" * 48, rtmrs=["00" * 48] * 4),
}


@pytest.mark.parametrize("name", FAULTS)
def test_refuses_faulty_claims(claims: Claims, name: str) -> None:
    value = json.loads(canonical_json(claims.to_json()))
    FAULTS[name](value)
    with pytest.raises(FormatError) as refusal:
        Claims.from_json(value)
    assert refusal.value.code == "claims.malformed"


@pytest.mark.parametrize("rtmrs", [["00" * 48] * 3, ["00" * 48] * 5, ["00" * 47] * 4, [1, 2, 3, 4], "00"])
def test_refuses_faulty_rtmrs(td_claims: Claims, rtmrs: object) -> None:
    value: dict[str, object] = dict(td_claims.to_json())
    with pytest.raises(FormatError):
        Claims.from_json(value | {"rtmrs": rtmrs})


@pytest.mark.parametrize("name", ["mr_enclave", "mr_signer", "isv_prod_id", "isv_svn"])
def test_claims_are_complete_for_their_tee(claims: Claims, name: str) -> None:
    fields: dict[str, Any] = {name: None}
    with pytest.raises(FormatError):
        replace(claims, **fields)


def test_claims_do_not_mix_tees(claims: Claims, td_claims: Claims) -> None:
    with pytest.raises(FormatError):
        replace(claims, mr_td=bytes(48))
    with pytest.raises(FormatError):
        replace(td_claims, isv_svn=0)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
@settings(max_examples=100)
def test_any_json_is_read_or_refused(value: object) -> None:
    with pytest.raises(FormatError):
        Claims.from_json(value)  # type: ignore[arg-type]  # the fault under test


def test_report_data_binds_64_bytes_or_a_digest_with_zero_tail(claims: Claims) -> None:
    check_report_data(claims, claims.report_data)
    for size in (32, 48):
        digest = b"\x5a" * size
        check_report_data(replace(claims, report_data=digest + bytes(64 - size)), digest)


def test_refuses_other_report_data_and_non_zero_tail(claims: Claims) -> None:
    digest = b"\x5a" * 32
    for report_data, expected in (
        (claims.report_data, bytes(64)),
        (digest + bytes(31) + b"\1", digest),
        (digest + b"\1" + bytes(31), digest),
        (bytes(64), digest),
        (b"\x5a" * 64, b"\x5a" * 48),
    ):
        with pytest.raises(VerificationError) as refusal:
            check_report_data(replace(claims, report_data=report_data), expected)
        assert refusal.value.code == "binding.report_data"


@pytest.mark.parametrize("size", [0, 1, 31, 33, 47, 63, 65])
def test_expectation_of_another_length_is_a_mistake(claims: Claims, size: int) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        check_report_data(replace(claims, report_data=bytes(64)), bytes(size))
    assert refusal.value.code == "binding.length"
