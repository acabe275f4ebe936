"""Canonical JSON: RFC 8785, restricted."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.formats.canonical import MAX_SAFE_INTEGER, canonical_json, parse_json_object

text = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER) | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=20,
)


def test_names_sort_by_utf16_code_units() -> None:
    # RFC 8785 section 3.2.3: the emoji's surrogates sort before U+FB33.
    value: dict[str, int] = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}
    names = list(json.loads(canonical_json(value)))
    assert names == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_known_bytes() -> None:
    assert (
        canonical_json({"b": [1, True, None], "a": 'x"\n\u20ac'}) == '{"a":"x\\"\\n\u20ac","b":[1,true,null]}'.encode()
    )


@given(values)
def test_round_trip(value: object) -> None:
    raw = canonical_json(value)  # type: ignore[arg-type]  # hypothesis' recursive type is wider
    assert json.loads(raw) == value
    assert canonical_json(json.loads(raw)) == raw


@pytest.mark.parametrize(
    "bad", [1.5, float("nan"), 2**53, -(2**53), {1: "x"}, {"a": b"x"}, "\ud800", {"\udc00": 1}, {1}]
)
def test_refuses_values_without_one_canonical_form(bad: object) -> None:
    with pytest.raises(FormatError) as refusal:
        canonical_json(bad)  # type: ignore[arg-type]  # the point of the test
    assert refusal.value.code == "json.not_canonical"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"1",
        b"{",
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b"\xff{}",
        b"[" * 100_000,
        b'{"a":1} x',
    ],
)
def test_parse_refuses_what_is_not_one_plain_object(raw: bytes) -> None:
    with pytest.raises(FormatError) as refusal:
        parse_json_object(raw, max_bytes=1_000_000)
    assert refusal.value.code == "json.malformed"


def test_parse_refuses_a_text_over_the_bound_before_parsing() -> None:
    with pytest.raises(FormatError) as refusal:
        parse_json_object(b"{}" + b" " * 99, max_bytes=100)
    assert refusal.value.code == "json.too_long"


@given(st.binary(max_size=300))
def test_parse_is_total(raw: bytes) -> None:
    try:
        parse_json_object(raw, max_bytes=200)
    except FormatError as error:
        assert error.code in {"json.malformed", "json.too_long"}
