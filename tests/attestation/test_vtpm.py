"""Azure's virtual TPM: every link from the hardware's report to the registers, broken one by one."""

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation.claims import Claims
from strongroom.attestation.verify import verify_quote
from strongroom.errors import FormatError, VerificationError
from strongroom.formats.evidence import DcapEvidence, VtpmEvidence, parse_evidence, serialize_evidence
from strongroom.formats.hcl import attestation_key_of, report_data_of
from strongroom.formats.quote import parse_quote
from strongroom.formats.tpm_quote import SELECTION

if TYPE_CHECKING:
    from tests.attestation.conftest import Bench
    from tests.guest_double import AmdDouble, VtpmDouble

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
REPORT_DATA = hashlib.sha512(b"what the pod wanted to say").digest()


@pytest.fixture
def evidence(amd: "AmdDouble", vtpm: "VtpmDouble") -> VtpmEvidence:
    return vtpm.parts(amd.parts(report_data_of(vtpm.runtime_data())), REPORT_DATA)


@pytest.fixture
def verify(amd: "AmdDouble") -> Callable[[VtpmEvidence], Claims]:
    return lambda evidence: verify_quote(serialize_evidence(evidence), amd.collateral(), amd.root, NOW).claims


def refusal(attempt: Callable[[], object]) -> str:
    with pytest.raises((VerificationError, FormatError)) as caught:
        attempt()
    return caught.value.code


def test_genuine_evidence_becomes_claims(
    verify: Callable[[VtpmEvidence], Claims], evidence: VtpmEvidence, vtpm: "VtpmDouble"
) -> None:
    claims = verify(evidence)
    assert claims.tee == "az-snp-vtpm"
    assert claims.report_data == REPORT_DATA
    assert claims.pcrs == vtpm.pcrs
    assert claims.snp is not None
    assert claims.signed_sha256 == hashlib.sha256(evidence.attest).digest()
    assert Claims.from_json(claims.to_json()) == claims
    assert parse_evidence(serialize_evidence(evidence)) == evidence


def test_a_td_quote_may_stand_behind_the_tpm(bench: "Bench", vtpm: "VtpmDouble") -> None:
    quote = bench.td_quote(4, report_data=report_data_of(vtpm.runtime_data()))
    evidence = vtpm.parts(DcapEvidence(quote, parse_quote(quote)), REPORT_DATA)
    claims = verify_quote(serialize_evidence(evidence), bench.td_parts(), bench.root, NOW).claims
    assert claims.tee == "az-tdx-vtpm"
    assert claims.report_data == REPORT_DATA
    assert claims.mr_td is not None
    assert claims.pcrs == vtpm.pcrs
    assert Claims.from_json(claims.to_json()) == replace(claims, ppid=None, platform_instance_id=None)


def test_an_enclave_quote_may_not(bench: "Bench", vtpm: "VtpmDouble") -> None:
    evidence = vtpm.parts(DcapEvidence(bench.quote, parse_quote(bench.quote)), REPORT_DATA)
    assert refusal(lambda: parse_evidence(serialize_evidence(evidence))) == "evidence.part"


def test_refuses_runtime_data_the_hardware_does_not_vouch_for(
    verify: Callable[[VtpmEvidence], Claims], evidence: VtpmEvidence, guest_double: Any
) -> None:
    stranger = guest_double.VtpmDouble()
    forged = stranger.parts(evidence.hardware, REPORT_DATA)
    assert refusal(lambda: verify(forged)) == "vtpm.runtime_data"


def test_refuses_a_report_whose_tail_says_something(
    verify: Callable[[VtpmEvidence], Claims], amd: "AmdDouble", vtpm: "VtpmDouble"
) -> None:
    hardware = amd.parts(report_data_of(vtpm.runtime_data())[:32] + b"\x01" * 32)
    assert refusal(lambda: verify(vtpm.parts(hardware, REPORT_DATA))) == "vtpm.runtime_data"


@pytest.mark.parametrize("vmpl", [1, 2, 3])
def test_refuses_a_guests_own_report_in_place_of_the_paravisors(
    verify: Callable[[VtpmEvidence], Claims], amd: "AmdDouble", vtpm: "VtpmDouble", vmpl: int
) -> None:
    """A guest above level 0 chooses its report data, and so an attestation key whose PCRs say what it likes."""
    forged = vtpm.parts(amd.parts(report_data_of(vtpm.runtime_data()), vmpl=vmpl), REPORT_DATA)
    assert refusal(lambda: verify(forged)) == "vtpm.vmpl"


def test_refuses_a_quote_another_key_signed(
    verify: Callable[[VtpmEvidence], Claims], evidence: VtpmEvidence, guest_double: Any
) -> None:
    forged = replace(evidence, signature=guest_double.VtpmDouble().sign(evidence.attest))
    assert refusal(lambda: verify(forged)) == "vtpm.signature"


