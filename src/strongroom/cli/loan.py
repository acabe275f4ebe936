"""`strongroom loan`: the loan-default application.

The verbs that touch loan data enter the room, so they run inside a workload (`strongroom workload run`): files are
named by their path below the workload's mounts, and every one of them is sealed. `sample` writes a plain file.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from strongroom.cli.loan_serve import EPILOG as SERVE_EPILOG
from strongroom.cli.loan_serve import HELP as SERVE_HELP
from strongroom.cli.loan_serve import serve
from strongroom.cli.main import noun_app
from strongroom.errors import ConfigurationError
from strongroom.loan.problems import LoanRowsError

app = noun_app("The loan-default application: process, train, continue, predict, evaluate, report.")

app.command(help=SERVE_HELP, epilog=SERVE_EPILOG)(serve)

INSIDE: Final = "Runs inside a workload; paths are below its mounts."


class Protocol(StrEnum):
    """How rows are divided and grown."""

    STRONGROOM = "strongroom"
    REFERENCE = "reference"


class PresetChoice(StrEnum):
    """Named training settings."""

    DEFAULT = "default"
    REFERENCE = "reference"


Source = Annotated[str, typer.Argument(metavar="CSV", help="Sealed loan file.", show_default=False)]
Data = Annotated[str, typer.Option("--data", help="Folder of processed rows.")]
ModelName = Annotated[str, typer.Option("--model", help="Model name.")]
VersionNumber = Annotated[int | None, typer.Option("--version", min=1, help="Version [default: the champion].")]
Threshold = Annotated[float, typer.Option("--threshold", help="A probability above it is called a default.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]


@app.command(epilog="Example: strongroom loan sample --rows 100000 --out loans.csv")
def sample(
    out: Annotated[Path, typer.Option("--out", "-o", help="CSV file to write, in the clear.", show_default=False)],
    rows: Annotated[int, typer.Option("--rows", min=1, max=50_000_000, help="Number of rows.")] = 32_581,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same rows.")] = 0,
    force: Force = False,
) -> None:
    """Write a generated loan book: nobody's data, the real schema."""
    from strongroom.loan.book import LoanBook
    from strongroom.loan.sample import sample_book
    from strongroom.loan.writing import write_csv
    from strongroom.room.new_file import NewFile

    with NewFile(out, overwrite=force) as file, _progress("sample") as advance:

        def counted() -> Iterator[LoanBook]:
            done = 0
            for book in sample_book(rows, seed):
                yield book
                done += len(book)
                advance(done, rows)

        with open(file.fd, "wb", closefd=False) as sink:
            write_csv(counted(), sink)
    _say(f"wrote {rows} generated rows to {out}")


@app.command(epilog=f"Example: strongroom loan process book/loans.csv --size 4000000. {INSIDE}")
def process(
    source: Source,
    out: Annotated[str, typer.Option("--out", help="Folder to write to.")] = "processed",
    size: Annotated[int | None, typer.Option("--size", min=1, help="Grow the rows to this many.")] = None,
    test_share: Annotated[float, typer.Option("--test-share", help="Share of rows held out.")] = 0.25,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the split and the growing.")] = 0,
    protocol: Annotated[
        Protocol, typer.Option("--protocol", help="`reference` leaks held-out rows into training: to compare only.")
    ] = Protocol.STRONGROOM,
    as_json: Json = False,
) -> None:
    """Validate a loan book, hold rows out, grow the rest if asked, write both as Parquet."""
    from dataclasses import asdict

    from strongroom.loan import jobs

    settings = jobs.ProcessSettings(size, test_share, seed, protocol.value)
    with _room() as room, _progress("process") as advance:
        manifest = jobs.process(room, source, out, settings, progress=advance)
    _data(asdict(manifest), as_json)


