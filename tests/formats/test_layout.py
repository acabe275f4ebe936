"""Layout tables: no gap, no overlap, right total size; reader and writer are strict."""

from itertools import pairwise

import pytest

from strongroom.errors import FormatError
from strongroom.formats.layout import Field, Reader, Table, little_bytes, read, size_of, write
from strongroom.formats.quote import HEADER, PCK_IDENTIFIER_TAIL
from strongroom.formats.report import SGX_REPORT, TD_REPORT_10, TD_REPORT_15

TABLES = {
    "header": (HEADER, 48),
    "sgx": (SGX_REPORT, 384),
    "td10": (TD_REPORT_10, 584),
    "td15": (TD_REPORT_15, 648),
    "pck identifier": (PCK_IDENTIFIER_TAIL, 20),
}
TINY: Table = (Field("a", 0, 2), Field("reserved_1", 2, 1), Field("b", 3, 1))


@pytest.mark.parametrize("name", TABLES)
def test_table_covers_every_byte_once(name: str) -> None:
    table, size = TABLES[name]
    assert table[0].offset == 0
    for before, after in pairwise(table):
        assert before.offset + before.size == after.offset, (before.name, after.name)
    assert size_of(table) == size
    assert len({field.name for field in table}) == len(table)


def test_reads_what_it_wrote() -> None:
    raw = write(TINY, {"a": b"xy", "b": b"z"})
    assert raw == b"xy\0z"
    assert read(TINY, raw) == {"a": b"xy", "b": b"z"}


@pytest.mark.parametrize("raw", [b"", b"xy\0", b"xy\0zz"])
def test_refuses_another_length(raw: bytes) -> None:
    with pytest.raises(FormatError, match="expected 4") as refusal:
        read(TINY, raw, what="tiny thing")
    assert refusal.value.code == "tiny_thing.length"


def test_refuses_reserved_byte_that_is_set() -> None:
    with pytest.raises(FormatError, match="offset 2") as refusal:
        read(TINY, b"xy\x01z", what="tiny")
    assert refusal.value.code == "tiny.reserved"


@pytest.mark.parametrize(
    "values", [{"a": b"xy"}, {"a": b"xy", "b": b"z", "c": b""}, {"a": b"x", "b": b"z"}, {"a": b"xy", "b": b""}]
)
def test_refuses_to_write_missing_unknown_or_missized_fields(values: dict[str, bytes]) -> None:
    with pytest.raises(FormatError) as refusal:
        write(TINY, values, what="tiny")
    assert refusal.value.code == "tiny.field"


@pytest.mark.parametrize(("value", "size"), [(256, 1), (-1, 4), (1 << 64, 8)])
def test_refuses_number_that_does_not_fit(value: int, size: int) -> None:
    with pytest.raises(FormatError) as refusal:
        little_bytes(value, size, what="n")
    assert refusal.value.code == "format.integer"


def test_reader_names_the_offset_of_a_truncation() -> None:
    reader = Reader(b"abcd", what="thing", start=100)
    assert reader.number(2, "n") == 0x6261
    with pytest.raises(FormatError, match="x at offset 102 needs 3 bytes, 2 left") as refusal:
        reader.take(3, "x")
    assert refusal.value.code == "thing.truncated"


def test_reader_refuses_to_finish_early() -> None:
    reader = Reader(b"abcd", what="thing")
    reader.take(1, "x")
    with pytest.raises(FormatError, match="3 bytes too many at offset 1") as refusal:
        reader.finish()
    assert refusal.value.code == "thing.trailing"
