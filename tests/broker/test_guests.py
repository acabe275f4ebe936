"""SEV-SNP guests and Azure's confidential VMs at the broker: challenge, evidence, decision, log, key."""

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from strongroom.attestation.policy import AppraisalPolicy, SnpExpectations, SnpIdentity, VtpmIdentity
from strongroom.broker.amd_collateral import find_amd_collateral, store_amd_collateral, stored_amd_collateral
from strongroom.broker.collateral_watch import warn_of_expiry
from strongroom.broker.grants import Grant
from strongroom.broker.pcs import platform_of_quote
from strongroom.errors import ConfigurationError, VerificationError
from strongroom.formats.evidence import DcapEvidence, serialize_evidence
from strongroom.formats.quote import parse_quote
from strongroom.platforms.relay import find_relay, serve_relay
from strongroom.ratls.certificate import attested_certificate

if TYPE_CHECKING:
    from tests.broker.conftest import Broker, Clock, Kbc
    from tests.guest_double import AmdDouble, VtpmDouble

GUEST = SnpIdentity(b"\x5a" * 48, b"\x0d" * 32, b"\x1d" * 48)
AZURE = VtpmIdentity(GUEST, {4: b"\x04" * 32})


@pytest.fixture
def guests(broker: "Broker", amd: "AmdDouble", clock: "Clock") -> "Broker":
    """A broker that believes the double of AMD and has its collateral."""
    broker.verifier.trust = replace(broker.verifier.trust, amd_roots=(amd.root,))
    store_amd_collateral(broker.files.collateral, fresh_collateral(amd, clock), amd.root, clock())
    return broker


def fresh_collateral(amd: "AmdDouble", clock: "Clock", days: int = 30) -> Any:
    start = clock() - timedelta(days=1)
    return amd.collateral(crl=amd.crl(validity=(start, clock() + timedelta(days=days))))


def authorize(broker: "Broker", amd: "AmdDouble", tee: Any, **changes: Any) -> None:
    policy = AppraisalPolicy(
        measurements=(AZURE if tee == "az-snp-vtpm" else GUEST,),
        tees=frozenset({tee}),
        snp=replace(SnpExpectations(min_tcb={"milan": amd.tcb}, vmpl=0, accept_smt=False), **changes),
        accept_simulated=True,
    )
    grant = Grant(name="loan-train", policy=policy, keys=(broker.key_path,), provision=broker.key_path)
    broker.parts.grants.add(grant, broker.parts.clock(), replace=True)


