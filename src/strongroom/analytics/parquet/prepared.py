"""Prepared footers: what a reader derives from a file's footer, kept beside the file so that it need not be derived.

A footer describes every column chunk; to check it and to rewrite it takes longer than many a query. Who writes the file
does that once. What comes out is sealed under the file's own data keys: a column's metadata (its statistics tell much)
under a key that only readers of that column have, everything else under the footer's. Its associated data is the digest
of the file's tail, and the table's manifest names the digest of the whole.

Columns whose data keys are wrapped under one key encryption key are a group: whoever can read one can read all. So a
group has one module, sealed under the data key of its first column, with the data keys of the others in it: a reader
unwraps one key for each group, not one for each column. The group of the footer's key is under the footer's data key.

Layout: a mark, then modules as in Parquet's encryption (length, nonce, ciphertext, tag), one for each group, first the
footer's. Inside each: data keys, text; before them inside the first: a header, the list of chunks, the list of pieces.
The plaintext footer is the texts' pieces in the order of their list.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from operator import add
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.analytics.parquet import modules
from strongroom.analytics.parquet.columns import Footer, dotted
from strongroom.analytics.parquet.decrypted import Chunks
from strongroom.analytics.parquet.footer import MAX_FOOTER_BYTES, DataKey, Tail
from strongroom.analytics.parquet.material import parse_material
from strongroom.analytics.parquet.thrift import Items, Struct, read_struct, write_struct
from strongroom.errors import FormatError
from strongroom.formats.canonical import canonical_json, parse_json_object
from strongroom.formats.members import Members

MAX_PREPARED_BYTES: Final = 2 * MAX_FOOTER_BYTES
_MARK: Final = b"SRF2"
_PURPOSE: Final = b"strongroom prepared footer 2\0"
_CODE: Final = "prepared.malformed"
_SIZES: Final = struct.Struct("<III")  # header, chunks, pieces
_CHUNK_FIELDS: Final = "QQ?HHH"  # as `Chunk`; in place of the cipher 0 for the footer's, n for the nth column's
_CHUNK_SIZE: Final = struct.calcsize(f"<{_CHUNK_FIELDS}")
_PIECE: Final = struct.Struct("<II")  # number of the group, size
_MAX_COLUMNS: Final = 10_000
_MAX_KEY_METADATA: Final = 16 * 1024
# FileMetaData, RowGroup, ColumnChunk, ColumnMetaData
_ROW_GROUPS, _COLUMNS, _METADATA, _PATH = 4, 1, 3, 3
_DEPTH: Final = 5
_LIST_FIELD: Final = 0x19  # field header: id 1, type list


class _Column(NamedTuple):
    """A column with a data key of its own.

    Args:
        path: Dotted path.
        metadata: Its key metadata.
        group: Number of its group; 0: the footer's.
    """

    path: str
    metadata: bytes
    group: int


def prepare(footer: Footer, data_key: DataKey, random: Callable[[int], bytes]) -> bytes:
    """Prepare a footer for readers.

    Args:
        footer: The footer of a file, opened with the keys of all columns.
        data_key: Finds data keys.
        random: Gives so many random bytes.

    Raises:
        FormatError: A column has another key in another row group, or key metadata is not the standard key tools'.
        KeyReleaseError: There is no right to a column's key.
    """
    for refusal in footer.refused.values():
        raise refusal
    columns = _grouped(footer)
    groups = {column.path: column.group for column in columns}
    pieces = list(_pieces(footer.plain, groups))
    header = canonical_json(
        {
            "rows": footer.rows,
            "schema": footer.schema.hex(),
            "uncompressed": footer.uncompressed,
            "columns": [{"path": c.path, "key": c.metadata.hex(), "group": c.group} for c in columns],
        }
    )
    numbers = {column.path: number for number, column in enumerate(columns, 1)}
    lists = [header, _packed(footer, numbers), b"".join(_PIECE.pack(n, len(text)) for n, text in pieces)]
    raw = [_MARK]
    for group, members in enumerate(_members(columns)):
        keys = [data_key(column.metadata) for column in members]
        cipher = modules.cipher_for(keys.pop(0)) if group else footer.cipher
        text = b"".join([*map(_sized, keys), *(text for number, text in pieces if number == group)])
        if not group:
            text = b"".join([_SIZES.pack(*map(len, lists)), *lists, text])
        raw.append(modules.seal_module(cipher, text, _aad(footer.tail.digest, group), random(modules.NONCE_SIZE)))
    return b"".join(raw)


def _grouped(footer: Footer) -> list[_Column]:
    """The columns with keys of their own, by path, each with its group."""
    groups = {_guard(footer.tail.key_metadata): 0}
    return [
        _Column(path, metadata, groups.setdefault(_guard(metadata), len(groups)))
        for path, metadata in sorted(footer.column_keys.items())
    ]


def _guard(key_metadata: bytes) -> tuple[str, str]:
    """What opens a data key: its key encryption key, and where it has none, nothing that opens another one too.

    A master key's name is not enough: rotation may put columns under one name whose readers were others before, and who
    was a reader before still has the data keys of then.
    """
    material = parse_material(key_metadata)
    return material.master_key, material.wrapped_kek if material.double_wrapped else material.wrapped_data_key


def _members(columns: list[_Column]) -> list[list[_Column]]:
    """The columns of each group.

    Raises:
        FormatError: A number was left out.
    """
    groups: list[list[_Column]] = [[] for _ in range(max((column.group for column in columns), default=0) + 1)]
    for column in columns:
        groups[column.group].append(column)
    if not all(groups[1:]):
        raise FormatError("a group of columns is empty", code=_CODE)
    return groups


def _sized(key: bytes) -> bytes:
    return bytes([len(key)]) + key


def _pieces(plain: bytes, groups: Mapping[str, int]) -> Iterator[tuple[int, bytes]]:
    """The plaintext footer cut where another key begins to guard it, each piece with the number of its group."""
    done = at = 0
    for chunk in _column_chunks(plain) if any(groups.values()) else ():
        text = write_struct(chunk)
        at = plain.index(text, at)
        if group := groups.get(_path(chunk), 0):
            yield 0, plain[done:at]
            yield group, text
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


def _packed(footer: Footer, numbers: Mapping[str, int]) -> bytes:
    """The list of chunks: the first field of all, the second of all, and so on.

    Raises:
        FormatError: A column has another key in another row group, or row groups differ in their columns.
    """
    groups = read_struct(footer.plain, depth=_DEPTH)[0][_ROW_GROUPS].value.values
    owners = [numbers.get(_path(chunk), 0) for chunk in (groups[0][_COLUMNS].value.values if groups else [])]
    ciphers: dict[int, Any] = {}
    for chunk in footer.chunks:
        if ciphers.setdefault(chunk.column, chunk.cipher) is not chunk.cipher:
            raise FormatError("a column has two keys in one file", code=_CODE)
    try:
        rows = ((*chunk[:-1], owners[chunk.column]) for chunk in footer.chunks)
        return struct.pack(_layout(len(footer.chunks)), *chain.from_iterable(zip(*rows, strict=True)))
    except (struct.error, IndexError):
        raise FormatError("the row groups of a file contradict each other", code=_CODE) from None


def _layout(count: int) -> str:
    return "<" + "".join(f"{count}{field}" for field in _CHUNK_FIELDS)


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
        WrongKey: A data key is wrapped under other keys.
        UnavailableError: The key service doesn't answer.
    """
    if raw[: len(_MARK)] != _MARK:
        raise FormatError("not a prepared footer of this format", code=_CODE)
    view, digest = memoryview(raw), tail.digest
    cipher = modules.cipher_for(data_key(tail.key_metadata))
    first, position = modules.open_module(cipher, view, len(_MARK), _aad(digest, 0))
    if len(first) < _SIZES.size:
        raise FormatError("a prepared footer is cut", code=_CODE)
    raw_header, chunks, pieces, text = _cut(first)
    header = Members(parse_json_object(raw_header, max_bytes=MAX_PREPARED_BYTES), what="prepared footer", code=_CODE)
    columns = [_column(item) for item in header.items("columns", max_items=_MAX_COLUMNS)]
    ciphers, texts = dict[str, AESGCM](), list[bytes]()
    for group, members in enumerate(_members(columns)):
        if group:
            guard = members.pop(0)
            ciphers[guard.path] = modules.cipher_for(data_key(guard.metadata))
            text, position = modules.open_module(ciphers[guard.path], view, position, _aad(digest, group))
        texts.append(_take_keys(text, members, ciphers))
    footer = Footer(
        tail,
        cipher,
        header.number("rows"),
        header.octets("schema", 32),
        {column.path: column.metadata for column in columns},
        {},
        _chunks(chunks, [cipher, *(ciphers[column.path] for column in columns)], tail),
        _assembled(pieces, texts),
        header.boolean("uncompressed"),
    )
    header.finish()
    if position != len(raw):
        raise FormatError("bytes behind a prepared footer", code=_CODE)
    return footer


