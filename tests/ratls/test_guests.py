"""Attested certificates of SEV-SNP guests and Azure's confidential VMs."""

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from strongroom.attestation.policy import AppraisalPolicy, SnpExpectations, SnpIdentity, VtpmIdentity
from strongroom.attestation.verify import verify_quote
from strongroom.errors import PolicyRejected, VerificationError
from strongroom.ratls.certificate import attested_certificate
from strongroom.ratls.verify import QuoteVerifier, check_peer, verify_certificate

if TYPE_CHECKING:
    from tests.guest_double import AmdDouble, VtpmDouble

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
GUEST = SnpIdentity(b"\x5a" * 48, b"\x0d" * 32, b"\x1d" * 48)


@pytest.fixture
def genuine(amd: "AmdDouble") -> QuoteVerifier:
    return lambda raw, now: verify_quote(raw, amd.collateral(), amd.root, now).claims


@pytest.mark.parametrize("azure", [False, True])
def test_the_certificate_carries_the_guests_evidence(
    genuine: QuoteVerifier, amd: "AmdDouble", vtpm: "VtpmDouble", guest_double: Any, azure: bool
) -> None:
    platform = guest_double.GuestPlatform(amd, vtpm if azure else None)
    peer = verify_certificate(attested_certificate(platform).der, genuine, NOW)
    assert (peer.claims.tee, peer.evidence) == (platform.tee, "tagged")
    policy = AppraisalPolicy(
        measurements=(VtpmIdentity(GUEST, {11: b"\x0b" * 32}) if azure else GUEST,),
        tees=frozenset({peer.claims.tee}),
        snp=SnpExpectations(min_tcb={"milan": amd.tcb}, vmpl=0, accept_smt=False),
        accept_simulated=True,
    )
    check_peer(peer, policy, NOW)
    stricter = SnpExpectations(min_tcb={"genoa": amd.tcb}, vmpl=0, accept_smt=False)
    with pytest.raises(PolicyRejected):
        check_peer(peer, replace(policy, snp=stricter), NOW)


def test_refuses_evidence_about_another_key(
    genuine: QuoteVerifier, amd: "AmdDouble", vtpm: "VtpmDouble", guest_double: Any
) -> None:
    class Replaying:
        name, tee, simulated = "azure-snp", "az-snp-vtpm", True
        earlier = guest_double.GuestPlatform(amd, vtpm).quote(bytes(64))

        def quote(self, report_data: bytes) -> bytes:
            return bytes(self.earlier)

    with pytest.raises(VerificationError) as caught:
        verify_certificate(attested_certificate(Replaying()).der, genuine, NOW)
    assert caught.value.code == "binding.report_data"
