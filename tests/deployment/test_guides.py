"""Every command of the deployment guides is one that exists, and what can run here does, in order, as written."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from strongroom.cli.main import app
from strongroom.cli.trial import free_port
from strongroom.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
GUIDES = [
    ROOT / "docs" / "deployment.md",
    *(ROOT / "docs" / "guides" / f"{name}.md"
      for name in ("pipeline", "azure", "deploy-loan", "deploy-serving", "deploy-spark")),
]  # fmt: skip
OTHERS = {"az", "kubectl", "cd", "mkdir", "export", "spark-submit", "docker", "sed"}
START_S = 60


def console(path: Path) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", path.read_text(), re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def commands(path: Path) -> list[str]:
    """Every command of a page: of its console blocks, its indented blocks and its inline code."""
    text = path.read_text()
    indented = [line.strip() for line in re.findall(r"^ {4}(?: {4})?(\S.*)$", text, re.MULTILINE)]
    inline = [" ".join(found.split()) for found in re.findall(r"`(strongroom [^`]+)`", text)]
    found = [*console(path), *indented, *inline]
    return [line.partition(" #")[0].strip() for line in found if line.split()[0] in {"strongroom", *OTHERS}]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_every_command_and_option_exists(guide: Path) -> None:
    lines = commands(guide)
    assert lines
    for line in lines:
        words = [word for word in shlex.split(line.removesuffix("&")) if word != "..."]
        if words[0] != "strongroom":
            continue
        group: Any = typer.main.get_command(app)
        words = words[1:]
        while hasattr(group, "get_command") and words and not words[0].startswith("-"):
            found = group.get_command(None, words[0])
            if found is None:
                break
            group, words = found, words[1:]
        if hasattr(group, "get_command") and getattr(group, "commands", None) and len(group.commands) == 1:
            group = next(iter(group.commands.values()))
        options = {name for parameter in group.params for name in parameter.opts} | {"--help"}
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in options, f"{guide.name}: {line}"


def test_the_first_page_says_what_azure_takes_away_and_what_there_is_instead() -> None:
    first = GUIDES[0].read_text()[:1800]
    for word in ("2029-10-31", "2026-11-01", "simulated", "SEV-SNP", "TDX", "whole node"):
        assert word in first, word


def test_the_policy_of_a_node_in_the_guide_is_one(tmp_path: Path) -> None:
    from strongroom.attestation.policy import VtpmIdentity
    from strongroom.cli.policy_file import load_policy

    text = (ROOT / "docs" / "guides" / "deploy-loan.md").read_text().partition("It becomes, for SEV-SNP:\n\n")[2]
    lines = re.match(r"(?: {4}.*\n|\n)+", text)
    assert lines is not None
    policy = re.sub(r"^ {4}", "", lines[0], flags=re.MULTILINE)
    (tmp_path / "node.toml").write_text(policy.replace("96 digits", "5a" * 48).replace("64 digits", "04" * 32))
    (identity,) = load_policy(tmp_path / "node.toml").measurements
    assert isinstance(identity, VtpmIdentity)
    assert set(identity.pcrs) == {4, 7}


@pytest.mark.parametrize("size", ["Standard_DC4as_v6", "Standard_DC4s_v3"])
def test_a_site_that_is_filled_in_validates(tmp_path: Path, size: str) -> None:
    from strongroom.cli.deploy import app as deploy

    def strongroom(*words: str) -> None:
        done = CliRunner().invoke(deploy, list(words))
        assert done.exit_code == 0, (words, done.output, done.exception)

    site = tmp_path / "site" / "site.toml"
    strongroom("init", str(site.parent), "--node-size", size)
    fill_in(site)
    room = tmp_path / "broker" / "room"
    room.mkdir(parents=True)
    (room / "room.toml").write_text('url = "https://broker.strongroom-broker.svc:8443"\n')
    (room / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    strongroom("validate", str(site))
    strongroom("validate", str(site), "--overlay", "simulated")
    strongroom("render", str(site), "--tree", str(tmp_path / "tree"))
    strongroom("render", str(site), "--spark", str(tmp_path / "spark"))
    mounted = "/run/strongroom-evidence" if "as_v6" in size else "/var/run/aesmd"
    assert mounted in (tmp_path / "spark" / "executor.yaml").read_text()


def test_the_commands_that_bring_secrets_hold_none(tmp_path: Path) -> None:
    from strongroom.cli.deploy import app as deploy

    site = tmp_path / "site" / "site.toml"
    CliRunner().invoke(deploy, ["init", str(site.parent)])
    fill_in(site)
    broker = tmp_path / "broker"
    for name in ("room/room.toml", "room/ca.pem", "broker.toml", "root.key", "collateral/amd/snp-genoa.json"):
        (broker / name).parent.mkdir(parents=True, exist_ok=True)
        (broker / name).write_text('url = "https://b:8443"\n' if name.endswith("room.toml") else "value")
    done = CliRunner().invoke(deploy, ["secrets", str(site), "--broker", str(broker)])
    assert done.exit_code == 0, done.exception
    lines = done.stdout.splitlines()
    assert f"--from-file=collateral.amd.snp-genoa.json={broker}/collateral/amd/snp-genoa.json" in lines[1]
    assert lines[2].endswith(f"strongroom-broker-root-key --from-file={broker}/root.key")
    assert "value" not in done.stdout
    assert "owner" not in done.stdout
    assert "ca.key" not in done.stdout
    vault = CliRunner().invoke(deploy, ["secrets", str(site), "--broker", str(broker), "--component", "key-vault"])
    assert "root.key" not in vault.stdout
    for wrong in (["--broker", str(tmp_path)], ["--broker", str(broker), "--overlay", "simulated"]):
        assert isinstance(CliRunner().invoke(deploy, ["secrets", str(site), *wrong]).exception, ConfigurationError)


class Shell:
    """Runs lines in one folder; a line that ends in `&` goes on in the background."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder)}
        self.background: list[subprocess.Popen[bytes]] = []

    def run(self, line: str) -> None:
        if line.startswith("export "):
            self.environment |= dict(pair.split("=", 1) for pair in line.removeprefix("export ").split())
        elif line.endswith("&"):
            ready = self.folder / "ready"
            words = [*shlex.split(line.removesuffix("&")), "--ready-file", str(ready)]
            with (self.folder / "broker.log").open("wb") as log:
                server = subprocess.Popen(words, cwd=self.folder, env=self.environment, stdout=log, stderr=log)
            self.background.append(server)
            deadline = time.monotonic() + START_S
            while not ready.exists():
                assert server.poll() is None, "the broker ended"
                assert time.monotonic() < deadline, "the broker does not start"
                os.sched_yield()
        else:
            # Two sessions may run on one machine: the port is not the default one here.
            line = line.replace("broker init broker", f"broker init broker --port {free_port()}")
            done = subprocess.run(
                shlex.split(line), cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
                timeout=500,
            )  # fmt: skip
            assert done.returncode == 0, f"{line}\n{done.stderr}"

    def close(self) -> None:
        for server in self.background:
            server.terminate()
            server.wait(30)


