"""A plaintext Parquet file in memory that is an encrypted one underneath: decrypted column by column, when it is read.

An engine that reads Parquet well need not know about encryption: it is given this view, whose column chunks stand
where they stand in the encrypted file, so that projection and row group pruning keep working, and only what is read
is decrypted. Nothing is written anywhere.
"""

import io
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.analytics.parquet import modules
from strongroom.analytics.parquet.thrift import I32, Field, read_struct, read_varint, write_struct, zigzag
from strongroom.errors import FormatError, Tampered

MAGIC: Final = b"PAR1"
GAP: Final = 256 * 1024
"""Zeros before the footer: DuckDB fetches this much of a file's end in one piece, and should not hit a column."""
LEAST_BUFFER: Final = 4 * 1024 * 1024
MAX_FREE: Final = 32
_COMPRESSED_SIZE: Final = 3
_CRC: Final = 4
_NEXT_I32: Final = 0x15  # field header: id one higher than the last, type I32

ReadInto = Callable[[int, memoryview], int]
"""Fills the buffer with the encrypted file's bytes from an offset on; returns how many there were."""


class Chunk(NamedTuple):
    """One encrypted column chunk.

    Args:
        start: Offset of its first page, bytes.
        size: Encrypted size, bytes.
        has_dictionary: Whether the first page is a dictionary page.
        row_group: Ordinal of its row group.
        column: Ordinal of its column.
        cipher: Cipher of the key that guards it.
    """

    start: int
    size: int
    has_dictionary: bool
    row_group: int
    column: int
    cipher: AESGCM


class Chunks:
    """The column chunks of a file in the order in which they stand there, field by field: few are ever looked at.

    Args:
        starts: As in `Chunk`, each field of all chunks; ascending.
        sizes: Likewise.
        dictionaries: Likewise, whether the first page is a dictionary page.
        row_groups: Likewise.
        columns: Likewise.
        ciphers: Likewise.
    """

    __slots__ = ("_fields",)

    def __init__(
        self,
        starts: Sequence[int],
        sizes: Sequence[int],
        dictionaries: Sequence[bool],
        row_groups: Sequence[int],
        columns: Sequence[int],
        ciphers: Sequence[AESGCM],
    ) -> None:
        self._fields = (starts, sizes, dictionaries, row_groups, columns, ciphers)

    @classmethod
    def of(cls, chunks: Iterable[Chunk]) -> "Chunks":
        """Chunks in any order."""
        fields = list(zip(*sorted(chunks, key=lambda chunk: chunk.start), strict=True))
        return cls(*fields) if fields else cls((), (), (), (), (), ())

    def __len__(self) -> int:
        return len(self._fields[0])

    def __iter__(self) -> Iterator[Chunk]:
        return map(Chunk, *self._fields)

    def between(self, start: int, end: int) -> Iterator[Chunk]:
        """Chunks of which a part stands between two offsets."""
        starts, sizes = self._fields[:2]
        for index in range(max(bisect_right(starts, start) - 1, 0), len(starts)):
            if starts[index] >= end:
                return
            if starts[index] + sizes[index] > start:
                yield Chunk._make(field[index] for field in self._fields)


class DecryptedFile:
    """Random access to the plaintext form of one encrypted file. Safe to share between threads.

    Column chunks stand at the offsets of their encrypted form and end in zeros where encryption took space.

    Args:
        read_into: Reads the encrypted file.
        file_aad: AAD prefix and unique identifier of the file.
        chunks: Its column chunks that can be read.
        footer: The plaintext footer to show.
        footer_start: Where the encrypted footer starts.
    """

    def __init__(self, read_into: ReadInto, file_aad: bytes, chunks: Chunks, footer: bytes, footer_start: int) -> None:
        self._read_into = read_into
        self._file_aad = file_aad
        self._chunks = chunks
        self._tail = footer + len(footer).to_bytes(4, "little") + MAGIC
        self._tail_start = footer_start + GAP
        self.size = self._tail_start + len(self._tail)

    def read_at(self, offset: int, size: int) -> bytes:
        """Plaintext bytes from an offset on; fewer than `size` only at the end of the file.

        Raises:
            FormatError: A page doesn't follow the format.
            Tampered: A page was altered or moved.
        """
        size = min(size, self.size - offset)
        if size <= 0:
            return b""
        plain = io.BytesIO(bytes(size))
        with plain.getbuffer() as out:
            self._fill(out, offset)
        return plain.getvalue()  # the memory that was filled, not a copy

    def _fill(self, out: memoryview, offset: int) -> None:
        """Fill zeros with what stands there."""
        _place(out, offset, MAGIC, 0)
        for chunk in self._chunks.between(offset, offset + len(out)):
            self._fill_chunk(out, offset, chunk)
        _place(out, offset, self._tail, self._tail_start)

    def _fill_chunk(self, out: memoryview, offset: int, chunk: Chunk) -> None:
        with _buffer(chunk.size) as encrypted:
            if self._read_into(chunk.start, encrypted) != chunk.size:
                raise FormatError("the file ends inside a column", code="parquet.module")
            at = chunk.start - offset
            if at >= 0 and at + chunk.size <= len(out):
                decrypt_chunk(encrypted, self._file_aad, chunk, out[at : at + chunk.size])
            else:
                whole = memoryview(bytearray(chunk.size))
                decrypt_chunk(encrypted, self._file_aad, chunk, whole)
                _place(out, offset, whole, chunk.start)


