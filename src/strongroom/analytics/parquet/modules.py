"""Modules of an encrypted Parquet file: the unit that is encrypted, and what it is bound to.

A module is ``length (4 bytes, little-endian) || nonce (12) || ciphertext || tag (16)``; its associated data is the
file's prefix and identifier and the module's place in the file, so that a module moved elsewhere doesn't open.

Source: Apache Parquet, Encryption.md (Parquet Modular Encryption), sections 4.2 (algorithm AES_GCM_V1), 4.4 (AAD) and
5 (file format).
"""

import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.errors import FormatError, Tampered

FOOTER: Final = 0
COLUMN_METADATA: Final = 1
DATA_PAGE: Final = 2
DICTIONARY_PAGE: Final = 3
DATA_PAGE_HEADER: Final = 4
DICTIONARY_PAGE_HEADER: Final = 5

LENGTH_SIZE: Final = 4
NONCE_SIZE: Final = 12
TAG_SIZE: Final = 16
OVERHEAD: Final = LENGTH_SIZE + NONCE_SIZE + TAG_SIZE
DATA_KEY_SIZES: Final = frozenset({16, 24, 32})

_LENGTH: Final = struct.Struct("<I")
_ORDINALS: Final = tuple(struct.Struct(f"<{count}H") for count in range(4))
MAX_ORDINAL: Final = 2**15 - 1
ALTERED: Final = "a part of an encrypted Parquet file does not authenticate: altered, moved, or another key"


def associated_data(file_aad: bytes, module: int, *ordinals: int) -> bytes:
    """What a module is bound to.

    Args:
        file_aad: The file's AAD prefix, if any, and its unique identifier.
        module: One of this module's constants, FOOTER to DICTIONARY_PAGE_HEADER.
        ordinals: Row group, column and data page, as far as they apply.

    Raises:
        FormatError: An ordinal needs more than 15 bits.
    """
    if ordinals and not 0 <= min(ordinals) <= max(ordinals) <= MAX_ORDINAL:
        raise FormatError("Parquet encryption counts row groups, columns and pages in 15 bits", code="parquet.ordinal")
    return b"%b%c%b" % (file_aad, module, _ORDINALS[len(ordinals)].pack(*ordinals))


def module_at(raw: memoryview, position: int) -> tuple[memoryview, memoryview, int]:
    """Take the module that starts at an offset apart.

    Args:
        raw: The bytes around it.
        position: Offset of its length field.

    Returns:
        Nonce, ciphertext with tag, offset behind the module.

    Raises:
        FormatError: It reaches beyond `raw` or is too short to hold a nonce and a tag.
    """
    start = position + LENGTH_SIZE
    if start > len(raw):
        raise FormatError("an encrypted module is cut", code="parquet.module")
    end = start + _LENGTH.unpack_from(raw, position)[0]
    if not start + NONCE_SIZE + TAG_SIZE <= end <= len(raw):
        raise FormatError("an encrypted module has an impossible length", code="parquet.module")
    return raw[start : start + NONCE_SIZE], raw[start + NONCE_SIZE : end], end


def open_module(cipher: AESGCM, raw: memoryview, position: int, aad: bytes) -> tuple[bytes, int]:
    """Decrypt the module that starts at an offset.

    Returns:
        Its plaintext and the offset behind it.

    Raises:
        FormatError: It is cut.
        Tampered: It doesn't authenticate under this key at this place.
    """
    nonce, ciphertext, end = module_at(raw, position)
    try:
        return cipher.decrypt(nonce, ciphertext, aad), end
    except InvalidTag:
        raise Tampered(ALTERED, code="parquet.authentication") from None


def seal_module(cipher: AESGCM, plaintext: bytes, aad: bytes, nonce: bytes) -> bytes:
    """Encrypt a module under a fresh nonce of 12 bytes."""
    ciphertext = cipher.encrypt(nonce, plaintext, aad)
    return _LENGTH.pack(NONCE_SIZE + len(ciphertext)) + nonce + ciphertext


def cipher_for(key: bytes) -> AESGCM:
    """The cipher of one data key.

    Raises:
        FormatError: The key doesn't have 16, 24 or 32 bytes.
    """
    if len(key) not in DATA_KEY_SIZES:
        raise FormatError("a Parquet data key has 16, 24 or 32 bytes", code="parquet.data_key")
    return AESGCM(key)
