"""Attested certificates: what is made verifies, and every wrong binding is refused."""

import datetime as dt
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ObjectIdentifier

from strongroom.attestation.claims import Claims
from strongroom.attestation.policy import AppraisalPolicy
from strongroom.errors import FormatError, PolicyRejected, StrongroomError, VerificationError
from strongroom.formats.cbor import Tagged, encode_cbor
from strongroom.formats.quote import parse_quote
from strongroom.formats.ratls import (
    LEGACY_OID,
    TAGGED_EVIDENCE_OID,
    build_claims,
    build_tagged_extension,
    legacy_report_data,
    tagged_report_data,
)
from strongroom.platforms import Platform
from strongroom.platforms.simulated import SimulatedMachine, SimulatedPlatform
from strongroom.ratls.certificate import AttestedCertificate, KeyKind, attested_certificate
from strongroom.ratls.self_signed import check_self_signed, parse_self_signed
from strongroom.ratls.verify import QuoteVerifier, check_peer, verify_certificate

KINDS: tuple[KeyKind, ...] = ("p384", "p256", "rsa3072")
Forge = Callable[..., bytes]


@pytest.fixture(scope="session")
def forge() -> Forge:
    """A self-signed P-384 certificate with any extensions; `extensions` gets the SubjectPublicKeyInfo."""

    def make(extensions: Callable[[bytes], dict[str, bytes]]) -> bytes:
        key = ec.generate_private_key(ec.SECP384R1())
        public = key.public_key()
        encoding = serialization.Encoding.DER
        spki = public.public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        day = dt.timedelta(days=1)
        moment = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
        builder = x509.CertificateBuilder(x509.Name([]), x509.Name([]), public, 1, moment - day, moment + 9 * day)
        for oid, value in extensions(spki).items():
            builder = builder.add_extension(x509.UnrecognizedExtension(ObjectIdentifier(oid), value), critical=False)
        return builder.sign(key, hashes.SHA256()).public_bytes(encoding)

    return make


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(StrongroomError) as refusal:
        action()
    return refusal.value.code


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("legacy_only", [False, True])
def test_made_certificate_verifies_with_every_key_and_both_forms_of_evidence(
    kind: KeyKind,
    legacy_only: bool,
    platform: SimulatedPlatform,
    genuine: QuoteVerifier,
    policy: AppraisalPolicy,
    now: dt.datetime,
) -> None:
    made = attested_certificate(platform, kind=kind, legacy_only=legacy_only)
    peer = verify_certificate(made.der, genuine, now)
    assert peer.evidence == ("legacy" if legacy_only else "tagged")
    assert peer.claims.mr_enclave == b"\xab" * 32
    check_peer(peer, policy, now)


def test_both_quotes_bind_the_same_key_in_their_own_way(platform: SimulatedPlatform) -> None:
    made = attested_certificate(platform)
    extensions = {e.oid.dotted_string: e for e in made.certificate.extensions}
    assert {LEGACY_OID, TAGGED_EVIDENCE_OID} <= set(extensions)
    assert not any(extensions[oid].critical for oid in (LEGACY_OID, TAGGED_EVIDENCE_OID))
    legacy = extensions[LEGACY_OID].value
    assert isinstance(legacy, x509.UnrecognizedExtension)
    spki = made.certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert parse_quote(legacy.value).body.report_data == legacy_report_data(spki)


def test_certificate_of_gramine_1_5_with_the_stray_null_is_served(
    gramine_1_5: Callable[[Platform], tuple[bytes, AttestedCertificate]],
    platform: SimulatedPlatform,
    genuine: QuoteVerifier,
    now: dt.datetime,
) -> None:
    raw, _ = gramine_1_5(platform)
    with pytest.raises(ValueError, match=r"ExtraData|parsing|signature"):
        x509.load_der_x509_certificate(raw)
    assert verify_certificate(raw, genuine, now).evidence == "legacy"


def test_refuses_wrong_measurement(
    machine: SimulatedMachine, genuine: QuoteVerifier, policy: AppraisalPolicy, now: dt.datetime
) -> None:
    other = machine.platform(mr_enclave=b"\x01" * 32, isv_prod_id=7, isv_svn=3)
    peer = verify_certificate(attested_certificate(other).der, genuine, now)
    with pytest.raises(PolicyRejected) as refusal:
        check_peer(peer, policy, now)
    assert [finding.code for finding in refusal.value.findings] == ["measurement.mr_enclave"]