@app.command(epilog=f"Example: strongroom loan train --model loan --early-stopping 50. {INSIDE}")
def train(  # one parameter an option
    data: Annotated[list[str] | None, typer.Option("--data", help="Folder of processed rows; repeatable.")] = None,
    model: ModelName = "loan",
    preset: Annotated[PresetChoice, typer.Option("--preset", help="Training settings.")] = PresetChoice.DEFAULT,
    rounds: Annotated[int | None, typer.Option("--rounds", help="Trees [default: the preset's].")] = None,
    early_stopping: Annotated[
        int | None, typer.Option("--early-stopping", help="Stop after this many trees without improvement.")
    ] = None,
    default_weight: Annotated[
        str | None, typer.Option("--default-weight", help="Weight of a default: a number or `balanced`.")
    ] = None,
    monotone: Annotated[
        bool, typer.Option("--monotone", help="A worse rate, grade or loan share never lowers the risk.")
    ] = False,
    challenger: Annotated[bool, typer.Option("--challenger", help="Publish without serving it.")] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of every draw.")] = 0,
    as_json: Json = False,
) -> None:
    """Train on processed rows and publish a new version of the model."""
    from dataclasses import asdict

    from strongroom.loan import jobs
    from strongroom.loan.presets import TrainSettings

    settings = TrainSettings(preset.value, rounds, early_stopping, _weight(default_weight), monotone, seed)
    with _room() as room, _progress("train") as advance:
        version = jobs.train(room, data or ["processed"], model, settings, champion=not challenger, progress=advance)
    _data(asdict(version), as_json)


@app.command(epilog=f"Example: strongroom loan evaluate --model loan --out results/loan. {INSIDE}")
def evaluate(
    data: Data = "processed",
    model: ModelName = "loan",
    out: Annotated[str, typer.Option("--out", help="Results, without suffix.")] = "results/loan",
    version: VersionNumber = None,
    threshold: Threshold = 0.5,
    as_json: Json = False,
) -> None:
    """Score the model on the held-out rows; write OUT.json and OUT.csv."""
    from strongroom.loan import jobs

    with _room() as room:
        results = jobs.evaluate(room, data, model, out, version=version, threshold=threshold)
    for note in results.notes:
        _say(f"note: {note}")
    _data(results.evaluation.scores, as_json)


@app.command(epilog=f"Example: strongroom loan predict book/applicants.csv --out results/predictions.csv. {INSIDE}")
def predict(
    source: Source,
    model: ModelName = "loan",
    out: Annotated[str, typer.Option("--out", help="Predictions to write.")] = "predictions/loan.csv",
    version: VersionNumber = None,
    threshold: Threshold = 0.5,
    as_json: Json = False,
) -> None:
    """Score the rows of a loan file."""
    from strongroom.loan import jobs

    with _room() as room:
        predictions = jobs.predict(room, source, model, out, version=version, threshold=threshold)
    defaults = int(predictions.labels.sum())
    _data({"rows": len(predictions.probabilities), "called_default": defaults, "out": out}, as_json)


@app.command(epilog=f"Example: strongroom loan report results/loan.json --out results/loan.html. {INSIDE}")
def report(
    results: Annotated[str, typer.Argument(metavar="JSON", help="What `evaluate` wrote.", show_default=False)],
    out: Annotated[str, typer.Option("--out", help="HTML file to write.")] = "results/loan.html",
) -> None:
    """Render an evaluation as one HTML page."""
    from strongroom.loan import jobs
    from strongroom.loan.report import render_report

    with _room() as room:
        page = render_report(jobs.read_results(room, results))
        with room.create(out) as sink:
            sink.write(page.encode())
    _say(f"wrote {out}")


@contextmanager
def _room() -> Iterator[Any]:
    """The room of this workload; wrong rows are listed before the error goes on.

    Raises:
        LoanRowsError: Again.
    """
    import strongroom

    with strongroom.enter() as room:
        try:
            yield room
        except LoanRowsError as error:
            for problem in error.problems[3:]:
                _say(str(problem))
            raise


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, when that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _weight(text: str | None) -> float | Any:
    if text is None or text == "balanced":
        return text
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError("--default-weight is a number or `balanced`", code="loan.weight") from None


def _data(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(values, sort_keys=True))  # noqa: T201
        return
    for name, value in values.items():
        print(f"{name:<18} {value:.6f}" if isinstance(value, float) else f"{name:<18} {value}")  # noqa: T201


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201
