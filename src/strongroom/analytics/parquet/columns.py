"""The footer of an encrypted file, column by column: which key guards which, and the footer of the plaintext view.

Source: parquet.thrift, FileMetaData, SchemaElement, RowGroup, ColumnChunk, ColumnMetaData, ColumnCryptoMetaData.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.analytics.parquet import modules
from strongroom.analytics.parquet.decrypted import Chunk, Chunks
from strongroom.analytics.parquet.footer import DataKey, Tail
from strongroom.analytics.parquet.thrift import I32, STRUCT, Field, Items, Struct, read_struct, struct_of, write_struct
from strongroom.errors import FormatError, KeyReleaseError

# Decoded are FileMetaData, its lists, RowGroup, its columns, ColumnChunk, ColumnMetaData; what is inside that is not.
_DEPTH: Final = 5
# FileMetaData
_SCHEMA, _ROWS, _ROW_GROUPS, _KEY_VALUES, _COLUMN_ORDERS = 2, 3, 4, 5, 7
_ENCRYPTION: Final = (8, 9)
# SchemaElement
_NAME, _NUM_CHILDREN = 4, 5
# RowGroup
_COLUMNS, _ORDINAL = 1, 7
# ColumnChunk
_FILE_PATH, _METADATA, _CRYPTO, _ENCRYPTED_METADATA = 1, 3, 8, 9
_INDEXES: Final = (4, 5, 6, 7)
# ColumnMetaData
_CODEC, _COMPRESSED, _DATA_PAGE, _DICTIONARY_PAGE = 4, 7, 9, 11
_UNCOMPRESSED: Final = 0  # CompressionCodec
_BLOOM_FILTER: Final = (14, 15)
# ColumnCryptoMetaData, EncryptionWithColumnKey
_COLUMN_KEY, _KEY_METADATA = 2, 2


@dataclass(frozen=True, slots=True)
class Footer:
    """What a reader needs of a decrypted footer.

    Args:
        tail: Where it stands.
        cipher: Cipher of its key.
        rows: Number of rows of the file.
        schema: SHA-256 of the file's schema, 32 bytes.
        column_keys: Key metadata of every column that has a key of its own, by dotted path.
        refused: Why a column can't be read, by dotted path.
        chunks: Every readable column chunk.
        plain: FileMetaData of the plaintext view: readable top-level columns only, nothing about encryption.
        uncompressed: Whether a readable column chunk is not compressed.
    """

    tail: Tail
    cipher: AESGCM
    rows: int
    schema: bytes
    column_keys: dict[str, bytes]
    refused: dict[str, KeyReleaseError]
    chunks: Chunks
    plain: bytes
    uncompressed: bool

    @property
    def metadata(self) -> Struct:
        """FileMetaData as it was encrypted; decrypted at each call."""
        return _decrypt(self.tail, self.cipher)


def _decrypt(tail: Tail, cipher: AESGCM) -> Struct:
    """FileMetaData.

    Raises:
        FormatError: It doesn't follow the format.
        Tampered: It was altered, or the key is not the file's.
    """
    aad = modules.associated_data(tail.file_aad, modules.FOOTER)
    plaintext, end = modules.open_module(cipher, memoryview(tail.raw), tail.footer_at, aad)
    if end != len(tail.raw) - 8:
        raise FormatError("bytes behind the footer", code="parquet.malformed")
    return read_struct(plaintext, depth=_DEPTH)[0]


def open_footer(tail: Tail, data_key: DataKey) -> Footer:
    """Decrypt the footer and the metadata of every column for which there is a key.

    Args:
        tail: The file's tail.
        data_key: Finds data keys.

    Raises:
        FormatError: The footer doesn't follow the format.
        Tampered: It was altered, or a key is not the file's.
        KeyReleaseError: There is no right to the footer's key.
    """
    cipher = modules.cipher_for(data_key(tail.key_metadata))
    metadata = _decrypt(tail, cipher)
    try:
        return _Opening(tail, cipher, metadata, data_key).footer()
    except (KeyError, AttributeError, TypeError, IndexError):
        raise FormatError("the footer lacks a required field", code="parquet.malformed") from None


def column_crypto(chunk: Struct) -> tuple[str, bytes] | None:
    """Dotted path and key metadata of a column with a key of its own; None for one under the footer's key."""
    if _CRYPTO not in chunk or _COLUMN_KEY not in chunk[_CRYPTO].value:
        return None
    own = struct_of(chunk[_CRYPTO].value[_COLUMN_KEY])
    return dotted(own[1].value), own[_KEY_METADATA].value


