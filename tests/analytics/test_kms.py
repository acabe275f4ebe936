"""Master keys in memory, key material and data keys."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.analytics.datakeys import DataKeys, Rewrapping
from strongroom.analytics.kms import LocalKms
from strongroom.analytics.parquet.material import KeyMaterial, parse_material, serialize_material
from strongroom.errors import ConfigurationError, FormatError, KeyReleaseError, StrongroomError, WrongKey

TRIPS = "taxi/key/trips"
NEW = "taxi/key/new"


@pytest.fixture
def kms() -> LocalKms:
    return LocalKms.holding({TRIPS: b"t" * 32, NEW: b"n" * 16})


def metadata(kms: LocalKms, data_key: bytes, *, double: bool = True, **changes: Any) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    kek, kek_id, nonce = b"k" * 16, b"i" * 16, b"n" * 12
    wrapped = nonce + AESGCM(kek).encrypt(nonce, data_key, kek_id) if double else kms.wrap(TRIPS, data_key)
    members: dict[str, Any] = {
        "keyMaterialType": "PKMT1",
        "internalStorage": True,
        "isFooterKey": True,
        "kmsInstanceID": "DEFAULT",
        "kmsInstanceURL": "https://evil.example",
        "masterKeyID": TRIPS,
        "wrappedDEK": base64.b64encode(wrapped).decode(),
        "doubleWrapping": double,
    }
    if double:
        members["keyEncryptionKeyID"] = base64.b64encode(kek_id).decode()
        members["wrappedKEK"] = base64.b64encode(kms.wrap(TRIPS, kek)).decode()
    members |= changes
    return json.dumps({name: value for name, value in members.items() if value is not None}).encode()


def test_unwraps_what_it_wrapped(kms: LocalKms) -> None:
    assert kms.unwrap(TRIPS, kms.wrap(TRIPS, b"secret")) == b"secret"
    assert kms.unwrap(NEW, kms.wrap(NEW, b"secret")) == b"secret"


def test_a_wrapped_key_is_bound_to_its_master_keys_name(kms: LocalKms) -> None:
    twins = LocalKms.holding({TRIPS: b"t" * 32, NEW: b"t" * 32})
    with pytest.raises(WrongKey):
        twins.unwrap(NEW, twins.wrap(TRIPS, b"secret"))


@pytest.mark.parametrize("position", [0, 5, 20, -1])
def test_refuses_an_altered_wrapped_key(kms: LocalKms, position: int) -> None:
    wrapped = bytearray(kms.wrap(TRIPS, b"secret"))
    wrapped[position] ^= 1
    with pytest.raises(WrongKey):
        kms.unwrap(TRIPS, bytes(wrapped))


def test_refuses_a_key_it_does_not_hold(kms: LocalKms) -> None:
    with pytest.raises(KeyReleaseError):
        kms.wrap("taxi/key/unknown", b"")


@pytest.mark.parametrize("size", [0, 15, 24, 33])
def test_refuses_a_master_key_of_another_length(size: int) -> None:
    with pytest.raises(ConfigurationError):
        LocalKms.holding({TRIPS: b"x" * size}).wrap(TRIPS, b"")


def test_its_text_shows_no_key(kms: LocalKms) -> None:
    kms.wrap(TRIPS, b"secret")
    assert "t" * 8 not in repr(kms)


@pytest.mark.parametrize("double", [True, False])
def test_finds_a_data_key(kms: LocalKms, double: bool) -> None:
    assert DataKeys(kms)(metadata(kms, b"d" * 32, double=double)) == b"d" * 32


def test_asks_once_for_a_key_encryption_key_until_its_lifetime_ends(kms: LocalKms) -> None:
    asked: list[str] = []

    class Counting:
        def wrap(self, key_name: str, secret: bytes) -> bytes:
            return kms.wrap(key_name, secret)

        def unwrap(self, key_name: str, wrapped: bytes) -> bytes:
            asked.append(key_name)
            return kms.unwrap(key_name, wrapped)

    now = [0.0]
    keys = DataKeys(Counting(), lifetime_s=10, clock=lambda: now[0])
    raw = metadata(kms, b"d" * 32)
    for now[0] in (0.0, 5.0, 9.9):
        keys(raw)
    assert len(asked) == 1
    now[0] = 10.0
    keys(raw)
    assert len(asked) == 2


def test_a_revoked_key_is_refused_after_the_caches_lifetime_and_not_before(kms: LocalKms) -> None:
    rights = {TRIPS: b"t" * 32}
    now = [0.0]

    class Revocable:
        def wrap(self, key_name: str, secret: bytes) -> bytes:
            return kms.wrap(key_name, secret)

        def unwrap(self, key_name: str, wrapped: bytes) -> bytes:
            return LocalKms.holding(rights).unwrap(key_name, wrapped)

    keys = DataKeys(Revocable(), lifetime_s=300, clock=lambda: now[0])
    raw = metadata(kms, b"d" * 32)
    keys(raw)
    rights.clear()
    now[0] = 299.0
    assert keys(raw) == b"d" * 32
    now[0] = 300.0
    with pytest.raises(KeyReleaseError):
        keys(raw)


def test_rewrapping_changes_the_master_key_and_not_the_data_key(kms: LocalKms) -> None:
    old = metadata(kms, b"d" * 32)
    new = Rewrapping(kms, {TRIPS: NEW})(old)
    assert parse_material(new).master_key == NEW
    assert parse_material(new).wrapped_data_key == parse_material(old).wrapped_data_key
    assert DataKeys(LocalKms.holding({NEW: b"n" * 16}))(new) == b"d" * 32


def test_rewrapping_leaves_other_keys_alone(kms: LocalKms) -> None:
    old = metadata(kms, b"d" * 32)
    assert Rewrapping(kms, {"other/key/x": NEW})(old) is old


@pytest.mark.parametrize(
    "changes",
    [
        {"keyMaterialType": "PKMT2"},
        {"keyMaterialType": None},
        {"internalStorage": False},
        {"isFooterKey": "true"},
        {"doubleWrapping": None},
        {"masterKeyID": None},
        {"masterKeyID": "no-path"},
        {"masterKeyID": "../../etc"},
        {"wrappedDEK": 7},
        {"keyEncryptionKeyID": ""},
        {"keyEncryptionKeyID": "!!"},
        {"wrappedKEK": None},
        {"kmsInstanceURL": 1},
    ],
)
def test_refuses_malformed_key_material(kms: LocalKms, changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        parse_material(metadata(kms, b"d" * 32, **changes))


@pytest.mark.parametrize("changes", [{"wrappedDEK": ""}, {"wrappedDEK": base64.b64encode(b"x" * 60).decode()}])
def test_refuses_a_data_key_that_does_not_unwrap(kms: LocalKms, changes: dict[str, Any]) -> None:
    with pytest.raises(WrongKey):
        DataKeys(kms)(metadata(kms, b"d" * 32, **changes))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_as_key_metadata_give_an_error_of_ours(raw: bytes) -> None:
    with pytest.raises(StrongroomError):
        DataKeys(LocalKms.holding({}))(raw)


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        KeyMaterial,
        master_key=st.just(TRIPS),
        wrapped_data_key=st.binary().map(lambda b: base64.b64encode(b).decode()),
        kek_id=st.binary(min_size=1, max_size=16),
        wrapped_kek=st.binary().map(lambda b: base64.b64encode(b).decode()),
        is_footer_key=st.booleans(),
        service=st.sampled_from([(), (("kmsInstanceID", "a"), ("kmsInstanceURL", "b"))]),
    )
)
def test_key_material_survives_its_text(material: KeyMaterial) -> None:
    assert parse_material(serialize_material(material)) == material
