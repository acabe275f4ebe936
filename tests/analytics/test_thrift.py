"""Thrift's compact protocol: what is written is read again, and no bytes get anything but FormatError out."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.analytics.parquet.thrift import (
    BINARY,
    DOUBLE,
    FALSE,
    I8,
    I16,
    I32,
    I64,
    LIST,
    STRUCT,
    TRUE,
    Field,
    Items,
    read_struct,
    read_varint,
    varint,
    write_struct,
    zigzag,
)
from strongroom.errors import FormatError

I64_VALUES = st.integers(-(2**63), 2**63 - 1)
SCALARS = st.one_of(
    st.tuples(st.sampled_from([I16, I32, I64]), I64_VALUES),
    st.tuples(st.just(I8), st.binary(min_size=1, max_size=1)),
    st.tuples(st.just(BINARY), st.binary(max_size=40)),
    st.tuples(st.just(DOUBLE), st.binary(min_size=8, max_size=8)),
    st.booleans().map(lambda b: (TRUE if b else FALSE, b)),
).map(lambda pair: Field(*pair))


def lists(children: Any) -> Any:
    return st.one_of(
        st.lists(I64_VALUES, max_size=40).map(lambda v: Field(LIST, Items(I64, v))),
        st.lists(st.binary(max_size=5), max_size=20).map(lambda v: Field(LIST, Items(BINARY, v))),
        st.lists(st.booleans(), max_size=20).map(lambda v: Field(LIST, Items(TRUE, v))),
        st.lists(children, max_size=4).map(lambda v: Field(LIST, Items(STRUCT, v))),
    )


STRUCTS: Any = st.recursive(
    st.dictionaries(st.integers(1, 40), SCALARS, max_size=6),
    lambda inner: st.dictionaries(
        st.integers(1, 2000), st.one_of(SCALARS, lists(inner), inner.map(lambda s: Field(STRUCT, s))), max_size=5
    ),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None)
@given(STRUCTS)
def test_what_is_written_is_read_again(struct: Any) -> None:
    raw = write_struct(struct)
    again, end = read_struct(raw)
    assert end == len(raw)
    assert again == struct


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_struct_or_a_format_error(raw: bytes) -> None:
    try:
        read_struct(raw)
    except FormatError:
        pass


@settings(max_examples=100, deadline=None)
@given(STRUCTS, st.data())
def test_a_cut_struct_is_refused(struct: Any, data: st.DataObject) -> None:
    raw = write_struct(struct)
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(FormatError):
        read_struct(raw[:cut])


def test_known_bytes() -> None:
    # Parquet PageHeader: type DATA_PAGE, uncompressed 300, compressed 100 (compact protocol, field deltas of 1).
    assert read_struct(bytes.fromhex("1500 15d804 15c801 00".replace(" ", "")))[0] == {
        1: Field(I32, 0),
        2: Field(I32, 300),
        3: Field(I32, 100),
    }


def test_refuses_a_varint_without_end() -> None:
    with pytest.raises(FormatError):
        read_varint(b"\xff" * 20, 0)


def test_refuses_a_list_longer_than_its_bytes() -> None:
    with pytest.raises(FormatError):
        read_struct(b"\x19\xf8" + varint(2**40))


def test_refuses_structs_nested_without_end() -> None:
    with pytest.raises(FormatError, match="nested"):
        read_struct(b"\x1c" * 100_000)


def test_refuses_maps() -> None:
    with pytest.raises(FormatError, match="type 11"):
        read_struct(b"\x1b\x00\x00")


def test_zigzag() -> None:
    assert [zigzag(value) for value in (0, -1, 1, -2)] == [b"\x00", b"\x01", b"\x02", b"\x03"]


@settings(max_examples=200, deadline=None)
@given(STRUCTS, st.integers(0, 6))
def test_what_is_not_decoded_is_written_as_it_was(struct: Any, depth: int) -> None:
    raw = write_struct(struct)
    shallow, end = read_struct(raw, depth=depth)
    assert end == len(raw)
    assert write_struct(shallow) == raw


@settings(max_examples=100, deadline=None)
@given(STRUCTS, st.data(), st.integers(0, 3))
def test_a_cut_struct_is_refused_at_any_depth(struct: Any, data: st.DataObject, depth: int) -> None:
    raw = write_struct(struct)
    with pytest.raises(FormatError):
        read_struct(raw[: data.draw(st.integers(0, len(raw) - 1))], depth=depth)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 3))
def test_any_bytes_at_any_depth_give_a_struct_or_a_format_error(raw: bytes, depth: int) -> None:
    try:
        read_struct(raw, depth=depth)
    except FormatError:
        pass
