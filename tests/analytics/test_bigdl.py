"""Files of BigDL PPML: both forms open, and nothing that was altered passes where a MAC could tell."""

import base64
import hashlib
import hmac
import os
import struct
from pathlib import Path

import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.analytics.bigdl import HEADER_SIZE, decrypt, opener
from strongroom.analytics.importing import open_source
from strongroom.cli.analytics_access import data_key
from strongroom.errors import ConfigurationError, FormatError, StrongroomError, Tampered

TEXT_KEY = base64.b64encode(bytes(range(32))).decode()
NATIVE_KEY = base64.b64encode(bytes(range(16))).decode()
ROWS = b"name,age\nAnn,31\nBob,45\n"
IV = bytes(range(100, 116))


def cbc(key: bytes, plaintext: bytes) -> bytes:
    padder = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(IV)).encryptor()
    return encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()


def common(plaintext: bytes, wrapped_key: bytes = b"wrapped") -> bytes:
    secret = TEXT_KEY.encode()
    header = struct.pack(">II", len(wrapped_key), 16) + wrapped_key + IV
    ciphertext = cbc(secret[16:32], plaintext)
    return header.ljust(400, b"\x80") + ciphertext + hmac.digest(secret[:16], ciphertext, hashlib.sha256)


def native(plaintext: bytes) -> bytes:
    return IV + cbc(base64.b64decode(NATIVE_KEY), plaintext)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_opens_both_forms(plaintext: bytes) -> None:
    assert decrypt(common(plaintext), TEXT_KEY).plaintext == plaintext
    assert decrypt(native(plaintext), NATIVE_KEY).plaintext == plaintext


def test_says_which_has_a_mac() -> None:
    assert decrypt(common(ROWS), TEXT_KEY).has_mac
    assert not decrypt(native(ROWS), NATIVE_KEY).has_mac


def test_every_altered_byte_under_the_mac_is_noticed() -> None:
    raw = common(ROWS)
    for position in range(HEADER_SIZE, len(raw)):
        altered = raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :]
        with pytest.raises(Tampered):
            decrypt(altered, TEXT_KEY)


def test_a_flipped_bit_without_a_mac_passes_and_that_is_why_the_import_warns() -> None:
    raw = bytearray(native(ROWS))
    raw[5] ^= 1  # of the IV: the same bit of the plaintext flips
    assert decrypt(bytes(raw), NATIVE_KEY).plaintext != ROWS


def test_another_data_key() -> None:
    other = base64.b64encode(b"x" * 32).decode()
    with pytest.raises(Tampered):
        decrypt(common(ROWS), other)


@pytest.mark.parametrize("key", ["", "short", "!" * 24, base64.b64encode(b"x" * 15).decode()])
def test_refuses_what_is_no_key(key: str) -> None:
    with pytest.raises(FormatError):
        decrypt(native(ROWS), key)
    with pytest.raises(FormatError):
        decrypt(common(ROWS), key)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes_open_or_give_an_error_of_ours(raw: bytes) -> None:
    try:
        decrypt(raw, NATIVE_KEY)
    except StrongroomError:
        pass


def test_imports_csv_json_and_text(tmp_path: Path) -> None:
    warnings: list[str] = []
    files = {
        "t.csv.cbc": (ROWS, [{"name": "Ann", "age": 31}, {"name": "Bob", "age": 45}]),
        "t.json.cbc": (b'{"a": 1}\n', [{"a": 1}]),
        "t.txt.cbc": (b'one, "two"\n\nthree\n', [{"value": 'one, "two"'}, {"value": ""}, {"value": "three"}]),
    }
    for name, (plaintext, expected) in files.items():
        (tmp_path / name).write_bytes(common(plaintext))
        source = open_source(tmp_path / name, opener=opener(TEXT_KEY, warnings.append))
        assert pa.Table.from_batches(list(source.batches()), source.schema).to_pylist() == expected
    assert "first 16 bytes" in warnings[0]


def test_importing_without_a_mac_warns_loudly(tmp_path: Path) -> None:
    (tmp_path / "t.csv.cbc").write_bytes(native(ROWS))
    warnings: list[str] = []
    open_source(tmp_path / "t.csv.cbc", opener=opener(NATIVE_KEY, warnings.append))
    assert "HAS NO MAC" in warnings[0]


def test_refuses_a_file_without_a_mac_among_files_with_one(tmp_path: Path) -> None:
    """The same key text opens both forms, so whoever writes the storage must not choose which."""
    (tmp_path / "a.csv.cbc").write_bytes(common(ROWS))
    (tmp_path / "b.csv.cbc").write_bytes(IV + cbc(base64.b64decode(TEXT_KEY), ROWS))
    with pytest.raises(FormatError, match="side by side"):
        open_source(tmp_path, opener=opener(TEXT_KEY, lambda _text: None))


@pytest.mark.parametrize("cut", [1, 16, 32, 48])
def test_a_cut_file_with_a_mac(cut: int) -> None:
    with pytest.raises(Tampered):
        decrypt(common(ROWS * 20)[:-cut], TEXT_KEY)


def test_encrypted_files_need_their_key(tmp_path: Path) -> None:
    (tmp_path / "t.csv.cbc").write_bytes(native(ROWS))
    with pytest.raises(ConfigurationError, match="BigDL") as refusal:
        open_source(tmp_path / "t.csv.cbc")
    assert refusal.value.hint and "--bigdl-key" in refusal.value.hint


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff" * 20, b"x" * 129])
def test_refuses_a_key_file_that_holds_no_key(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(content)
    with pytest.raises(ConfigurationError):
        data_key(path)


def test_no_key_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        data_key(tmp_path / "absent")


def test_a_key_file_that_others_may_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(NATIVE_KEY + "\n")
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="others may read"):
        data_key(path)
    path.chmod(0o600)
    assert data_key(path) == NATIVE_KEY


def test_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from strongroom.cli.main import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys/a/key").mkdir(parents=True)
    (tmp_path / "keys/a/key/b").touch(mode=0o600)
    (tmp_path / "keys/a/key/b").write_bytes(os.urandom(32))
    (tmp_path / "data-key").touch(mode=0o600)
    (tmp_path / "data-key").write_text(NATIVE_KEY)
    (tmp_path / "t.csv.cbc").write_bytes(native(ROWS))
    command = (
        "strongroom analytics import t.csv.cbc people --key a/key/b --keys keys --state state --bigdl-key data-key"
    )
    monkeypatch.setattr("sys.argv", command.split())
    try:
        main()
    except SystemExit as end:
        assert not end.code
    err = capsys.readouterr().err
    assert err.count("HAS NO MAC") == 1 and "2 rows" in err
