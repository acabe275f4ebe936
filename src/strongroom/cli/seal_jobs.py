"""Which files `strongroom seal` and `strongroom open` work on."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from strongroom.errors import ConfigurationError, StrongroomError, WouldOverwrite
from strongroom.outcome import one_line


@dataclass(frozen=True, slots=True)
class Job:
    """One file to seal or open.

    Args:
        source: What to read.
        target: What to write.
        below: Its path below the folder given, with `/`; empty when a single file was given.
        size: Bytes of the source on disk.
    """

    source: Path
    target: Path
    below: str
    size: int

    def under(self, base: str) -> str:
        """The path of this file when `base` stands for what was given on the command line."""
        return f"{base}/{self.below}" if self.below else base


def say(line: str) -> None:
    """One line of talk on stderr, control characters escaped."""
    print(one_line(line), file=sys.stderr)  # noqa: T201


def plan(source: str, target: str, *, force: bool) -> list[Job]:
    """The files to work on: one, or every regular file below a folder. Nothing is written yet.

    Args:
        source: A file or a folder.
        target: What it becomes; a folder when the source is one.
        force: Whether existing outputs may be replaced.

    Returns:
        The jobs in the order of their names.

    Raises:
        ConfigurationError: If the source is absent, holds no file or can't be read whole, or an output is an input.
        WouldOverwrite: If an output exists and may not be replaced.
    """
    from strongroom.room.file_errors import file_errors

    with file_errors(source):
        return _plan(source, target, force=force)


def _plan(source: str, target: str, *, force: bool) -> list[Job]:
    root = Path(source)
    if root.is_dir():
        if Path(target).resolve().is_relative_to(root.resolve()):
            raise ConfigurationError(f"the output {target} lies inside the input {source}", code="output.is_input")
        found = [(path, path.relative_to(root).as_posix()) for path in _regular_files(root)]
        if not found:
            raise ConfigurationError(f"no regular file below {source}", code="input.empty")
        jobs = [Job(path, Path(target) / below, below, path.stat().st_size) for path, below in found]
    elif root.exists():
        jobs = [Job(root, Path(target), "", root.stat().st_size)]
    else:
        raise ConfigurationError(f"no such file or folder: {source}", code="file.not_found")
    _check_outputs(jobs, force=force)
    return jobs


def _check_outputs(jobs: list[Job], *, force: bool) -> None:
    sources = {job.source.resolve() for job in jobs}
    for job in jobs:
        if job.target.resolve() in sources or (job.target.exists() and job.target.samefile(job.source)):
            raise ConfigurationError(f"input and output are the same file: {job.target}", code="output.is_input")
        if not force and os.path.lexists(job.target):
            raise WouldOverwrite(f"{job.target} exists already", hint="choose another name, or replace it with --force")


def _regular_files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root, onerror=_refuse_unreadable):
        folders.sort()
        for path in (Path(folder) / name for name in sorted(folders + names)):
            if path.is_symlink():
                say(f"skipped, a symbolic link: {path}")
            elif path.is_file():
                yield path
            elif not path.is_dir():
                say(f"skipped, not a regular file: {path}")


def _refuse_unreadable(error: OSError) -> NoReturn:
    # os.walk would pass over the folder in silence, and its files would be missing without a word.
    from strongroom.room.file_errors import file_error

    unreadable: StrongroomError = file_error(error, str(error.filename))
    raise unreadable


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, where that is a terminal.

    Args:
        what: Its label.
        total: Bytes to come, None when unknown.

    Yields:
        A function to call with the number of bytes just done.
    """
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
