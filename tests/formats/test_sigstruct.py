"""SIGSTRUCT: signed here with a real RSA-3072 key; every signed bit counts."""

from dataclasses import replace
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FormatError, VerificationError
from strongroom.formats.layout import size_of
from strongroom.formats.sigstruct import (
    HEADER_1,
    HEADER_2,
    SIGNED_RANGES,
    SIGSTRUCT,
    Sigstruct,
    parse_sigstruct,
    quotients,
    serialize_sigstruct,
)


def little(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


@pytest.fixture(scope="module")
def signer() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=3, key_size=3072)


def sign(signer: rsa.RSAPrivateKey, fields: dict[str, bytes]) -> bytes:
    raw = serialize_sigstruct(Sigstruct(fields))
    message = b"".join(raw[start:end] for start, end in SIGNED_RANGES)
    modulus = signer.public_key().public_numbers().n
    signature = int.from_bytes(signer.sign(message, padding.PKCS1v15(), hashes.SHA256()), "big")
    q1, q2 = quotients(signature, modulus)
    signed = fields | {"signature": little(signature, 384), "q1": little(q1, 384), "q2": little(q2, 384)}
    return serialize_sigstruct(Sigstruct(signed))


@pytest.fixture(scope="module")
def unsigned(signer: rsa.RSAPrivateKey) -> dict[str, bytes]:
    fields = {field.name: bytes(field.size) for field in SIGSTRUCT if not field.reserved}
    return fields | {
        "header_1": HEADER_1,
        "header_2": HEADER_2,
        "date": little(0x20261121, 4),
        "modulus": little(signer.public_key().public_numbers().n, 384),
        "exponent": little(3, 4),
        "attributes": little(5, 8) + little(3, 8),
        "attribute_mask": b"\xff" * 16,
        "mr_enclave": b"\x11" * 32,
        "isv_prod_id": little(7, 2),
        "isv_svn": little(3, 2),
    }


@pytest.fixture(scope="module")
def signed(signer: rsa.RSAPrivateKey, unsigned: dict[str, bytes]) -> bytes:
    return sign(signer, unsigned)


def test_table_covers_1808_bytes_once() -> None:
    assert size_of(SIGSTRUCT) == 1808
    for before, after in pairwise(SIGSTRUCT):
        assert before.offset + before.size == after.offset, (before.name, after.name)


def test_signed_structure_verifies_and_says_what_was_signed(signed: bytes) -> None:
    sigstruct = parse_sigstruct(signed)
    sigstruct.verify()
    assert serialize_sigstruct(sigstruct) == signed
    assert sigstruct.mr_enclave == b"\x11" * 32
    assert (sigstruct.isv_prod_id, sigstruct.isv_svn, sigstruct.date) == (7, 3, "2026-11-21")
    assert not sigstruct.debug_allowed


def test_mr_signer_is_the_hash_of_the_stored_modulus(signed: bytes) -> None:
    import hashlib

    assert parse_sigstruct(signed).mr_signer == hashlib.sha256(signed[128:512]).digest()


def test_debug_is_allowed_when_set_or_not_masked(signed: bytes) -> None:
    sigstruct = parse_sigstruct(signed)
    for name, value in (("attributes", little(7, 8) + bytes(8)), ("attribute_mask", bytes(16))):
        assert replace(sigstruct, fields=sigstruct.fields | {name: value}).debug_allowed


def test_refuses_every_flipped_byte_that_is_covered(signed: bytes) -> None:
    positions = [p for start, end in (*SIGNED_RANGES, (128, 900), (1040, 1808)) for p in range(start, end, 3)]
    for position in positions:
        flipped = signed[:position] + bytes((signed[position] ^ 1,)) + signed[position + 1 :]
        with pytest.raises((FormatError, VerificationError)) as refusal:
            parse_sigstruct(flipped).verify()
        assert refusal.value.code.startswith("sigstruct.")


def test_refuses_signature_of_another_signer(signed: bytes, unsigned: dict[str, bytes]) -> None:
    other = rsa.generate_private_key(public_exponent=3, key_size=3072)
    with pytest.raises(VerificationError) as refusal:
        parse_sigstruct(sign(other, unsigned)).verify()
    assert refusal.value.code == "sigstruct.signature"


def test_refuses_good_signature_with_wrong_quotients(signed: bytes) -> None:
    for name in ("q1", "q2"):
        sigstruct = parse_sigstruct(signed)
        with pytest.raises(VerificationError, match="q1 or q2"):
            replace(sigstruct, fields=sigstruct.fields | {name: bytes(384)}).verify()


@pytest.mark.parametrize("modulus", [bytes(384), b"\x01" + bytes(383), b"\xff" * 384])
def test_refuses_impossible_modulus(signed: bytes, modulus: bytes) -> None:
    sigstruct = parse_sigstruct(signed)
    with pytest.raises(VerificationError):
        replace(sigstruct, fields=sigstruct.fields | {"modulus": modulus}).verify()


@pytest.mark.parametrize(
    ("offset", "patch", "code"),
    [
        (0, b"\x07", "sigstruct.constant"),
        (24, b"\x02", "sigstruct.constant"),
        (512, b"\x01\x00\x01\x00", "sigstruct.constant"),
        (20, b"\x0a", "sigstruct.constant"),
        (44, b"\x01", "sigstruct.reserved"),
        (1039, b"\x01", "sigstruct.reserved"),
    ],
)
def test_refuses_wrong_constants(signed: bytes, offset: int, patch: bytes, code: str) -> None:
    with pytest.raises(FormatError) as refusal:
        parse_sigstruct(signed[:offset] + patch + signed[offset + len(patch) :])
    assert refusal.value.code == code


@given(st.binary(max_size=2000) | st.binary(min_size=1808, max_size=1808))
@settings(max_examples=100)
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    try:
        parse_sigstruct(raw)
    except FormatError as refusal:
        assert refusal.code.startswith("sigstruct.")