@pytest.fixture(params=["snp", "az-snp-vtpm"])
def tee(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def guest(kbc: "Kbc", guests: "Broker", amd: "AmdDouble", vtpm: "VtpmDouble", tee: str, guest_double: Any) -> "Kbc":
    """A client on such a machine."""
    kbc.platform = guest_double.GuestPlatform(amd, vtpm if tee == "az-snp-vtpm" else None)
    return kbc


def attest(guest: "Kbc", tee: str) -> Any:
    return guest.send(guest.evidence(guest.nonce(tee=tee)))


def test_a_guest_gets_its_key_and_the_log_names_its_evidence(
    guest: "Kbc", guests: "Broker", amd: "AmdDouble", tee: str
) -> None:
    authorize(guests, amd, tee)
    answer = attest(guest, tee)
    assert answer.status_code == 200, answer.text
    assert guest.key.decrypt(guest.get(token=answer.json()["token"]).json()) == guests.key
    released = guests.events()[-1]
    assert released["decision"] == "allow"
    assert released["who"]["tee"] == tee
    assert released["who"]["snp"]["measurement"] == "5a" * 48
    assert ("pcrs" in released["who"]) == (tee == "az-snp-vtpm")
    assert amd.chip_id[:8].hex() not in str(guests.events())


def test_another_guest_is_refused_with_the_reason(guest: "Kbc", guests: "Broker", amd: "AmdDouble", tee: str) -> None:
    authorize(guests, amd, tee, min_tcb={"milan": replace(amd.tcb, microcode=220)})
    assert attest(guest, tee).status_code == 403
    assert [finding["code"] for finding in guests.events()[-1]["findings"]] == ["snp.reported_tcb", "snp.launch_tcb"]


def test_evidence_for_another_nonce_is_refused(guest: "Kbc", guests: "Broker", amd: "AmdDouble", tee: str) -> None:
    authorize(guests, amd, tee)
    evidence = guest.evidence(guest.nonce(tee=tee), report_data=bytes(64))
    assert guest.send(evidence).status_code == 401
    assert guests.events()[-1]["findings"][0]["code"] == "binding.report_data"


def test_a_session_for_one_tee_takes_no_evidence_of_another(
    guest: "Kbc", guests: "Broker", amd: "AmdDouble", tee: str
) -> None:
    authorize(guests, amd, tee)
    other = "snp" if tee == "az-snp-vtpm" else "az-snp-vtpm"
    assert attest(guest, other).status_code == 401
    assert guests.events()[-1]["findings"][0]["code"] == "evidence.tee"


def test_without_collateral_nothing_is_believed(
    kbc: "Kbc", broker: "Broker", amd: "AmdDouble", guest_double: Any
) -> None:
    broker.verifier.trust = replace(broker.verifier.trust, amd_roots=(amd.root,))
    authorize(broker, amd, "snp")
    kbc.platform = guest_double.GuestPlatform(amd)
    assert attest(kbc, "snp").status_code == 401
    assert broker.events()[-1]["findings"][0]["code"] == "collateral.none"


def test_nobody_believes_the_double_by_default(
    kbc: "Kbc", broker: "Broker", amd: "AmdDouble", clock: "Clock", guest_double: Any
) -> None:
    store_amd_collateral(broker.files.collateral, fresh_collateral(amd, clock), amd.root, clock())
    folder = broker.files.collateral
    (folder / "amd-simulated").rename(folder / "amd")
    authorize(broker, amd, "snp")
    kbc.platform = guest_double.GuestPlatform(amd)
    assert attest(kbc, "snp").status_code == 401
    assert broker.events()[-1]["findings"][0]["code"] == "root.mismatch"


def test_an_attested_certificate_of_a_guest_is_provisioned(
    guest: "Kbc", guests: "Broker", amd: "AmdDouble", tee: str
) -> None:
    authorize(guests, amd, tee)
    certificate = attested_certificate(guest.platform)
    assert guests.parts.provisioning.provide(certificate.der, None) == guests.key


def test_a_pod_behind_the_relay_gets_the_nodes_keys(
    guest: "Kbc", guests: "Broker", amd: "AmdDouble", tee: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authorize(guests, amd, tee)
    path, stopped = tmp_path_factory.mktemp("r") / "s", threading.Event()
    relay = threading.Thread(target=serve_relay, args=(path, guest.platform, stopped, print))
    relay.start()
    try:
        while not path.is_socket():
            stopped.wait(0.01)
        pod: Any = find_relay(path)
        assert (pod.name, pod.tee) == ("relay", tee)
        guest.platform = pod
        answer = attest(guest, tee)
        assert guest.key.decrypt(guest.get(token=answer.json()["token"]).json()) == guests.key
    finally:
        stopped.set()
        relay.join(30)


class TestCollateral:
    def test_intels_service_is_not_asked_about_amds_processors(self, amd: "AmdDouble") -> None:
        with pytest.raises(ConfigurationError) as caught:
            platform_of_quote(amd.evidence())
        assert caught.value.code == "collateral.wanted"

    def test_a_virtual_tpms_evidence_names_its_hardware(self, vtpm: "VtpmDouble", testdata: Path) -> None:
        raw = (testdata / "attestation" / "quotes" / "tdx_v4_uptodate.bin").read_bytes()
        evidence = serialize_evidence(vtpm.parts(DcapEvidence(raw, parse_quote(raw)), bytes(64)))
        assert platform_of_quote(evidence) == platform_of_quote(raw)

    def test_it_is_checked_before_it_is_stored(self, broker: "Broker", amd: "AmdDouble", clock: "Clock") -> None:
        folder = broker.files.collateral
        stale = fresh_collateral(amd, clock, days=0)
        with pytest.raises(VerificationError) as caught:
            store_amd_collateral(folder, stale, amd.root, clock())
        assert caught.value.code == "collateral.expired"
        assert find_amd_collateral(folder, amd.root, "vcek", "milan") is None

    def test_an_older_list_does_not_replace_a_newer_one(
        self, guests: "Broker", amd: "AmdDouble", clock: "Clock"
    ) -> None:
        older = amd.collateral(crl=amd.crl(validity=(clock() - timedelta(days=9), clock() + timedelta(days=99))))
        with pytest.raises(VerificationError) as caught:
            store_amd_collateral(guests.files.collateral, older, amd.root, clock())
        assert caught.value.code == "collateral.rolled_back"

    def test_its_end_is_announced(self, guests: "Broker", amd: "AmdDouble", clock: "Clock") -> None:
        folder, trust = guests.files.collateral, replace(guests.verifier.trust, roots=())
        assert warn_of_expiry(trust, clock()) == 0
        clock.advance(24 * 24 * 3600)
        assert warn_of_expiry(trust, clock()) == 1
        clock.advance(7 * 24 * 3600)
        (stored,) = stored_amd_collateral(folder, amd.root, clock())
        assert stored.problem is not None
        assert stored.problem.code == "collateral.expired"
        assert warn_of_expiry(trust, clock()) == 1
