"""The table manifest: which files a table is made of. Signed by who wrote it, sealed with the table's key.

Parquet's encryption binds every byte of a file to that file, and says nothing about which files belong together. The
manifest does: it names every file with its size and the SHA-256 of its tail, which holds the key metadata and the
encrypted footer. As every file has a data key of its own, the tail stands for the whole file. So a file that was added,
removed, swapped or taken from another table or version is noticed before a row is read.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.analytics.kms import Kms, misfit
from strongroom.analytics.signing import PUBLIC_KEY_SIZE, SIGNATURE_SIZE, Signer, verify_signature
from strongroom.errors import FormatError, VerificationError, WrongKey
from strongroom.formats.canonical import JsonValue, canonical_json, parse_json_object
from strongroom.formats.members import Members

MANIFEST_NAME: Final = "_strongroom_manifest.json"
"""Its leading underscore keeps Spark and pyarrow from taking it for data."""
FORMAT: Final = "strongroom-table-manifest/1"
KIND: Final = "table manifest"
MAX_MANIFEST_BYTES: Final = 64 * 1024 * 1024
MAX_PARTS: Final = 100_000
MAX_COLUMNS: Final = 10_000
DIGEST_SIZE: Final = 32
_CODE: Final = "manifest.malformed"
_NONCE_SIZE: Final = 12
_NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-=")


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a table.

    Args:
        name: File name inside the table's folder.
        size: Bytes.
        rows: Number of rows.
        tail: SHA-256 of the file's tail, 32 bytes.
        key: SHA-256 of the key metadata of its footer, 32 bytes.
        prepared: SHA-256 of its prepared footer, 32 bytes; empty if it has none.
    """

    name: str
    size: int
    rows: int
    tail: bytes
    key: bytes
    prepared: bytes = b""


@dataclass(frozen=True, slots=True)
class Column:
    """One top-level column.

    Args:
        name: Its name.
        type: Its Arrow type as text.
        key: Name of the master key that guards it.
    """

    name: str
    type: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a table consists of.

    Args:
        table: Name of the table; queries call it so.
        version: 1 for the first, one more with every change.
        previous: Digest of the version before, 32 bytes; empty for the first.
        key: Name of the master key of the footers and of the manifest.
        columns: In the order of the schema.
        parts: In the order of their names.
    """

    table: str
    version: int
    previous: bytes
    key: str
    columns: tuple[Column, ...]
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        """Number of rows of the table."""
        return sum(part.rows for part in self.parts)

    @property
    def column_keys(self) -> dict[str, str]:
        """Master keys of the columns that have one of their own."""
        return {column.name: column.key for column in self.columns if column.key != self.key}

    @property
    def digest(self) -> bytes:
        """SHA-256 of the manifest's canonical form: names this version of this table."""
        return hashlib.sha256(serialize_manifest(self)).digest()


def serialize_manifest(manifest: Manifest) -> bytes:
    """The manifest's canonical form."""
    return canonical_json(
        {
            "table": manifest.table,
            "version": manifest.version,
            "previous": manifest.previous.hex(),
            "key": manifest.key,
            "columns": [{"name": c.name, "type": c.type, "key": c.key} for c in manifest.columns],
            "parts": [_part_json(part) for part in manifest.parts],
        }
    )


def _part_json(part: Part) -> JsonValue:
    members: dict[str, JsonValue] = {
        "name": part.name,
        "size": part.size,
        "rows": part.rows,
        "tail": part.tail.hex(),
        "key": part.key.hex(),
    }
    return members | {"prepared": part.prepared.hex()} if part.prepared else members


def parse_manifest(raw: bytes) -> Manifest:
    """Parse the canonical form.

    Raises:
        FormatError: A member is missing, unknown or malformed.
    """
    members = Members(parse_json_object(raw, max_bytes=MAX_MANIFEST_BYTES), what="table manifest", code=_CODE)
    manifest = Manifest(
        table=members.text("table", max_length=200),
        version=members.number("version"),
        previous=members.octets("previous", max_bytes=DIGEST_SIZE),
        key=members.text("key", max_length=400),
        columns=tuple(_column(item) for item in members.items("columns", max_items=MAX_COLUMNS)),
        parts=tuple(_part(item) for item in members.items("parts", max_items=MAX_PARTS)),
    )
    members.finish()
    if len({part.name for part in manifest.parts}) != len(manifest.parts) or manifest.version < 1:
        raise FormatError("table manifest: two files of one name, or no version", code=_CODE)
    return manifest


