"""DER: one spelling per value, everything else refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.formats import der

CODE = "test.der"


@given(st.lists(st.tuples(st.sampled_from((0x02, 0x04, 0x30, 0xA0)), st.binary(max_size=300)), max_size=6))
@settings(max_examples=100)
def test_parse_inverts_encode(pairs: list[tuple[int, bytes]]) -> None:
    raw = b"".join(der.encode(tag, content) for tag, content in pairs)
    elements = der.parse_elements(raw, code=CODE)
    assert [(element.tag, element.content) for element in elements] == pairs
    assert b"".join(element.raw for element in elements) == raw


@given(st.binary(max_size=400))
@settings(max_examples=200)
def test_any_bytes_are_split_exactly_or_refused(raw: bytes) -> None:
    try:
        elements = der.parse_elements(raw, code=CODE)
    except FormatError as refusal:
        assert refusal.code == CODE
    else:
        assert b"".join(der.encode(element.tag, element.content) for element in elements) == raw


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "30",
        "3001",
        "30800000",  # indefinite
        "308100",  # long form for a short length
        "30817f" + "00" * 127,
        "3082007f" + "00" * 127,  # leading zero in the length
        "308400000000",
        "3085" + "00" * 5,
        "1f0100",  # long tag
        "300000",  # trailing byte
    ],
)
def test_refuses_malformed_element(raw: str) -> None:
    with pytest.raises(FormatError) as refusal:
        der.parse_one(bytes.fromhex(raw), 0x30, code=CODE)
    assert refusal.value.code == CODE


def test_refuses_too_many_elements() -> None:
    with pytest.raises(FormatError):
        der.parse_elements(b"\x05\x00" * 5, code=CODE, max_elements=4)


@given(st.integers(0, 1 << 64))
@settings(max_examples=100)
def test_integer_round_trips(value: int) -> None:
    element = der.parse_one(der.encode_integer(value), der.INTEGER, code=CODE)
    assert der.parse_integer(element, code=CODE, maximum=1 << 64) == value


@pytest.mark.parametrize("raw", ["0200", "02020001", "0201ff", "020101", "040101"])
def test_refuses_integer_that_is_empty_padded_negative_large_or_no_integer(raw: str) -> None:
    element = der.parse_elements(bytes.fromhex(raw), code=CODE)[0]
    with pytest.raises(FormatError):
        der.parse_integer(element, code=CODE, maximum=0)


@pytest.mark.parametrize("raw", ["010101", "01020000", "0100", "0201ff"])
def test_refuses_boolean_in_another_spelling(raw: str) -> None:
    with pytest.raises(FormatError):
        der.parse_boolean(der.parse_elements(bytes.fromhex(raw), code=CODE)[0], code=CODE)


@pytest.mark.parametrize(
    ("dotted", "raw"),
    [
        ("1.2.840.113741.1.13.1", "06092a864886f84d010d01"),
        ("0.6.9.42.840.113741.1337.6", "060b06092a864886f84d8a3906"),
        ("2.23.133.5.4.9", "0606678105050409"),
        ("2.999", "06028837"),
    ],
)
def test_object_identifiers(dotted: str, raw: str) -> None:
    assert der.encode_oid(dotted).hex() == raw
    element = der.parse_one(bytes.fromhex(raw), der.OBJECT_IDENTIFIER, code=CODE)
    assert der.parse_oid(element, code=CODE) == dotted


@given(st.tuples(st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 1 << 40), max_size=6)))
@settings(max_examples=100)
def test_object_identifiers_round_trip(parts: tuple[int, int, list[int]]) -> None:
    dotted = ".".join(str(part) for part in (parts[0], parts[1], *parts[2]))
    element = der.parse_one(der.encode_oid(dotted), der.OBJECT_IDENTIFIER, code=CODE)
    assert der.parse_oid(element, code=CODE) == dotted


@pytest.mark.parametrize("content", ["", "80", "2a80", "2a8001", "2a" + "01" * 64])
def test_refuses_malformed_object_identifier(content: str) -> None:
    raw = der.encode(der.OBJECT_IDENTIFIER, bytes.fromhex(content))
    with pytest.raises(FormatError):
        der.parse_oid(der.parse_one(raw, der.OBJECT_IDENTIFIER, code=CODE), code=CODE)


def test_refuses_octet_string_of_another_length() -> None:
    element = der.parse_elements(der.encode(der.OCTET_STRING, b"abc"), code=CODE)[0]
    assert der.parse_octets(element, 3, code=CODE) == b"abc"
    with pytest.raises(FormatError):
        der.parse_octets(element, 4, code=CODE)


def test_refuses_to_encode_more_than_16_mib() -> None:
    with pytest.raises(FormatError):
        der.encode(der.OCTET_STRING, bytes(1 << 24))