def _take_keys(text: bytes, columns: list[_Column], ciphers: dict[str, AESGCM]) -> bytes:
    """Make the ciphers of columns from the data keys at the start of a module; the rest of it is text.

    Raises:
        FormatError: It ends inside the keys.
    """
    position = 0
    for column in columns:
        end = position + 1 + (text[position] if position < len(text) else 0)
        ciphers[column.path] = modules.cipher_for(text[position + 1 : end])
        position = end
    return text[position:]


def _cut(first: bytes) -> Iterator[bytes]:
    """Header, chunks, pieces, text."""
    position = _SIZES.size
    for size in _SIZES.unpack_from(first):
        yield first[position : position + size]
        position += size
    yield first[position:]


def _column(value: object) -> _Column:
    members = Members(value, what="column of a prepared footer", code=_CODE)
    column = _Column(
        members.text("path"),
        members.octets("key", max_bytes=_MAX_KEY_METADATA),
        members.number("group", maximum=_MAX_COLUMNS),
    )
    members.finish()
    return column


def _chunks(packed: bytes, ciphers: list[AESGCM], tail: Tail) -> Chunks:
    count = len(packed) // _CHUNK_SIZE
    try:
        flat = struct.unpack(_layout(count), packed)
        starts, sizes, dictionaries, row_groups, columns, owners = (
            flat[field * count : (field + 1) * count] for field in range(len(_CHUNK_FIELDS))
        )
        chunks = Chunks(starts, sizes, dictionaries, row_groups, columns, [ciphers[owner] for owner in owners])
    except (struct.error, IndexError):
        raise FormatError("the chunks of a prepared footer are malformed", code=_CODE) from None
    if list(starts) != sorted(starts) or max(map(add, starts, sizes), default=0) > tail.start:
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