_free: list[bytearray] = []


@contextmanager
def _buffer(size: int) -> Iterator[memoryview]:
    """Memory that is used again and again, by whichever thread comes next: fresh memory costs more than decryption.

    (Taking from a list and putting back are atomic in CPython.)
    """
    try:
        buffer = _free.pop()
    except IndexError:
        buffer = bytearray()
    if len(buffer) < size:
        buffer = bytearray(max(size, LEAST_BUFFER))
    try:
        yield memoryview(buffer)[:size]
    finally:
        if len(_free) < MAX_FREE:
            _free.append(buffer)


def _place(out: memoryview, offset: int, piece: bytes | memoryview, start: int) -> None:
    """Copy the part of `piece`, which stands at `start`, that falls into `out`, which stands at `offset`."""
    first, last = max(offset, start), min(offset + len(out), start + len(piece))
    if first < last:
        out[first - offset : last - offset] = memoryview(piece)[first - start : last - start]


def decrypt_chunk(encrypted: memoryview, file_aad: bytes, chunk: Chunk, out: memoryview) -> None:
    """Decrypt every page of a column chunk.

    Args:
        encrypted: The chunk's encrypted bytes.
        file_aad: AAD prefix and unique identifier of the file.
        chunk: Which chunk it is.
        out: Zeros, as many as `encrypted` has bytes. Its start takes page headers and pages in plaintext.

    Raises:
        FormatError: The bytes don't follow the format.
        Tampered: A page was altered or moved.
    """
    places = _places(file_aad, chunk)
    position = written = 0
    while position < len(encrypted):
        header_aad, page_aad = next(places)
        header, position = modules.open_module(chunk.cipher, encrypted, position, header_aad)
        nonce, ciphertext, position = modules.module_at(encrypted, position)
        size = len(ciphertext) - modules.TAG_SIZE
        header = _resized(header, size)
        body = written + len(header)
        out[written:body] = header
        try:
            chunk.cipher.decrypt_into(nonce, ciphertext, page_aad, out[body : body + size])
        except InvalidTag:
            raise Tampered(modules.ALTERED, code="parquet.authentication") from None
        written = body + size


def _places(file_aad: bytes, chunk: Chunk) -> Iterator[tuple[bytes, bytes]]:
    """Associated data of each page's header and body, in the order of the pages.

    Raises:
        FormatError: More pages are asked for than 15 bits count.
    """
    where = (chunk.row_group, chunk.column)
    if chunk.has_dictionary:
        yield (
            modules.associated_data(file_aad, modules.DICTIONARY_PAGE_HEADER, *where),
            modules.associated_data(file_aad, modules.DICTIONARY_PAGE, *where),
        )
    for ordinal in range(modules.MAX_ORDINAL + 1):
        yield (
            modules.associated_data(file_aad, modules.DATA_PAGE_HEADER, *where, ordinal),
            modules.associated_data(file_aad, modules.DATA_PAGE, *where, ordinal),
        )
    raise FormatError("a column chunk of more than 32768 pages", code="parquet.ordinal")


def _resized(header: bytes, size: int) -> bytes:
    """The page header with the plaintext size of its page, and without the checksum of the encrypted one.

    Every writer puts type, uncompressed and compressed size first (fields 1 to 3, type I32); they are replaced in
    place, which is ten times faster than decoding the whole struct. Anything else takes the long way.
    """
    if header[0] == _NEXT_I32:
        _, second = read_varint(header, 1)
        if header[second] == _NEXT_I32:
            _, third = read_varint(header, second + 1)
            if header[third] == _NEXT_I32:
                _, rest = read_varint(header, third + 1)
                if header[rest] != _NEXT_I32:  # field 4, the checksum
                    return b"%b%b%b" % (header[: third + 1], zigzag(size), header[rest:])
    fields, _ = read_struct(header)
    fields[_COMPRESSED_SIZE] = Field(I32, size)
    fields.pop(_CRC, None)
    return write_struct(fields)
