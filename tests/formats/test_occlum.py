"""Occlum's quote ioctl: numbers and structure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.formats.occlum import (
    GENERATE_QUOTE,
    GET_QUOTE_SIZE,
    QuoteBuffers,
    parse_buffers,
    serialize_buffers,
)

ADDRESS = st.integers(0, 2**64 - 1)


def test_command_numbers_are_those_of_the_c_macros() -> None:
    # What _IOR('s', 7, uint32_t) and _IOWR('s', 8, a struct of three pointers) give on x86-64.
    assert GET_QUOTE_SIZE == 0x80047307
    assert GENERATE_QUOTE == 0xC0187308


@given(ADDRESS, ADDRESS, ADDRESS)
def test_buffers_read_back(report_data: int, quote_len: int, quote_buf: int) -> None:
    buffers = QuoteBuffers(report_data, quote_len, quote_buf)
    assert parse_buffers(serialize_buffers(buffers)) == buffers
    assert len(serialize_buffers(buffers)) == 24


def test_pointers_stand_in_the_order_of_the_c_structure() -> None:
    assert serialize_buffers(QuoteBuffers(1, 2, 3)) == b"".join(n.to_bytes(8, "little") for n in (1, 2, 3))


@pytest.mark.parametrize("size", [0, 23, 25])
def test_refuses_an_argument_of_another_size(size: int) -> None:
    with pytest.raises(FormatError):
        parse_buffers(bytes(size))


def test_refuses_an_address_that_does_not_fit() -> None:
    with pytest.raises(FormatError):
        serialize_buffers(QuoteBuffers(2**64, 0, 0))
