"""`strongroom loan`: the loan-default application.

The verbs that touch loan data enter the room, so they run inside a workload (`strongroom workload run`): files are
named by their path below the workload's mounts, and every one of them is sealed. `sample` writes a plain file.
"""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from strongroom.cli.loan_room import INSIDE, Force, check_free, data, loan_room, progress, say
from strongroom.cli.loan_serve import EPILOG as SERVE_EPILOG
from strongroom.cli.loan_serve import HELP as SERVE_HELP
from strongroom.cli.loan_serve import serve
from strongroom.cli.loan_versions import (
    DRIFT_HELP,
    EXPORT_EXAMPLES,
    EXPORT_HELP,
    PROMOTE_HELP,
    VERSIONS_HELP,
    Json,
    ModelName,
    VersionNumber,
    drift,
    export,
    promote,
    versions,
)
from strongroom.cli.main import noun_app
from strongroom.errors import ConfigurationError

app = noun_app("The loan-default application: process, train, continue, predict, evaluate, report.")


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
Threshold = Annotated[float, typer.Option("--threshold", help="A probability above it is called a default.")]


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

    with NewFile(out, overwrite=force) as file, progress("sample") as advance:

        def counted() -> Iterator[LoanBook]:
            done = 0
            for book in sample_book(rows, seed):
                yield book
                done += len(book)
                advance(done, rows)

        with open(file.fd, "wb", closefd=False) as sink:
            write_csv(counted(), sink)
    say(f"wrote {rows} generated rows to {out}")


@app.command(epilog=f"Example: strongroom loan process book/loans.csv --size 4000000. {INSIDE}")
def process(
    source: Source,
    out: Annotated[str, typer.Option("--out", help="Folder to write to.")] = "processed",
    size: Annotated[int | None, typer.Option("--size", min=1, help="Grow the rows to this many.")] = None,
    test_share: Annotated[float, typer.Option("--test-share", help="Share of rows held out.")] = 0.25,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the split and the growing.")] = 0,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="Further column to compare groups by; repeatable.")
    ] = None,
    protocol: Annotated[
        Protocol, typer.Option("--protocol", help="`reference` leaks held-out rows into training: to compare only.")
    ] = Protocol.STRONGROOM,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Validate a loan book, hold rows out, grow the rest if asked, write both as Parquet."""
    from dataclasses import asdict

    from strongroom.loan import jobs

    settings = jobs.ProcessSettings(size, test_share, seed, protocol.value, tuple(keep or ()))
    with loan_room() as room, progress("process") as advance:
        check_free(room, [f"{out}/manifest.json"], force=force)
        manifest = asdict(jobs.process(room, source, out, settings, progress=advance))
    data(manifest if as_json else manifest.pop("settings") | manifest, as_json)


@app.command(epilog=f"Example: strongroom loan train --model loan --early-stopping 50. {INSIDE}")
def train(  # one parameter an option
    rows: Annotated[list[str] | None, typer.Option("--data", help="Folder of processed rows; repeatable.")] = None,
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
    with loan_room() as room, progress("train") as advance:
        version = jobs.train(room, rows or ["processed"], model, settings, champion=not challenger, progress=advance)
    data(asdict(version), as_json)


@app.command(name="continue", epilog=f"Example: strongroom loan continue --data november --rounds 100. {INSIDE}")
def continue_(
    rows: Annotated[list[str], typer.Option("--data", help="Folder of new processed rows; repeatable.")],
    model: ModelName = "loan",
    rounds: Annotated[int, typer.Option("--rounds", help="Trees to add.")] = 100,
    new_rows_only: Annotated[
        bool, typer.Option("--new-rows-only", help="Fit the new trees to the new rows alone; forgets the old ones.")
    ] = False,
    always_serve: Annotated[
        bool, typer.Option("--always-serve", help="Serve the result even if it ranks the held-out rows worse.")
    ] = False,
    out: Annotated[str | None, typer.Option("--out", help="JSON file for the outcome.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Add trees for a new batch; served only if the held-out rows are not ranked worse."""
    from strongroom.loan.continuing import ContinueSettings, continue_training, write_continued

    settings = ContinueSettings(rounds, "new" if new_rows_only else "all", True if always_serve else None)
    with loan_room() as room, progress("continue") as advance:
        check_free(room, [out] if out else [], force=force)
        outcome = continue_training(room, rows, model, settings, progress=advance)
        if out:
            write_continued(room, outcome, out)
    values = outcome.to_json()
    if not as_json:
        before, after = outcome.before, outcome.after
        values |= {
            name: f"{before[name]:.4f} -> {after[name]:.4f}" for name in ("auc", "log_loss", "calibration_error")
        }
        values["drift"] = ", ".join(f"{d.column} {d.psi:.3f} ({d.verdict})" for d in outcome.drift[:3])
        values = {name: value for name, value in values.items() if name not in {"before", "after"}}
    data(values, as_json)


