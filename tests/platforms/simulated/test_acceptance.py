"""dcap-qvl, written by others, accepts simulated evidence under the simulated root and under no other."""

import datetime as dt
import json
from dataclasses import replace
from typing import Any

import pytest

from strongroom.attestation.collateral import Collateral
from strongroom.attestation.roots import TrustRoot
from strongroom.attestation.verify import verify_quote
from strongroom.errors import StrongroomError
from strongroom.formats.quote import parse_quote
from strongroom.formats.report import SgxReport
from strongroom.platforms.simulated import SimulatedMachine, SimulatedPlatform, TcbFacts, Validity
from strongroom.platforms.simulated.pki import CRL_URL, certify_leaf, chain_pem, create_crl
from strongroom.platforms.simulated.quotes import certify_quoting_enclave, quoting_enclave_report
from strongroom.platforms.simulated.tcb import document_text, sign_document, tcb_info

REPORT_DATA = bytes(range(64))
STATUSES = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
)


def test_accepts_under_its_own_root(platform: SimulatedPlatform, judge: Any) -> None:
    claims = judge(platform.quote(REPORT_DATA))
    assert claims["tcb"] == {"status": "UpToDate", "advisory_ids": [], "eval_data_number": 20}
    assert bytes(claims["platform"]["pck"]["fmspc"])[:3] == b"SIM"


def test_quote_says_what_the_enclave_is(platform: SimulatedPlatform) -> None:
    body = parse_quote(platform.quote(REPORT_DATA)).body
    assert isinstance(body, SgxReport)
    assert (body.mr_enclave, body.mr_signer) == (b"\x11" * 32, b"\x22" * 32)
    assert (body.isv_prod_id, body.isv_svn, body.debug, body.initialized) == (3, 4, False, True)
    assert body.report_data == REPORT_DATA


@pytest.mark.parametrize("status", STATUSES)
def test_status_and_advisories_arrive(
    machine: SimulatedMachine, platform: SimulatedPlatform, judge: Any, status: Any
) -> None:
    tcb = TcbFacts(status=status, advisory_ids=("INTEL-SA-00615",), evaluation_data_number=7)
    claims = judge(platform.quote(REPORT_DATA), collateral=machine.collateral(tcb=tcb))
    assert claims["tcb"] == {"status": status, "advisory_ids": ["INTEL-SA-00615"], "eval_data_number": 7}


def test_quoting_enclave_out_of_date_lowers_the_status(
    machine: SimulatedMachine, platform: SimulatedPlatform, judge: Any
) -> None:
    claims = judge(platform.quote(REPORT_DATA), collateral=machine.collateral(tcb=TcbFacts(qe_status="OutOfDate")))
    assert claims["tcb"]["status"] == "OutOfDate"


def test_changed_facts_reach_certificate_and_tcb_info(judge: Any, now: dt.datetime) -> None:
    machine = SimulatedMachine.build(now, change=lambda facts: replace(facts, fmspc=b"\x00\x60\x6a\x00\x00\x00"))
    quote = machine.platform(mr_enclave=bytes(32), isv_prod_id=0, isv_svn=0).quote(REPORT_DATA)
    claims = judge(quote, collateral=machine.collateral(), root=machine.root_der)
    assert bytes(claims["platform"]["pck"]["fmspc"]).hex() == "00606a000000"


def test_intel_root_refuses(platform: SimulatedPlatform, judge: Any) -> None:
    with pytest.raises(ValueError, match="Verification failed"):
        judge(platform.quote(REPORT_DATA), intel_root=True)


def test_another_simulated_root_refuses(platform: SimulatedPlatform, judge: Any, now: dt.datetime) -> None:
    other = SimulatedMachine.build(now)
    with pytest.raises(ValueError, match="Verification failed"):
        judge(platform.quote(REPORT_DATA), root=other.root_der)
    with pytest.raises(ValueError, match="certificate chain"):
        judge(platform.quote(REPORT_DATA), collateral=other.collateral(), root=other.root_der)