def test_refuses_debug_enclave(debug_platform: SimulatedPlatform, genuine: QuoteVerifier, now: dt.datetime) -> None:
    certificate = attested_certificate(debug_platform).der
    assert code_of(lambda: verify_certificate(certificate, genuine, now)) in {
        "quote.debug",
        "tcb.debug",
        "debug.enabled",
    }


def test_refuses_a_quote_about_another_key(
    forge: Forge, platform: SimulatedPlatform, genuine: QuoteVerifier, now: dt.datetime
) -> None:
    stolen = platform.quote(legacy_report_data(b"somebody else's key"))
    raw = forge(lambda _: {LEGACY_OID: stolen})
    assert code_of(lambda: verify_certificate(raw, genuine, now)) == "binding.report_data"


def test_refuses_a_stale_quote_made_for_the_key_before_this_one(
    platform: SimulatedPlatform, forge: Forge, genuine: QuoteVerifier, now: dt.datetime
) -> None:
    yesterday = attested_certificate(platform, legacy_only=True).certificate
    value = yesterday.extensions.get_extension_for_oid(ObjectIdentifier(LEGACY_OID)).value
    assert isinstance(value, x509.UnrecognizedExtension)
    raw = forge(lambda _: {LEGACY_OID: value.value})
    assert code_of(lambda: verify_certificate(raw, genuine, now)) == "binding.report_data"


def test_refuses_a_tail_gramine_would_not_look_at(
    forge: Forge, platform: SimulatedPlatform, genuine: QuoteVerifier, now: dt.datetime
) -> None:
    raw = forge(lambda spki: {LEGACY_OID: platform.quote(legacy_report_data(spki)[:63] + b"\1")})
    assert code_of(lambda: verify_certificate(raw, genuine, now)) == "binding.report_data"


def test_refuses_claims_without_pubkey_hash_that_gramine_accepts(
    forge: Forge, platform: SimulatedPlatform, genuine: QuoteVerifier, now: dt.datetime
) -> None:
    claims = encode_cbor({"nonce": b"x"})
    value = build_tagged_extension(platform.quote(tagged_report_data(claims)), claims)
    assert code_of(lambda: verify_certificate(forge(lambda _: {TAGGED_EVIDENCE_OID: value}), genuine, now)) == (
        "ratls.malformed"
    )


def test_refuses_claims_about_another_key(
    forge: Forge, platform: SimulatedPlatform, genuine: QuoteVerifier, now: dt.datetime
) -> None:
    claims = build_claims(b"somebody else's key")
    value = build_tagged_extension(platform.quote(tagged_report_data(claims)), claims)
    assert code_of(lambda: verify_certificate(forge(lambda _: {TAGGED_EVIDENCE_OID: value}), genuine, now)) == (
        "binding.public_key"
    )


def test_refuses_claims_the_quote_does_not_vouch_for(
    forge: Forge, platform: SimulatedPlatform, genuine: QuoteVerifier, now: dt.datetime
) -> None:
    def extensions(spki: bytes) -> dict[str, bytes]:
        quote = platform.quote(tagged_report_data(build_claims(b"somebody else's key")))
        return {TAGGED_EVIDENCE_OID: build_tagged_extension(quote, build_claims(spki))}

    raw = forge(extensions)
    assert code_of(lambda: verify_certificate(raw, genuine, now)) == "binding.report_data"


def test_good_legacy_evidence_does_not_excuse_bad_tagged_evidence(
    forge: Forge, platform: SimulatedPlatform, genuine: QuoteVerifier, now: dt.datetime
) -> None:
    def extensions(spki: bytes) -> dict[str, bytes]:
        claims = build_claims(spki)
        wrong = build_tagged_extension(platform.quote(bytes(64)), claims)
        return {LEGACY_OID: platform.quote(legacy_report_data(spki)), TAGGED_EVIDENCE_OID: wrong}

    raw = forge(extensions)
    assert code_of(lambda: verify_certificate(raw, genuine, now)) == "binding.report_data"


def test_refuses_a_certificate_without_evidence(forge: Forge, genuine: QuoteVerifier, now: dt.datetime) -> None:
    raw = forge(lambda _: {"1.2.3.4": b"x"})
    assert code_of(lambda: verify_certificate(raw, genuine, now)) == "ratls.no_evidence"


