"""Genuine? Every attack and fault is refused with its own code, over complete simulated evidence."""

import copy
import datetime as dt
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from strongroom.attestation import verify as verify_module
from strongroom.attestation.claims import Claims
from strongroom.attestation.collateral import Collateral
from strongroom.attestation.engine import Judgement, judge
from strongroom.attestation.roots import INTEL_ROOT, TrustRoot
from strongroom.attestation.verify import VerifiedQuote, verify_quote
from strongroom.errors import ConfigurationError, FormatError, VerificationError
from strongroom.formats.pck import serialize_pck_extension
from strongroom.formats.pem import serialize_certificates_pem
from strongroom.formats.quote import CertificationData, CertificationKind, Quote, parse_quote, serialize_quote
from strongroom.formats.report import SGX_FLAG_DEBUG, SGX_FLAG_INIT, SgxReport, TdReport
from strongroom.platforms.simulated import SimulatedMachine, TcbFacts, Validity
from strongroom.platforms.simulated import pki as simulated_pki
from strongroom.platforms.simulated.tcb import sign_document

if TYPE_CHECKING:
    from tests.attestation.conftest import Bench

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
PAST = Validity(NOW - 10 * DAY, NOW - DAY)
FUTURE = Validity(NOW + DAY, NOW + 10 * DAY)
CURRENT = Validity(NOW - DAY, NOW + DAY)


def refusal_of(verify: Callable[[], object]) -> str:
    with pytest.raises((FormatError, VerificationError)) as refusal:
        verify()
    return refusal.value.code


def engine_accepts(bench: "Bench", raw: bytes | None = None, parts: Collateral | None = None) -> bool:
    """dcap-qvl alone is content: the check under test is ours."""
    return judge(bench.quote if raw is None else raw, parts or bench.parts, bench.root, NOW).tcb_status == "UpToDate"


def with_part(bench: "Bench", name: str, value: bytes) -> Collateral:
    return replace(bench.parts, **{name: value})  # type: ignore[arg-type]  # chosen by the test's table


def changed(bench: "Bench", change: Callable[[Quote], Quote]) -> Quote:
    return change(parse_quote(bench.quote))


def with_body(quote: Quote, **fields: object) -> Quote:
    assert isinstance(quote.body, SgxReport)
    return replace(quote, body=replace(quote.body, **fields))  # type: ignore[arg-type]  # test table


def with_chain(quote: Quote, *chain: bytes) -> bytes:
    pem = serialize_certificates_pem(chain) + b"\0"
    return serialize_quote(replace(quote, certification=CertificationData(CertificationKind.PCK_CHAIN, pem)))


def signed_by(bench: "Bench", signer: simulated_pki.CertifiedKey, *chain: simulated_pki.CertifiedKey) -> Collateral:
    """Collateral whose documents `signer` signs and whose issuer chains are `chain`."""
    pem = simulated_pki.chain_pem(*chain)
    return replace(
        bench.parts,
        tcb_info_issuer_chain=pem,
        tcb_info_signature=sign_document(bench.parts.tcb_info, signer.private_key),
        qe_identity_issuer_chain=pem,
        qe_identity_signature=sign_document(bench.parts.qe_identity, signer.private_key),
    )


# What is accepted


def test_simulated_quote_says_simulated(bench: "Bench") -> None:
    claims = bench.verify()
    assert claims.simulated
    assert (claims.tee, claims.debug, claims.tcb_status) == ("sgx", False, "UpToDate")
    assert (claims.isv_prod_id, claims.isv_svn, claims.mr_enclave) == (3, 4, b"\x11" * 32)
    assert claims.ppid == bench.machine.facts.ppid


@pytest.mark.parametrize(("version", "version_15"), [(4, False), (5, False), (5, True)])
def test_tdx_quotes_are_verified(bench: "Bench", version: int, version_15: bool) -> None:
    claims = bench.verify(bench.td_quote(version, version_15=version_15), bench.td_parts())
    assert (claims.tee, claims.mr_td, claims.mr_enclave) == ("tdx", b"\x33" * 48, None)
    assert claims.rtmrs == (b"\x01" * 48, b"\x02" * 48, b"\x03" * 48, b"\x04" * 48)


