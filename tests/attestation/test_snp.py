"""SEV-SNP evidence: genuine only under the pinned root, with a fresh list, about this very chip."""

import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation import snp
from strongroom.attestation.amd_collateral import AmdCollateral
from strongroom.attestation.claims import Claims
from strongroom.attestation.collateral import CollateralDigests
from strongroom.attestation.roots import AMD_ROOT, AMD_ROOT_KEYS, INTEL_ROOT, AmdRoot
from strongroom.attestation.verify import verify_quote
from strongroom.errors import ConfigurationError, FormatError, StrongroomError, VerificationError
from strongroom.formats import der
from strongroom.formats import endorsement_key as oids
from strongroom.formats.certificate import Extension, parse_certificate
from strongroom.formats.evidence import SnpEvidence, parse_evidence, serialize_evidence
from strongroom.formats.snp_report import SnpTcb, parse_snp_report

if TYPE_CHECKING:
    from pathlib import Path

    from tests.guest_double import AmdDouble

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
REPORT_DATA = hashlib.sha512(b"what the guest wanted to say").digest()


def verify(amd: "AmdDouble", raw: bytes, **changes: Any) -> Claims:
    collateral = changes.get("collateral") or amd.collateral()
    return verify_quote(raw, collateral, changes.get("root", amd.root), changes.get("now", NOW)).claims


def refusal(attempt: Callable[[], object]) -> str:
    with pytest.raises((VerificationError, FormatError)) as caught:
        attempt()
    return caught.value.code


@pytest.mark.parametrize("product", ["milan", "genoa", "turin"])
@pytest.mark.parametrize("signing_key", ["vcek", "vlek"])
def test_genuine_evidence_becomes_claims(amd: "AmdDouble", product: Any, signing_key: Any) -> None:
    amd = replace(amd, product=product)
    claims = verify(amd, amd.evidence(REPORT_DATA, signing_key), collateral=amd.collateral(signing_key))
    assert claims.tee == "snp"
    assert claims.simulated
    assert claims.report_data == REPORT_DATA
    assert claims.snp is not None
    assert claims.snp.measurement == b"\x5a" * 48
    assert (claims.snp.product, claims.snp.signing_key, claims.snp.reported_tcb) == (product, signing_key, amd.tcb)
    assert claims.collateral_expires == NOW + 30 * DAY
    assert Claims.from_json(claims.to_json()) == claims
    assert amd.chip_id[:8].hex() not in str(claims.to_json())


def test_claims_name_no_collateral_of_another_vendor(amd: "AmdDouble") -> None:
    claims = verify(amd, amd.evidence())
    assert refusal(lambda: replace(claims, collateral=CollateralDigests(*[bytes(32)] * 4))) == "claims.malformed"


@pytest.mark.parametrize("version", [2, 3, 5])
def test_every_version_of_the_report_is_verified(amd: "AmdDouble", version: int) -> None:
    assert verify(amd, amd.evidence(REPORT_DATA, version=version)).report_data == REPORT_DATA


