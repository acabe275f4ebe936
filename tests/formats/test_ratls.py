"""RA-TLS certificates: all of Gramine's versions and three others; attacks on the binding are refused."""

import base64
import datetime as dt
import hashlib
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FormatError, StrongroomError, VerificationError
from strongroom.formats.cbor import CborValue, Tagged, encode_cbor
from strongroom.formats.quote import parse_quote
from strongroom.formats.ratls import (
    LEGACY_OID,
    MAX_CERTIFICATE_BYTES,
    TAGGED_EVIDENCE_OID,
    RaTlsEvidence,
    build_claims,
    build_legacy_extension,
    build_tagged_extension,
    legacy_report_data,
    parse_ratls_certificate,
    tagged_report_data,
)
from strongroom.formats.report import parse_sgx_report

QUOTE = b"a quote " * 100
KEY = ec.derive_private_key(12345, ec.SECP384R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "RATLS")])
CASES = [
    "gramine_v1.3.1.cert.der",
    "gramine_v1.5.cert.der",
    "gramine_v1.7.cert.der",
    "gramine_v1.8.cert.der",
    "gramine_v1.9.cert.der",
    "gramine_v1.9_pem.cert.pem",
    "gramine-cert.pem",
    "intel-sgxsdk-cert.pem",
    "rats-tls-cert.pem",
]


