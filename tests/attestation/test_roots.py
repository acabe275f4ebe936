"""Trust roots: kind and certificate belong together."""

import datetime as dt
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from strongroom.attestation.roots import INTEL_ROOT, INTEL_ROOT_SHA256, TrustRoot
from strongroom.errors import ConfigurationError
from strongroom.platforms.simulated import SimulatedMachine

if TYPE_CHECKING:
    from tests.attestation.conftest import Bench


def test_embedded_root_is_intels(testdata: Path) -> None:
    assert (testdata / "attestation" / "roots" / "intel.der").read_bytes() == INTEL_ROOT.certificate_der
    assert hashlib.sha256(INTEL_ROOT.certificate_der).hexdigest() == INTEL_ROOT_SHA256
    certificate = x509.load_der_x509_certificate(INTEL_ROOT.certificate_der)
    assert "CN=Intel SGX Root CA" in certificate.subject.rfc4514_string()
    assert certificate.not_valid_after_utc.year == 2049
    assert not INTEL_ROOT.simulated


def test_simulated_root_says_so(bench: "Bench") -> None:
    assert bench.root.simulated


def test_refuses_wrong_labels(bench: "Bench") -> None:
    for kind, der in (
        ("intel", bench.machine.root_der),
        ("simulated", INTEL_ROOT.certificate_der),
        ("hardware", bench.machine.root_der),
    ):
        with pytest.raises(ConfigurationError) as refusal:
            TrustRoot(kind, der)  # type: ignore[arg-type]  # the fault under test
        assert refusal.value.code == "root.invalid"


def test_refuses_what_is_no_self_signed_certificate(bench: "Bench", now: dt.datetime) -> None:
    pki = bench.machine.pki
    impostor = SimulatedMachine.build(now).pki.root.der
    forged = impostor[:-4] + bytes(4)
    version_6 = bench.machine.root_der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05")
    assert version_6 != bench.machine.root_der
    for der in (b"", b"garbage", pki.pck.der, pki.pck_ca.der, forged, version_6, bench.machine.root_der + b"\0"):
        with pytest.raises(ConfigurationError) as refusal:
            TrustRoot("simulated", der)
        assert refusal.value.code == "root.invalid"
