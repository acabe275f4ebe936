"""What the verbs of `strongroom loan` share: the room, a progress bar, output."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from strongroom.errors import WouldOverwrite
from strongroom.loan.problems import LoanRowsError

if TYPE_CHECKING:
    from strongroom.room import Room

INSIDE: Final = "Runs inside a workload (`strongroom workload run`); paths are below its mounts."
NAMED_IN_ERROR: Final = 3

Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


@contextmanager
def loan_room() -> Iterator["Room"]:
    """The room of this workload; rows that are wrong are listed before their error goes on.

    Raises:
        LoanRowsError: Again.
    """
    import strongroom

    with strongroom.enter() as room:
        try:
            yield room
        except LoanRowsError as error:
            for problem in error.problems[NAMED_IN_ERROR:]:
                say(str(problem))
            raise


def check_free(room: "Room", paths: Iterable[str], *, force: bool) -> None:
    """Refuse to replace files without being told to, before any work is done.

    Args:
        room: Where they would be.
        paths: What would be written.
        force: Being told to.

    Raises:
        WouldOverwrite: One is there.
    """
    for path in paths:
        if not force and room.exists(path):
            raise WouldOverwrite(f"{path} exists", hint="write to another --out, or replace it with --force")


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, when that is a terminal.

    Args:
        what: Its label.

    Yields:
        A function to call with how much is done and how much is wanted.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def data(values: dict[str, Any], as_json: bool) -> None:
    """Print values to stdout, as JSON or one a line; without values that are unset."""
    if as_json:
        print(json.dumps(values, sort_keys=True))  # noqa: T201
        return
    for name, value in values.items():
        if value is None or value == ():
            continue
        print(f"{name:<18} {value:.6f}" if isinstance(value, float) else f"{name:<18} {value}")  # noqa: T201


def say(text: str) -> None:
    """Print a line to stderr."""
    print(text, file=sys.stderr)  # noqa: T201
