"""Arguments that whoever starts a workload adds."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import strongroom
from strongroom.errors import FormatError
from strongroom.workload.arguments import MAX_BYTES, VARIABLE, read_arguments, write_arguments


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=5))
def test_what_is_written_reads_back(arguments: list[str]) -> None:
    assert read_arguments(write_arguments(arguments)) == tuple(arguments)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        "{}",
        '{"arguments":"x"}',
        '{"arguments":[1]}',
        '{"arguments":[["x"]]}',
        '{"arguments":[],"command":["sh"]}',
        '{"arguments":["a"],"arguments":["b"]}',
        '{"arguments":["' + "x" * MAX_BYTES + '"]}',
        "\udcff",
    ],
)
def test_refuses_what_does_not_say_arguments(text: str) -> None:
    with pytest.raises(FormatError):
        read_arguments(text)


def test_added_arguments_stand_behind_those_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["job.py", "measured"])
    monkeypatch.delenv(VARIABLE, raising=False)
    assert strongroom.arguments() == ("measured",)
    monkeypatch.setenv(VARIABLE, write_arguments(["added"]))
    assert strongroom.arguments() == ("measured", "added")


def test_a_malformed_variable_ends_the_program_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "[]")
    with pytest.raises(FormatError):
        strongroom.arguments()
