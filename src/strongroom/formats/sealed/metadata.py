"""The first node of a sealed file: a plain header, and the encrypted path, size, root entry and first bytes.

Version 1 is written by Gramine 1.0 to 1.8 and read by all; version 2 (1.9) adds one byte of feature flags. Not
authenticated by the format: the minor version, the feature flags, and the padding after the encrypted part.

Source: Gramine `common/src/protected_files/protected_files_format.h` (metadata_plaintext_t, metadata_decrypted_t) and
`protected_files.c` (key derivation).
"""

from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.cmac import CMAC

from strongroom.errors import ConfigurationError, FormatError, WrongKey
from strongroom.formats.sealed.geometry import ENTRY_SIZE, HEAD_SIZE, KEY_SIZE, NODE_SIZE, TAG_SIZE
from strongroom.formats.sealed.nodes import ZERO_IV
from strongroom.formats.sealed.paths import MAX_PATH_BYTES, encode_path

FILE_ID: Final = b"GRAFS_PF"
NONCE_SIZE: Final = 32
VERSIONS: Final = {1: 58, 2: 59}
"""Known major versions, and where the encrypted part starts in each."""
WRITTEN_VERSION: Final = 1
"""What every Gramine release reads."""
FLAGS_OFFSET: Final = 58
PENDING_WRITE: Final = 0x01
"""Feature flag of version 2: Gramine stopped in the middle of a write, a `.gramine.recovery` file belongs to it."""
PATH_FIELD: Final = MAX_PATH_BYTES + 1
SIZE_OFFSET: Final = PATH_FIELD
ROOT_OFFSET: Final = SIZE_OFFSET + 8
HEAD_OFFSET: Final = ROOT_OFFSET + ENTRY_SIZE
ENCRYPTED_SIZE: Final = HEAD_OFFSET + HEAD_SIZE
MAX_SIZE: Final = 2**64 - 1
KEY_LABEL: Final = b"SGX-PROTECTED-FS-METADATA-KEY"


@dataclass(frozen=True, slots=True)
class Header:
    """The plain part of a metadata node; nothing in it is trustworthy before `open_metadata`.

    Args:
        version: Major version, 1 or 2.
        nonce: 32 bytes that make the metadata key.
        tag: GCM tag of the encrypted part, 16 bytes.
        flags: Feature flags, 0..255, never authenticated; 0 in version 1.
        encrypted: The encrypted part, 3884 bytes.
    """

    version: int
    nonce: bytes
    tag: bytes
    flags: int
    encrypted: bytes

    @property
    def pending_write(self) -> bool:
        """Whether Gramine says that it stopped in the middle of a write."""
        return bool(self.flags & PENDING_WRITE)


@dataclass(frozen=True, slots=True)
class Metadata:
    """The encrypted part of a metadata node.

    Args:
        path: Path that the file is bound to, 1 to 771 bytes of UTF-8.
        size: Bytes of plaintext.
        root: Key and tag of the root tree node, 32 bytes; meaningless up to a size of 3072.
        head: The first 3072 bytes of the plaintext; meaningless after `size`.
    """

    path: str
    size: int
    root: bytes = field(repr=False)
    head: bytes = field(repr=False)


def derive_metadata_key(wrap_key: bytes, nonce: bytes) -> bytes:
    """AES-128-CMAC key derivation of the metadata key.

    Args:
        wrap_key: Exactly 16 bytes.
        nonce: Exactly 32 bytes.

    Returns:
        The metadata key, 16 bytes.

    Raises:
        ConfigurationError: If the wrap key does not have 16 bytes.
        ValueError: If the nonce does not have 32 bytes.
    """
    if len(wrap_key) != KEY_SIZE:
        raise ConfigurationError(
            f"the key of a sealed file has exactly {KEY_SIZE} bytes, this one {len(wrap_key)}", code="key.length"
        )
    if len(nonce) != NONCE_SIZE:
        raise ValueError("the metadata nonce has 32 bytes")
    counter, output_bits = (1).to_bytes(4, "little"), (8 * KEY_SIZE).to_bytes(4, "little")
    mac = CMAC(AES128(wrap_key))
    mac.update(counter + KEY_LABEL.ljust(64, b"\0") + nonce + output_bits)
    return mac.finalize()