class TestReal:
    """Reports of real machines under AMD's own keys; AMD's revocation lists are not at hand, so theirs is a double."""

    @pytest.fixture
    def folder(self, testdata: "Path") -> "Path":
        return testdata / "attestation" / "snp"

    @pytest.fixture(autouse=True)
    def good_list(self, monkeypatch: pytest.MonkeyPatch, amd: "AmdDouble") -> None:
        crl = x509.load_der_x509_crl(amd.crl(validity=(NOW - 1000 * DAY, NOW + 1000 * DAY)))
        real = snp._verify

        def verify_all_but_the_list(key: rsa.RSAPublicKey, signature: bytes, signed: bytes, code: str) -> None:
            if code != "collateral.crl_signature":
                real(key, signature, signed, code)

        monkeypatch.setattr(snp, "load_crl", lambda der, issuer: crl)
        monkeypatch.setattr(snp, "_verify", verify_all_but_the_list)

    def evidence(self, folder: "Path", report: str, leaf: str) -> bytes:
        raw = (folder / report).read_bytes()
        return serialize_evidence(SnpEvidence(raw, parse_snp_report(raw), (folder / leaf).read_bytes()))

    def collateral(self, folder: "Path", signing_key: Any) -> AmdCollateral:
        ask, ark, asvk = x509.load_pem_x509_certificates((folder / "milan_ask_ark_asvk.pem").read_bytes())
        chain = (asvk if signing_key == "vlek" else ask, ark)
        pem = "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in chain)
        return AmdCollateral(product="milan", signing_key=signing_key, issuer_chain=pem, crl=b"\x30")

    @pytest.mark.parametrize(
        ("report", "leaf", "signing_key", "now"),
        [
            ("test-report.bin", "test-vcek.der", "vcek", dt.datetime(2026, 11, 21, tzinfo=dt.UTC)),
            ("test-vlek-report.bin", "test-vlek.der", "vlek", dt.datetime(2025, 6, 1, tzinfo=dt.UTC)),
        ],
    )
    def test_real_reports_are_genuine(
        self, folder: "Path", report: str, leaf: str, signing_key: str, now: dt.datetime
    ) -> None:
        raw, collateral = self.evidence(folder, report, leaf), self.collateral(folder, signing_key)
        claims = verify_quote(raw, collateral, AMD_ROOT, now).claims
        assert not claims.simulated
        assert claims.snp is not None
        assert claims.snp.signing_key == signing_key

    def test_an_expired_vlek_is_refused(self, folder: "Path") -> None:
        raw = self.evidence(folder, "test-vlek-report.bin", "test-vlek.der")
        attempt = lambda: verify_quote(raw, self.collateral(folder, "vlek"), AMD_ROOT, NOW)  # noqa: E731
        assert refusal(attempt) == "endorsement_key.expired"

    def test_real_evidence_is_not_the_doubles(self, folder: "Path", amd: "AmdDouble") -> None:
        raw = self.evidence(folder, "test-report.bin", "test-vcek.der")
        collateral = self.collateral(folder, "vcek")
        assert refusal(lambda: verify_quote(raw, collateral, amd.root, NOW)) == "root.mismatch"

    def test_every_byte_of_a_real_report_counts(self, folder: "Path") -> None:
        raw = self.evidence(folder, "test-report.bin", "test-vcek.der")
        start = raw.index((folder / "test-report.bin").read_bytes())
        collateral = self.collateral(folder, "vcek")
        for offset in range(0, 1184, 7):
            mutant = bytearray(raw)
            mutant[start + offset] ^= 1 << offset % 8
            with pytest.raises((VerificationError, FormatError)):
                verify_quote(bytes(mutant), collateral, AMD_ROOT, NOW)


def test_the_pinned_keys_are_amds(testdata: "Path") -> None:
    certificates = x509.load_pem_x509_certificates(
        (testdata / "attestation" / "snp" / "milan_ask_ark_asvk.pem").read_bytes()
    )
    found = {
        hashlib.sha256(c.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
        for c in certificates
        if c.subject == c.issuer
    }
    assert found == {AMD_ROOT_KEYS["milan"]}


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("amd", {"milan": "00" * 32}),
        ("amd", {"milan": AMD_ROOT_KEYS["milan"]}),
        ("simulated", dict(AMD_ROOT_KEYS)),
        ("simulated", {"milan": AMD_ROOT_KEYS["genoa"]}),
        ("simulated", {}),
        ("intel", dict(AMD_ROOT_KEYS)),
    ],
)
def test_roots_cannot_be_mislabelled(kind: Any, keys: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AmdRoot(kind, keys)
    assert caught.value.code == "root.invalid"


def test_refuses_a_root_that_is_not_trusted(amd: "AmdDouble") -> None:
    assert refusal(lambda: verify(amd, amd.evidence(), root=AMD_ROOT)) == "root.mismatch"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"policy": 1 << 17 | 1 << 19}, "snp.debug"),
        ({"chip_id": b"\xc2" * 64}, "snp.chip_mismatch"),
        ({"chip_id": bytes(64)}, "snp.chip_mismatch"),
        ({"reported_tcb": SnpTcb(4, 1, 24, 218)}, "snp.tcb_mismatch"),
        ({"key_info": 1 << 2}, "snp.signing_key"),
        ({"cpuid": bytes((0x19, 0x11, 0x01))}, "snp.product"),
    ],
)
def test_refuses_a_report_that_does_not_fit_its_certificate(
    amd: "AmdDouble", changes: dict[str, Any], code: str
) -> None:
    assert refusal(lambda: verify(amd, amd.evidence(**changes))) == code


