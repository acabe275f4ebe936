"""Sealed requests, identity documents and receipts: the formats themselves, attacked."""

import base64
import json
import os
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError, FormatError, StrongroomError, UnavailableError, VerificationError
from strongroom.ratls.certificate import AttestedCertificate
from strongroom.serving import sealing
from strongroom.serving.identity import AttestedIdentity, ServerIdentity, parse_identity
from strongroom.serving.inference import Answer
from strongroom.serving.receipts import Receipts, verify_receipt
from strongroom.serving.sealing import SealedCall, SealedReply, key_id, open_call, open_reply, seal_call, seal_reply

KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
KEYS = {key_id(PUBLIC): KEY}
CALL = SealedCall("POST", "/v1/models/x:predict", {"strongroom-receipt": "1"}, b"secret body")
SECRET = b"\x07" * 32


def certificate(curve: Any = None) -> AttestedCertificate:
    """A certificate of the right shape; whether its evidence is genuine is tested elsewhere."""
    import datetime as dt

    key = ec.generate_private_key(curve or ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "RATLS")])
    start, end = dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, end)
    return AttestedCertificate(builder.sign(key, hashes.SHA256()), key)


@settings(max_examples=50, deadline=None)
@given(
    st.text(max_size=20), st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3), st.binary(max_size=99)
)
def test_calls_and_replies_come_out_as_they_went_in(path: str, headers: dict[str, str], body: bytes) -> None:
    call = SealedCall("POST", path, headers, body)
    raw, theirs = seal_call(call, PUBLIC, SECRET)
    opened, ours = open_call(raw, KEYS)
    assert opened == call and ours == theirs
    reply = SealedReply(200, headers, body)
    assert open_reply(seal_reply(reply, ours, os.urandom(32)), theirs) == reply


def test_every_flipped_bit_of_a_request_is_noticed() -> None:
    raw, _ = seal_call(CALL, PUBLIC, SECRET)
    for position in range(len(raw)):
        changed = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        with pytest.raises(StrongroomError):
            open_call(changed, KEYS)


def test_every_flipped_bit_of_an_answer_is_noticed() -> None:
    _, key = seal_call(CALL, PUBLIC, SECRET)
    raw = seal_reply(SealedReply(200, {}, b"answer"), key, b"\x01" * 32)
    for position in range(len(raw)):
        changed = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        with pytest.raises(StrongroomError):
            open_reply(changed, key)


def test_every_cut_is_noticed() -> None:
    raw, key = seal_call(CALL, PUBLIC, SECRET)
    answer = seal_reply(SealedReply(200, {}, b"answer"), key, b"\x01" * 32)
    for size in range(len(raw)):
        with pytest.raises(StrongroomError):
            open_call(raw[:size], KEYS)
    for size in range(len(answer)):
        with pytest.raises(StrongroomError):
            open_reply(answer[:size], key)


def test_answer_to_another_request_is_refused() -> None:
    _, first = seal_call(CALL, PUBLIC, SECRET)
    _, second = seal_call(CALL, PUBLIC, SECRET)  # same secret, but another encapsulated key
    raw = seal_reply(SealedReply(200, {}, b""), first, b"\x01" * 32)
    with pytest.raises(VerificationError):
        open_reply(raw, second)


def test_replayed_request_is_answered_under_another_key() -> None:
    _, key = seal_call(CALL, PUBLIC, SECRET)
    first = seal_reply(SealedReply(200, {}, b"one"), key, b"\x01" * 32)
    second = seal_reply(SealedReply(200, {}, b"two"), key, b"\x02" * 32)
    assert sealing._derive(key, b"\x01" * 32) != sealing._derive(key, b"\x02" * 32)
    assert (open_reply(first, key).body, open_reply(second, key).body) == (b"one", b"two")


