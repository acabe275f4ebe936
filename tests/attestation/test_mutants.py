"""Flipped bits and mutants: everything changed is refused, and only documented errors come out."""

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation.collateral import Collateral
from strongroom.attestation.roots import INTEL_ROOT
from strongroom.attestation.verify import verify_quote
from strongroom.errors import FormatError, VerificationError

if TYPE_CHECKING:
    from tests.attestation.conftest import Bench

# The X.509 library warns about odd names and serial numbers before the certificate is refused.
pytestmark = pytest.mark.filterwarnings("ignore")
REAL_NOW = dt.datetime.fromtimestamp(1684165303, dt.UTC)


def flip(raw: bytes, position: int, bit: int) -> bytes:
    return raw[:position] + bytes((raw[position] ^ 1 << bit,)) + raw[position + 1 :]


def survivors(bench: "Bench", positions: range) -> list[int]:
    accepted = []
    for position in positions:
        try:
            bench.verify(flip(bench.quote, position, position * 5 % 8))
        except (FormatError, VerificationError):
            continue
        accepted.append(position)
    return accepted


def test_every_flipped_bit_is_refused(bench: "Bench") -> None:
    # No region is excluded: the chain has one PEM spelling, its root is compared with the trusted one, padding is
    # zero. (dcap-qvl alone ignores the embedded root and many line ends.)
    assert survivors(bench, range(0, len(bench.quote), 5)) == []


@pytest.mark.slow
def test_every_flipped_bit_is_refused_everywhere(bench: "Bench") -> None:
    for start in range(8):
        for position in range(len(bench.quote)):
            with pytest.raises((FormatError, VerificationError)):
                bench.verify(flip(bench.quote, position, start))


@pytest.mark.slow
def test_every_flipped_bit_of_a_real_quote_is_refused(real: tuple[bytes, Collateral]) -> None:
    raw, collateral = real
    for position in range(len(raw)):
        for bit in (position % 8, (position + 3) % 8):
            with pytest.raises((FormatError, VerificationError)):
                verify_quote(flip(raw, position, bit), collateral, INTEL_ROOT, REAL_NOW)


def test_every_flipped_bit_of_signed_documents_and_lists_is_refused(bench: "Bench") -> None:
    for name in ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature"):
        value = getattr(bench.parts, name)
        for position in range(0, len(value), 3):
            changed = flip(value, position, position % 8)
            fields: dict[str, Any] = {name: changed}
            with pytest.raises((FormatError, VerificationError)):
                bench.verify(parts=replace(bench.parts, **fields))
    for name in ("tcb_info", "qe_identity"):
        text = getattr(bench.parts, name).encode()
        for position in range(0, len(text), 7):
            fields = {name: flip(text, position, position % 7).decode("latin-1")}
            with pytest.raises((FormatError, VerificationError)):
                bench.verify(parts=replace(bench.parts, **fields))


@pytest.fixture(scope="module")
def real(testdata: Path) -> tuple[bytes, Collateral]:
    folder = testdata / "attestation"
    collateral = Collateral.from_json((folder / "collateral" / "fmspc_00606a_2023_05.json").read_text())
    return (folder / "quotes" / "sgx_v3_azure_icelake_swhardening.bin").read_bytes(), collateral


@given(data=st.data())
@settings(max_examples=200)
def test_mutants_of_a_real_quote_give_documented_errors(real: tuple[bytes, Collateral], data: st.DataObject) -> None:
    raw, collateral = real
    mutant = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(mutant) - 1))
        match data.draw(st.sampled_from(("set", "cut", "insert", "copy"))):
            case "set":
                mutant[position] = data.draw(st.integers(0, 255))
            case "cut":
                del mutant[position : position + data.draw(st.integers(1, 8))]
            case "insert":
                mutant[position:position] = data.draw(st.binary(min_size=1, max_size=8))
            case _:
                mutant[position : position + 16] = raw[-position - 16 : -position or None]
        if not mutant:
            return
    try:
        verify_quote(bytes(mutant), collateral, INTEL_ROOT, REAL_NOW)
    except (FormatError, VerificationError) as refusal:
        assert refusal.code != "verification.other"
        assert refusal.code.split(".")[0] in {"quote", "report", "header", "pck", "root", "chain", "tcb"}
    else:
        assert bytes(mutant).rstrip(b"\0") == raw.rstrip(b"\0")


@given(st.binary(max_size=3000))
@settings(max_examples=50)
def test_any_bytes_give_documented_errors(real: tuple[bytes, Collateral], raw: bytes) -> None:
    with pytest.raises(FormatError):
        verify_quote(raw, real[1], INTEL_ROOT, REAL_NOW)