def test_refuses_a_report_another_key_signed(amd: "AmdDouble") -> None:
    other = replace(amd, chip_key=ec.generate_private_key(ec.SECP384R1()))
    assert refusal(lambda: verify(amd, other.evidence(leaf=amd.leaf()))) == "snp.signature"


@pytest.mark.parametrize("r", [bytes(72), b"\xff" * 72])
def test_refuses_signatures_out_of_range(amd: "AmdDouble", r: bytes) -> None:
    report = replace(amd.report(), signature_r=r)
    from strongroom.formats.snp_report import serialize_snp_report

    raw = serialize_evidence(SnpEvidence(serialize_snp_report(report), report, amd.leaf()))
    assert refusal(lambda: verify(amd, raw)) == "snp.signature"


class TestChain:
    def test_refuses_a_leaf_of_a_foreign_issuer(self, amd: "AmdDouble") -> None:
        leaf = amd.leaf(signer=amd.root_key)
        assert refusal(lambda: verify(amd, amd.evidence(leaf=leaf))) == "endorsement_key.signature"

    def test_refuses_a_leaf_that_names_another_issuer(self, amd: "AmdDouble") -> None:
        leaf = amd.leaf(issuer="SEV-Genoa")
        assert refusal(lambda: verify(amd, amd.evidence(leaf=leaf))) == "endorsement_key.chain"

    def test_refuses_an_issuer_the_root_did_not_sign(self, amd: "AmdDouble") -> None:
        issuer = amd.authority("SEV-Milan", "ARK-Milan", amd.issuer_key, amd.issuer_key)
        collateral = amd.collateral(issuer=issuer)
        assert refusal(lambda: verify(amd, amd.evidence(), collateral=collateral)) == "endorsement_key.signature"

    def test_refuses_names_that_do_not_follow_each_other(self, amd: "AmdDouble") -> None:
        issuer = amd.authority("SEV-Milan", "ARK-Genoa", amd.issuer_key, amd.root_key)
        root = amd.authority("ARK-Genoa", "ARK-Genoa", amd.root_key, amd.root_key)
        for collateral in (
            amd.collateral(issuer=issuer),
            amd.collateral(issuer=issuer, root=root, crl=amd.crl(issuer="ARK-Genoa")),
        ):
            assert refusal(partial(verify, amd, amd.evidence(), collateral=collateral)) == "endorsement_key.chain"

    def test_authorities_count_in_their_time_only(self, amd: "AmdDouble") -> None:
        over = (NOW - 2 * DAY, NOW)
        issuer = amd.authority("SEV-Milan", "ARK-Milan", amd.issuer_key, amd.root_key, validity=over)
        root = amd.authority("ARK-Milan", "ARK-Milan", amd.root_key, amd.root_key, validity=over)
        for collateral in (amd.collateral(issuer=issuer), amd.collateral(root=root)):
            assert refusal(partial(verify, amd, amd.evidence(), collateral=collateral)) == "collateral.expired"

    def test_the_judgement_ends_with_the_leaf(self, amd: "AmdDouble") -> None:
        leaf = amd.leaf(validity=(NOW - DAY, NOW + DAY))
        assert verify(amd, amd.evidence(leaf=leaf)).collateral_expires == NOW + DAY

    @pytest.mark.parametrize("changes", [{"ca": False}, {"certifies": False}])
    def test_refuses_an_issuer_that_may_not_certify(self, amd: "AmdDouble", changes: dict[str, Any]) -> None:
        issuer = amd.authority("SEV-Milan", "ARK-Milan", amd.issuer_key, amd.root_key, **changes)
        collateral = amd.collateral(issuer=issuer)
        assert refusal(lambda: verify(amd, amd.evidence(), collateral=collateral)) == "endorsement_key.chain"

    def test_refuses_a_cloud_key_under_the_issuer_of_chips(self, amd: "AmdDouble") -> None:
        leaf = amd.leaf("vlek", issuer="SEV-Milan")
        chips = amd.authority("SEV-Milan", "ARK-Milan", amd.issuer_key, amd.root_key)
        collateral = amd.collateral("vlek", issuer=chips)
        raw = amd.evidence(bytes(64), "vlek", leaf=leaf)
        assert refusal(lambda: verify(amd, raw, collateral=collateral)) == "endorsement_key.chain"

    def test_refuses_a_product_of_another_root(self, amd: "AmdDouble") -> None:
        genoa = replace(amd, product="genoa")
        raw, collateral = genoa.evidence(), genoa.collateral()
        assert refusal(lambda: verify(amd, raw, collateral=collateral)) == "root.mismatch"

    def test_refuses_small_authority_keys(self, amd: "AmdDouble") -> None:
        small = rsa.generate_private_key(65537, 2048)
        issuer = amd.authority("SEV-Milan", "ARK-Milan", small, amd.root_key)
        raw = amd.evidence(leaf=amd.leaf(signer=small))
        collateral = amd.collateral(issuer=issuer)
        assert refusal(lambda: verify(amd, raw, collateral=collateral)) == "endorsement_key.chain"

    def test_refuses_other_kinds_of_chip_keys(self, amd: "AmdDouble") -> None:
        leaf = amd.leaf(key=ec.generate_private_key(ec.SECP256R1()).public_key())
        assert refusal(lambda: verify(amd, amd.evidence(leaf=leaf))) == "endorsement_key.chain"

    @pytest.mark.parametrize(
        ("days", "code"), [(-101, "endorsement_key.not_yet_valid"), (100, "endorsement_key.expired")]
    )
    def test_the_leaf_counts_in_its_time_only(self, amd: "AmdDouble", days: int, code: str) -> None:
        raw, now = amd.evidence(), NOW + days * DAY
        collateral = amd.collateral(crl=amd.crl(validity=(now - DAY, now + DAY)))
        assert refusal(lambda: verify(amd, raw, collateral=collateral, now=now)) == code


