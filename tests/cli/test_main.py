"""How every command ends: one `error:` line with a code, a hint, and the status of the table."""

import subprocess
import sys
from pathlib import Path

import pytest

from strongroom import errors, outcome


def strongroom(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "strongroom", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={"PATH": "/usr/bin:/bin"} | environment
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["nix"],
        ["seal"],
        ["key", "create"],
        ["seal", "a", "b", "--nix"],
        ["key", "create", "a/b/c", "--bits", "x"],
        ["--nix"],
    ],
)
def test_wrong_usage_is_one_line_a_hint_and_status_2(arguments: list[str]) -> None:
    done = strongroom(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert lines[0].endswith("[usage]")
    assert lines[1].startswith("hint: strongroom")
    assert len(lines) == 2


def test_an_error_of_ours_ends_with_its_status() -> None:
    done = strongroom("workload", "measure", "absent.toml")
    assert done.returncode == 2
    assert "[workload.file]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_fault_shows_no_traceback_and_ends_with_1() -> None:
    program = (
        "import sys; from strongroom.cli import main as m; from strongroom.workload import template\n"
        "def broken(name): raise ZeroDivisionError('secret text')\n"
        "template.render_template = broken; sys.argv = ['strongroom', 'workload', 'init', 'x']; m.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("error: a fault in Strongroom: ZeroDivisionError [bug]")
    assert "Traceback" not in done.stderr
    assert "secret text" not in done.stderr


@pytest.mark.parametrize("arguments", [["--version"], ["workload", "init", "--help"]])
def test_a_full_disk_under_stdout_is_no_fault_of_ours(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "strongroom", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert done.returncode == 5
    assert done.stderr == "error: standard output or input: No space left on device [file.io]\n"


def test_no_arguments_show_the_help() -> None:
    assert "Commands:" in (done := strongroom()).stdout + done.stderr


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.ConfigurationError("x"), 2),
        (errors.WouldOverwrite("x"), 2),
        (errors.MalformedFile("x"), 3),
        (errors.FormatError("x"), 3),
        (errors.VerificationError("x"), 3),
        (errors.Tampered("x"), 3),
        (errors.PolicyRejected([errors.Finding("a", "b")]), 4),
        (errors.KeyReleaseError("x"), 4),
        (errors.UnavailableError("x"), 5),
        (errors.StrongroomError("x"), 1),
    ],
)
def test_every_kind_of_error_has_its_status(error: errors.StrongroomError, status: int) -> None:
    assert outcome.exit_status(error) == status


def test_a_hostile_name_cannot_write_to_the_terminal() -> None:
    assert outcome.one_line("a\x1b[2Jb\nc\u202e") == "a\\x1b[2Jb\\nc\\u202e"


def test_every_finding_is_printed_on_its_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [errors.Finding("tcb.status", "OutOfDate"), errors.Finding("debug.enabled", "x\ny")]
    outcome.print_error(errors.PolicyRejected(findings, hint="do this"))
    assert capsys.readouterr().err.splitlines() == [
        "error: refused by policy [policy.rejected]",
        "  tcb.status: OutOfDate",
        "  debug.enabled: x\\ny",
        "hint: do this",
    ]


def test_a_missing_file_can_be_caught_as_pythons_own_error() -> None:
    with pytest.raises(FileNotFoundError):
        raise errors.MissingFile("no such file: x")
