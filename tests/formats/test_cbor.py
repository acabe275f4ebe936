"""CBOR: total, bounded, no float, no indefinite length, no repeated name."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.formats.cbor import CborValue, Tagged, encode_cbor, parse_cbor

CODE = "test.cbor"
leaves: st.SearchStrategy[CborValue] = st.one_of(
    st.none(), st.booleans(), st.integers(0, (1 << 64) - 1), st.binary(max_size=300), st.text(max_size=30)
)
values: st.SearchStrategy[CborValue] = st.one_of(
    leaves,
    st.lists(leaves, max_size=5).map(tuple),
    st.dictionaries(st.text(max_size=8), leaves, max_size=5),
    st.builds(Tagged, st.integers(0, 1 << 32), leaves),
)


@given(values, st.binary(max_size=8))
@settings(max_examples=150)
def test_parse_inverts_encode(value: CborValue, rest: bytes) -> None:
    assert parse_cbor(encode_cbor(value) + rest, code=CODE) == (value, rest)


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    try:
        _, rest = parse_cbor(raw, code=CODE)
    except FormatError as refusal:
        assert refusal.code == CODE
    else:
        assert raw.endswith(rest)


@pytest.mark.parametrize("raw", ["01", "1801", "190001", "1a00000001", "1b0000000000000001"])
def test_reads_a_number_of_any_width(raw: str) -> None:
    assert parse_cbor(bytes.fromhex(raw), code=CODE) == (1, b"")


def test_reads_negative_numbers() -> None:
    assert parse_cbor(b"\x20", code=CODE) == (-1, b"")
    with pytest.raises(FormatError):
        encode_cbor(-1)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "18",
        "1c",  # reserved
        "5f4100ff",  # indefinite
        "9f00ff",
        "4200",  # truncated
        "61ff",  # not UTF-8
        "f90000",  # float
        "f97e00",
        "fa00000000",
        "f0",
        "f814",
        "a10000",  # name is no text
        "a2616100616100",  # repeated name
        "81" * 6 + "00",  # deep
        "9841" + "00" * 65,  # many items
        "9bffffffffffffffff",
        "5bffffffffffffffff",
    ],
)
def test_refuses(raw: str) -> None:
    with pytest.raises(FormatError) as refusal:
        parse_cbor(bytes.fromhex(raw), code=CODE)
    assert refusal.value.code == CODE