def test_refuses_a_replayed_quote(
    verify: Callable[[VtpmEvidence], Claims], evidence: VtpmEvidence, vtpm: "VtpmDouble"
) -> None:
    earlier = vtpm.attest(bytes(64))
    replayed = replace(evidence, attest=earlier, signature=vtpm.sign(earlier))
    assert refusal(lambda: verify(replayed)) == "vtpm.extra_data"
    assert refusal(lambda: verify(replace(evidence, report_data=bytes(64)))) == "vtpm.extra_data"


def test_refuses_registers_that_were_not_quoted(
    verify: Callable[[VtpmEvidence], Claims], evidence: VtpmEvidence
) -> None:
    pcrs = (evidence.pcrs[1], evidence.pcrs[0], *evidence.pcrs[2:])
    assert refusal(lambda: verify(replace(evidence, pcrs=pcrs))) == "vtpm.pcrs"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"magic": b"\xff\x54\x43\x48"}, "tpm.magic"),
        ({"type": b"\x80\x17"}, "tpm.type"),
        ({"selection": SELECTION[:-1] + b"\x01"}, "tpm.selection"),
        ({"selection": SELECTION.replace(b"\x00\x0b", b"\x00\x04")}, "tpm.selection"),
        ({"selection": SELECTION[:-3] + bytes(3)}, "tpm.selection"),
        ({"digest": bytes(20)}, "tpm.digest"),
        ({"digest": bytes(64)}, "tpm.length"),
        ({"extra_data": bytes(67)}, "tpm.length"),
        ({"extra_data": b""}, "vtpm.extra_data"),
        ({"firmware": bytes(9)}, "tpm.selection"),
        ({"selection": b""}, "tpm.selection"),
    ],
)
def test_refuses_what_is_not_a_quote_over_the_registers(
    verify: Callable[[VtpmEvidence], Claims],
    evidence: VtpmEvidence,
    vtpm: "VtpmDouble",
    changes: dict[str, bytes],
    code: str,
) -> None:
    attest = vtpm.attest(REPORT_DATA, **changes)
    assert refusal(lambda: verify(replace(evidence, attest=attest, signature=vtpm.sign(attest)))) == code


@pytest.mark.parametrize(
    "changes",
    [
        {"kid": "HCLEkPub"},
        {"kty": "EC"},
        {"e": "AQ"},
        {"n": "AQAB"},
        {"n": "A" * 342},
        {"n": "not base64url!"},
        {"keys": []},
        {"keys": "HCLAkPub"},
        {"keys": [{"kid": "HCLAkPub", "kty": "RSA"}]},
        {"keys": [{"kid": "HCLAkPub"}, {"kid": "HCLAkPub"}]},
    ],
)
def test_refuses_runtime_data_without_one_good_key(
    verify: Callable[[VtpmEvidence], Claims], amd: "AmdDouble", vtpm: "VtpmDouble", changes: dict[str, Any]
) -> None:
    runtime_data = vtpm.runtime_data(**changes)
    evidence = vtpm.parts(amd.parts(report_data_of(runtime_data)), REPORT_DATA, runtime_data)
    assert refusal(lambda: verify(evidence)) == "hcl.runtime_data"


def test_refuses_runtime_data_with_two_attestation_keys(
    verify: Callable[[VtpmEvidence], Claims], amd: "AmdDouble", vtpm: "VtpmDouble"
) -> None:
    runtime_data = vtpm.runtime_data(keys=2 * json.loads(vtpm.runtime_data())["keys"][:1])
    evidence = vtpm.parts(amd.parts(report_data_of(runtime_data)), REPORT_DATA, runtime_data)
    assert refusal(lambda: verify(evidence)) == "hcl.runtime_data"


@pytest.mark.parametrize("modulus", [b"\x7f" + b"\xff" * 255, b"\xff" * 255 + b"\xfe", b"\xff" * 257])
def test_refuses_attestation_keys_that_are_not_of_2048_bits(vtpm: "VtpmDouble", modulus: bytes) -> None:
    n = base64.urlsafe_b64encode(modulus).rstrip(b"=").decode()
    assert refusal(lambda: attestation_key_of(vtpm.runtime_data(n=n))) == "hcl.runtime_data"


def test_refuses_a_quote_with_a_tail(
    verify: Callable[[VtpmEvidence], Claims], evidence: VtpmEvidence, vtpm: "VtpmDouble"
) -> None:
    attest = evidence.attest + b"\0"
    assert refusal(lambda: verify(replace(evidence, attest=attest, signature=vtpm.sign(attest)))) == "tpm.trailing"


@settings(max_examples=200)
@given(st.data())
def test_no_changed_byte_goes_unnoticed(amd: "AmdDouble", vtpm: "VtpmDouble", data: st.DataObject) -> None:
    raw = bytearray(serialize_evidence(vtpm.parts(amd.parts(report_data_of(vtpm.runtime_data())), REPORT_DATA)))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises((VerificationError, FormatError)):
        verify_quote(bytes(raw), amd.collateral(), amd.root, NOW)