def test_outdated_platform_is_genuine_and_says_so(bench: "Bench") -> None:
    facts = TcbFacts(status="OutOfDate", advisory_ids=("INTEL-SA-00002", "INTEL-SA-00001"))
    claims = bench.verify(parts=bench.machine.collateral_parts(tcb=facts))
    assert (claims.tcb_status, claims.advisories) == ("OutOfDate", ("INTEL-SA-00001", "INTEL-SA-00002"))


def test_evaluation_number_is_the_smaller_one(bench: "Bench") -> None:
    assert (
        bench.verify(parts=bench.with_tcb_info(lambda d: d.update(tcbEvaluationDataNumber=7))).tcb_eval_data_number == 7
    )
    assert (
        bench.verify(parts=bench.with_qe_identity(lambda d: d.update(tcbEvaluationDataNumber=6))).tcb_eval_data_number
        == 6
    )


def test_zero_padding_is_accepted(bench: "Bench") -> None:
    assert bench.verify(bench.quote + bytes(500)) == bench.verify()


def test_any_time_zone_will_do(bench: "Bench") -> None:
    bench.verify(now=NOW.astimezone(dt.timezone(dt.timedelta(hours=9))))


# Gaps of dcap-qvl: it accepts, we refuse


def test_refuses_collateral_signed_by_a_leaked_pck_key(bench: "Bench") -> None:
    pki = bench.machine.pki
    parts = signed_by(bench, pki.pck, pki.pck, pki.pck_ca, pki.root)
    assert engine_accepts(bench, parts=parts)
    assert refusal_of(lambda: bench.verify(parts=parts)) == "collateral.issuer_chain"


def test_refuses_one_document_signed_by_a_leaked_pck_key(bench: "Bench") -> None:
    pki = bench.machine.pki
    bad = signed_by(bench, pki.pck, pki.pck, pki.pck_ca, pki.root)
    for fields in (
        ("tcb_info_issuer_chain", "tcb_info_signature"),
        ("qe_identity_issuer_chain", "qe_identity_signature"),
    ):
        parts = replace(bench.parts, **{name: getattr(bad, name) for name in fields})
        assert engine_accepts(bench, parts=parts)
        assert refusal_of(lambda parts=parts: bench.verify(parts=parts)) == "collateral.issuer_chain"  # type: ignore[misc]


def test_refuses_signer_with_the_right_name_but_an_sgx_extension(bench: "Bench") -> None:
    pki = bench.machine.pki
    extension = serialize_pck_extension(bench.machine.facts)
    signer = simulated_pki.certify_leaf(simulated_pki.TCB_SIGNER, pki.root, CURRENT, sgx_extension=extension)
    parts = signed_by(bench, signer, signer, pki.root)
    assert engine_accepts(bench, parts=parts)
    assert refusal_of(lambda: bench.verify(parts=parts)) == "collateral.issuer_chain"


def test_refuses_signer_with_the_right_name_issued_by_the_pck_ca(bench: "Bench") -> None:
    pki = bench.machine.pki
    signer = simulated_pki.certify_leaf(simulated_pki.TCB_SIGNER, pki.pck_ca, CURRENT)
    assert engine_accepts(bench, parts=signed_by(bench, signer, signer, pki.pck_ca, pki.root))
    for chain in ((signer, pki.pck_ca, pki.root), (signer, pki.root)):
        parts = signed_by(bench, signer, *chain)
        assert refusal_of(lambda parts=parts: bench.verify(parts=parts)) == "collateral.issuer_chain"  # type: ignore[misc]