def rewrap_columns(metadata: Struct, rewrap: Callable[[bytes], bytes]) -> Struct:
    """FileMetaData with other key metadata for the columns that have keys of their own.

    Args:
        metadata: FileMetaData, decrypted.
        rewrap: New key metadata for old.
    """
    groups: Items = metadata[_ROW_GROUPS].value
    moved = [_rewrapped_group(group, rewrap) for group in groups.values]
    return {**metadata, _ROW_GROUPS: metadata[_ROW_GROUPS]._replace(value=groups._replace(values=moved))}


def _rewrapped_group(group: Struct, rewrap: Callable[[bytes], bytes]) -> Struct:
    columns: Items = group[_COLUMNS].value
    moved = [_rewrapped_chunk(chunk, rewrap) for chunk in columns.values]
    return {**group, _COLUMNS: group[_COLUMNS]._replace(value=columns._replace(values=moved))}


def _rewrapped_chunk(chunk: Struct, rewrap: Callable[[bytes], bytes]) -> Struct:
    if column_crypto(chunk) is None:
        return chunk
    crypto: Struct = chunk[_CRYPTO].value
    own = struct_of(crypto[_COLUMN_KEY])
    metadata = own[_KEY_METADATA]._replace(value=rewrap(own[_KEY_METADATA].value))
    moved = {**crypto, _COLUMN_KEY: crypto[_COLUMN_KEY]._replace(value={**own, _KEY_METADATA: metadata})}
    return {**chunk, _CRYPTO: chunk[_CRYPTO]._replace(value=moved)}


def dotted(path: Items) -> str:
    """A column path as text."""
    return ".".join(part.decode("utf-8", "replace") for part in path.values)


class _Opening:
    def __init__(self, tail: Tail, cipher: AESGCM, metadata: Struct, data_key: DataKey) -> None:
        self._tail, self._metadata, self._data_key = tail, metadata, data_key
        self._footer_cipher = cipher
        self._ciphers: dict[bytes, AESGCM | KeyReleaseError] = {}
        self._column_keys: dict[str, bytes] = {}
        self._refused: dict[str, KeyReleaseError] = {}
        self._chunks: list[Chunk] = []
        self._uncompressed = False

    def footer(self) -> Footer:
        groups = self._metadata[_ROW_GROUPS].value.values
        opened = [self._row_group(index, group) for index, group in enumerate(groups)]
        plain = write_struct(self._plain(opened))
        return Footer(
            self._tail,
            self._footer_cipher,
            int(self._metadata[_ROWS].value),
            hashlib.sha256(write_struct({_SCHEMA: self._metadata[_SCHEMA]})).digest(),
            self._column_keys,
            self._refused,
            Chunks.of(self._chunks),
            plain,
            self._uncompressed,
        )

    def _row_group(self, index: int, group: Struct) -> list[Struct | None]:
        ordinal = group[_ORDINAL].value if _ORDINAL in group else index
        return [self._column(ordinal, i, chunk) for i, chunk in enumerate(group[_COLUMNS].value.values)]

    def _column(self, row_group: int, column: int, chunk: Struct) -> Struct | None:
        """The chunk's plaintext metadata, or None where there is no key.

        Raises:
            FormatError: The chunk is not encrypted, or not in this file.
        """
        if _FILE_PATH in chunk:
            raise FormatError("a column that stands in another file", code="parquet.file_path")
        own = column_crypto(chunk)
        if own is None and _CRYPTO not in chunk:
            raise FormatError("a column that is not encrypted", code="parquet.plaintext_column")
        cipher = self._footer_cipher if own is None else self._cipher(*own)
        if isinstance(cipher, KeyReleaseError):
            return None
        metadata = self._metadata_of(chunk, cipher, row_group, column)
        self._uncompressed = self._uncompressed or metadata[_CODEC].value == _UNCOMPRESSED
        dictionary = metadata[_DICTIONARY_PAGE].value if _DICTIONARY_PAGE in metadata else 0
        offsets = [offset for offset in (metadata[_DATA_PAGE].value, dictionary) if offset > 0]  # 0: no such page
        start, size = min(offsets, default=0), metadata[_COMPRESSED].value
        if size < 0 or start + size > self._tail.start:
            raise FormatError("a column outside the file", code="parquet.malformed")
        if offsets and size:
            self._chunks.append(Chunk(start, size, dictionary > 0, row_group, column, cipher))
        return metadata

    def _cipher(self, path: str, key_metadata: bytes) -> AESGCM | KeyReleaseError:
        self._column_keys[path] = key_metadata
        if key_metadata not in self._ciphers:
            try:
                self._ciphers[key_metadata] = modules.cipher_for(self._data_key(key_metadata))
            except KeyReleaseError as refusal:
                self._ciphers[key_metadata] = refusal
        found = self._ciphers[key_metadata]
        if isinstance(found, KeyReleaseError):
            self._refused[path] = found
        return found

    def _metadata_of(self, chunk: Struct, cipher: AESGCM, row_group: int, column: int) -> Struct:
        if _ENCRYPTED_METADATA not in chunk:
            metadata: Struct = chunk[_METADATA].value
            return metadata
        aad = modules.associated_data(self._tail.file_aad, modules.COLUMN_METADATA, row_group, column)
        plaintext, _ = modules.open_module(cipher, memoryview(chunk[_ENCRYPTED_METADATA].value), 0, aad)
        return read_struct(plaintext, depth=0)[0]

    def _plain(self, opened: list[list[Struct | None]]) -> Struct:
        schema, kept = _prune(self._metadata[_SCHEMA].value, {path.split(".")[0] for path in self._refused})
        plain = {n: f for n, f in self._metadata.items() if n not in _ENCRYPTION}
        plain[_SCHEMA] = self._metadata[_SCHEMA]._replace(value=schema)
        if self._refused:
            plain.pop(_KEY_VALUES, None)  # they hold other engines' copies of the whole schema
            if _COLUMN_ORDERS in plain:
                plain[_COLUMN_ORDERS] = _picked(plain[_COLUMN_ORDERS], kept)
        groups = self._metadata[_ROW_GROUPS].value.values
        shown = [_plain_group(group, columns, kept) for group, columns in zip(groups, opened, strict=True)]
        plain[_ROW_GROUPS] = Field(self._metadata[_ROW_GROUPS].kind, Items(STRUCT, shown))
        return plain