def parse_header(node: bytes) -> Header:
    """Read the plain header of a metadata node.

    Args:
        node: The first 4096 bytes of the file.

    Returns:
        The header and the encrypted part.

    Raises:
        FormatError: If this is not the first node of a sealed file, or of an unknown version.
    """
    if len(node) != NODE_SIZE or not node.startswith(FILE_ID):
        raise FormatError("not a sealed file (Gramine's encrypted-file header is missing)", code="sealed.not_sealed")
    version = node[8]
    if version not in VERSIONS:
        raise FormatError(f"sealed file of unknown version {version}; known: 1, 2", code="sealed.version")
    start = VERSIONS[version]
    return Header(
        version=version,
        nonce=node[10:42],
        tag=node[42:58],
        flags=node[FLAGS_OFFSET] if version > 1 else 0,
        encrypted=node[start : start + ENCRYPTED_SIZE],
    )


def open_metadata(header: Header, wrap_key: bytes) -> Metadata:
    """Decrypt and parse the encrypted part.

    Args:
        header: From `parse_header`.
        wrap_key: Exactly 16 bytes.

    Returns:
        The authenticated metadata.

    Raises:
        ConfigurationError: If the wrap key does not have 16 bytes.
        WrongKey: If the key does not fit (or the node was altered: AES-GCM can't tell).
        FormatError: If the authenticated content has no path.
    """
    key = derive_metadata_key(wrap_key, header.nonce)
    try:
        plain = AESGCM(key).decrypt(ZERO_IV, header.encrypted + header.tag, None)
    except InvalidTag:
        raise WrongKey(
            "the key does not fit this sealed file, or its first node was altered",
            hint="check that it is the key the file was sealed with",
        ) from None
    path, end, _ = plain[:PATH_FIELD].partition(b"\0")
    if not end:
        raise FormatError("the path inside the sealed file has no end", code="sealed.path")
    return Metadata(
        path=path.decode("utf-8", "surrogateescape"),
        size=int.from_bytes(plain[SIZE_OFFSET:ROOT_OFFSET], "little"),
        root=plain[ROOT_OFFSET:HEAD_OFFSET],
        head=plain[HEAD_OFFSET:],
    )


def seal_metadata(metadata: Metadata, wrap_key: bytes, nonce: bytes, version: int = WRITTEN_VERSION) -> bytes:
    """Write a metadata node.

    Args:
        metadata: What to store; `head` may be shorter than 3072 bytes and is padded with zeros.
        wrap_key: Exactly 16 bytes.
        nonce: Exactly 32 fresh random bytes: never use one twice.
        version: 1 or 2.

    Returns:
        The node, 4096 bytes.

    Raises:
        ConfigurationError: If the wrap key does not have 16 bytes, or the path can't be stored.
        ValueError: If a length or the version is wrong: a fault of the caller.
    """
    if version not in VERSIONS or len(metadata.root) != ENTRY_SIZE or len(metadata.head) > HEAD_SIZE:
        raise ValueError("version 1 or 2, root entry of 32 bytes, head of at most 3072 bytes")
    plain = b"".join(
        (
            encode_path(metadata.path).ljust(PATH_FIELD, b"\0"),
            metadata.size.to_bytes(8, "little"),
            metadata.root,
            metadata.head.ljust(HEAD_SIZE, b"\0"),
        )
    )
    sealed = AESGCM(derive_metadata_key(wrap_key, nonce)).encrypt(ZERO_IV, plain, None)
    encrypted, tag = sealed[:-TAG_SIZE], sealed[-TAG_SIZE:]
    flags = b"\0" * (VERSIONS[version] - FLAGS_OFFSET)
    header = FILE_ID + bytes((version, 0)) + nonce + tag + flags
    return (header + encrypted).ljust(NODE_SIZE, b"\0")
