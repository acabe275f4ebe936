"""The session in the README is true: it runs, command by command, as a user would type it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from strongroom.cli.trial import free_port

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
START_S = 60


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found
    return found.group(1)


def session() -> list[str]:
    return [line.removeprefix("$ ") for line in block("console").splitlines() if line.startswith("$ ")]


def test_the_session_has_about_ten_lines() -> None:
    assert 8 <= len(session()) <= 14


class Shell:
    """Runs the README's lines; a line that ends in `&` goes on in the background."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(folder)}
        self.background: list[subprocess.Popen[bytes]] = []

    def run(self, line: str) -> None:
        if line.startswith("export "):
            self.environment |= dict(pair.split("=", 1) for pair in line.removeprefix("export ").split())
        elif line.endswith("&"):
            self._start(line.removesuffix("&").strip())
        else:
            # Two sessions may run on one machine: the port is not the default one here.
            line = line.replace("broker init broker", f"broker init broker --port {self.port}")
            subprocess.run(line.split(), cwd=self.folder, env=self.environment, check=True, timeout=120)

    def _start(self, line: str) -> None:
        ready = self.folder / "ready"
        server = subprocess.Popen([*line.split(), "--ready-file", str(ready)], cwd=self.folder, env=self.environment)
        self.background.append(server)
        deadline = time.monotonic() + START_S
        while not ready.exists():
            assert server.poll() is None, "the broker ended"
            assert time.monotonic() < deadline, "the broker does not start"
            os.sched_yield()

    def stop(self) -> list[int]:
        for server in self.background:
            server.send_signal(signal.SIGTERM)
        return [server.wait(30) for server in self.background]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, free_port())


def test_the_session_runs_as_written(shell: Shell) -> None:
    (shell.folder / "hello.py").write_text(block("python"))
    try:
        for line in session():
            shell.run(line)
    finally:
        statuses = shell.stop()
    assert statuses == [0]
    sealed = shell.folder / "results" / "count.txt"
    assert sealed.stat().st_size == 4096
    assert b"1000" not in sealed.read_bytes()
