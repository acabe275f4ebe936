"""The tail of an encrypted Parquet file: which algorithm, which keys, and the footer once there is a key for it.

Source: Apache Parquet, Encryption.md section 5.2 (encrypted footer mode); parquet.thrift, FileCryptoMetaData,
FileMetaData, RowGroup, ColumnChunk, ColumnCryptoMetaData.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.analytics.parquet import modules
from strongroom.analytics.parquet.thrift import BINARY, Field, Struct, read_struct, write_struct
from strongroom.errors import FormatError

MAGIC: Final = b"PARE"
PLAINTEXT_MAGIC: Final = b"PAR1"
MAX_FOOTER_BYTES: Final = 64 * 1024 * 1024
_KEY_METADATA: Final = 2
_END_SIZE: Final = 8
_MIN_UNIQUE: Final = 8

ReadAt = Callable[[int, int], bytes]
"""Reads (offset, size) of a file; fewer bytes only at its end."""

DataKey = Callable[[bytes], bytes]
"""Finds the data key that a piece of key metadata stands for; raises KeyReleaseError where there is no right to it."""


@dataclass(frozen=True, slots=True)
class Tail:
    """What stands behind the column chunks of an encrypted file.

    Args:
        start: Offset of the tail, bytes.
        raw: All of it, to the end of the file.
        aad_prefix: Prefix stored in the file, maybe empty.
        file_unique: The file's identifier.
        key_metadata: Says where the footer's key is.
        footer_at: Offset of the encrypted footer inside `raw`.
        digest: SHA-256 of `raw`, 32 bytes: names the file, because the footer's key belongs to this file alone.
    """

    start: int
    raw: bytes
    aad_prefix: bytes
    file_unique: bytes
    key_metadata: bytes
    footer_at: int
    digest: bytes

    @property
    def file_aad(self) -> bytes:
        """What every module's associated data starts with."""
        return self.aad_prefix + self.file_unique


def read_tail(read_at: ReadAt, size: int) -> Tail:
    """Read the tail of a file of `size` bytes.

    Raises:
        FormatError: Not a Parquet file with an encrypted footer, or with the algorithm AES_GCM_CTR_V1.
    """
    end = read_at(max(size - _END_SIZE, 0), _END_SIZE)
    if end[4:] == PLAINTEXT_MAGIC:
        raise FormatError("a plaintext Parquet file, or one with a plaintext footer", code="parquet.plaintext")
    length = int.from_bytes(end[:4], "little")
    if end[4:] != MAGIC or not 0 < length <= min(size - _END_SIZE - len(MAGIC), MAX_FOOTER_BYTES):
        raise FormatError("not an encrypted Parquet file", code="parquet.malformed")
    start = size - _END_SIZE - length
    return parse_tail(read_at(start, length + _END_SIZE), start)


def parse_tail(raw: bytes, start: int) -> Tail:
    """Parse a tail that was read as a whole.

    Raises:
        FormatError: It doesn't follow the format, or the algorithm is not AES_GCM_V1.
    """
    crypto, footer_at = read_struct(raw)
    try:
        algorithm: Struct = crypto[1].value
        if algorithm.keys() != {1}:
            raise FormatError(
                "encrypted with AES_GCM_CTR_V1, whose pages can be altered unnoticed",
                code="parquet.algorithm",
                hint="write the file again with AES_GCM_V1",
            )
        gcm: Struct = algorithm[1].value
        unique, prefix = gcm[2].value, gcm[1].value if 1 in gcm else b""
        digest = hashlib.sha256(raw).digest()
        tail = Tail(start, raw, prefix, unique, crypto[_KEY_METADATA].value, footer_at, digest)
    except (KeyError, AttributeError):
        raise FormatError("the file says no algorithm or no key", code="parquet.malformed") from None
    if not all(isinstance(part, bytes) for part in (unique, prefix, tail.key_metadata)) or len(unique) < _MIN_UNIQUE:
        raise FormatError("the file has no identifier", code="parquet.malformed")
    if gcm.get(3) is not None and gcm[3].value is True:
        raise FormatError("the file's AAD prefix is not stored in it", code="parquet.aad_prefix")
    return tail


def rebuild_tail(tail: Tail, cipher: AESGCM, key_metadata: bytes, metadata: Struct, nonce: bytes) -> bytes:
    """The tail with other key metadata.

    Args:
        tail: The tail as it was.
        cipher: Cipher of the footer's key.
        key_metadata: Says where the footer's key is now.
        metadata: FileMetaData to encrypt.
        nonce: 12 random bytes, never used before with this key.
    """
    crypto, _ = read_struct(tail.raw)
    crypto[_KEY_METADATA] = Field(BINARY, key_metadata)
    aad = modules.associated_data(tail.file_aad, modules.FOOTER)
    body = write_struct(crypto) + modules.seal_module(cipher, write_struct(metadata), aad, nonce)
    return body + len(body).to_bytes(4, "little") + MAGIC