def test_refuses_signer_of_the_root_with_another_name(bench: "Bench") -> None:
    pki = bench.machine.pki
    signer = simulated_pki.certify_leaf("Something else", pki.root, CURRENT)
    parts = signed_by(bench, signer, signer, pki.root)
    assert engine_accepts(bench, parts=parts)
    assert refusal_of(lambda: bench.verify(parts=parts)) == "collateral.issuer_chain"


def test_refuses_issuer_chain_without_its_root(bench: "Bench") -> None:
    pki = bench.machine.pki
    parts = signed_by(bench, pki.tcb_signer, pki.tcb_signer)
    assert engine_accepts(bench, parts=parts)
    assert refusal_of(lambda: bench.verify(parts=parts)) == "collateral.issuer_chain"


def test_refuses_collateral_for_another_pce(bench: "Bench") -> None:
    parts = bench.with_tcb_info(lambda document: document.update(pceId="0001"))
    assert engine_accepts(bench, parts=parts)
    assert refusal_of(lambda: bench.verify(parts=parts)) == "quote.pce_id_mismatch"


@pytest.mark.parametrize("name", ["root_ca_crl", "pck_crl"])
def test_refuses_revocation_list_from_the_future(bench: "Bench", name: str) -> None:
    issuer = bench.machine.pki.root if name == "root_ca_crl" else bench.machine.pki.pck_ca
    parts = with_part(bench, name, simulated_pki.create_crl(issuer, FUTURE))
    assert engine_accepts(bench, parts=parts)
    assert refusal_of(lambda: bench.verify(parts=parts)) == "collateral.not_yet_valid"


def test_refuses_bytes_after_the_quote(bench: "Bench") -> None:
    raw = bench.quote + b"\0\0\1"
    assert engine_accepts(bench, raw)
    assert refusal_of(lambda: bench.verify(raw)) == "quote.trailing"


def test_refuses_enclave_that_was_never_initialized(bench: "Bench") -> None:
    quote = changed(bench, lambda quote: with_body(quote, flags=quote.body.flags & ~SGX_FLAG_INIT))  # type: ignore[union-attr]
    raw = bench.resign(quote)
    assert engine_accepts(bench, raw)
    assert refusal_of(lambda: bench.verify(raw)) == "quote.not_initialized"


def test_refuses_tail_in_the_quoting_enclaves_report_data(bench: "Bench") -> None:
    quote = parse_quote(bench.quote)
    tail = quote.qe_report.report_data[:63] + b"\1"
    raw = bench.recertify(replace(quote, qe_report=replace(quote.qe_report, report_data=tail)))
    assert engine_accepts(bench, raw)
    assert refusal_of(lambda: bench.verify(raw)) == "quote.qe_binding"


