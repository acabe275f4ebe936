"""Prepared footers: what a reader derives from a file's footer, kept beside the file so that it need not be derived.

A footer describes every column chunk; to check it and to rewrite it takes longer than many a query. Who writes the file
does that once. What comes out is sealed under the file's own data keys: a column's metadata (its statistics tell much)
under that column's key, everything else under the footer's. Its associated data is the digest of the file's tail, and
the table's manifest names the digest of the whole.

Layout: modules as in Parquet's encryption (length, nonce, ciphertext, tag), the first under the footer's key, one more
for each column with a key of its own. Inside the first: a header, the list of chunks, the list of pieces, text. Inside
the others: text. The plaintext footer is the texts' pieces in the order of their list.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from strongroom.analytics.parquet import modules
from strongroom.analytics.parquet.columns import Footer, dotted
from strongroom.analytics.parquet.decrypted import Chunk
from strongroom.analytics.parquet.footer import MAX_FOOTER_BYTES, DataKey, Tail
from strongroom.analytics.parquet.thrift import Items, Struct, read_struct, write_struct
from strongroom.errors import FormatError
from strongroom.formats.canonical import canonical_json, parse_json_object
from strongroom.formats.members import Members

MAX_PREPARED_BYTES: Final = 2 * MAX_FOOTER_BYTES
_PURPOSE: Final = b"strongroom prepared footer 1\0"
_CODE: Final = "prepared.malformed"
_SIZES: Final = struct.Struct("<III")  # header, chunks, pieces
_CHUNK: Final = struct.Struct("<QQ?HHH")  # as `Chunk`; the number of its module in place of the cipher
_PIECE: Final = struct.Struct("<II")  # number of the module, size
_MAX_COLUMNS: Final = 10_000
_MAX_KEY_METADATA: Final = 16 * 1024
# FileMetaData, RowGroup, ColumnChunk, ColumnMetaData
_ROW_GROUPS, _COLUMNS, _METADATA, _PATH = 4, 1, 3, 3
_DEPTH: Final = 5
_LIST_FIELD: Final = 0x19  # field header: id 1, type list


def prepare(footer: Footer, data_key: DataKey, random: Callable[[int], bytes]) -> bytes:
    """Prepare a footer for readers.

    Args:
        footer: The footer of a file, opened with the keys of all columns.
        data_key: Finds data keys.
        random: Gives so many random bytes.

    Raises:
        FormatError: A column has another key in another row group.
        KeyReleaseError: There is no right to a column's key.
    """
    paths = sorted(footer.column_keys)
    numbers = {path: number for number, path in enumerate(paths, 1)}
    ciphers = [footer.cipher, *(modules.cipher_for(data_key(footer.column_keys[path])) for path in paths)]
    pieces = list(_pieces(footer.plain, numbers))
    texts = [b"".join(text for module, text in pieces if module == number) for number in range(len(ciphers))]
    header = canonical_json(
        {
            "rows": footer.rows,
            "schema": footer.schema.hex(),
            "uncompressed": footer.uncompressed,
            "columns": [{"path": path, "key": footer.column_keys[path].hex()} for path in paths],
        }
    )
    lists = [header, b"".join(_packed(footer, numbers)), b"".join(_PIECE.pack(n, len(text)) for n, text in pieces)]
    texts[0] = b"".join([_SIZES.pack(*map(len, lists)), *lists, texts[0]])
    digest = footer.tail.digest
    return b"".join(
        modules.seal_module(cipher, text, _aad(digest, number), random(modules.NONCE_SIZE))
        for number, (cipher, text) in enumerate(zip(ciphers, texts, strict=True))
    )


def _pieces(plain: bytes, numbers: Mapping[str, int]) -> Iterator[tuple[int, bytes]]:
    """The plaintext footer cut where another key begins to guard it, each piece with the number of its module."""
    done = at = 0
    for chunk in _column_chunks(plain) if numbers else ():
        text = write_struct(chunk)
        at = plain.index(text, at)
        if number := numbers.get(_path(chunk), 0):
            yield 0, plain[done:at]
            yield number, text
            done = at + len(text)
        at += len(text)
    yield 0, plain[done:]


def _column_chunks(plain: bytes) -> Iterator[Struct]:
    for group in read_struct(plain, depth=_DEPTH)[0][_ROW_GROUPS].value.values:
        yield from group[_COLUMNS].value.values


def _path(chunk: Struct) -> str:
    """Dotted path of a column chunk, whose metadata is not decoded further."""
    raw: bytes = chunk[_METADATA].value[_PATH].value.text
    path: Items = read_struct(bytes([_LIST_FIELD]) + raw + b"\0")[0][1].value
    return dotted(path)


def _packed(footer: Footer, numbers: Mapping[str, int]) -> Iterator[bytes]:
    groups = read_struct(footer.plain, depth=_DEPTH)[0][_ROW_GROUPS].value.values
    columns = groups[0][_COLUMNS].value.values if groups else []
    owners = [numbers.get(_path(chunk), 0) for chunk in columns]
    ciphers: dict[int, Any] = {}
    for chunk in footer.chunks:
        if ciphers.setdefault(chunk.column, chunk.cipher) is not chunk.cipher:
            raise FormatError("a column has two keys in one file", code=_CODE)
        yield _CHUNK.pack(*chunk[:-1], owners[chunk.column])


def open_prepared(raw: bytes, tail: Tail, data_key: DataKey) -> Footer:
    """Open what `prepare` made: the same as `open_footer` finds with the keys of all columns.

    Args:
        raw: What `prepare` returned. That it comes from the file's writer has been checked.
        tail: The file's tail.
        data_key: Finds data keys.

    Raises:
        FormatError: It doesn't follow the format.
        Tampered: It belongs to another tail, or was altered.
        KeyReleaseError: There is no right to a key.
    """
    view, digest = memoryview(raw), tail.digest
    ciphers = [modules.cipher_for(data_key(tail.key_metadata))]
    first, position = modules.open_module(ciphers[0], view, 0, _aad(digest, 0))
    if len(first) < _SIZES.size:
        raise FormatError("a prepared footer is cut", code=_CODE)
    raw_header, chunks, pieces, text = _cut(first)
    header = Members(parse_json_object(raw_header, max_bytes=MAX_PREPARED_BYTES), what="prepared footer", code=_CODE)
    column_keys = dict(_column(item) for item in header.items("columns", max_items=_MAX_COLUMNS))
    texts = [text]
    for metadata in column_keys.values():
        ciphers.append(modules.cipher_for(data_key(metadata)))
        text, position = modules.open_module(ciphers[-1], view, position, _aad(digest, len(texts)))
        texts.append(text)
    footer = Footer(
        tail,
        ciphers[0],
        header.number("rows"),
        header.octets("schema", 32),
        column_keys,
        {},
        _chunks(chunks, ciphers, tail),
        _assembled(pieces, texts),
        header.boolean("uncompressed"),
    )
    header.finish()
    if position != len(raw):
        raise FormatError("bytes behind a prepared footer", code=_CODE)
    return footer


def _cut(first: bytes) -> Iterator[bytes]:
    """Header, chunks, pieces, text."""
    position = _SIZES.size
    for size in _SIZES.unpack_from(first):
        yield first[position : position + size]
        position += size
    yield first[position:]


def _column(value: object) -> tuple[str, bytes]:
    members = Members(value, what="column of a prepared footer", code=_CODE)
    column = members.text("path"), members.octets("key", max_bytes=_MAX_KEY_METADATA)
    members.finish()
    return column


def _chunks(packed: bytes, ciphers: list[Any], tail: Tail) -> list[Chunk]:
    try:
        columns = list(zip(*_CHUNK.iter_unpack(packed), strict=True)) or [()] * 6
        chunks = list(map(Chunk, *columns[:5], map(ciphers.__getitem__, columns[5])))
    except (struct.error, IndexError):
        raise FormatError("the chunks of a prepared footer are malformed", code=_CODE) from None
    if any(chunk.start + chunk.size > tail.start for chunk in chunks):
        raise FormatError("a column outside the file", code=_CODE)
    return chunks


def _assembled(pieces: bytes, texts: list[bytes]) -> bytes:
    """The plaintext footer.

    Raises:
        FormatError: The pieces are not exactly the texts.
    """
    places = [0] * len(texts)
    found = []
    try:
        for module, size in _PIECE.iter_unpack(pieces):
            found.append(texts[module][places[module] : places[module] + size])
            places[module] += size
    except (struct.error, IndexError):
        raise FormatError("the pieces of a prepared footer are malformed", code=_CODE) from None
    if places != [len(text) for text in texts]:
        raise FormatError("the pieces of a prepared footer don't fit", code=_CODE)
    return b"".join(found)


def _aad(digest: bytes, number: int) -> bytes:
    return _PURPOSE + digest + number.to_bytes(4, "little")
