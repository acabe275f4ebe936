"""Collateral: bounded, strict, and the exact text that was signed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation.collateral import MAX_COLLATERAL_BYTES, Collateral, parse_qe_identity, parse_tcb_info
from strongroom.errors import FormatError

if TYPE_CHECKING:
    from tests.attestation.conftest import Bench


@pytest.fixture(scope="module")
def text(testdata: Path) -> str:
    return (testdata / "attestation" / "collateral" / "fmspc_00606a_2023_05.json").read_text()


def test_real_collateral_round_trips(testdata: Path) -> None:
    count = 0
    for path in sorted((testdata / "attestation" / "collateral").glob("*.json")):
        if path.stem == "sgx_v3_old_tcbinfo_v2":
            continue
        collateral = Collateral.from_json(path.read_bytes())
        assert Collateral.from_json(collateral.to_json()) == collateral
        assert collateral.tcb_info == json.loads(path.read_text())["tcb_info"]
        count += 1
    assert count == 7


def test_documents_are_read(text: str) -> None:
    collateral = Collateral.from_json(text)
    tcb_info, qe_identity = parse_tcb_info(collateral.tcb_info), parse_qe_identity(collateral.qe_identity)
    assert (tcb_info.tee, tcb_info.fmspc.hex(), tcb_info.pce_id.hex()) == ("sgx", "00606a000000", "0000")
    assert tcb_info.evaluation_data_number == qe_identity.evaluation_data_number == 15
    assert tcb_info.issued.isoformat() == "2023-05-15T14:08:11+00:00"


def test_digests_name_the_parts(text: str, bench: "Bench") -> None:
    first, second = Collateral.from_json(text).digests(), bench.parts.digests()
    assert len({first.tcb_info, first.qe_identity, first.root_ca_crl, first.pck_crl}) == 4
    assert first == Collateral.from_json(text).digests()
    assert first.tcb_info != second.tcb_info


def tcb(change: dict[str, object]) -> Callable[[dict[str, Any]], None]:
    def apply(value: dict[str, Any]) -> None:
        value["tcb_info"] = json.dumps(json.loads(value["tcb_info"]) | change)

    return apply


def identity(change: dict[str, object]) -> Callable[[dict[str, Any]], None]:
    def apply(value: dict[str, Any]) -> None:
        value["qe_identity"] = json.dumps(json.loads(value["qe_identity"]) | change)

    return apply


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "missing": (lambda v: v.pop("pck_crl"), "collateral.malformed"),
    "unknown": (lambda v: v.update(pck_certificate_chain="x"), "collateral.malformed"),
    "chain is a number": (lambda v: v.update(tcb_info_issuer_chain=1), "collateral.malformed"),
    "chain is no PEM": (lambda v: v.update(tcb_info_issuer_chain="x"), "collateral.pem"),
    "chain is empty": (lambda v: v.update(pck_crl_issuer_chain=""), "collateral.pem"),
    "chain is too long": (lambda v: v.update(pck_crl_issuer_chain="-" * 20000), "collateral.malformed"),
    "chain of five": (lambda v: v.update(pck_crl_issuer_chain=v["pck_crl_issuer_chain"] * 3), "collateral.pem"),
    "list is no hexadecimal": (lambda v: v.update(pck_crl="zz"), "collateral.malformed"),
    "signature of 63 bytes": (lambda v: v.update(tcb_info_signature="00" * 63), "collateral.malformed"),
    "document is no JSON": (lambda v: v.update(tcb_info="{"), "json.malformed"),
    "document is a list": (lambda v: v.update(tcb_info="[]"), "json.malformed"),
    "document with a repeated name": (lambda v: v.update(tcb_info='{"version":3,"version":3}'), "json.malformed"),
    "document is deep": (lambda v: v.update(tcb_info='{"a":' + "[" * 100_000 + "}"), "json.malformed"),
    "document is huge": (lambda v: v.update(tcb_info=" " * 300_000), "collateral.malformed"),
    "TCB info of version 2": (tcb({"version": 2}), "collateral.unsupported_version"),
    "TCB info of version 4": (tcb({"version": 4}), "collateral.unsupported_version"),
    "TCB info of version true": (tcb({"version": True}), "collateral.malformed"),
    "QE identity of version 3": (identity({"version": 3}), "collateral.unsupported_version"),
    "TCB info for SEV": (tcb({"id": "SEV"}), "collateral.malformed"),
    "short FMSPC": (tcb({"fmspc": "00"}), "collateral.malformed"),
    "evaluation number is text": (tcb({"tcbEvaluationDataNumber": "15"}), "collateral.malformed"),
    "local time": (tcb({"nextUpdate": "2023-06-14T14:08:11+02:00"}), "collateral.malformed"),
    "QE identity without a date": (identity({"issueDate": None}), "collateral.malformed"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_refuses_faulty_collateral(text: str, name: str) -> None:
    change, code = FAULTS[name]
    value = json.loads(text)
    change(value)
    with pytest.raises(FormatError) as refusal:
        Collateral.from_json(json.dumps(value))
    assert refusal.value.code == code


@pytest.mark.parametrize("raw", ["", "[]", "null", "{}", "\ud800", '{"a": NaN}', " " * (MAX_COLLATERAL_BYTES + 1)])
def test_refuses_what_is_no_collateral(raw: str) -> None:
    with pytest.raises(FormatError):
        Collateral.from_json(raw)


def test_unknown_members_of_a_signed_document_are_intels_business(text: str) -> None:
    value = json.loads(text)
    tcb({"somethingNew": [1, 2, {"x": None}]})(value)
    Collateral.from_json(json.dumps(value))


@given(data=st.data())
@settings(max_examples=150)
def test_mutants_are_parsed_or_refused(text: str, data: st.DataObject) -> None:
    raw = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        collateral = Collateral.from_json(bytes(raw))
    except FormatError as refusal:
        assert refusal.code.split(".")[0] in {"collateral", "json"}
    else:
        assert Collateral.from_json(collateral.to_json()) == collateral