def test_refuses_another_spelling_of_the_certificate_chain(bench: "Bench") -> None:
    raw = bench.quote.replace(b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN CERTIFICATE-----\t", 1)
    assert refusal_of(lambda: bench.verify(raw)) == "quote.pem"


# Roots


def test_refuses_simulated_quote_under_intels_root(bench: "Bench") -> None:
    assert refusal_of(lambda: bench.verify(root=INTEL_ROOT)) == "root.mismatch"


def test_refuses_quote_of_another_simulated_machine(bench: "Bench") -> None:
    other = SimulatedMachine.build(NOW)
    raw = other.platform(mr_enclave=bytes(32), isv_prod_id=1, isv_svn=1).quote(bytes(64))
    assert refusal_of(lambda: bench.verify(raw)) == "root.mismatch"
    assert refusal_of(lambda: bench.verify(raw, other.collateral_parts())) == "root.mismatch"
    assert refusal_of(lambda: bench.verify(parts=other.collateral_parts())) == "root.mismatch"


def test_refuses_stranger_who_shows_our_root(bench: "Bench") -> None:
    other = SimulatedMachine.build(NOW).pki
    quote = parse_quote(bench.quote)
    raw = with_chain(quote, other.pck.der, other.pck_ca.der, bench.machine.pki.root.der)
    parts = replace(bench.parts, pck_crl=simulated_pki.create_crl(other.pck_ca, CURRENT))
    assert refusal_of(lambda: bench.verify(raw, parts)) in {"chain.invalid", "quote.fmspc_mismatch"}


# PCK chain


def test_refuses_pck_chain_of_another_shape(bench: "Bench") -> None:
    pki, quote = bench.machine.pki, parse_quote(bench.quote)
    leaf, authority, root, signer = pki.pck.der, pki.pck_ca.der, pki.root.der, pki.tcb_signer.der
    chains = [
        (leaf,),
        (leaf, authority),
        (leaf, root),
        (leaf, authority, root, root),
        (authority, leaf, root),
        (signer, authority, root),
        (leaf, signer, root),
    ]
    for chain in chains:
        assert refusal_of(lambda chain=chain: bench.verify(with_chain(quote, *chain))) == "pck.chain"  # type: ignore[misc]
    assert refusal_of(lambda: bench.verify(with_chain(quote, leaf, root, authority))) == "root.mismatch"


def test_refuses_garbage_in_the_pck_chain(bench: "Bench") -> None:
    pki, quote = bench.machine.pki, parse_quote(bench.quote)
    for chain in ((b"garbage", pki.pck_ca.der, pki.root.der), (pki.pck.der, b"garbage", pki.root.der)):
        assert refusal_of(lambda chain=chain: bench.verify(with_chain(quote, *chain))) == "pck.chain"  # type: ignore[misc]


@pytest.mark.parametrize("tag", [tag for tag in range(1, 31) if tag != 0x0C])
@pytest.mark.filterwarnings("ignore")  # the X.509 library's about odd names
def test_refuses_name_of_another_type(bench: "Bench", tag: int) -> None:
    pki = bench.machine.pki
    name = simulated_pki.PCK.encode()
    der = pki.pck.der.replace(bytes((0x0C, len(name))) + name, bytes((tag, len(name))) + name)
    assert der != pki.pck.der
    code = refusal_of(lambda: bench.verify(with_chain(parse_quote(bench.quote), der, pki.pck_ca.der, pki.root.der)))
    assert code in {"chain.invalid", "pck.chain"}


def test_refuses_pck_certificate_without_its_extension(bench: "Bench") -> None:
    pki = bench.machine.pki
    leaf = simulated_pki.certify_leaf(simulated_pki.PCK, pki.pck_ca, CURRENT)
    raw = with_chain(parse_quote(bench.quote), leaf.der, pki.pck_ca.der, pki.root.der)
    assert refusal_of(lambda: bench.verify(raw)) == "pck.extension"


def test_refuses_chain_whose_names_do_not_follow(bench: "Bench") -> None:
    pki = bench.machine.pki
    authority = simulated_pki.certify_authority("Other SGX PCK Processor CA", pki.root, CURRENT, path_length=0)
    raw = with_chain(parse_quote(bench.quote), pki.pck.der, authority.der, pki.root.der)
    assert refusal_of(lambda: bench.verify(raw)) == "pck.chain"


def test_refuses_quote_without_a_chain(bench: "Bench") -> None:
    quote = replace(parse_quote(bench.quote), certification=CertificationData(CertificationKind.PPID_PLAIN, bytes(36)))
    assert refusal_of(lambda: bench.verify(serialize_quote(quote))) == "quote.certification"


@pytest.mark.parametrize(("validity", "code"), [(PAST, "pck.expired"), (FUTURE, "pck.not_yet_valid")])
def test_refuses_pck_certificate_outside_of_its_validity(bench: "Bench", validity: Validity, code: str) -> None:
    pki = bench.machine.pki
    extension = serialize_pck_extension(bench.machine.facts)
    pck = simulated_pki.certify_leaf(simulated_pki.PCK, pki.pck_ca, validity, sgx_extension=extension)
    machine = replace(bench.machine, pki=replace(pki, pck=pck))
    raw = machine.platform(mr_enclave=bytes(32), isv_prod_id=1, isv_svn=1).quote(bytes(64))
    assert refusal_of(lambda: bench.verify(raw)) == code


# Revocation, dates and issuers of the collateral

REVOKED = {
    "pck": ("pck_ca", "pck_crl", "pck.revoked"),
    "pck_ca": ("root", "root_ca_crl", "pck.revoked"),
    "tcb_signer": ("root", "root_ca_crl", "collateral.issuer_revoked"),
    "root": ("root", "root_ca_crl", "root.revoked"),
}


@pytest.mark.parametrize("name", REVOKED)
def test_refuses_revoked_certificate(bench: "Bench", name: str) -> None:
    issuer, list_name, code = REVOKED[name]
    pki = bench.machine.pki
    serial = getattr(pki, name).certificate.serial_number
    crl = simulated_pki.create_crl(getattr(pki, issuer), CURRENT, revoked=(serial,))
    assert refusal_of(lambda: bench.verify(parts=with_part(bench, list_name, crl))) == code


@pytest.mark.parametrize("name", ["root_ca_crl", "pck_crl"])
def test_refuses_expired_revocation_list(bench: "Bench", name: str) -> None:
    issuer = bench.machine.pki.root if name == "root_ca_crl" else bench.machine.pki.pck_ca
    parts = with_part(bench, name, simulated_pki.create_crl(issuer, PAST))
    assert refusal_of(lambda: bench.verify(parts=parts)) == "collateral.expired"


def test_refuses_unreadable_forged_and_foreign_revocation_lists(bench: "Bench") -> None:
    pki, other = bench.machine.pki, SimulatedMachine.build(NOW).pki
    lists = {
        b"": "collateral.crl",
        b"garbage": "collateral.crl",
        bench.parts.pck_crl + b"\0": "collateral.crl",
        bench.parts.root_ca_crl: "collateral.crl_issuer",
        simulated_pki.create_crl(other.pck_ca, CURRENT): "chain.invalid",  # same name, another key
        simulated_pki.create_crl(pki.tcb_signer, CURRENT): "collateral.crl_issuer",
    }
    for crl, code in lists.items():
        parts = replace(bench.parts, pck_crl=crl)
        assert refusal_of(lambda parts=parts: bench.verify(parts=parts)) == code  # type: ignore[misc]


@pytest.mark.parametrize(("validity", "code"), [(PAST, "expired"), (FUTURE, "not_yet_valid")])
def test_refuses_documents_and_signer_outside_of_their_validity(bench: "Bench", validity: Validity, code: str) -> None:
    dates = {
        "issueDate": validity.start.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "nextUpdate": validity.end.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    pki = bench.machine.pki
    signer = simulated_pki.certify_leaf(simulated_pki.TCB_SIGNER, pki.root, validity)
    for parts in (
        bench.with_tcb_info(lambda document: document.update(dates)),
        bench.with_qe_identity(lambda document: document.update(dates)),
        signed_by(bench, signer, signer, pki.root),
    ):
        assert refusal_of(lambda parts=parts: bench.verify(parts=parts)) == f"collateral.{code}"  # type: ignore[misc]


def test_collateral_is_good_up_to_its_last_second(bench: "Bench") -> None:
    end = bench.verify().collateral_expires
    bench.verify(now=end - dt.timedelta(seconds=1))
    assert refusal_of(lambda: bench.verify(now=end)) == "collateral.expired"


def test_refuses_a_clock_before_everything(bench: "Bench") -> None:
    assert refusal_of(lambda: bench.verify(now=dt.datetime(1960, 1, 1, tzinfo=dt.UTC))) == "pck.not_yet_valid"
    assert refusal_of(lambda: judge(bench.quote, bench.parts, bench.root, dt.datetime(1960, 1, 1, tzinfo=dt.UTC))) == (
        "collateral.not_yet_valid"
    )


@pytest.mark.parametrize("name", ["tcb_info_signature", "qe_identity_signature"])
@pytest.mark.parametrize("signature", [bytes(64), b"\1" * 64])
def test_refuses_unsigned_documents(bench: "Bench", name: str, signature: bytes) -> None:
    parts = with_part(bench, name, signature)
    assert refusal_of(lambda: bench.verify(parts=parts)) == "collateral.signature"


def test_refuses_document_that_was_edited_after_signing(bench: "Bench") -> None:
    edited = bench.parts.tcb_info.replace('"UpToDate"', '"SWHardeningNeeded"')
    assert edited != bench.parts.tcb_info
    parts = replace(bench.parts, tcb_info=edited)
    assert refusal_of(lambda: bench.verify(parts=parts)) == "collateral.signature"


def test_refuses_collateral_of_the_other_tee(bench: "Bench") -> None:
    assert refusal_of(lambda: bench.verify(parts=bench.td_parts())) == "collateral.wrong_tee"
    assert refusal_of(lambda: bench.verify(bench.td_quote(4))) == "collateral.wrong_tee"
    mixed = replace(
        bench.td_parts(),
        qe_identity=bench.parts.qe_identity,
        qe_identity_signature=bench.parts.qe_identity_signature,
    )
    assert refusal_of(lambda: bench.verify(bench.td_quote(4), mixed)) == "collateral.wrong_tee"


def test_refuses_collateral_for_another_processor(bench: "Bench") -> None:
    parts = bench.with_tcb_info(lambda document: document.update(fmspc="00606a000000"))
    assert refusal_of(lambda: bench.verify(parts=parts)) == "quote.fmspc_mismatch"


# TCB


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        (TcbFacts(status="Revoked"), "tcb.revoked"),
        (TcbFacts(qe_status="Revoked"), "tcb.revoked"),
        (TcbFacts(status=None), "tcb.no_level"),
    ],
)
def test_refuses_revoked_and_unknown_tcb(bench: "Bench", facts: TcbFacts, code: str) -> None:
    assert refusal_of(lambda: bench.verify(parts=bench.machine.collateral_parts(tcb=facts))) == code