class TestRevocation:
    def test_refuses_a_revoked_issuer(self, amd: "AmdDouble") -> None:
        collateral = amd.collateral(crl=amd.crl([65537]))
        assert refusal(lambda: verify(amd, amd.evidence(), collateral=collateral)) == "collateral.issuer_revoked"

    def test_refuses_a_stale_list(self, amd: "AmdDouble") -> None:
        collateral = amd.collateral(crl=amd.crl(validity=(NOW - 30 * DAY, NOW)))
        assert refusal(lambda: verify(amd, amd.evidence(), collateral=collateral)) == "collateral.expired"

    def test_refuses_a_list_of_the_future(self, amd: "AmdDouble") -> None:
        collateral = amd.collateral(crl=amd.crl(validity=(NOW + DAY, NOW + 2 * DAY)))
        assert refusal(lambda: verify(amd, amd.evidence(), collateral=collateral)) == "collateral.not_yet_valid"

    def test_refuses_a_list_the_root_did_not_sign(self, amd: "AmdDouble") -> None:
        collateral = amd.collateral(crl=amd.crl(signer=amd.issuer_key))
        assert refusal(lambda: verify(amd, amd.evidence(), collateral=collateral)) == "collateral.crl_signature"

    def test_refuses_another_authoritys_list(self, amd: "AmdDouble") -> None:
        collateral = amd.collateral(crl=amd.crl(issuer="SEV-Milan"))
        assert refusal(lambda: verify(amd, amd.evidence(), collateral=collateral)) == "collateral.crl_issuer"

    def test_refuses_a_list_with_an_unknown_condition(self, amd: "AmdDouble") -> None:
        partial = x509.IssuingDistributionPoint(None, None, True, False, None, False, False)
        collateral = amd.collateral(crl=amd.crl(extension=partial))
        assert refusal(lambda: verify(amd, amd.evidence(), collateral=collateral)) == "collateral.crl"

    def test_there_is_no_verification_without_a_list(self, amd: "AmdDouble") -> None:
        with pytest.raises(FormatError):
            amd.collateral(crl=b"")
        collateral = amd.collateral(crl=b"\x30\x00")
        assert refusal(lambda: verify(amd, amd.evidence(), collateral=collateral)) == "collateral.crl"


