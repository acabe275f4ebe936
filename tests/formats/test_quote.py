"""Quotes: real ones round-trip byte for byte; everything malformed is refused by its own code."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.formats.pem import serialize_certificates_pem
from strongroom.formats.quote import (
    MAX_QUOTE_BYTES,
    TEE_TDX,
    CertificationData,
    CertificationKind,
    Quote,
    QuoteHeader,
    parse_quote,
    serialize_quote,
)
from strongroom.formats.report import (
    SgxReport,
    TdReport,
    parse_sgx_report,
    parse_td_report,
    serialize_sgx_report,
    serialize_td_report,
)


def octets(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


def unsigned(size: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << 8 * size) - 1)


sgx_reports = st.builds(
    SgxReport,
    mr_enclave=octets(32),
    mr_signer=octets(32),
    isv_prod_id=unsigned(2),
    isv_svn=unsigned(2),
    report_data=octets(64),
    flags=unsigned(8),
    xfrm=unsigned(8),
    misc_select=unsigned(4),
    cpu_svn=octets(16),
    config_id=octets(64),
    config_svn=unsigned(2),
    isv_ext_prod_id=octets(16),
    isv_family_id=octets(16),
)


def td_reports(version_15: bool) -> st.SearchStrategy[TdReport]:
    return st.builds(
        TdReport,
        tee_tcb_svn=octets(16),
        mr_seam=octets(48),
        mr_signer_seam=octets(48),
        seam_attributes=unsigned(8),
        td_attributes=unsigned(8),
        xfam=unsigned(8),
        mr_td=octets(48),
        mr_config_id=octets(48),
        mr_owner=octets(48),
        mr_owner_config=octets(48),
        rtmrs=st.tuples(octets(48), octets(48), octets(48), octets(48)),
        report_data=octets(64),
        tee_tcb_svn_2=octets(16) if version_15 else st.none(),
        mr_service_td=octets(48) if version_15 else st.none(),
    )


chains = st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=4).map(
    lambda ders: CertificationData(CertificationKind.PCK_CHAIN, serialize_certificates_pem(tuple(ders)) + b"\0")
)
certifications = st.one_of(
    chains,
    octets(36).map(lambda data: CertificationData(CertificationKind.PPID_PLAIN, data)),
    octets(276).map(lambda data: CertificationData(CertificationKind.PPID_ENCRYPTED_RSA_2048, data)),
    octets(404).map(lambda data: CertificationData(CertificationKind.PPID_ENCRYPTED_RSA_3072, data)),
    st.binary(max_size=99).map(lambda data: CertificationData(CertificationKind.PLATFORM_MANIFEST, data)),
)
bodies = st.one_of(
    st.tuples(st.just(3), sgx_reports), st.tuples(st.sampled_from((4, 5)), td_reports(False)),
    st.tuples(st.just(5), td_reports(True)),
)  # fmt: skip


@st.composite
def quotes_of_any_kind(draw: st.DrawFn) -> Quote:
    version, body = draw(bodies)
    header = QuoteHeader(
        version=version,
        tee_type=0 if version == 3 else TEE_TDX,
        qe_svn=draw(unsigned(2)),
        pce_svn=draw(unsigned(2)),
        user_data=draw(octets(20)),
    )
    return Quote(
        header=header,
        body=body,
        signature=draw(octets(64)),
        attestation_key=draw(octets(64)),
        qe_report=draw(sgx_reports),
        qe_report_signature=draw(octets(64)),
        qe_auth_data=draw(st.binary(max_size=40)),
        certification=draw(certifications),
        padding=draw(st.integers(0, 99)),
    )


@given(quotes_of_any_kind())
@settings(max_examples=100)
def test_parse_inverts_serialize(quote: Quote) -> None:
    raw = serialize_quote(quote)
    parsed = parse_quote(raw)
    assert parsed == quote
    assert raw.startswith(parsed.signed)
    assert (
        len(parsed.signed) == {3: 432, 4: 632, 5: 638 + 64 * (getattr(quote.body, "version_15", False))}[quote.version]
    )


@given(st.one_of(st.binary(max_size=3000), st.binary(max_size=1200).map(lambda tail: b"\3\0\2\0" + bytes(8) + tail)))
@settings(max_examples=200)
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    try:
        quote = parse_quote(raw)
    except FormatError as refusal:
        assert refusal.code.split(".")[0] in {"quote", "report", "header"}
    else:
        assert serialize_quote(quote) == raw


@given(data=st.data())
@settings(max_examples=200)
def test_mutated_real_quotes_are_refused_or_round_trip(azure_quote: bytes, data: st.DataObject) -> None:
    raw = bytearray(azure_quote)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(0, len(raw)))]) if data.draw(st.booleans()) else bytes(raw)
    try:
        quote = parse_quote(cut)
    except FormatError:
        return
    assert serialize_quote(quote) == cut


def test_real_quotes_round_trip(quotes: dict[str, bytes]) -> None:
    refused = set()
    for name, raw in quotes.items():
        try:
            quote = parse_quote(raw)
        except FormatError as refusal:
            refused.add((name, refusal.code))
            continue
        assert serialize_quote(quote) == raw, name
        assert raw[: len(quote.signed)] == quote.signed
    assert refused == {("sgx_v3_truncated", "quote.truncated")}


def test_real_quote_has_its_known_fields(azure_quote: bytes) -> None:
    quote = parse_quote(azure_quote)
    assert isinstance(quote.body, SgxReport)
    assert quote.tee == "sgx"
    assert quote.body.mr_enclave.hex() == "64d0e3ebfbb98fd061ac2e9d2197780f819c9172ceeff4b3130d7247a6421ad2"
    assert quote.body.report_data == bytes(range(64))
    assert quote.body.initialized
    assert not quote.body.debug
    assert quote.pck_chain_pem is not None
    assert quote.pck_chain_pem.startswith(b"-----BEGIN CERTIFICATE-----\n")
    assert len(quote.certification.chain_der) == 3


def test_real_tdx_quotes_have_the_right_shape(quotes: dict[str, bytes]) -> None:
    v4, v5 = parse_quote(quotes["tdx_v4_uptodate_2024"]), parse_quote(quotes["tdx_v5_no_tcb_level"])
    assert isinstance(v4.body, TdReport)
    assert isinstance(v5.body, TdReport)
    assert (v4.version, v4.tee, v4.padding, v4.body.version_15) == (4, "tdx", 3065, False)
    assert (v5.version, v5.tee, v5.body.version_15, len(v5.signed)) == (5, "tdx", True, 702)


def test_encrypted_ppid_quote_has_no_chain(quotes: dict[str, bytes]) -> None:
    quote = parse_quote(quotes["sgx_v3_encrypted_ppid"])
    assert quote.certification.kind is CertificationKind.PPID_ENCRYPTED_RSA_3072
    assert quote.pck_chain_pem is None
    assert quote.certification.chain_der == ()


PATCHES = {
    "version 2": (0, b"\2\0", "quote.version"),
    "version 4 with an SGX report": (0, b"\4\0", "quote.tee"),
    "P-384 key": (2, b"\3\0", "quote.key_type"),
    "TDX type in version 3": (4, b"\x81", "quote.tee"),
    "other vendor": (12, b"\0", "quote.vendor"),
    "reserved byte of the report": (48 + 20, b"\1", "report.reserved"),
    "reserved byte of the QE report": (564 + 300, b"\1", "report.reserved"),
    "signature data longer than the quote": (432, b"\xff\xff\xff\xff", "quote.truncated"),
    "signature data one byte short": (432, b"\xc9", "quote.truncated"),
    "signature data of zero bytes": (432, b"\0\0\0\0", "quote.trailing"),
    "auth data longer than the rest": (1012, b"\xff\xff", "quote.truncated"),
    "certification type 0": (1046, b"\0", "quote.certification"),
    "certification type 6 in version 3": (1046, b"\6", "quote.certification"),
    "certification type 8": (1046, b"\x08", "quote.certification"),
    "PPID type with a chain's length": (1046, b"\1", "quote.certification"),
    "certification data one byte short": (1048, b"\x61", "quote.trailing"),
    "certification data one byte long": (1048, b"\x63", "quote.truncated"),
    "text before the chain": (1052, b"x", "quote.pem"),
    "vertical tab as line end": (1052 + 27, b"\x0b", "quote.pem"),
}


@pytest.mark.parametrize("name", PATCHES)
def test_refuses_patched_quote(azure_quote: bytes, name: str) -> None:
    offset, patch, code = PATCHES[name]
    raw = azure_quote[:offset] + patch + azure_quote[offset + len(patch) :]
    assert raw != azure_quote
    with pytest.raises(FormatError) as refusal:
        parse_quote(raw)
    assert refusal.value.code == code


def test_refuses_every_truncation(azure_quote: bytes) -> None:
    for size in range(0, len(azure_quote), 7):
        with pytest.raises(FormatError) as refusal:
            parse_quote(azure_quote[:size])
        assert refusal.value.code == "quote.truncated"


def test_accepts_zero_padding_only(azure_quote: bytes) -> None:
    assert parse_quote(azure_quote + bytes(100)).padding == 100
    with pytest.raises(FormatError) as refusal:
        parse_quote(azure_quote + bytes(99) + b"\1")
    assert refusal.value.code == "quote.trailing"


def test_refuses_oversized_buffer(azure_quote: bytes) -> None:
    parse_quote(azure_quote.ljust(MAX_QUOTE_BYTES, b"\0"))
    with pytest.raises(FormatError) as refusal:
        parse_quote(azure_quote.ljust(MAX_QUOTE_BYTES + 1, b"\0"))
    assert refusal.value.code == "quote.length"


@pytest.mark.parametrize(("kind", "size"), [(1, 384), (4, 885), (2, 648), (3, 584), (9, 584)])
def test_refuses_unknown_version_5_body(quotes: dict[str, bytes], kind: int, size: int) -> None:
    raw = quotes["tdx_v5_no_tcb_level"]
    patched = raw[:48] + kind.to_bytes(2, "little") + size.to_bytes(4, "little") + raw[54:]
    with pytest.raises(FormatError) as refusal:
        parse_quote(patched)
    assert refusal.value.code == "quote.body_type"


def test_refuses_version_4_without_the_qe_report_wrapper(quotes: dict[str, bytes]) -> None:
    raw = quotes["tdx_v4_uptodate"]
    position = 632 + 4 + 128
    assert raw[position : position + 2] == b"\6\0"
    with pytest.raises(FormatError) as refusal:
        parse_quote(raw[:position] + b"\5\0" + raw[position + 2 :])
    assert refusal.value.code == "quote.certification"


def test_refuses_to_write_a_body_that_is_not_the_versions(quotes: dict[str, bytes]) -> None:
    sgx, v5 = parse_quote(quotes["sgx_v3_config_swhardening"]), parse_quote(quotes["tdx_v5_no_tcb_level"])
    for quote in (
        replace(sgx, header=replace(sgx.header, version=4)),
        replace(v5, header=replace(v5.header, version=4)),
        replace(v5, header=replace(v5.header, version=3)),
    ):
        with pytest.raises(FormatError) as refusal:
            serialize_quote(quote)
        assert refusal.value.code == "quote.body_type"


def test_refuses_to_write_short_signature(azure_quote: bytes) -> None:
    with pytest.raises(FormatError) as refusal:
        serialize_quote(replace(parse_quote(azure_quote), signature=bytes(63)))
    assert refusal.value.code == "quote.field"


@given(sgx_reports)
@settings(max_examples=50)
def test_sgx_report_round_trips(report: SgxReport) -> None:
    assert parse_sgx_report(serialize_sgx_report(report)) == report


@given(st.booleans().flatmap(td_reports))
@settings(max_examples=50)
def test_td_report_round_trips(report: TdReport) -> None:
    assert parse_td_report(serialize_td_report(report)) == report


@pytest.mark.parametrize("size", [0, 383, 385, 584])
def test_refuses_sgx_report_of_another_length(size: int) -> None:
    with pytest.raises(FormatError) as refusal:
        parse_sgx_report(bytes(size))
    assert refusal.value.code == "report.length"


@pytest.mark.parametrize("size", [0, 583, 585, 647, 649])
def test_refuses_td_report_of_another_length(size: int) -> None:
    with pytest.raises(FormatError) as refusal:
        parse_td_report(bytes(size))
    assert refusal.value.code == "report.length"


@pytest.mark.parametrize("missing", ["tee_tcb_svn_2", "mr_service_td"])
def test_refuses_to_write_half_a_td_15_report(missing: str) -> None:
    report = parse_td_report(bytes(648))
    broken = replace(report, tee_tcb_svn_2=None) if missing == "tee_tcb_svn_2" else replace(report, mr_service_td=None)
    with pytest.raises(FormatError) as refusal:
        serialize_td_report(broken)
    assert refusal.value.code == "report.field"