def _plain_group(group: Struct, opened: list[Struct | None], kept: list[int]) -> Struct:
    columns = [_plain_chunk(group[_COLUMNS].value.values[i], opened[i]) for i in kept]
    return {**group, _COLUMNS: group[_COLUMNS]._replace(value=Items(STRUCT, columns))}


def _plain_chunk(chunk: Struct, metadata: Struct | None) -> Struct:
    if metadata is None:
        raise FormatError("a column path in the footer contradicts the schema", code="parquet.malformed")
    hidden = {*_INDEXES, _CRYPTO, _ENCRYPTED_METADATA}
    shown = {number: field for number, field in metadata.items() if number not in _BLOOM_FILTER}
    return {**{n: f for n, f in chunk.items() if n not in hidden}, _METADATA: Field(STRUCT, shown)}


def _picked(field: Field, kept: list[int]) -> Field:
    items: Items = field.value
    return field._replace(value=items._replace(values=[items.values[i] for i in kept]))


def _prune(schema: Items, refused: set[str]) -> tuple[Items, list[int]]:
    """Leave top-level columns out.

    Returns:
        The schema's remaining elements, and the ordinals of their leaves.
    """
    root: Struct = schema.values[0]
    elements: list[Struct] = []
    kept: list[int] = []
    leaf = shown = 0
    for subtree in _subtrees(schema.values, root[_NUM_CHILDREN].value):
        leaves = sum(1 for element in subtree if not _children(element))
        if subtree[0][_NAME].value.decode("utf-8", "replace") not in refused:
            elements += subtree
            kept += range(leaf, leaf + leaves)
            shown += 1
        leaf += leaves
    return Items(schema.kind, [{**root, _NUM_CHILDREN: Field(I32, shown)}, *elements]), kept


def _children(element: Struct) -> int:
    return int(element[_NUM_CHILDREN].value) if _NUM_CHILDREN in element else 0


def _subtrees(elements: list[Any], count: int) -> Iterator[list[Struct]]:
    position = 1
    for _ in range(count):
        start, open_nodes = position, 1
        while open_nodes:
            open_nodes += _children(elements[position]) - 1
            position += 1
        yield elements[start:position]
