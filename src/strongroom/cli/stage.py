"""Where a demonstration plays: it runs `strongroom` commands, shows them, and keeps a server alive meanwhile."""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from strongroom.errors import StrongroomError, UnavailableError

START_S: Final = 120.0
STOP_S: Final = 15.0
# What a child process may inherit: nothing with a setting or a secret of the caller in it.
INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV")


@dataclass
class Stage:
    """Folder, environment and console of a demonstration.

    Args:
        out: Absolute folder of everything it makes.
        environment: Variables the commands see.
    """

    out: Path
    environment: dict[str, str] = field(
        default_factory=lambda: {name: os.environ[name] for name in INHERITED if name in os.environ}
    )
    _console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False, markup=False))
    _progress: Progress = field(init=False)

    def __post_init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        )

    def say(self, text: str) -> None:
        """Print to stderr, above the progress bar."""
        self._progress.console.print(text, soft_wrap=True)

    @contextmanager
    def commands(self, total: int) -> Iterator[None]:
        """Show a progress bar over so many commands, on a terminal.

        Yields:
            Nothing.
        """
        self._progress.add_task("", total=total)
        with self._progress:
            yield

    def title(self, text: str) -> None:
        """Announce a step."""
        self.say(f"\n{text}")

    def workload(self, job: str) -> str:
        """Path of a workload file of the demonstration."""
        return str(self.out / "workloads" / job / "workload.toml")

    def run(self, *arguments: str, expect: int = 0) -> bytes:
        """Run one `strongroom` command; show it, how long it took and, where a refusal is expected, what it said.

        Args:
            arguments: Behind ``strongroom``.
            expect: The exit status that is right.

        Returns:
            Its standard output.

        Raises:
            SystemExit: It ended with another status; with that one.
            StrongroomError: It succeeded where it must be refused.
        """
        shown = "$ strongroom " + shlex.join(arguments).replace(f"{self.out}/", "")
        started = time.monotonic()
        self._describe(" ".join(arguments[:2]))
        done = subprocess.run(_command(arguments), env=self.environment, capture_output=True, check=False)
        self._describe("", advance=1)
        self.say(f"   {shown}   [{time.monotonic() - started:.1f} s]")
        if done.returncode not in {0, expect}:
            # Its own `error:` and `hint:` lines, and its status, are the best that can be said.
            self.say(done.stderr.decode(errors="replace"))
            raise SystemExit(done.returncode)
        if done.returncode != expect:
            raise StrongroomError(f"`strongroom {arguments[0]}` succeeded where it must be refused", code="demo.step")
        if expect:
            for line in done.stderr.decode(errors="replace").splitlines():
                self.say(f"     {line}")
        return done.stdout

    def _describe(self, text: str, advance: int = 0) -> None:
        for task in self._progress.task_ids:
            self._progress.update(task, description=text, advance=advance)

    @contextmanager
    def serving(self, *arguments: str, ready_file: Path) -> Iterator[str]:
        """Keep a server running for the length of the block.

        Args:
            arguments: Behind ``strongroom``; ``--ready-file`` is added.
            ready_file: Where the server writes its address when it listens.

        Yields:
            The address.

        Raises:
            UnavailableError: It does not come up within 30 s.
        """
        self.say(f"   $ strongroom {shlex.join(arguments)} &".replace(f"{self.out}/", ""))
        log = ready_file.with_suffix(".log")
        with log.open("wb") as sink:
            server = subprocess.Popen(
                _command([*arguments, "--ready-file", str(ready_file)]), env=self.environment, stdout=sink, stderr=sink
            )
        try:
            yield _wait_until_ready(server, ready_file, log)
        finally:
            server.terminate()
            try:
                server.wait(STOP_S)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _command(arguments: list[str] | tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "strongroom", *arguments]


def _wait_until_ready(server: subprocess.Popen[bytes], ready_file: Path, log: Path) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        if ready_file.exists() and (text := ready_file.read_text().strip()):
            return text
        time.sleep(0.05)
    raise UnavailableError(f"the server did not start; its log is {log}", code="demo.server")
