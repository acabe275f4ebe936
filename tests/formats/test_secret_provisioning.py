"""Gramine's secret-provisioning messages, byte for byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.formats.secret_provisioning import (
    HEADER_SIZE,
    REQUEST,
    RESPONSE,
    parse_request,
    parse_response_header,
    serialize_response,
)

WRAP_KEY = bytes(range(16))


def test_request_has_the_35_bytes_of_every_gramine() -> None:
    assert REQUEST == b"SECRET_PROVISION_RA_TLS_REQUEST_V1" + b"\x00"
    assert len(REQUEST) == 35
    parse_request(REQUEST)


def test_response_has_the_37_byte_header_and_a_big_endian_length() -> None:
    raw = serialize_response(WRAP_KEY)
    assert raw == b"SECRET_PROVISION_RA_TLS_RESPONSE_V1:\x00" + b"\x00\x00\x00\x10" + WRAP_KEY
    assert len(RESPONSE) == 37
    assert HEADER_SIZE == 41


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        REQUEST[:-1],
        REQUEST + b"\0",
        REQUEST[:-1] + b"\n",
        REQUEST.lower(),
        REQUEST.replace(b"V1", b"V2"),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[:35],
    ],
)
def test_refuses_another_request(raw: bytes) -> None:
    with pytest.raises(FormatError) as refusal:
        parse_request(raw)
    assert refusal.value.code == "provisioning.request"


@given(st.binary(min_size=1, max_size=5000))
def test_response_reads_back(secret: bytes) -> None:
    raw = serialize_response(secret)
    assert parse_response_header(raw[:HEADER_SIZE]) == len(secret)
    assert raw[HEADER_SIZE:] == secret


def test_refuses_to_send_an_empty_secret() -> None:
    with pytest.raises(FormatError) as refusal:
        serialize_response(b"")
    assert refusal.value.code == "provisioning.length"


@pytest.mark.parametrize(
    ("length", "code"),
    [
        (b"\0\0\0\0", "provisioning.length"),
        (b"\x80\0\0\0", "provisioning.length"),
        (b"\xff\xff\xff\xff", "provisioning.length"),
        (b"\x10\0\0\0", "provisioning.length"),  # 16 written little-endian: 256 MiB would be read
        (b"\0\0\0", "provisioning.response"),
        (b"\0\0\0\x10\0", "provisioning.response"),
    ],
)
def test_refuses_a_length_that_is_empty_huge_or_cut(length: bytes, code: str) -> None:
    with pytest.raises(FormatError) as refusal:
        parse_response_header(RESPONSE + length, max_secret_bytes=1 << 20)
    assert refusal.value.code == code


def test_largest_length_gramine_reads_is_accepted() -> None:
    assert parse_response_header(RESPONSE + b"\x7f\xff\xff\xff") == 0x7FFF_FFFF


@given(st.binary(max_size=60))
def test_any_bytes_give_a_length_or_a_format_error(raw: bytes) -> None:
    try:
        assert parse_response_header(raw, max_secret_bytes=100) in range(1, 101)
    except FormatError as refusal:
        assert refusal.code in {"provisioning.response", "provisioning.length"}
