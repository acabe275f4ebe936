"""Strict reading of JSON objects: wrong types, ranges, spellings and unknown members are refused."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest

from strongroom.errors import FormatError
from strongroom.formats.members import Members, timestamp


def members(value: object) -> Members:
    return Members(value, what="thing", code="test.malformed")


READERS: dict[str, tuple[Callable[[Members], object], object, list[object]]] = {
    "text": (lambda m: m.text("x", max_length=3), "abc", ["abcd", 1, None, b"abc", ["a"]]),
    "number": (lambda m: m.number("x", maximum=9), 9, [10, -1, True, 1.0, "1", None]),
    "boolean": (lambda m: m.boolean("x"), True, [1, 0, "true", None]),
    "octets": (lambda m: m.octets("x", 2), "aBcd", ["abc", "abcdef", "ab cd", "zz00", "0x00", 12, "ab\n"]),
    "octets of any length": (lambda m: m.octets("x", max_bytes=2), "", ["a", "abcdef", "é0"]),
    "items": (lambda m: m.items("x", max_items=1), ["a"], [["a", "b"], "a", {"a": 1}, None]),
    "texts": (lambda m: m.texts("x", max_items=2, max_length=1), ["a"], [["ab"], [1], [["a"]], ["a", "b", "c"]]),
    "moment": (
        lambda m: m.moment("x"),
        "2026-11-21T10:00:00Z",
        ["2026-11-21", "2026-11-21T10:00:00", "2026-11-21T10:00:00+00:00", "2026-13-21T10:00:00Z", 0, ""],
    ),
}


@pytest.mark.parametrize("name", READERS)
def test_reads_the_right_type_only(name: str) -> None:
    read, good, bad = READERS[name]
    read(members({"x": good}))
    for value in bad:
        with pytest.raises(FormatError) as refusal:
            read(members({"x": value}))
        assert refusal.value.code == "test.malformed"
        assert "x" in str(refusal.value)


@pytest.mark.parametrize("name", READERS)
def test_refuses_missing_member(name: str) -> None:
    with pytest.raises(FormatError, match="is missing"):
        READERS[name][0](members({}))


def test_refuses_unknown_member_at_the_end() -> None:
    reader = members({"x": 1, "y": 2})
    assert "y" in reader
    reader.number("x")
    with pytest.raises(FormatError, match="'y' is unknown"):
        reader.finish()


@pytest.mark.parametrize("value", [None, [], "x", 1, {1: 2}])
def test_refuses_what_is_no_object(value: object) -> None:
    with pytest.raises(FormatError):
        members(value)


def test_timestamp_is_utc_and_read_back() -> None:
    moment = datetime(2026, 11, 21, 12, 30, 5, 999, tzinfo=timezone(timedelta(hours=2)))
    assert timestamp(moment) == "2026-11-21T10:30:05Z"
    assert members({"x": timestamp(moment)}).moment("x") == datetime(2026, 11, 21, 10, 30, 5, tzinfo=UTC)
    with pytest.raises(FormatError):
        timestamp(datetime(2026, 11, 21))  # noqa: DTZ001 - the fault under test
