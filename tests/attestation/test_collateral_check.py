"""What must be true of collateral before it is stored: Intel's own, and every way it could be somebody else's."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from strongroom.attestation.collateral import Collateral
from strongroom.attestation.collateral_check import check_collateral, check_signatures, refuse_older
from strongroom.attestation.roots import INTEL_ROOT, TrustRoot
from strongroom.errors import VerificationError
from strongroom.platforms.simulated import SimulatedMachine, TcbFacts, Validity

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)
FILES = {
    "fmspc_00606a_2023_06.json": (datetime(2023, 7, 1, tzinfo=UTC), "platform"),
    "fmspc_00806f05_2024_12.json": (datetime(2024, 12, 6, tzinfo=UTC), "platform"),
    "fmspc_00906ed5_2025_06.json": (datetime(2025, 6, 1, tzinfo=UTC), "processor"),
}


@pytest.fixture(scope="module")
def machine() -> SimulatedMachine:
    return SimulatedMachine.build(NOW - DAY)


@pytest.fixture(scope="module")
def root(machine: SimulatedMachine) -> TrustRoot:
    return TrustRoot("simulated", machine.root_der)


@pytest.fixture(scope="module")
def good(machine: SimulatedMachine) -> Collateral:
    return machine.collateral_parts()


@pytest.mark.parametrize("name", FILES)
def test_real_collateral_is_intels(testdata: Path, name: str) -> None:
    collateral = Collateral.from_json((testdata / "attestation" / "collateral" / name).read_bytes())
    now, ca = FILES[name]
    checked = check_collateral(collateral, INTEL_ROOT, now)
    assert checked.ca == ca
    assert checked.tcb_info.issued < now < checked.expires <= checked.tcb_info.next_update
    with pytest.raises(VerificationError) as refusal:
        check_collateral(collateral, INTEL_ROOT, checked.expires)
    assert refusal.value.code == "collateral.expired"
    assert check_signatures(collateral, INTEL_ROOT).expires == checked.expires


def test_simulated_collateral_is_not_intels(good: Collateral, root: TrustRoot) -> None:
    assert check_collateral(good, root, NOW).tcb_info.tee == "sgx"
    with pytest.raises(VerificationError) as refusal:
        check_collateral(good, INTEL_ROOT, NOW)
    assert refusal.value.code == "root.mismatch"


def flipped(octets: bytes, index: int = -1) -> bytes:
    changed = bytearray(octets)
    changed[index] ^= 1
    return bytes(changed)


TAMPERED: dict[str, tuple[Callable[[Collateral], Collateral], str]] = {
    "TCB info": (lambda c: replace(c, tcb_info=c.tcb_info.replace('"UpToDate"', '"UpToDat3"')), "collateral.signature"),
    "TCB info's signature": (
        lambda c: replace(c, tcb_info_signature=flipped(c.tcb_info_signature)),
        "collateral.signature",
    ),
    "signature of zeros": (lambda c: replace(c, tcb_info_signature=bytes(64)), "collateral.signature"),
    "QE identity": (lambda c: replace(c, qe_identity=c.qe_identity.replace("QE", "QF", 1)), "collateral.signature"),
    "QE identity's signature": (
        lambda c: replace(c, qe_identity_signature=c.tcb_info_signature),
        "collateral.signature",
    ),
    "root's list": (lambda c: replace(c, root_ca_crl=flipped(c.root_ca_crl)), "collateral.crl_signature"),
    "PCK CA's list": (lambda c: replace(c, pck_crl=flipped(c.pck_crl)), "collateral.crl_signature"),
    "lists swapped": (lambda c: replace(c, pck_crl=c.root_ca_crl), "collateral.crl_issuer"),
    "no list": (lambda c: replace(c, pck_crl=b""), "collateral.crl"),
    "PCK CA signs TCB info": (
        lambda c: replace(c, tcb_info_issuer_chain=c.pck_crl_issuer_chain),
        "collateral.issuer_chain",
    ),
    "TCB signer issues the list": (
        lambda c: replace(c, pck_crl_issuer_chain=c.tcb_info_issuer_chain),
        "collateral.issuer_chain",
    ),
    "chain without root": (
        lambda c: replace(
            c,
            pck_crl_issuer_chain=c.pck_crl_issuer_chain.split("-----END CERTIFICATE-----")[0]
            + "-----END CERTIFICATE-----\n",
        ),
        "collateral.issuer_chain",
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_refuses_tampered_collateral(good: Collateral, root: TrustRoot, what: str) -> None:
    change, code = TAMPERED[what]
    with pytest.raises(VerificationError) as refusal:
        check_collateral(change(good), root, NOW)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    "part",
    ["tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain", "root_ca_crl", "pck_crl"],
)
def test_refuses_a_part_of_another_root(good: Collateral, root: TrustRoot, part: str) -> None:
    other = SimulatedMachine.build(NOW - DAY).collateral_parts()
    with pytest.raises(VerificationError):
        check_collateral(replace(good, **{part: getattr(other, part)}), root, NOW)


def test_refuses_documents_about_different_tees(testdata: Path) -> None:
    folder = testdata / "attestation" / "collateral"
    tdx = Collateral.from_json((folder / "fmspc_00806f05_2024_12.json").read_bytes())
    answer = json.loads((testdata / "attestation" / "pcs_responses" / "sgx_qe_identity.json").read_text())
    identity = answer["enclave_identity_json"]
    text = identity[len('{"enclaveIdentity":') : identity.rindex(',"signature"')]
    mixed = replace(
        tdx,
        qe_identity=text,
        qe_identity_signature=bytes.fromhex(json.loads(identity)["signature"]),
        qe_identity_issuer_chain=answer["issuer_chain"],
    )
    with pytest.raises(VerificationError) as refusal:
        check_signatures(mixed, INTEL_ROOT)
    assert refusal.value.code == "collateral.wrong_tee"


def test_refuses_what_is_not_valid_yet(good: Collateral, root: TrustRoot) -> None:
    with pytest.raises(VerificationError) as refusal:
        check_collateral(good, root, NOW - 30 * DAY)
    assert refusal.value.code == "collateral.not_yet_valid"


class TestAge:
    @pytest.fixture
    def made(self, machine: SimulatedMachine, root: TrustRoot) -> Callable[..., Collateral]:
        def make(start: datetime = NOW - DAY, *, evaluation_data_number: int = 20) -> Collateral:
            return machine.collateral_parts(
                tcb=TcbFacts(evaluation_data_number=evaluation_data_number), validity=Validity.of(start, 30 * DAY)
            )

        return make

    def test_the_same_and_a_newer_one_replace(self, made: Callable[..., Collateral], root: TrustRoot) -> None:
        old, new = check_signatures(made(), root), check_signatures(made(NOW), root)
        refuse_older(old, old)
        refuse_older(new, old)
        with pytest.raises(VerificationError) as refusal:
            refuse_older(old, new)
        assert refusal.value.code == "collateral.rolled_back"
        assert refusal.value.hint

    @pytest.mark.parametrize("part", ["tcb_info", "qe_identity", "root_ca_crl", "pck_crl"])
    def test_one_older_part_is_enough(self, made: Callable[..., Collateral], root: TrustRoot, part: str) -> None:
        old, new = made(), made(NOW)
        names = [part, f"{part}_signature"] if hasattr(new, f"{part}_signature") else [part]
        mixed = replace(new, **{name: getattr(old, name) for name in names})
        with pytest.raises(VerificationError) as refusal:
            refuse_older(check_signatures(mixed, root), check_signatures(new, root))
        assert refusal.value.code == "collateral.rolled_back"

    def test_a_smaller_number_is_older_whatever_its_date(
        self, made: Callable[..., Collateral], root: TrustRoot
    ) -> None:
        before = check_signatures(made(NOW - DAY, evaluation_data_number=21), root)
        later = check_signatures(made(NOW, evaluation_data_number=20), root)
        with pytest.raises(VerificationError, match="tcbEvaluationDataNumber 20, stored is 21"):
            refuse_older(later, before)