@pytest.fixture
def shell(tmp_path: Path) -> Any:
    made = Shell(tmp_path)
    yield made
    made.close()


TRIAL = [
    "strongroom platform simulate machine",
    "strongroom broker init broker --allow-simulated --simulated-machine machine",
    "strongroom broker serve broker &",
    "export STRONGROOM_OWNER=broker/owner",
    "strongroom deploy init site",
]


def fill_in(site: Path) -> None:
    text = site.read_text().replace("0" * 64, "a" * 64)
    site.write_text(text)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deploy-loan", "deploy-serving", "deploy-spark"])
def test_the_guide_s_session_runs_as_written(shell: Shell, name: str) -> None:
    for line in TRIAL:
        shell.run(line)
    fill_in(shell.folder / "site" / "site.toml")
    lines = console(ROOT / "docs" / "guides" / f"{name}.md")
    assert len(lines) >= 5
    for line in lines:
        shell.run(line)


@pytest.mark.slow
def test_the_azure_guide_s_session_runs_as_written(shell: Shell) -> None:
    for line in console(ROOT / "docs" / "guides" / "azure.md"):
        shell.run(line)
    fill_in(shell.folder / "site" / "site.toml")
    shell.run("strongroom deploy validate site/site.toml")


@pytest.mark.slow
def test_the_pipeline_guide_s_session_runs_as_written(shell: Shell) -> None:
    pytest.importorskip("kfp")
    trial, *session = console(ROOT / "docs" / "guides" / "pipeline.md")
    assert "--out pipeline-room" in trial  # tests/pipelines/test_run_here.py runs it
    for line in session:
        shell.run(line)
    assert (shell.folder / "pipeline.yaml").exists()
