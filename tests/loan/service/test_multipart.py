from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.loan.service.multipart import MAX_HEAD_BYTES, MultipartReader, Part, boundary_of

BOUNDARY = b"b0undary"
Read = list[tuple[Part, bytes]]


def read(body: bytes, cuts: tuple[int, ...] = ()) -> Read:
    parts: list[tuple[Part, bytearray]] = []

    def data(piece: bytes) -> None:
        parts[-1][1].extend(piece)

    reader = MultipartReader(BOUNDARY, lambda part: parts.append((part, bytearray())), data)
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for start, stop in pairwise(edges):
        reader.feed(body[start:stop])
    reader.finish()
    return [(part, bytes(content)) for part, content in parts]


def serialize(parts: Read) -> bytes:
    body = b""
    for part, content in parts:
        head = b'Content-Disposition: form-data; name="' + escape(part.name) + b'"'
        if part.filename is not None:
            head += b'; filename="' + escape(part.filename) + b'"\r\nContent-Type: text/csv'
        body += b"--" + BOUNDARY + b"\r\n" + head + b"\r\n\r\n" + content + b"\r\n"
    return body + b"--" + BOUNDARY + b"--\r\n"


def escape(text: str) -> bytes:
    return text.replace("\\", "\\\\").replace('"', '\\"').encode()


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=20)
contents = st.one_of(
    st.binary(max_size=60), st.sampled_from([b"\r\n", b"\r\n--", b"\r\n--b0undar", b"--b0undary", b""])
)
forms = st.lists(
    st.tuples(st.builds(Part, texts, st.none() | texts), contents.filter(lambda c: b"\r\n--" + BOUNDARY not in c)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200, deadline=None)
@given(forms, st.lists(st.integers(0, 10_000), max_size=12))
def test_reads_what_was_written_however_it_is_cut(parts: Read, cuts: list[int]) -> None:
    assert read(serialize(parts), tuple(cuts)) == parts


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=200) | st.builds(lambda a, b: serialize([(Part("x", None), a)])[:-b], st.binary(), st.just(3))
)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        read(body)
    except FormatError as error:
        assert error.code in {"form.malformed", "form.encoding"}


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_any_content_type_has_a_boundary_or_is_refused(header: str) -> None:
    try:
        assert 1 <= len(boundary_of(header)) <= 70
    except FormatError as error:
        assert error.code == "form.media_type"


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        ("multipart/form-data; boundary=------------------------d74496d66958873e", b"-" * 24 + b"d74496d66958873e"),
        ('Multipart/Form-Data;boundary="a b"', b"a b"),
        ("multipart/form-data; boundary=x ", b"x"),
    ],
)
def test_reads_the_boundaries_that_clients_send(header: str, boundary: bytes) -> None:
    assert boundary_of(header) == boundary


@pytest.mark.parametrize(
    "header",
    [
        "",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=x",
        "multipart/form-data; boundary=" + "x" * 71,
        'multipart/form-data; boundary="x "',
        "multipart/form-data; boundary=x; boundary=y",
        "multipart/form-data; boundary=x\r\nX: y",
        "application/json",
    ],
)
def test_refuses_a_content_type_without_one_boundary(header: str) -> None:
    with pytest.raises(FormatError):
        boundary_of(header)


GOOD = b'--b0undary\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b0undary--'


def test_reads_a_form_as_small_as_can_be() -> None:
    assert read(GOOD) == [(Part("a", None), b"x")]
    assert read(b"--b0undary--") == []


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda good: good[:-2],
    "preamble": lambda good: b"hello\r\n" + good,
    "epilogue": lambda good: good + b"\r\nmore",
    "long epilogue": lambda good: good + b"\r\n" * 200,
    "junk after the boundary": lambda good: good.replace(b"b0undary\r\n", b"b0undary \r\n"),
    "no name": lambda good: good.replace(b'; name="a"', b""),
    "two names": lambda good: good.replace(b'; name="a"', b'; name="a"; name="b"'),
    "two dispositions": lambda good: good.replace(b"\r\n\r\n", b'\r\nContent-Disposition: form-data; name="b"\r\n\r\n'),
    "not form data": lambda good: good.replace(b"form-data", b"attachment"),
    "extended name": lambda good: good.replace(b'name="a"', b"name=\"a\"; filename*=UTF-8''x"),
    "head without colon": lambda good: good.replace(b"\r\n\r\n", b"\r\nhello\r\n\r\n"),
    "endless head": lambda good: good.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n"),
    "name not text": lambda good: good.replace(b'"a"', b'"\xff"'),
    "open quote": lambda good: good.replace(b'"a"', b'"a'),
}


@pytest.mark.parametrize("change", CHANGES)
def test_refuses_a_body_that_is_not_exactly_a_form(change: str) -> None:
    with pytest.raises(FormatError) as refused:
        read(CHANGES[change](GOOD))
    assert refused.value.code == "form.malformed"


def test_holds_no_more_than_a_chunk_and_a_boundary() -> None:
    kept: list[int] = []
    reader: Any = MultipartReader(BOUNDARY, lambda _part: None, lambda _piece: None)
    reader.feed(b'--b0undary\r\nContent-Disposition: form-data; name="a"\r\n\r\n')
    for _ in range(100):
        reader.feed(b"\r\n--b0undar" * 1000)
        kept.append(len(reader._buffer))
    assert max(kept) < 64
