"""Files that BigDL PPML wrote as AES_CBC_PKCS5PADDING: CSV, JSON and text; read to be imported, never written.

Two forms exist. "common": a header of 400 bytes (lengths of the wrapped data key and of the IV, big-endian; both
values; filler), AES-128-CBC, HMAC-SHA256 of the ciphertext. The data key is a text of which characters 17 to 32 are
the encryption key and characters 1 to 16 the MAC's. BigDL's own reader does not enforce that MAC; this one does. The
MAC leaves the IV out, so the first 16 bytes of the plaintext can still be altered. "native": the IV, then AES-CBC under
the data key in base64; no MAC at all, so every row can have been altered, cut off or exchanged. The file itself says
which form it has; a folder that mixes both is refused, so that nobody slips a file without a MAC among files with one.

A file is read once and decrypted in memory: one that is read twice, for its MAC and for its rows, can change between.

Source: intel-analytics/ipex-llm, scala/ppml, com.intel.analytics.bigdl.ppml.crypto (BigDLEncrypt, BigDLAESCBCEncrypt).
"""

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from strongroom.errors import FormatError, Tampered
from strongroom.room.file_errors import file_errors

MAX_FILE_BYTES: Final = 2 * 1024 * 1024 * 1024
HEADER_SIZE: Final = 400
IV_SIZE: Final = 16
MAC_SIZE: Final = 32
BLOCK_SIZE: Final = 16
_LENGTHS: Final = struct.Struct(">II")
_KEY_CHARACTERS: Final = 32
_KEY_SIZES: Final = frozenset({16, 24, 32})


@dataclass(frozen=True, slots=True)
class Opened:
    """A decrypted file.

    Args:
        plaintext: Its content.
        has_mac: Whether its ciphertext was authenticated.
    """

    plaintext: memoryview
    has_mac: bool


def decrypt(raw: bytes, data_key: str) -> Opened:
    """Decrypt a file of either form.

    Args:
        raw: The file.
        data_key: The plaintext data key, as BigDL's key management gives it: a text.

    Raises:
        FormatError: Not such a file, or the key doesn't fit.
        Tampered: The MAC doesn't match: altered, or another key.
    """
    view = memoryview(raw)
    key_size, iv_size = _LENGTHS.unpack_from(raw.ljust(_LENGTHS.size, b"\0") if len(raw) < _LENGTHS.size else raw)
    if iv_size == IV_SIZE and key_size <= HEADER_SIZE - _LENGTHS.size - IV_SIZE and len(raw) >= HEADER_SIZE + MAC_SIZE:
        return _common(view, data_key, _LENGTHS.size + key_size)
    return Opened(_cbc(view[IV_SIZE:], _native_key(data_key), view[:IV_SIZE]), has_mac=False)


def _common(raw: memoryview, data_key: str, iv_at: int) -> Opened:
    secret = data_key.encode()
    if len(secret) < _KEY_CHARACTERS:
        raise FormatError("a data key of this form has at least 32 characters", code="bigdl.key")
    ciphertext, mac = raw[HEADER_SIZE:-MAC_SIZE], raw[-MAC_SIZE:]
    expected = hmac.digest(secret[:16], ciphertext, hashlib.sha256)
    if not hmac.compare_digest(mac, expected):
        raise Tampered("the file's MAC does not match: altered, or another data key", code="bigdl.mac")
    return Opened(_cbc(ciphertext, secret[16:32], raw[iv_at : iv_at + IV_SIZE]), has_mac=True)


def _native_key(data_key: str) -> bytes:
    try:
        key = base64.b64decode(data_key, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) not in _KEY_SIZES:
        raise FormatError("the data key is not 16, 24 or 32 bytes in base64", code="bigdl.key")
    return key


def _cbc(ciphertext: memoryview, key: bytes, iv: memoryview) -> memoryview:
    if not ciphertext or len(ciphertext) % BLOCK_SIZE or len(iv) != IV_SIZE:
        raise FormatError("not a file of BigDL's AES-CBC: its length does not fit", code="bigdl.malformed")
    decryptor = Cipher(algorithms.AES(key), modes.CBC(bytes(iv))).decryptor()
    padded = decryptor.update(ciphertext) + decryptor.finalize()
    unpadder = PKCS7(8 * BLOCK_SIZE).unpadder()
    try:
        kept = len(unpadder.update(padded[-BLOCK_SIZE:]) + unpadder.finalize())
    except ValueError:
        raise FormatError("the padding is wrong: another data key, or altered", code="bigdl.malformed") from None
    return memoryview(padded)[: len(padded) - BLOCK_SIZE + kept]


def opener(data_key: str, warn: Callable[[str], None]) -> Callable[[Path], Any]:
    """Opens files for `importing.open_source`, as Arrow's in-memory files.

    Args:
        data_key: The plaintext data key.
        warn: Told, for every file, how far its content can be believed.

    Returns:
        A function that raises `FormatError` for a file of the other form than the first, one that is longer than 2 GiB
        or none of BigDL's, and `Tampered` where the MAC does not match.
    """
    forms: set[bool] = set()

    def open_(path: Path) -> Any:
        with file_errors(path), path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise FormatError(f"{path.name} is longer than 2 GiB", code="bigdl.too_long")
        opened = decrypt(raw, data_key)
        forms.add(opened.has_mac)
        if len(forms) != 1:
            raise FormatError(f"{path.name}: files with and without a MAC side by side", code="bigdl.mixed")
        warn(
            f"{path.name}: its MAC does not cover the first 16 bytes, which somebody may have altered"
            if opened.has_mac
            else f"{path.name} HAS NO MAC: nobody can tell whether its rows were altered before this import"
        )
        return pa.BufferReader(opened.plaintext)

    return open_
