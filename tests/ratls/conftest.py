"""A simulated machine, a verifier that trusts it, and certificates as every release of Gramine makes them."""

import datetime as dt
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from strongroom.attestation.claims import Claims
from strongroom.attestation.collateral import Collateral
from strongroom.attestation.policy import AppraisalPolicy, EnclaveIdentity
from strongroom.attestation.roots import TrustRoot
from strongroom.attestation.verify import verify_quote
from strongroom.formats import der
from strongroom.platforms import Platform
from strongroom.platforms.simulated import SimulatedMachine, SimulatedPlatform
from strongroom.ratls.certificate import AttestedCertificate, attested_certificate
from strongroom.ratls.verify import QuoteVerifier

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
MR_ENCLAVE = b"\xab" * 32

_NULL_ECDSA = der.encode(der.SEQUENCE, der.encode_oid("1.2.840.10045.4.3.2"), b"\x05\x00")


@pytest.fixture(scope="session")
def now() -> dt.datetime:
    return NOW


@pytest.fixture(scope="session")
def machine() -> SimulatedMachine:
    return SimulatedMachine.build(NOW)


@pytest.fixture(scope="session")
def platform(machine: SimulatedMachine) -> SimulatedPlatform:
    return machine.platform(mr_enclave=MR_ENCLAVE, mr_signer=b"\xcd" * 32, isv_prod_id=7, isv_svn=3)


@pytest.fixture(scope="session")
def genuine(machine: SimulatedMachine) -> QuoteVerifier:
    collateral = Collateral.from_json(machine.collateral())
    root = TrustRoot("simulated", machine.root_der)

    def verify(quote: bytes, now: dt.datetime) -> Claims:
        return verify_quote(quote, collateral, root, now).claims

    return verify


@pytest.fixture(scope="session")
def policy() -> AppraisalPolicy:
    return AppraisalPolicy(
        measurements=(EnclaveIdentity(MR_ENCLAVE),),
        tees=frozenset({"sgx"}),
        tcb_statuses=frozenset({"UpToDate"}),
        advisories=(),
        min_tcb_eval_data_number=0,
        accept_simulated=True,
    )


def resign(certificate: AttestedCertificate, change: Callable[[list[bytes]], list[bytes]]) -> bytes:
    """The certificate with its fields changed and signed again by its own key (ECDSA with SHA-256)."""
    body, algorithm, _ = der.parse_sequence(der.parse_one(certificate.der, der.SEQUENCE, code="x"), code="x")
    fields = change([field.raw for field in der.parse_sequence(body, code="x")])
    signed = der.encode(der.SEQUENCE, *fields)
    assert isinstance(certificate.key, ec.EllipticCurvePrivateKey)
    signature = certificate.key.sign(signed, ec.ECDSA(hashes.SHA256()))
    algorithm_raw = fields[2]
    assert algorithm.tag == der.SEQUENCE
    return der.encode(der.SEQUENCE, signed, algorithm_raw, der.encode(der.BIT_STRING, b"\0", signature))


@pytest.fixture(scope="session")
def gramine_1_5() -> Callable[[Platform], tuple[bytes, AttestedCertificate]]:
    """As Gramine 1.4 and 1.5: legacy evidence only, P-384, a NULL parameter in the ECDSA algorithm."""

    def make(platform: Platform) -> tuple[bytes, AttestedCertificate]:
        certificate = attested_certificate(platform, legacy_only=True)
        return resign(certificate, lambda fields: [*fields[:2], _NULL_ECDSA, *fields[3:]]), certificate

    return make


@pytest.fixture(scope="session")
def debug_platform(platform: SimulatedPlatform) -> SimulatedPlatform:
    return replace(platform, body=replace(platform.body, flags=platform.body.flags | 2))


@pytest.fixture(scope="session")
def private_pem() -> Callable[[AttestedCertificate], bytes]:
    def make(certificate: AttestedCertificate) -> bytes:
        return certificate.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    return make
