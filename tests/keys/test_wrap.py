import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError, FormatError, VerificationError, WouldOverwrite
from strongroom.keys.root import FileRootKey
from strongroom.keys.wrap import OVERHEAD, unwrap, wrap

KEY = bytes(range(32))
NONCE = bytes(range(12))


def test_known_answer() -> None:
    # GMAC of "row" under key 0..31, nonce 0..11, pinned: the stored format must not change under a running broker.
    expected = b"\x01" + NONCE + bytes.fromhex("64a105c7933e05abf2f438ae7a101baa")
    assert wrap(KEY, b"", b"row", NONCE) == expected
    assert unwrap(KEY, expected, b"row") == b""


@given(st.binary(max_size=200), st.binary(max_size=50))
@settings(max_examples=100)
def test_unwraps_what_was_wrapped(secret: bytes, aad: bytes) -> None:
    wrapped = wrap(KEY, secret, aad, NONCE)
    assert len(wrapped) == len(secret) + OVERHEAD
    assert unwrap(KEY, wrapped, aad) == secret


@given(st.binary(max_size=100))
@settings(max_examples=100)
def test_any_bytes_raise_only_documented_errors(garbage: bytes) -> None:
    with pytest.raises((FormatError, VerificationError)):
        unwrap(KEY, garbage, b"row")


def test_refuses_every_single_bit_flip() -> None:
    wrapped = wrap(KEY, b"secret", b"row", NONCE)
    for position in range(len(wrapped) * 8):
        mutant = bytearray(wrapped)
        mutant[position // 8] ^= 1 << position % 8
        with pytest.raises((FormatError, VerificationError)):
            unwrap(KEY, bytes(mutant), b"row")


def test_refuses_another_place_another_key_and_truncation() -> None:
    wrapped = wrap(KEY, b"secret", b"row 1", NONCE)
    with pytest.raises(VerificationError):
        unwrap(KEY, wrapped, b"row 2")
    with pytest.raises(VerificationError):
        unwrap(bytes(32), wrapped, b"row 1")
    with pytest.raises(VerificationError):
        unwrap(KEY, wrapped[:-1], b"row 1")


@pytest.mark.parametrize(("key", "nonce"), [(bytes(16), NONCE), (bytes(33), NONCE), (KEY, bytes(11)), (KEY, b"")])
def test_refuses_wrong_lengths(key: bytes, nonce: bytes) -> None:
    with pytest.raises(FormatError):
        wrap(key, b"", b"", nonce)


def test_unwrap_refuses_short_key() -> None:
    with pytest.raises(FormatError):
        unwrap(bytes(16), bytes(40), b"")


class TestFileRootKey:
    def test_reads_back_what_it_created(self, tmp_path: Path) -> None:
        path = tmp_path / "root.key"
        wrapped = FileRootKey.create(path).wrap(b"secret", b"row")
        assert path.stat().st_mode & 0o777 == 0o600
        assert len(path.read_bytes()) == 32
        assert FileRootKey.load(path).unwrap(wrapped, b"row") == b"secret"

    def test_two_wraps_differ(self, tmp_path: Path) -> None:
        key = FileRootKey.create(tmp_path / "root.key")
        assert key.wrap(b"secret", b"row") != key.wrap(b"secret", b"row")

    def test_refuses_to_overwrite(self, tmp_path: Path) -> None:
        FileRootKey.create(tmp_path / "root.key")
        with pytest.raises(WouldOverwrite):
            FileRootKey.create(tmp_path / "root.key")

    @pytest.mark.parametrize("size", [0, 16, 31, 33])
    def test_refuses_wrong_size(self, tmp_path: Path, size: int) -> None:
        path = tmp_path / "root.key"
        path.write_bytes(os.urandom(size))
        path.chmod(0o600)
        with pytest.raises(ConfigurationError):
            FileRootKey.load(path)

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
    def test_refuses_file_others_can_read(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "root.key"
        FileRootKey.create(path)
        path.chmod(mode)
        with pytest.raises(ConfigurationError) as refusal:
            FileRootKey.load(path)
        assert refusal.value.code == "root_key.mode"

    def test_refuses_absent_file_and_link(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError):
            FileRootKey.load(tmp_path / "absent")
        FileRootKey.create(tmp_path / "root.key")
        (tmp_path / "link").symlink_to(tmp_path / "root.key")
        with pytest.raises(ConfigurationError):
            FileRootKey.load(tmp_path / "link")

    def test_key_is_not_in_the_repr(self, tmp_path: Path) -> None:
        path = tmp_path / "root.key"
        assert path.name not in repr(FileRootKey.create(path))
        assert path.read_bytes().hex() not in repr(FileRootKey.load(path))