@app.command(epilog=f"Example: strongroom loan evaluate --model loan --out results/loan. {INSIDE}")
def evaluate(
    rows: Data = "processed",
    model: ModelName = "loan",
    out: Annotated[str, typer.Option("--out", help="Results, without suffix.")] = "results/loan",
    version: VersionNumber = None,
    threshold: Threshold = 0.5,
    fairness: Annotated[
        list[str] | None,
        typer.Option(
            "--fairness", metavar="COLUMN=VALUES", help="Compare groups: privileged values, or a lower bound."
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Score the model on the held-out rows; write OUT.json, .csv, .html and .md (model card)."""
    from strongroom.loan import jobs

    groups = [_group(text) for text in fairness or []]
    with loan_room() as room:
        check_free(room, [f"{out}.json", f"{out}.csv", f"{out}.html", f"{out}.md"], force=force)
        results = jobs.evaluate(room, rows, model, out, version=version, threshold=threshold, fairness=groups)
    for note in results.notes:
        say(f"note: {note}")
    data(results.evaluation.scores, as_json)


@app.command(epilog=f"Example: strongroom loan predict book/applicants.csv --out results/predictions.csv. {INSIDE}")
def predict(
    source: Source,
    model: ModelName = "loan",
    out: Annotated[str, typer.Option("--out", help="Predictions to write.")] = "predictions/loan.csv",
    version: VersionNumber = None,
    threshold: Threshold = 0.5,
    reasons: Annotated[bool, typer.Option("--reasons", help="Add the four inputs that raise the risk most.")] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Score the rows of a loan file."""
    from strongroom.loan import jobs

    options: dict[str, Any] = {"version": version, "threshold": threshold}
    with loan_room() as room:
        check_free(room, [out], force=force)
        if reasons:
            with progress("reasons") as advance:
                predictions = jobs.predict_with_reasons(room, source, model, out, **options, progress=advance)
        else:
            predictions = jobs.predict(room, source, model, out, **options)
    defaults = int(predictions.labels.sum())
    data({"rows": len(predictions.probabilities), "called_default": defaults, "out": out}, as_json)


@app.command(epilog=f"Example: strongroom loan report results/loan.json --force. {INSIDE}")
def report(
    results: Annotated[str, typer.Argument(metavar="JSON", help="What `evaluate` wrote.", show_default=False)],
    out: Annotated[str | None, typer.Option("--out", help="HTML file to write [default: beside JSON].")] = None,
    force: Force = False,
) -> None:
    """Render an evaluation as one HTML page."""
    from strongroom.loan import jobs
    from strongroom.loan.report import render_report

    with loan_room() as room:
        path = out or results.removesuffix(".json") + ".html"
        check_free(room, [path], force=force)
        page = render_report(jobs.read_results(room, results))
        with room.create(path) as sink:
            sink.write(page.encode())
    say(f"wrote {path}")


def _group(text: str) -> tuple[str, list[str]]:
    column, equals, values = text.partition("=")
    if not equals:
        raise ConfigurationError(
            "--fairness takes COLUMN=VALUE,VALUE",
            code="loan.fairness",
            hint="for example person_home_ownership=OWN,MORTGAGE or person_age=40",
        )
    return column, values.split(",")


def _weight(text: str | None) -> float | Any:
    if text is None or text == "balanced":
        return text
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(
            "--default-weight is a number or `balanced`", code="loan.weight", hint="for example --default-weight 3"
        ) from None


app.command(help=SERVE_HELP, epilog=SERVE_EPILOG)(serve)
app.command(help=VERSIONS_HELP, epilog=f"Example: strongroom loan versions --model loan --json. {INSIDE}")(versions)
app.command(help=PROMOTE_HELP, epilog=f"Example: strongroom loan promote 3. {INSIDE}")(promote)
app.command(help=DRIFT_HELP, epilog=f"Example: strongroom loan drift --data november. {INSIDE}")(drift)
app.command(help=EXPORT_HELP, epilog=EXPORT_EXAMPLES)(export)