class TestExtensions:
    def test_refuses_a_condition_that_is_not_amds(self, amd: "AmdDouble") -> None:
        leaf = parse_certificate(amd.leaf(), code="test")
        strange = replace(leaf, extensions=leaf.extensions | {"2.5.29.30": Extension(True, b"\x30\x00")})
        assert refusal(lambda: oids.endorsement_key_of(strange)) == "endorsement_key.extension"

    @pytest.mark.parametrize("oid", [oids.STRUCT_VERSION, oids.PRODUCT_NAME, oids.MICROCODE, oids.HARDWARE_ID])
    def test_refuses_missing_extensions(self, amd: "AmdDouble", oid: str) -> None:
        values = {name: value for name, value in amd.extensions().items() if name != oid}
        raw = amd.evidence(leaf=amd.leaf(extensions=values))
        assert refusal(lambda: verify(amd, raw)) == "endorsement_key.extension"

    @pytest.mark.parametrize(
        ("oid", "value"),
        [
            (oids.CSP_ID, der.encode(0x16, b"cloud")),  # a chip's and a cloud's
            (oids.RESERVED_SPLS[0], der.encode_integer(1)),
            (oids.FMC, der.encode_integer(1)),
            (f"{oids.ARC}.9", der.encode_integer(1)),
            (oids.PRODUCT_NAME, der.encode(0x16, b"Venice-A0")),
            (oids.PRODUCT_NAME, der.encode(0x0C, b"Milan-B0")),
            (oids.HARDWARE_ID, bytes(63)),
            (oids.SNP, der.encode(der.INTEGER, b"\x01\x00")),
            (oids.SNP, der.encode(der.INTEGER, b"\xff")),
        ],
    )
    def test_refuses_extensions_amd_does_not_write(self, amd: "AmdDouble", oid: str, value: bytes) -> None:
        raw = amd.evidence(leaf=amd.leaf(extensions=amd.extensions() | {oid: value}))
        assert refusal(lambda: verify(amd, raw)) == "endorsement_key.extension"

    def test_the_chips_id_may_be_wrapped(self, amd: "AmdDouble") -> None:
        wrapped = der.encode(der.OCTET_STRING, amd.chip_id)
        raw = amd.evidence(leaf=amd.leaf(extensions=amd.extensions() | {oids.HARDWARE_ID: wrapped}))
        assert verify(amd, raw).tee == "snp"


def test_collateral_of_another_vendor_or_product_is_refused(amd: "AmdDouble") -> None:
    raw = amd.evidence()
    assert refusal(lambda: verify(amd, raw, root=INTEL_ROOT)) == "collateral.wrong_vendor"
    assert refusal(lambda: verify(amd, raw, collateral=amd.collateral("vlek"))) == "collateral.wrong_product"


def test_collateral_survives_its_json_form(amd: "AmdDouble") -> None:
    collateral = amd.collateral()
    assert AmdCollateral.from_json(collateral.to_json()) == collateral
    for text in ("{}", "[]", '{"product": "milan"}', collateral.to_json().replace("milan", "rome", 1)):
        with pytest.raises(FormatError):
            AmdCollateral.from_json(text)


@settings(max_examples=150)
@given(st.data())
def test_no_changed_byte_goes_unnoticed(amd: "AmdDouble", data: st.DataObject) -> None:
    raw = bytearray(amd.evidence(REPORT_DATA))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(StrongroomError) as caught:
        verify(amd, bytes(raw))
    assert isinstance(caught.value, VerificationError | FormatError)


def test_evidence_is_what_its_bytes_say(amd: "AmdDouble") -> None:
    evidence = amd.parts(REPORT_DATA)
    raw = serialize_evidence(evidence)
    assert parse_evidence(raw) == evidence
    assert refusal(lambda: parse_evidence(evidence.raw)) == "quote.key_type"  # a bare report is no evidence
    assert refusal(lambda: parse_evidence(raw[:-1])) == "evidence.truncated"
    assert refusal(lambda: parse_evidence(raw + b"\0")) == "evidence.trailing"
    assert refusal(lambda: parse_evidence(raw[:16] + b"\x09\x00" + raw[18:])) == "evidence.kind"
    assert refusal(lambda: parse_evidence(raw + bytes(16 * 1024))) == "evidence.length"