@pytest.mark.parametrize(("status", "reason"), [("Revoked", "Revoked"), (None, "No matching TCB level")])
def test_hopeless_tcb_is_refused(
    machine: SimulatedMachine, platform: SimulatedPlatform, judge: Any, status: Any, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        judge(platform.quote(REPORT_DATA), collateral=machine.collateral(tcb=TcbFacts(status=status)))


def test_debug_enclave_is_refused(machine: SimulatedMachine, judge: Any) -> None:
    debug = machine.platform(mr_enclave=bytes(32), isv_prod_id=0, isv_svn=0, debug=True)
    with pytest.raises(ValueError, match="Debug"):
        judge(debug.quote(REPORT_DATA))


def test_collateral_expires_after_a_year_and_does_not_start_early(
    platform: SimulatedPlatform, judge: Any, now: dt.datetime
) -> None:
    quote = platform.quote(REPORT_DATA)
    assert judge(quote, at=now + dt.timedelta(days=364))
    assert judge(quote, at=now - dt.timedelta(minutes=59))
    for moment in (now + dt.timedelta(days=366), now - dt.timedelta(hours=2)):
        with pytest.raises(ValueError, match="Verification failed"):
            judge(quote, at=moment)


@pytest.mark.parametrize("offset", [100, 112, 176, 306, 368, 431, 436, 500, 564, 948, 1014])
def test_refuses_flipped_bit(platform: SimulatedPlatform, judge: Any, offset: int) -> None:
    quote = bytearray(platform.quote(REPORT_DATA))
    quote[offset] ^= 1
    with pytest.raises(ValueError, match=r"[a-z]"):
        judge(bytes(quote))


def test_refuses_attestation_key_that_the_qe_did_not_commit_to(machine: SimulatedMachine, judge: Any) -> None:
    other = SimulatedMachine.build(machine.created)
    report = quoting_enclave_report(machine.facts, other.attestation_key)
    enclave = certify_quoting_enclave(machine.pki, machine.facts, machine.attestation_key, qe_report=report)
    body = machine.platform(mr_enclave=bytes(32), isv_prod_id=0, isv_svn=0).body
    with pytest.raises(ValueError, match="QE report hash"):
        judge(enclave.quote(body))


def test_revoking_some_other_certificate_changes_nothing(
    machine: SimulatedMachine, platform: SimulatedPlatform, judge: Any
) -> None:
    parts = replace(machine.collateral_parts(), pck_crl=create_crl(machine.pki.pck_ca, machine.validity, revoked=(1,)))
    assert judge(platform.quote(REPORT_DATA), collateral=parts.to_json())


@pytest.mark.parametrize("change", ["pck", "pck_ca"])
def test_refuses_revoked_certificate(
    machine: SimulatedMachine, platform: SimulatedPlatform, judge: Any, change: str
) -> None:
    parts = machine.collateral_parts()
    serial = getattr(machine.pki, change).certificate.serial_number
    if change == "pck":
        parts = replace(parts, pck_crl=create_crl(machine.pki.pck_ca, machine.validity, revoked=(serial,)))
    else:
        parts = replace(parts, root_ca_crl=create_crl(machine.pki.root, machine.validity, revoked=(serial,)))
    with pytest.raises(ValueError, match="certificate chain"):
        judge(platform.quote(REPORT_DATA), collateral=parts.to_json())


def test_refuses_other_fmspc(machine: SimulatedMachine, platform: SimulatedPlatform, judge: Any) -> None:
    facts = replace(machine.facts, fmspc=bytes(6))
    text = document_text(tcb_info(facts, TcbFacts(), machine.validity))
    parts = _resigned(machine, text)
    with pytest.raises(ValueError, match="Fmspc"):
        judge(platform.quote(REPORT_DATA), collateral=parts.to_json())


def test_refuses_document_changed_after_signing(
    machine: SimulatedMachine, platform: SimulatedPlatform, judge: Any
) -> None:
    parts = machine.collateral_parts(tcb=TcbFacts(status="OutOfDate"))
    forged = replace(parts, tcb_info=parts.tcb_info.replace("OutOfDate", "UpToDate"))
    with pytest.raises(ValueError, match=r"[Ss]ignature"):
        judge(platform.quote(REPORT_DATA), collateral=forged.to_json())


def test_expired_validity_can_be_asked_for(
    machine: SimulatedMachine, platform: SimulatedPlatform, judge: Any, now: dt.datetime
) -> None:
    past = Validity(now - dt.timedelta(days=60), now - dt.timedelta(days=30))
    with pytest.raises(ValueError, match=r"[Ee]xpired"):
        judge(platform.quote(REPORT_DATA), collateral=machine.collateral(validity=past))


class TestWhatOnlyStrongroomRefuses:
    """dcap-qvl 0.7.0 lets these pass, so its word isn't enough: the pieces here must be able to make them, and
    `strongroom.attestation` must refuse them. When dcap-qvl becomes stricter, the first half of a case falls."""

    @pytest.fixture
    def refused(self, machine: SimulatedMachine, judge: Any, now: dt.datetime) -> Any:
        root = TrustRoot("simulated", machine.root_der)

        def check(quote: bytes, collateral: Collateral) -> None:
            assert judge(quote, collateral=collateral.to_json())
            with pytest.raises(StrongroomError):
                verify_quote(quote, collateral, root, now)

        return check

    def test_both_accept_what_is_right(
        self, machine: SimulatedMachine, platform: SimulatedPlatform, now: dt.datetime
    ) -> None:
        collateral = Collateral.from_json(machine.collateral())
        root = TrustRoot("simulated", machine.root_der)
        claims = verify_quote(platform.quote(REPORT_DATA), collateral, root, now).claims
        assert (claims.simulated, claims.mr_enclave) == (True, platform.body.mr_enclave)

    def test_tcb_info_signed_by_a_pck_key(
        self, machine: SimulatedMachine, platform: SimulatedPlatform, refused: Any
    ) -> None:
        parts = machine.collateral_parts()
        chain = chain_pem(machine.pki.pck, machine.pki.pck_ca, machine.pki.root)
        signature = sign_document(parts.tcb_info, machine.pki.pck.private_key)
        forged = replace(parts, tcb_info_issuer_chain=chain, tcb_info_signature=signature)
        refused(platform.quote(REPORT_DATA), forged)

    def test_other_pce_id(self, machine: SimulatedMachine, platform: SimulatedPlatform, refused: Any) -> None:
        facts = replace(machine.facts, pce_id=b"\x00\x01")
        parts = _resigned(machine, document_text(tcb_info(facts, TcbFacts(), machine.validity)))
        refused(platform.quote(REPORT_DATA), parts)

    def test_revocation_list_from_the_future(
        self, machine: SimulatedMachine, platform: SimulatedPlatform, refused: Any, now: dt.datetime
    ) -> None:
        future = Validity(now + dt.timedelta(days=1), now + dt.timedelta(days=30))
        parts = replace(machine.collateral_parts(), pck_crl=create_crl(machine.pki.pck_ca, future))
        refused(platform.quote(REPORT_DATA), parts)

    def test_enclave_that_never_ran(self, machine: SimulatedMachine, platform: SimulatedPlatform, refused: Any) -> None:
        quote = platform.quoting_enclave.quote(replace(platform.body, flags=platform.body.flags & ~1))
        refused(quote, machine.collateral_parts())

    def test_qe_report_data_with_a_tail(
        self, machine: SimulatedMachine, platform: SimulatedPlatform, refused: Any
    ) -> None:
        report = quoting_enclave_report(machine.facts, machine.attestation_key)
        report = replace(report, report_data=report.report_data[:32] + b"\x01" * 32)
        enclave = certify_quoting_enclave(machine.pki, machine.facts, machine.attestation_key, qe_report=report)
        refused(enclave.quote(platform.body), machine.collateral_parts())


def test_certificates_name_themselves_simulated_and_not_intel(machine: SimulatedMachine) -> None:
    pki = machine.pki
    phrases = {"root": "SGX Root CA", "pck_ca": "SGX PCK Platform CA", "pck": "SGX PCK Certificate"}
    for name, phrase in {**phrases, "tcb_signer": "SGX TCB Signing"}.items():
        certificate = getattr(pki, name).certificate
        subject = certificate.subject.rfc4514_string()
        assert "Strongroom Simulated" in subject
        assert "not Intel" in subject
        assert phrase in subject
    assert "simulated.invalid" in CRL_URL


def test_tcb_signer_is_issued_by_the_root_and_is_no_pck(machine: SimulatedMachine) -> None:
    signer = machine.pki.tcb_signer.certificate
    signer.verify_directly_issued_by(machine.pki.root.certificate)
    with pytest.raises(ValueError, match="issuer"):
        certify_leaf("other", machine.pki.pck_ca, machine.validity).certificate.verify_directly_issued_by(
            machine.pki.root.certificate
        )


def test_collateral_has_exactly_the_nine_parts(machine: SimulatedMachine) -> None:
    assert set(json.loads(machine.collateral())) == set(Collateral.__dataclass_fields__)


def test_keys_do_not_show_in_repr(machine: SimulatedMachine) -> None:
    assert "PRIVATE" not in repr(machine)
    assert repr(machine.pki.pck) == f"CertifiedKey({machine.pki.pck.certificate.subject.rfc4514_string()})"


def _resigned(machine: SimulatedMachine, text: str) -> Collateral:
    signature = sign_document(text, machine.pki.tcb_signer.private_key)
    return replace(machine.collateral_parts(), tcb_info=text, tcb_info_signature=signature)
