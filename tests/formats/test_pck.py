"""Intel's SGX extension: real ones round-trip; unknown, missing and repeated members are refused."""

from dataclasses import replace

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.formats import der
from strongroom.formats.pck import (
    PckExtension,
    PlatformConfiguration,
    parse_pck_extension,
    pck_extension_of,
    serialize_pck_extension,
    sgx_extension_bytes,
)
from strongroom.formats.quote import parse_quote

octets = {size: st.binary(min_size=size, max_size=size) for size in (2, 6, 16)}
flags = st.none() | st.booleans()
configurations = st.builds(PlatformConfiguration, dynamic_platform=flags, cached_keys=flags, smt_enabled=flags)
processor = st.builds(
    PckExtension,
    ppid=octets[16],
    component_svns=st.lists(st.integers(0, 255), min_size=16, max_size=16).map(tuple),
    pce_svn=st.integers(0, 0xFFFF),
    cpu_svn=octets[16],
    pce_id=octets[2],
    fmspc=octets[6],
    sgx_type=st.integers(0, 2),
)
platform = st.builds(
    lambda extension, instance, configuration: replace(
        extension, platform_instance_id=instance, configuration=configuration
    ),
    processor,
    octets[16],
    configurations,
)

EXAMPLE = PckExtension(
    ppid=b"\xaa" * 16,
    component_svns=(11, 11, 3, 3, 255, 255, 1, *([0] * 9)),
    pce_svn=13,
    cpu_svn=bytes(16),
    pce_id=b"\0\0",
    fmspc=bytes.fromhex("00606a000000"),
    sgx_type=1,
    platform_instance_id=b"\xbb" * 16,
    configuration=PlatformConfiguration(dynamic_platform=True, cached_keys=False, smt_enabled=None),
)


def leaf(quote: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(parse_quote(quote).certification.chain_der[0])


@given(processor | platform)
@settings(max_examples=100)
def test_parse_inverts_serialize(extension: PckExtension) -> None:
    assert parse_pck_extension(serialize_pck_extension(extension)) == extension


@given(st.binary(max_size=700), st.integers(0, 600), st.integers(0, 255))
@settings(max_examples=200)
def test_any_bytes_are_parsed_or_refused(raw: bytes, position: int, value: int) -> None:
    good = serialize_pck_extension(EXAMPLE)
    patched = good[: position % len(good)] + bytes((value,)) + good[position % len(good) + 1 :]
    for candidate in (raw, patched):
        try:
            parsed = parse_pck_extension(candidate)
        except FormatError as refusal:
            assert refusal.code == "pck.extension"
        else:
            assert serialize_pck_extension(parsed) == candidate


def test_real_extensions_round_trip(quotes: dict[str, bytes]) -> None:
    count = 0
    for name, raw in quotes.items():
        if name in {"sgx_v3_truncated", "sgx_v3_encrypted_ppid"}:
            continue
        certificate = leaf(raw)
        assert serialize_pck_extension(pck_extension_of(certificate)) == sgx_extension_bytes(certificate)
        count += 1
    assert count >= 12


def test_real_extension_has_its_known_fields(azure_quote: bytes) -> None:
    extension = pck_extension_of(leaf(azure_quote))
    assert extension.fmspc.hex() == "00606a000000"
    assert extension.pce_svn == 13
    assert extension.component_svns[:7] == (11, 11, 3, 3, 255, 255, 1)
    assert extension.sgx_type == 1
    assert extension.configuration == PlatformConfiguration(dynamic_platform=True, cached_keys=False, smt_enabled=False)


def test_platform_identifiers_are_not_printed() -> None:
    assert "aa" * 4 not in repr(EXAMPLE)
    assert "\\xaa" not in repr(EXAMPLE)
    assert "\\xbb" not in repr(EXAMPLE)


def test_certificate_without_the_extension_is_no_pck_certificate(azure_quote: bytes) -> None:
    root = x509.load_der_x509_certificate(parse_quote(azure_quote).certification.chain_der[2])
    assert sgx_extension_bytes(root) is None
    with pytest.raises(FormatError) as refusal:
        pck_extension_of(root)
    assert refusal.value.code == "pck.extension"


@pytest.mark.parametrize("member", range(7))
def test_refuses_missing_and_repeated_member(member: int) -> None:
    members = der.parse_sequence(der.parse_one(serialize_pck_extension(EXAMPLE), der.SEQUENCE, code="x"), code="x")
    raws = [element.raw for element in members]
    for changed in ([*raws[:member], *raws[member + 1 :]], [*raws, raws[member]]):
        with pytest.raises(FormatError):
            parse_pck_extension(der.encode(der.SEQUENCE, *changed))


def test_refuses_unknown_member() -> None:
    members = der.parse_sequence(der.parse_one(serialize_pck_extension(EXAMPLE), der.SEQUENCE, code="x"), code="x")
    unknown = der.encode(der.SEQUENCE, der.encode_oid("1.2.840.113741.1.13.1.8"), der.encode_boolean(True))
    with pytest.raises(FormatError):
        parse_pck_extension(der.encode(der.SEQUENCE, *(element.raw for element in members), unknown))


WRONG = {
    "ppid": replace(EXAMPLE, ppid=bytes(15)),
    "fmspc": replace(EXAMPLE, fmspc=bytes(7)),
    "sgx_type": replace(EXAMPLE, sgx_type=3),
    "component": replace(EXAMPLE, component_svns=(256, *([0] * 15))),
    "too few components": replace(EXAMPLE, component_svns=(0,) * 15),
    "pce_svn": replace(EXAMPLE, pce_svn=0x10000),
    "only the instance": replace(EXAMPLE, configuration=None),
    "only the configuration": replace(EXAMPLE, platform_instance_id=None),
}


@pytest.mark.parametrize("name", WRONG)
def test_refuses_to_write_what_it_would_not_read(name: str) -> None:
    with pytest.raises(FormatError):
        serialize_pck_extension(WRONG[name])
