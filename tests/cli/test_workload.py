"""`strongroom workload` and `strongroom platform`: stdout is data, stderr is talk, the exit status says the rest."""

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from strongroom.cli.main import main
from strongroom.platforms.gramine import GraminePlatform
from strongroom.platforms.simulated import SimulatedMachine

SECRET = "correct-horse-battery-staple"


class Result(NamedTuple):
    status: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs one command in this process, in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("STRONGROOM_")]:
        monkeypatch.delenv(name)

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["strongroom", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return Result(int(end.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A workload that prints what it was started with and ends with status 7."""
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "job.py").write_text(
        "import json, os, sys\n"
        "print(json.dumps({'environment': dict(os.environ), 'arguments': sys.argv[1:], 'folder': os.getcwd()}))\n"
        "sys.exit(7)\n"
    )
    path = tmp_path / "job" / "job.toml"
    path.write_text(
        'name = "job"\ncommand = ["python3", "job.py", "--fixed"]\nproduct_id = 1\nsecurity_version = 1\n'
        'trusted_files = ["job.py"]\n[environment]\nANSWER = "42"\n'
    )
    return path


def start(tmp_path: Path, *arguments: str, **variables: str) -> Result:
    """Starts a command in a process of its own: `run` replaces the process."""
    environment = {"PATH": os.defpath, "SECRET_TOKEN": SECRET, "STRONGROOM_ADMIN_KEY": SECRET, **variables}
    done = subprocess.run(
        [sys.executable, "-m", "strongroom", "workload", "run", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Result(done.returncode, done.stdout, done.stderr)


class TestInit:
    def test_writes_a_definition_that_reads_back(self, command: Command, tmp_path: Path) -> None:
        result = command("workload", "init", "loan-train")
        assert (result.status, result.out) == (0, "")
        shown = json.loads(command("workload", "show", "loan-train.toml").out)
        assert shown["name"] == "loan-train"
        assert (tmp_path / "loan-train.toml").read_text().count("#") > 5

    def test_refuses_to_overwrite(self, command: Command, tmp_path: Path) -> None:
        (tmp_path / "a.toml").write_text("mine")
        result = command("workload", "init", "a")
        assert result.status == 2
        assert "error: a.toml exists [output.exists]\nhint: --force" in result.err
        assert (tmp_path / "a.toml").read_text() == "mine"

    def test_force_overwrites(self, command: Command, tmp_path: Path) -> None:
        (tmp_path / "b.toml").write_text("mine")
        assert command("workload", "init", "a", "--output", "b.toml", "--force").status == 0
        assert 'name = "a"' in (tmp_path / "b.toml").read_text()

    @pytest.mark.parametrize("name", ["../a", "A", "a/b", "a b", "a\n", '"', "{name}"])
    def test_refuses_name(self, command: Command, tmp_path: Path, name: str) -> None:
        assert command("workload", "init", name).status == 2
        assert list(tmp_path.iterdir()) == []

    def test_refuses_absent_folder(self, command: Command) -> None:
        result = command("workload", "init", "a", "--output", "absent/a.toml")
        assert result.status == 2
        assert "[output.unwritable]" in result.err


class TestMeasure:
    def test_text_and_json_agree_and_say_simulated(self, command: Command, job: Path) -> None:
        text = command("workload", "measure", str(job))
        assert text.status == 0
        lines = dict(line.split(maxsplit=1) for line in text.out.splitlines())
        values = json.loads(command("workload", "measure", str(job), "--json").out)
        assert lines == {name: str(value).lower() for name, value in values.items()}
        assert values["simulated"] is True
        assert re.fullmatch("[0-9a-f]{64}", values["mr_enclave"])

    def test_files(self, command: Command, job: Path) -> None:
        text = command("workload", "measure", str(job), "--files").out
        values = json.loads(command("workload", "measure", str(job), "--files", "--json").out)
        assert list(values["files"]) == ["file:job.py"]
        assert text.endswith(f"{values['files']['file:job.py']}  file:job.py\n")

    def test_changed_code_changes_it(self, command: Command, job: Path) -> None:
        before = command("workload", "measure", str(job)).out
        (job.parent / "job.py").write_text("print()\n")
        assert command("workload", "measure", str(job)).out != before

    def test_hostile_file_name_does_not_reach_the_terminal(self, command: Command, job: Path) -> None:
        (job.parent / "job.py").unlink()
        (job.parent / "\x1b[2Jx.py").write_text("")
        job.write_text(job.read_text().replace('trusted_files = ["job.py"]', 'trusted_files = ["*.py"]'))
        result = command("workload", "measure", str(job), "--files")
        assert result.status == 0
        assert "\x1b" not in result.out

    def test_missing_definition(self, command: Command) -> None:
        result = command("workload", "measure", "absent.toml")
        assert result.status == 2
        assert result.out == ""
        assert "[workload.file]" in result.err
        assert "hint: " in result.err

    def test_malformed_definition(self, command: Command, job: Path) -> None:
        job.write_text(job.read_text() + "[resources]\nmemroy = '1GiB'\n")
        result = command("workload", "measure", str(job))
        assert (result.status, result.out) == (2, "")
        assert "resources.memroy" in result.err
        assert "did you mean 'memory'?" in result.err


class TestRun:
    def test_only_declared_environment_and_settings(self, tmp_path: Path, job: Path) -> None:
        result = start(tmp_path, str(job), "--room", "here", "--storage", "there")
        started = json.loads(result.out)
        environment = started["environment"]
        environment.pop("LC_CTYPE", None)  # Python sets it for itself in the C locale (PEP 538)
        assert environment == {
            "ANSWER": "42",
            "STRONGROOM_WORKLOAD": str(job),
            "STRONGROOM_ROOM": str(tmp_path / "here"),
            "STRONGROOM_STORAGE": str(tmp_path / "there"),
            "STRONGROOM_PLATFORM": "auto",
        }
        assert started["arguments"] == ["--fixed"]
        assert started["folder"] == str(job.parent)

    def test_exit_status_is_the_commands_own(self, tmp_path: Path, job: Path) -> None:
        assert start(tmp_path, str(job)).status == 7

    def test_says_simulated(self, tmp_path: Path, job: Path) -> None:
        SimulatedMachine.create(tmp_path / "machine", _now())
        result = start(tmp_path, str(job), "--platform", "simulated", "--simulated-machine", "machine")
        assert "platform: simulated" in result.err
        environment = json.loads(result.out)["environment"]
        assert environment["STRONGROOM_SIMULATED_MACHINE"] == str(tmp_path / "machine")
        assert environment["STRONGROOM_PLATFORM"] == "simulated"

    def test_says_nothing_of_the_sort_otherwise(self, tmp_path: Path, job: Path) -> None:
        assert "simulated" not in start(tmp_path, str(job), STRONGROOM_SIMULATED_MACHINE="machine").err

    def test_settings_come_from_the_environment_too(self, tmp_path: Path, job: Path) -> None:
        environment = json.loads(start(tmp_path, str(job), STRONGROOM_ROOM="/r", STRONGROOM_STORAGE="/s").out)
        assert environment["environment"]["STRONGROOM_ROOM"] == "/r"
        assert environment["environment"]["STRONGROOM_STORAGE"] == "/s"

    def test_hands_on_what_spark_on_kubernetes_says_and_no_other_variable(self, tmp_path: Path, job: Path) -> None:
        said = json.loads(start(tmp_path, str(job), STRONGROOM_SPARK_CALL="YQA=.", SPARK_JAVA_OPT_0="-Dx=y").out)
        assert said["environment"]["STRONGROOM_SPARK_CALL"] == "YQA=."
        assert "SPARK_JAVA_OPT_0" not in said["environment"]

    def test_refuses_arguments_that_would_not_be_measured(self, tmp_path: Path, job: Path) -> None:
        result = start(tmp_path, str(job), "--", "--output=/tmp/plain")
        assert (result.status, result.out) == (2, "")
        assert "[workload.arguments]" in result.err

    def test_appends_arguments_where_the_definition_says_so(self, tmp_path: Path, job: Path) -> None:
        job.write_text("insecure_host_arguments = true\n" + job.read_text())
        assert json.loads(start(tmp_path, str(job), "--", "-x", "y z").out)["arguments"] == ["--fixed", "-x", "y z"]

    def test_simulated_needs_a_machine(self, tmp_path: Path, job: Path) -> None:
        result = start(tmp_path, str(job), "--platform", "simulated")
        assert (result.status, result.out) == (2, "")
        assert "[platform.simulated_machine]" in result.err

    @pytest.mark.parametrize("platform", ["none", "SIMULATED", "gramine"])
    def test_refuses_platform(self, tmp_path: Path, job: Path, platform: str) -> None:
        assert start(tmp_path, str(job), "--platform", platform).status == 2

    @pytest.mark.parametrize("program", ["no-such-program", "./absent", "job.py/x"])
    def test_refuses_absent_program(self, tmp_path: Path, job: Path, program: str) -> None:
        job.write_text(job.read_text().replace('"python3"', f'"{program}"'))
        result = start(tmp_path, str(job))
        assert (result.status, result.out) == (2, "")
        assert "[workload.program]" in result.err

    def test_program_is_looked_for_in_the_declared_path_only(self, tmp_path: Path, job: Path) -> None:
        tool = tmp_path / "bin" / "tool"
        tool.parent.mkdir()
        tool.write_text("#!/bin/sh\necho tool $1\n")
        tool.chmod(0o755)
        job.write_text(job.read_text().replace('"python3"', '"tool"'))
        assert start(tmp_path, str(job), PATH=str(tool.parent)).status == 2
        job.write_text(job.read_text() + f'PATH = "{tool.parent}"\n')
        assert start(tmp_path, str(job)).out == "tool job.py\n"

    def test_program_beside_the_definition(self, tmp_path: Path, job: Path) -> None:
        script = job.parent / "job.sh"
        script.write_text("#!/bin/sh\necho beside\n")
        script.chmod(0o755)
        job.write_text(job.read_text().replace('"python3"', '"./job.sh"'))
        assert start(tmp_path, str(job)).out == "beside\n"

    def test_refuses_file_that_can_not_be_executed(self, tmp_path: Path, job: Path) -> None:
        broken = job.parent / "broken"
        broken.write_bytes(b"\x7fELF")
        broken.chmod(0o755)
        job.write_text(job.read_text().replace('"python3"', '"./broken"'))
        result = start(tmp_path, str(job))
        assert (result.status, result.out) == (2, "")
        assert "[workload.program]" in result.err


class TestPlatform:
    def test_detect_prints_what_was_found(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("strongroom.platforms.detect.detect", lambda **_places: GraminePlatform())
        assert command("platform", "detect") == Result(0, "gramine\n", "")
        assert json.loads(command("platform", "detect", "--json").out) == {"platform": "gramine", "tee": "sgx"}

    def test_detect_finds_nothing(self, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("strongroom.platforms.detect.detect", lambda **_places: None)
        result = command("platform", "detect")
        assert (result.status, result.out) == (0, "none\n")
        assert "hint: " in result.err
        assert json.loads(command("platform", "detect", "--json").out) == {"platform": "none", "tee": None}

    def test_simulate_makes_a_machine(self, command: Command, tmp_path: Path) -> None:
        result = command("platform", "simulate", "machine")
        assert (result.status, result.out) == (0, "")
        assert "protects nothing" in result.err
        SimulatedMachine.load(tmp_path / "machine")
        assert stat.S_IMODE((tmp_path / "machine").stat().st_mode) == 0o700

    def test_simulate_refuses_to_overwrite(self, command: Command) -> None:
        command("platform", "simulate", "machine")
        result = command("platform", "simulate", "machine")
        assert result.status == 2
        assert "[simulated.exists]" in result.err

    @pytest.mark.parametrize("noun", ["workload", "platform"])
    def test_help_names_the_verbs_and_examples(self, command: Command, noun: str) -> None:
        text = command(noun, "--help").out
        verbs = {"workload": ["init", "measure", "show", "run"], "platform": ["detect", "simulate"]}[noun]
        for verb in verbs:
            assert re.search(rf"^  {verb} ", text, re.MULTILINE)
            shown = command(noun, verb, "--help").out
            assert f"Example: strongroom {noun} {verb}" in shown
            assert "Raises" not in shown


def _now() -> datetime:
    return datetime.now(UTC)
