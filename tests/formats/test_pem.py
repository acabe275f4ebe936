"""PEM chains: one spelling per chain."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.formats.pem import parse_certificates_pem, serialize_certificates_pem

CHAIN = (b"first certificate " * 5, b"second")
PEM = serialize_certificates_pem(CHAIN)


def parse(raw: bytes, maximum: int = 4) -> tuple[bytes, ...]:
    return parse_certificates_pem(raw, what="test", max_certificates=maximum, max_bytes=4096)


@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=4))
@settings(max_examples=100)
def test_parse_inverts_serialize(ders: list[bytes]) -> None:
    assert parse(serialize_certificates_pem(tuple(ders))) == tuple(ders)


@given(st.binary(max_size=400) | st.binary(max_size=200).map(lambda junk: PEM + junk))
@settings(max_examples=200)
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    try:
        parse(raw)
    except FormatError as refusal:
        assert refusal.code == "test.pem"


def test_accepts_crlf_and_a_missing_last_line_end() -> None:
    assert parse(PEM.replace(b"\n", b"\r\n")) == CHAIN
    assert parse(PEM[:-1]) == CHAIN


MALFORMED = {
    "empty": b"",
    "text before": b"x\n" + PEM,
    "text after": PEM + b"x",
    "blank line between": PEM.replace(b"-----END CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n\n"),
    "another label": PEM.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"),
    "empty body": b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    "space in a line": PEM.replace(b"Zmly", b"Zml "),
    "short first line": PEM.replace(PEM[28:92], PEM[28:91] + b"\n" + PEM[91:92]),
    "long line": PEM.replace(b"\n", b"", 2),
    "vertical tab": PEM.replace(b"\n", b"\x0b", 1),
    "padding bits that are not zero": PEM.replace(b"c2Vjb25k\n", b"c2Vjb25=\n"),
    "padding inside": PEM.replace(b"c2Vjb25k\n", b"c2==b25k\n"),
    "no end": PEM[:-3],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_refuses_malformed_chain(name: str) -> None:
    assert MALFORMED[name] != PEM
    with pytest.raises(FormatError) as refusal:
        parse(MALFORMED[name])
    assert refusal.value.code == "test.pem"


def test_refuses_long_chains() -> None:
    with pytest.raises(FormatError):
        parse(PEM, maximum=1)
    with pytest.raises(FormatError):
        parse(serialize_certificates_pem((bytes(4096),)))


def test_no_single_bit_flip_gives_the_same_chain() -> None:
    for position in range(len(PEM) - 1):
        for bit in range(8):
            flipped = PEM[:position] + bytes((PEM[position] ^ 1 << bit,)) + PEM[position + 1 :]
            try:
                assert parse(flipped) != CHAIN, position
            except FormatError:
                pass