QE_IDENTITY = {
    "mrsigner": ("00" * 32, "quote.qe_identity"),
    "isvprodid": (9, "quote.qe_identity"),
    "miscselect": ("00000001", "quote.qe_identity"),
    "attributes": ("10000000000000000000000000000000", "quote.qe_identity"),
    "id": ("QVE", "collateral.wrong_tee"),
    "tcbLevels": ([], "tcb.no_level"),
}


@pytest.mark.parametrize("name", QE_IDENTITY)
def test_refuses_quoting_enclave_of_another_identity(bench: "Bench", name: str) -> None:
    value, code = QE_IDENTITY[name]
    parts = bench.with_qe_identity(lambda document: document.update({name: value}))
    assert refusal_of(lambda: bench.verify(parts=parts)) == code


def test_refuses_quoting_enclave_older_than_every_level(bench: "Bench") -> None:
    def raise_level(document: dict[str, list[dict[str, dict[str, int]]]]) -> None:
        document["tcbLevels"][0]["tcb"]["isvsvn"] = 99

    assert refusal_of(lambda: bench.verify(parts=bench.with_qe_identity(raise_level))) == "tcb.no_level"


# Quotes


def test_refuses_debug_enclave_and_debug_domain(bench: "Bench") -> None:
    quote = changed(bench, lambda quote: with_body(quote, flags=quote.body.flags | SGX_FLAG_DEBUG))  # type: ignore[union-attr]
    assert refusal_of(lambda: bench.verify(bench.resign(quote))) == "quote.debug"
    assert (
        refusal_of(lambda: bench.verify(bench.td_quote(4, attributes=1 << 28 | 1), bench.td_parts())) == "quote.debug"
    )
    # dcap-qvl refuses it as well: a second lock on the same door.
    assert refusal_of(lambda: judge(bench.resign(quote), bench.parts, bench.root, NOW)) == "quote.debug"