def certificate(*extensions: tuple[str, bytes]) -> bytes:
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(NAME, NAME, KEY.public_key(), 1, now, now + dt.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    for oid, value in extensions:
        builder = builder.add_extension(x509.UnrecognizedExtension(ObjectIdentifier(oid), value), critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def tagged(claims: bytes) -> bytes:
    return certificate((TAGGED_EVIDENCE_OID, encode_cbor(Tagged(60000, (QUOTE, claims)))))


def load(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix == ".der":
        return raw
    return base64.b64decode(b"".join(line for line in raw.splitlines() if b"-----" not in line))


def check_quote(evidence: RaTlsEvidence, expected: dict[str, object]) -> None:
    body = parse_sgx_report(evidence.quote[48:432])
    assert hashlib.sha256(evidence.quote).hexdigest() == expected["sha256"]
    assert len(evidence.quote) == expected["length"]
    assert body.mr_enclave.hex() == expected["mr_enclave"]
    assert body.mr_signer.hex() == expected["mr_signer"]
    assert (body.isv_prod_id, body.isv_svn) == (expected["isv_prod_id"], expected["isv_svn"])
    assert f"{body.flags:#x}" == expected["attributes_flags"]
    assert body.report_data.hex() == expected["report_data"]
    assert body.report_data == evidence.report_data


@pytest.mark.parametrize("name", CASES)
def test_known_certificates_give_their_fields(testdata: Path, name: str) -> None:
    cases = json.loads((testdata / "gramine" / "ratls.json").read_text())["certificates"]
    assert len(cases) == len(CASES)
    case = next(case for case in cases if case["file"].endswith("/" + name))
    raw = load(testdata / "gramine" / case["file"])
    assert hashlib.sha256(raw).hexdigest() == case["cert_der_sha256"]
    parsed = parse_ratls_certificate(raw)
    assert hashlib.sha256(parsed.spki).hexdigest() == case["spki_sha256"]
    assert len(parsed.spki) == case["spki_length"]
    known_legacy = case.get("legacy", {}).get("oid") == LEGACY_OID
    assert (parsed.legacy is not None) == known_legacy
    assert (parsed.tagged is not None) == ("tagged_evidence" in case)
    if parsed.legacy is not None:
        check_quote(parsed.legacy, case["legacy"]["quote"])
    if parsed.tagged is not None:
        check_quote(parsed.tagged, case["tagged_evidence"]["quote"])
        assert parsed.tagged.claims is not None
        assert parsed.tagged.claims.hex() == case["tagged_evidence"]["claims_hex"]
        assert parsed.evidence is parsed.tagged
    else:
        assert parsed.evidence is parsed.legacy
    if "ratls_real" in case["file"]:
        assert parse_quote(parsed.evidence.quote).pck_chain_pem is not None


def test_builders_write_what_gramine_writes(testdata: Path) -> None:
    raw = (testdata / "gramine" / "ratls" / "gramine_v1.9.cert.der").read_bytes()
    parsed = parse_ratls_certificate(raw)
    assert parsed.tagged is not None
    assert parsed.legacy is not None
    assert build_claims(parsed.spki) == parsed.tagged.claims
    assert build_tagged_extension(parsed.tagged.quote, build_claims(parsed.spki)) in raw
    assert build_legacy_extension(parsed.legacy.quote) in raw
    assert legacy_report_data(parsed.spki) == parsed.legacy.report_data
    assert tagged_report_data(build_claims(parsed.spki)) == parsed.tagged.report_data


def test_own_certificate_is_read_back() -> None:
    claims = build_claims(SPKI)
    parsed = parse_ratls_certificate(
        certificate((LEGACY_OID, QUOTE), (TAGGED_EVIDENCE_OID, build_tagged_extension(QUOTE, claims)))
    )
    assert parsed.spki == SPKI
    assert parsed.tagged == RaTlsEvidence(QUOTE, tagged_report_data(claims), claims)
    assert parsed.legacy == RaTlsEvidence(QUOTE, legacy_report_data(SPKI))


def test_trailing_bytes_after_the_evidence_are_tolerated() -> None:
    value = build_tagged_extension(QUOTE, build_claims(SPKI)).ljust(8000, b"\x5a")
    assert parse_ratls_certificate(certificate((TAGGED_EVIDENCE_OID, value))).evidence.quote == QUOTE


@pytest.mark.parametrize(("algorithm", "name"), [(1, "sha256"), (7, "sha384"), (8, "sha512")])
def test_registered_hash_algorithms_bind(algorithm: int, name: str) -> None:
    digest = hashlib.new(name, SPKI).digest()
    claims = encode_cbor({"pubkey-hash": encode_cbor((algorithm, digest)), "nonce": b"n", "other": ("x", 1)})
    assert parse_ratls_certificate(tagged(claims)).evidence.report_data == tagged_report_data(claims)


def test_refuses_evidence_for_another_key() -> None:
    other = ec.derive_private_key(999, ec.SECP384R1()).public_key()
    claims = build_claims(other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(VerificationError) as refusal:
        parse_ratls_certificate(tagged(claims))
    assert refusal.value.code == "binding.public_key"


def test_bad_tagged_evidence_is_not_rescued_by_legacy_evidence() -> None:
    value = encode_cbor(Tagged(60000, (QUOTE, encode_cbor({}))))
    with pytest.raises(FormatError):
        parse_ratls_certificate(certificate((LEGACY_OID, QUOTE), (TAGGED_EVIDENCE_OID, value)))


DIGEST = hashlib.sha256(SPKI).digest()
HASH = encode_cbor((1, DIGEST))
BAD_CLAIMS: dict[str, bytes] = {
    "no pubkey-hash": encode_cbor({"nonce": b"x"}),
    "pubkey-hash twice": b"\xa2" + 2 * (encode_cbor("pubkey-hash") + encode_cbor(HASH)),
    "bytes after the claims": build_claims(SPKI) + b"\0",
    "bytes after the hash": encode_cbor({"pubkey-hash": HASH + b"\0"}),
    "hash not serialized": encode_cbor({"pubkey-hash": (1, DIGEST)}),
    "unknown algorithm": encode_cbor({"pubkey-hash": encode_cbor((2, DIGEST))}),
    "algorithm true": encode_cbor({"pubkey-hash": encode_cbor((True, DIGEST))}),
    "three parts": encode_cbor({"pubkey-hash": encode_cbor((1, DIGEST, 0))}),
    "not a map": encode_cbor((HASH,)),
    "empty": b"",
}


@pytest.mark.parametrize("name", BAD_CLAIMS)
def test_refuses_claims_that_do_not_bind_the_key(name: str) -> None:
    with pytest.raises(FormatError) as refusal:
        parse_ratls_certificate(tagged(BAD_CLAIMS[name]))
    assert refusal.value.code == "ratls.malformed"


BAD_EVIDENCE: dict[str, CborValue] = {
    "another tag": Tagged(60001, (QUOTE, build_claims(SPKI))),
    "no tag": (QUOTE, build_claims(SPKI)),
    "quote only": Tagged(60000, (QUOTE,)),
    "text quote": Tagged(60000, ("quote", build_claims(SPKI))),
    "claims not serialized": Tagged(60000, (QUOTE, {"pubkey-hash": HASH})),
}


@pytest.mark.parametrize("name", BAD_EVIDENCE)
def test_refuses_malformed_evidence(name: str) -> None:
    with pytest.raises(FormatError):
        parse_ratls_certificate(certificate((TAGGED_EVIDENCE_OID, encode_cbor(BAD_EVIDENCE[name]))))


def test_refuses_certificate_without_evidence() -> None:
    with pytest.raises(FormatError) as refusal:
        parse_ratls_certificate(certificate())
    assert refusal.value.code == "ratls.no_evidence"


def test_refuses_repeated_extension() -> None:
    # Two different identifiers of equal length, then the first is made the second.
    raw = certificate((LEGACY_OID, QUOTE), ("0.6.9.42.840.113741.1337.7", QUOTE))
    old = bytes.fromhex("060b06092a864886f84d8a3907")
    assert raw.count(old) == 1
    with pytest.raises(FormatError, match="twice"):
        parse_ratls_certificate(raw.replace(old, old[:-1] + b"\x06"))


def test_refuses_oversized_certificate_and_extension() -> None:
    with pytest.raises(FormatError):
        parse_ratls_certificate(bytes(MAX_CERTIFICATE_BYTES + 1))
    with pytest.raises(FormatError):
        build_legacy_extension(bytes(8193))
    with pytest.raises(FormatError):
        build_tagged_extension(bytes(8190), b"")


GOOD = certificate((LEGACY_OID, QUOTE), (TAGGED_EVIDENCE_OID, build_tagged_extension(QUOTE, build_claims(SPKI))))


@given(st.binary(max_size=300), st.data())
@settings(max_examples=200)
def test_any_bytes_and_mutants_are_parsed_or_refused(raw: bytes, data: st.DataObject) -> None:
    mutant = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        mutant[data.draw(st.integers(0, len(mutant) - 1))] = data.draw(st.integers(0, 255))
    for candidate in (raw, bytes(mutant), bytes(mutant[: data.draw(st.integers(0, len(mutant)))])):
        try:
            parsed = parse_ratls_certificate(candidate)
        except StrongroomError as refusal:
            assert refusal.code in {"ratls.malformed", "ratls.no_evidence", "binding.public_key"}
        else:
            assert parsed.spki in candidate
