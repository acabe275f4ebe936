"""KBS protocol messages (confidential-containers/trustee, protocol 0.4.0)."""

import base64
import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.formats import kbs

EC_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "alg": "ECDH-ES+A256KW",
    # The public key of RFC 7517 appendix A.1.
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
}
NONCE = base64.b64encode(bytes(32)).decode()


def attestation() -> dict[str, object]:
    return json.loads(json.dumps(kbs.Attestation(NONCE, kbs.TeePublicKey.parse(EC_KEY), b"quote").to_json()))  # type: ignore[no-any-return]


def test_binding_is_sha384_of_the_canonical_runtime_data_then_zeros() -> None:
    text = '{"additional-evidence":"","nonce":"%s","tee-pubkey":{%s}}' % (
        NONCE,
        ",".join(f'"{k}":"{EC_KEY[k]}"' for k in sorted(EC_KEY)),
    )
    expected = hashlib.sha384(text.encode()).digest() + bytes(16)
    assert kbs.binding(NONCE, kbs.TeePublicKey.parse(EC_KEY)) == expected


def test_binding_covers_unknown_members_of_the_key() -> None:
    plain = kbs.TeePublicKey.parse(EC_KEY)
    assert kbs.binding(NONCE, plain) != kbs.binding(NONCE, kbs.TeePublicKey.parse({**EC_KEY, "kid": "other"}))


def test_attestation_round_trip() -> None:
    parsed = kbs.Attestation.parse(attestation())
    assert parsed == kbs.Attestation(NONCE, kbs.TeePublicKey.parse(EC_KEY), b"quote")


@pytest.mark.parametrize("text", ["loan/key/book", "a/b/c", "A-1/_x/v1.2"])
def test_resource_path_round_trip(text: str) -> None:
    assert str(kbs.ResourcePath.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a/b",
        "a/b/c/d",
        "/a/b",
        "a//c",
        "../b/c",
        "a/./c",
        "a/../c",
        "a/b/..",
        "a/b/%2e",
        "a/b/c\n",
        "a/b/\u00e9",
        "a/b/" + "x" * 129,
        "a/b/c?x",
        "a\\b\\c",
    ],
)
def test_resource_path_refuses_traversal_and_confusion(text: str) -> None:
    with pytest.raises(FormatError) as refusal:
        kbs.ResourcePath.parse(text)
    assert refusal.value.code == "resource.path"


@pytest.mark.parametrize(
    "change",
    [
        {"alg": "RSA1_5"},
        {"alg": "none"},
        {"crv": "secp256k1"},
        {"kty": "oct", "k": "AAAA"},
        {"d": "AAAA"},
        {"x": EC_KEY["x"][:-2]},
        {"x": EC_KEY["x"] + "=="},
        {"y": ""},
        {"x": 5},
        {"kty": "RSA"},
        {"kty": "RSA", "alg": "RSA-OAEP-256", "n": "AAAA", "e": "AQAB"},
        {"kty": "RSA", "alg": "RSA-OAEP-256", "n": kbs.b64url_encode(b"\1" * 256), "e": "Aw"},
    ],
)
def test_tee_pubkey_refuses_weak_private_or_malformed_keys(change: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        kbs.TeePublicKey.parse({**EC_KEY, **change})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m.pop("runtime-data"),
        lambda m: m.pop("tee-evidence"),
        lambda m: m.update(extra=1),
        lambda m: m.update({"init-data": {"format": "toml", "body": ""}}),
        lambda m: m["runtime-data"].update(nonce=5),
        lambda m: m["tee-evidence"].update(additional_evidence="x"),
        lambda m: m["tee-evidence"]["primary_evidence"].update(quote="@@@"),
        lambda m: m["tee-evidence"]["primary_evidence"].update(quote=["x"]),
        lambda m: m["tee-evidence"].update(primary_evidence="x"),
    ],
)
def test_attestation_refuses_missing_unknown_or_mistyped_members(spoil) -> None:  # type: ignore[no-untyped-def]
    message = attestation()
    spoil(message)
    with pytest.raises(FormatError):
        kbs.Attestation.parse(message)


@given(
    st.recursive(
        st.none() | st.text() | st.integers(),
        lambda v: (
            st.lists(v)
            | st.dictionaries(
                st.sampled_from(
                    ["runtime-data", "tee-evidence", "nonce", "tee-pubkey", "primary_evidence", "quote", "kty"]
                ),
                v,
            )
        ),
    )
)
def test_attestation_parse_is_total(value: object) -> None:
    try:
        kbs.Attestation.parse(value)  # type: ignore[arg-type]  # any JSON value may come
    except FormatError:
        pass


@given(st.binary(min_size=1, max_size=80))
def test_base64url_round_trip(raw: bytes) -> None:
    assert kbs.b64url_decode(kbs.b64url_encode(raw)) == raw


@pytest.mark.parametrize("text", ["", "A", "AB=", "A+8", "AAB", "AA\n"])
def test_base64url_refuses_second_spellings(text: str) -> None:
    with pytest.raises(FormatError):
        kbs.b64url_decode(text)