def test_refuses_trust_domain_with_dangerous_attributes(bench: "Bench") -> None:
    raw = bench.td_quote(5, attributes=0)
    assert refusal_of(lambda: bench.verify(raw, bench.td_parts())) == "quote.td_attributes"


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(
    ("bit", "code"), [(4, "quote.td_attributes"), (5, "quote.td_attributes"), (29, "quote.migratable")]
)
def test_refuses_trust_domain_that_may_be_profiled_or_migrated(
    bench: "Bench", version: int, bit: int, code: str
) -> None:
    raw = bench.td_quote(version, attributes=1 << 28 | 1 << bit)
    assert refusal_of(lambda: bench.verify(raw, bench.td_parts())) == code


def test_refuses_trust_domain_with_a_migration_service(bench: "Bench") -> None:
    quote = parse_quote(bench.td_quote(5, version_15=True))
    assert isinstance(quote.body, TdReport)
    raw = bench.resign(replace(quote, body=replace(quote.body, mr_service_td=b"\1" * 48)))
    assert refusal_of(lambda: bench.verify(raw, bench.td_parts())) == "quote.service_td"


def test_refuses_trust_domain_on_a_foreign_module(bench: "Bench") -> None:
    quote = parse_quote(bench.td_quote(4))
    assert isinstance(quote.body, TdReport)
    raw = bench.resign(replace(quote, body=replace(quote.body, mr_signer_seam=bytes(48))))
    assert refusal_of(lambda: bench.verify(raw, bench.td_parts())) == "tcb.tdx_module"


