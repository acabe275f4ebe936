"""Envelopes to a session key, checked against a second JOSE library."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jwcrypto import jwe, jwk

from strongroom.errors import FormatError, VerificationError
from strongroom.formats.kbs import TeePublicKey, b64url_decode, b64url_encode
from strongroom.keys.envelope import SessionKey, encrypt_to


@settings(max_examples=20)
@given(st.binary(max_size=200))
def test_round_trip(secret: bytes) -> None:
    key = SessionKey.generate()
    assert key.decrypt(encrypt_to(key.public, secret)) == secret


def test_ephemeral_key_stands_in_the_protected_header() -> None:
    envelope = encrypt_to(SessionKey.generate().public, b"secret")
    header = json.loads(b64url_decode(envelope["protected"]))
    assert sorted(envelope) == ["ciphertext", "encrypted_key", "iv", "protected", "tag"]
    assert header["alg"] == "ECDH-ES+A256KW" and header["enc"] == "A256GCM"
    assert {"crv", "kty", "x", "y"} <= header["epk"].keys()


def test_a_second_library_opens_our_envelope() -> None:
    key = jwk.JWK.generate(kty="EC", crv="P-256")
    public = TeePublicKey.parse({**key.export_public(as_dict=True), "alg": "ECDH-ES+A256KW"})
    opened = jwe.JWE()
    opened.deserialize(json.dumps(encrypt_to(public, b"secret")), key)
    assert opened.payload == b"secret"


def test_a_second_library_opens_our_rsa_envelope() -> None:
    key = jwk.JWK.generate(kty="RSA", size=2048)
    public = TeePublicKey.parse({**key.export_public(as_dict=True), "alg": "RSA-OAEP-256"})
    opened = jwe.JWE()
    opened.deserialize(json.dumps(encrypt_to(public, b"secret")), key)
    assert opened.payload == b"secret"


def test_refuses_an_envelope_of_another_session() -> None:
    envelope = encrypt_to(SessionKey.generate().public, b"secret")
    with pytest.raises(VerificationError):
        SessionKey.generate().decrypt(envelope)


@pytest.mark.parametrize("member", ["protected", "encrypted_key", "iv", "ciphertext", "tag"])
def test_refuses_a_flipped_bit_in_each_member(member: str) -> None:
    key = SessionKey.generate()
    envelope = encrypt_to(key.public, b"secret")
    raw = bytearray(b64url_decode(envelope[member]))
    raw[len(raw) // 2] ^= 1
    with pytest.raises((VerificationError, FormatError)):
        key.decrypt({**envelope, member: b64url_encode(bytes(raw))})


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        "x",
        {},
        {"protected": "x"},
        dict.fromkeys(("protected", "encrypted_key", "iv", "ciphertext", "tag"), 1),
    ],
)
def test_refuses_what_is_not_a_flattened_jwe(bad: object) -> None:
    with pytest.raises(FormatError):
        SessionKey.generate().decrypt(bad)


def test_refuses_a_point_off_the_curve() -> None:
    members = dict(SessionKey.generate().public.members)
    members["y"] = members["x"]
    with pytest.raises(FormatError):
        encrypt_to(TeePublicKey.parse(members), b"secret")


def test_refuses_a_direct_agreement_downgrade() -> None:
    # An envelope whose header names another algorithm must not open, whatever its payload is.
    key = SessionKey.generate()
    envelope = encrypt_to(key.public, b"secret")
    header = {**json.loads(b64url_decode(envelope["protected"])), "alg": "dir"}
    with pytest.raises(VerificationError):
        key.decrypt({**envelope, "protected": b64url_encode(json.dumps(header).encode())})


def test_the_private_half_is_not_shown() -> None:
    key = SessionKey.generate()
    private = str(key._key.as_dict(private=True)["d"])
    assert private not in repr(key)