def test_sealed_to_another_key() -> None:
    other = X25519PrivateKey.generate().public_key().public_bytes_raw()
    raw, _ = seal_call(CALL, other, SECRET)
    with pytest.raises(VerificationError) as refused:
        open_call(raw, KEYS)
    assert refused.value.code == "sealing.unknown_key"
    relabelled = raw[:4] + key_id(PUBLIC) + raw[12:]
    with pytest.raises(VerificationError) as refused:
        open_call(relabelled, KEYS)
    assert refused.value.code == "sealing.tampered"


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"\0\0\0\5{}",
        b"\0\0\0\2{}",
        b"\0\0\0\2[]",
        b"\xff\xff\xff\xff",
        b"\0\0\x40\x01" + b" " * 20_000,
        b"\0\0\x10\0" + b"[" * 4096,
        *(
            len(raw := json.dumps(head).encode()).to_bytes(4, "big") + raw
            for head in (
                {"method": 1, "path": "", "headers": {}, "secret": "00" * 32},
                {"method": "", "path": "", "headers": [], "secret": "00" * 32},
                {"method": "", "path": "", "headers": {"a": 1}, "secret": "00" * 32},
                {"method": "", "path": "", "headers": {}, "secret": "00"},
                {"method": "", "path": "", "headers": {}, "secret": "zz" * 32},
                {"method": "", "path": "", "headers": {}, "secret": "00" * 32, "more": 1},
            )
        ),
    ],
)
def test_refuses_what_opens_but_is_no_call(plain: bytes) -> None:
    raw = b"SRQ1" + key_id(PUBLIC) + sealing._SUITE.encrypt(plain, KEY.public_key(), sealing._REQUEST_INFO)
    with pytest.raises(FormatError):
        open_call(raw, KEYS)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_are_refused(raw: bytes) -> None:
    _, key = seal_call(CALL, PUBLIC, SECRET)
    for attempt in (raw, b"SRQ1" + key_id(PUBLIC) + raw):
        with pytest.raises(StrongroomError):
            open_call(attempt, KEYS)
    with pytest.raises(StrongroomError):
        open_reply(b"SRA1" + raw, key)


@pytest.mark.parametrize(("public", "secret"), [(PUBLIC[:-1], SECRET), (PUBLIC, SECRET[:-1])])
def test_lengths_of_keys_and_secrets(public: bytes, secret: bytes) -> None:
    with pytest.raises(FormatError):
        seal_call(CALL, public, secret)
    with pytest.raises(FormatError):
        seal_reply(SealedReply(200, {}, b""), sealing.ReplyKey(SECRET, b""), b"short")


def test_secrets_are_not_shown() -> None:
    raw, key = seal_call(CALL, PUBLIC, SECRET)
    opened, _ = open_call(raw, KEYS)
    identity = ServerIdentity.of(certificate())
    assert "secret body" not in repr(opened) and repr(SECRET)[2:-1] not in repr(key)
    assert "PrivateKey" not in repr(identity)


def test_identity_document() -> None:
    identity = ServerIdentity.of(certificate())
    assert parse_identity(identity.document()) == (identity.certificate, identity.sealing_public)


def test_identity_with_a_key_the_certificate_does_not_vouch_for() -> None:
    one, other = ServerIdentity.of(certificate()), ServerIdentity.of(certificate())
    mixed = json.loads(one.document()) | {"sealing_key": json.loads(other.document())["sealing_key"]}
    with pytest.raises(VerificationError):
        parse_identity(json.dumps(mixed).encode())
    mixed = json.loads(one.document()) | {"certificate": json.loads(other.document())["certificate"]}
    with pytest.raises(VerificationError):
        parse_identity(json.dumps(mixed).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"certificate": ""},
        {"certificate": "!"},
        {"certificate": 1},
        {"sealing_key": "AAAA"},
        {"more": "x"},
        {"signature": None},
    ],
)
def test_refuses_identities(change: dict[str, Any]) -> None:
    document = json.loads(ServerIdentity.of(certificate()).document()) | change
    with pytest.raises(FormatError):
        parse_identity(json.dumps(document).encode())


def of_version_6(der: bytes) -> bytes:
    """A certificate that says a version which there is not."""
    assert der.count(b"\xa0\x03\x02\x01\x02") == 1  # version 3
    return der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05")


def test_a_certificate_of_an_unknown_version_is_no_surprise() -> None:
    document = json.loads(ServerIdentity.of(certificate()).document())
    document["certificate"] = base64.b64encode(of_version_6(base64.b64decode(document["certificate"]))).decode()
    with pytest.raises(FormatError):
        parse_identity(json.dumps(document).encode())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_no_identity(raw: bytes) -> None:
    with pytest.raises(FormatError):
        parse_identity(raw)