@pytest.mark.parametrize(
    ("offset", "code"),
    [
        (30, "quote.signature"),  # user data
        (112, "quote.signature"),  # MRENCLAVE
        (368, "quote.signature"),  # report data
        (436, "quote.signature"),  # signature
        (500, "quote.qe_binding"),  # attestation key
        (564 + 64, "quote.qe_signature"),  # QE report
        (948, "quote.qe_signature"),
        (1014, "quote.qe_binding"),  # auth data
    ],
)
def test_refuses_flipped_bit(bench: "Bench", offset: int, code: str) -> None:
    raw = bench.quote[:offset] + bytes((bench.quote[offset] ^ 1,)) + bench.quote[offset + 1 :]
    assert refusal_of(lambda: bench.verify(raw)) == code


def test_refuses_attestation_key_of_another_machine(bench: "Bench") -> None:
    other = SimulatedMachine.build(NOW)
    theirs = parse_quote(other.platform(mr_enclave=bytes(32), isv_prod_id=1, isv_svn=1).quote(bytes(64)))
    ours = parse_quote(bench.quote)
    spliced = replace(ours, body=theirs.body, signature=theirs.signature, attestation_key=theirs.attestation_key)
    assert refusal_of(lambda: bench.verify(serialize_quote(spliced))) == "quote.qe_binding"


# The type and its guards


def test_refuses_time_without_zone(bench: "Bench") -> None:
    with pytest.raises(ConfigurationError) as refusal:
        bench.verify(now=NOW.replace(tzinfo=None))
    assert refusal.value.code == "time.naive"


def test_verified_quote_has_no_other_source(bench: "Bench", claims: Claims) -> None:
    with pytest.raises(TypeError):
        VerifiedQuote(claims)
    with pytest.raises(TypeError):
        VerifiedQuote(claims, proof=object())
    verified = verify_quote(bench.quote, bench.parts, bench.root, NOW)
    with pytest.raises(AttributeError):
        verified.claims = claims  # type: ignore[misc]
    with pytest.raises(AttributeError):
        verified._claims = claims
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            duplicate(verified)


@pytest.mark.parametrize("name", ["report_data", "measurement", "fmspc"])
def test_refuses_when_two_readings_differ(bench: "Bench", monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def other_judge(raw: bytes, collateral: Collateral, root: TrustRoot, now: dt.datetime) -> Judgement:
        return replace(judge(raw, collateral, root, now), **{name: b"other"})  # type: ignore[arg-type]

    monkeypatch.setattr(verify_module, "judge", other_judge)
    assert refusal_of(bench.verify) == "verification.inconsistent"