def test_refuses_wrong_evidence_form(
    forge: Forge, platform: SimulatedPlatform, genuine: QuoteVerifier, now: dt.datetime
) -> None:
    def extensions(spki: bytes) -> dict[str, bytes]:
        claims = build_claims(spki)
        quote = platform.quote(tagged_report_data(claims))
        return {TAGGED_EVIDENCE_OID: encode_cbor(Tagged(60001, (quote, claims)))}

    raw = forge(extensions)
    assert code_of(lambda: verify_certificate(raw, genuine, now)) == "ratls.malformed"


def test_refuses_an_expired_certificate_before_it_looks_at_the_quote(
    platform: SimulatedPlatform, now: dt.datetime
) -> None:
    def unreachable(_quote: bytes, _now: dt.datetime) -> Claims:
        raise AssertionError

    for validity in ((now - dt.timedelta(days=2), now - dt.timedelta(days=1)), (now + dt.timedelta(days=1),) * 2):
        certificate = attested_certificate(platform, validity=validity).der
        assert code_of(lambda: verify_certificate(certificate, unreachable, now)) == "ratls.expired"  # noqa: B023


def test_refuses_collateral_that_has_ended(
    platform: SimulatedPlatform, genuine: QuoteVerifier, now: dt.datetime
) -> None:
    certificate = attested_certificate(platform).der
    with pytest.raises(VerificationError):
        verify_certificate(certificate, genuine, now + dt.timedelta(days=3 * 365))


def test_refuses_another_machines_quotes(genuine: QuoteVerifier, now: dt.datetime) -> None:
    other = SimulatedMachine.build(now).platform(mr_enclave=b"\xab" * 32, isv_prod_id=7, isv_svn=3)
    certificate = attested_certificate(other).der
    with pytest.raises(VerificationError):
        verify_certificate(certificate, genuine, now)


def test_refuses_a_signature_of_another_key(
    platform: SimulatedPlatform, genuine: QuoteVerifier, now: dt.datetime
) -> None:
    raw = bytearray(attested_certificate(platform).der)
    raw[-1] ^= 1
    assert code_of(lambda: verify_certificate(bytes(raw), genuine, now)) == "ratls.signature"


@pytest.mark.parametrize("curve", [ec.SECP521R1(), ec.SECP256K1()])
def test_refuses_a_kind_of_key_nobody_uses(curve: ec.EllipticCurve, platform: SimulatedPlatform) -> None:
    key = ec.generate_private_key(curve)
    moment = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, moment, moment)
    raw = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    assert code_of(lambda: parse_self_signed(raw)) == "ratls.key"


@dataclass
class Sample:
    file: str
    der: bytes
    legacy_decides: bool


def samples(testdata: Path) -> list[Sample]:
    folder = testdata / "gramine"
    found = []
    for entry in json.loads((folder / "ratls.json").read_text())["certificates"]:
        raw = (folder / entry["file"]).read_bytes()
        if raw.startswith(b"-----"):
            pem = raw.replace(b"TRUSTED CERTIFICATE", b"CERTIFICATE").rstrip(b"\0")
            raw = ssl.PEM_cert_to_DER_cert(pem.decode())
        found.append(Sample(entry["file"], raw, "tagged_evidence" not in entry))
    assert len(found) == 9
    return found


@pytest.mark.testdata
def test_every_real_certificate_is_signed_by_its_own_key_and_dated(testdata: Path) -> None:
    # The public samples are from 2022 and later; all are valid at some moment of their own.
    for sample in samples(testdata):
        parsed = parse_self_signed(sample.der)
        check_self_signed(parsed, parsed.not_before)


@pytest.mark.testdata
def test_every_real_certificate_binds_its_key_and_the_quote_decides(testdata: Path) -> None:
    """A verifier that believes every quote shows that all the rest is right; one that believes none refuses all."""

    def believing(quote: bytes, _now: dt.datetime) -> Claims:
        seen.append(quote)
        raise VerificationError("believes none", code="test.reached")

    for sample in samples(testdata):
        seen: list[bytes] = []
        moment = parse_self_signed(sample.der).not_before
        assert code_of(lambda: verify_certificate(sample.der, believing, moment)) == "test.reached"  # noqa: B023
        assert len(seen) == 1, sample.file
        assert parse_quote_header(seen[0]) == 3


def parse_quote_header(quote: bytes) -> int:
    return int.from_bytes(quote[:2], "little")


@pytest.mark.testdata
def test_synthetic_quotes_are_not_genuine(testdata: Path, genuine: QuoteVerifier, now: dt.datetime) -> None:
    for sample in samples(testdata):
        if sample.file.startswith("ratls/"):
            with pytest.raises((FormatError, VerificationError)):
                verify_certificate(sample.der, genuine, now)
