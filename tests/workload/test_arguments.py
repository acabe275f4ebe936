"""Arguments that whoever starts a workload adds."""

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import strongroom
from strongroom import outcome
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
    monkeypatch.setattr(sys, "excepthook", None)  # `arguments` sets it; the test must not keep that
    monkeypatch.delenv(VARIABLE, raising=False)
    assert strongroom.arguments() == ("measured",)
    monkeypatch.setenv(VARIABLE, write_arguments(["added"]))
    assert strongroom.arguments() == ("measured", "added")


@pytest.mark.parametrize("text", ["[]", "x", '{"arguments": 1}'])
def test_a_malformed_variable_ends_the_program_with_a_line_not_a_traceback(text: str) -> None:
    program = "import strongroom; strongroom.arguments(); print('started')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        env={**os.environ, VARIABLE: text},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (outcome.USAGE, "")
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: STRONGROOM_ARGUMENTS is malformed: ")
    assert error.endswith(" [workload.arguments]")
    assert hint.startswith("hint: ")