def test_attested_key_must_be_on_p256() -> None:
    with pytest.raises(ConfigurationError):
        ServerIdentity.of(certificate(ec.SECP384R1()))


def test_identity_is_renewed_in_time_and_survives_a_platform_that_is_away() -> None:
    clock = [0.0]
    broken = [False]

    def make() -> AttestedCertificate:
        if broken[0]:
            raise UnavailableError("no quote today")
        return certificate()

    identity = AttestedIdentity(make, 100.0, lambda: clock[0])
    first = identity.material()
    assert identity.material() == first
    clock[0], broken[0] = 150.0, True
    assert identity.material() == first
    broken[0] = False
    second = identity.material()
    assert second != first and identity.material() == second
    assert len(identity.opening_keys()) == 2


def answered() -> Answer:
    return Answer("loan", 3, "ab" * 32, "serving_default", {})


@pytest.fixture
def issued() -> tuple[AttestedIdentity, str]:
    import datetime as dt

    identity = AttestedIdentity(certificate, 100.0, lambda: 0.0)
    receipts = Receipts(identity, lambda: dt.datetime(2026, 11, 21, tzinfo=dt.UTC))
    return identity, receipts.issue(answered(), b"request", b"response")


def test_receipt(issued: Any) -> None:
    identity, token = issued
    receipt = verify_receipt(token, identity.current.certificate, b"request", b"response")
    assert (receipt.model, receipt.version, receipt.model_sha256) == ("loan", 3, "ab" * 32)
    assert receipt.issued_at == 1795219200


@pytest.mark.parametrize(("request_", "response"), [(b"other", b"response"), (b"request", b"other")])
def test_receipt_of_another_exchange(issued: Any, request_: bytes, response: bytes) -> None:
    identity, token = issued
    with pytest.raises(VerificationError, match="another exchange"):
        verify_receipt(token, identity.current.certificate, request_, response)


def test_receipt_of_another_key(issued: Any) -> None:
    _, token = issued
    with pytest.raises(VerificationError, match="not signed"):
        verify_receipt(token, certificate().der, b"request", b"response")


@pytest.mark.parametrize("break_it", [of_version_6, lambda der: der[:-1], lambda _: b""])
def test_receipt_beside_what_is_no_certificate(issued: Any, break_it: Any) -> None:
    identity, token = issued
    with pytest.raises(FormatError):
        verify_receipt(token, break_it(identity.current.certificate), b"request", b"response")


@pytest.mark.parametrize("token", ["", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "x" * 10_000, "ä.ö.ü"])
def test_refuses_receipts(issued: Any, token: str) -> None:
    identity, _ = issued
    with pytest.raises(StrongroomError):
        verify_receipt(token, identity.current.certificate, b"request", b"response")


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        ({"alg": "ES256"}, {}),
        ({"alg": "ES256", "typ": "strongroom-receipt+jwt"}, {}),
        ({"alg": "ES256", "typ": "strongroom-receipt+jwt"}, []),
        ({"alg": "ES256", "typ": "strongroom-receipt+jwt"}, {"version": "1"}),
    ],
)
def test_what_the_key_signed_for_another_purpose_is_no_receipt(issued: Any, header: Any, payload: Any) -> None:
    from joserfc import jws
    from joserfc.jwk import ECKey

    identity, token = issued
    pem = identity.current.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    if isinstance(payload, dict) and payload:
        good = verify_receipt(token, identity.current.certificate, b"request", b"response")
        payload = {name: getattr(good, name) for name in good.__slots__} | payload
    forged = jws.serialize_compact(header, json.dumps(payload), ECKey.import_key(pem))
    with pytest.raises(FormatError):
        verify_receipt(forged, identity.current.certificate, b"request", b"response")


def test_receipt_is_refused_where_there_is_no_attested_key(shared: Any) -> None:
    headers = {"strongroom-receipt": "1"}
    body = {"instances": [[1, 1, 1, 1]]}
    status, answer, _ = shared.http("/v1/models/tabular:predict", body, headers=headers)
    assert status == 400 and "no attested key" in answer["error"]
    assert shared.http("/strongroom/v1/identity")[0] == 404