def _column(value: object) -> Column:
    members = Members(value, what="column", code=_CODE)
    column = Column(members.text("name"), members.text("type"), members.text("key", max_length=400))
    members.finish()
    return column


def _part(value: object) -> Part:
    members = Members(value, what="part", code=_CODE)
    name = members.text("name", max_length=200)
    if not name or name[0] in "._" or not set(name) <= _NAME_CHARACTERS:
        raise members.refuse("name", "is not a plain file name")
    part = Part(
        name,
        members.number("size"),
        members.number("rows"),
        members.octets("tail", DIGEST_SIZE),
        members.octets("key", DIGEST_SIZE),
        members.octets("prepared", DIGEST_SIZE) if "prepared" in members else b"",
    )
    members.finish()
    return part


def seal_manifest(manifest: Manifest, kms: Kms, signer: Signer) -> bytes:
    """Sign a manifest, then encrypt it under a fresh key that the table's master key wraps.

    Raises:
        KeyReleaseError: There is no right to the table's key.
        UnavailableError: The key service doesn't answer.
    """
    payload = serialize_manifest(manifest)
    signed = canonical_json(
        {
            "manifest": payload.decode(),
            "signer": signer.public.hex(),
            "signature": signer.sign(KIND, payload).hex(),
        }
    )
    key, nonce = AESGCM.generate_key(256), os.urandom(_NONCE_SIZE)
    envelope: Mapping[str, JsonValue] = {
        "format": FORMAT,
        "key": manifest.key,
        "wrapped_key": kms.wrap(manifest.key, key).hex(),
        "sealed": (nonce + AESGCM(key).encrypt(nonce, signed, _aad(manifest.key))).hex(),
    }
    return canonical_json(envelope)


def open_manifest(raw: bytes, kms: Kms, trusted: frozenset[bytes]) -> Manifest:
    """Decrypt a manifest and check who signed it.

    Args:
        raw: What `seal_manifest` returned.
        kms: The key service.
        trusted: Public keys whose manifests are believed.

    Raises:
        FormatError: Not a sealed manifest.
        KeyReleaseError: There is no right to the table's key.
        WrongKey: Another key, or altered.
        VerificationError: The signature is wrong, or the signer is not one of the trusted.
        UnavailableError: The key service doesn't answer.
    """
    envelope = Members(parse_json_object(raw, max_bytes=MAX_MANIFEST_BYTES), what="sealed manifest", code=_CODE)
    if envelope.text("format") != FORMAT:
        raise envelope.refuse("format", f"is not {FORMAT}")
    key_name = envelope.text("key", max_length=400)
    wrapped = envelope.octets("wrapped_key")
    sealed = envelope.octets("sealed", max_bytes=MAX_MANIFEST_BYTES)
    envelope.finish()
    try:
        cipher = AESGCM(kms.unwrap(key_name, wrapped))
        signed = cipher.decrypt(sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:], _aad(key_name))
    except (InvalidTag, ValueError):
        raise WrongKey(misfit(key_name)) from None
    manifest = _verified(signed, trusted)
    if manifest.key != key_name:
        raise FormatError("table manifest: sealed with another key than it names", code=_CODE)
    return manifest


def _verified(signed: bytes, trusted: frozenset[bytes]) -> Manifest:
    members = Members(parse_json_object(signed, max_bytes=MAX_MANIFEST_BYTES), what="signed manifest", code=_CODE)
    payload = members.text("manifest", max_length=MAX_MANIFEST_BYTES).encode()
    signer = members.octets("signer", PUBLIC_KEY_SIZE)
    signature = members.octets("signature", SIGNATURE_SIZE)
    members.finish()
    if signer not in trusted:
        raise VerificationError(
            f"the table was written by {signer.hex()}, who is not trusted",
            code="manifest.signer",
            hint="if you know this writer: --trust " + signer.hex(),
        )
    verify_signature(signer, KIND, payload, signature)
    return parse_manifest(payload)


def _aad(key_name: str) -> bytes:
    return f"{FORMAT}\0{key_name}".encode()
