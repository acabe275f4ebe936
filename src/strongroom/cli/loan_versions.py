"""`strongroom loan versions`, `promote`, `drift` and `export`: what is done with a model after it is trained."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Final

import typer

from strongroom.cli.loan_room import INSIDE, Force, check_free, data, loan_room, say

ModelName = Annotated[str, typer.Option("--model", help="Model name.")]
VersionNumber = Annotated[int | None, typer.Option("--version", min=1, help="Version [default: the champion].")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

VERSIONS_HELP: Final = "List the versions of a model; * marks the one that is served."
PROMOTE_HELP: Final = "Serve another version of a model from now on."
DRIFT_HELP: Final = "Compare processed rows with those a model was trained on (PSI by column)."
EXPORT_HELP: Final = "Write a model, or processed rows, for other tools. None of these files is ever read here."
EXPORT_EXAMPLES: Final = f"""Examples:

\b
  strongroom loan export --format onnx --out exports/loan
  strongroom loan export --format joblib --out exports/loan      (a model of `--preset reference`)
  strongroom loan export --format csv --data processed --out exports

{INSIDE}
"""


class ExportFormat(StrEnum):
    """What `export` writes."""

    UBJ = "ubj"
    ONNX = "onnx"
    JOBLIB = "joblib"
    CSV = "csv"


def versions(model: ModelName = "loan", as_json: Json = False) -> None:
    """List the versions of a model."""
    from strongroom.loan.catalog import known_catalog

    with loan_room() as room:
        catalog = known_catalog(room, model)
    if as_json:
        data({"champion": catalog.champion, "versions": [asdict(v) for v in catalog.versions]}, as_json)
        return
    for version in catalog.versions:
        mark = "*" if version.number == catalog.champion else " "
        print(f"{mark} {version.number:>4}  {version.created_at}  {version.digest[:16]}  {version.note}")  # noqa: T201


def promote(
    number: Annotated[int, typer.Argument(metavar="VERSION", min=1, show_default=False)], model: ModelName = "loan"
) -> None:
    """Serve another version of a model from now on."""
    from strongroom.loan import catalog

    with loan_room() as room:
        catalog.promote(room, model, number)
    say(f"{model}: version {number} is served")


def drift(
    rows: Annotated[str, typer.Option("--data", help="Folder of processed rows.")] = "processed",
    model: ModelName = "loan",
    version: VersionNumber = None,
    as_json: Json = False,
) -> None:
    """Compare processed rows with those a model was trained on."""
    from strongroom.loan import jobs

    with loan_room() as room:
        found = jobs.drift(room, rows, model, version=version)
    if as_json:
        data({d.column: {"psi": d.psi, "verdict": d.verdict} for d in found}, as_json)
        return
    for column in found:
        print(f"{column.column:<28} {column.psi:>8.4f}  {column.verdict}")  # noqa: T201


def export(
    to: Annotated[ExportFormat, typer.Option("--format", help="What to write.", show_default=False)],
    out: Annotated[str, typer.Option("--out", help="Path without suffix; a folder for csv.", show_default=False)],
    model: ModelName = "loan",
    version: VersionNumber = None,
    rows: Annotated[str, typer.Option("--data", help="Folder of processed rows, for csv.")] = "processed",
    force: Force = False,
) -> None:
    """Write a model, or processed rows, for other tools."""
    from strongroom.loan.catalog import load_model
    from strongroom.loan.export import export_matrices, export_model, matrix_paths, model_paths
    from strongroom.loan.processing import read_manifest

    with loan_room() as room:
        bundle = load_model(room, model, version)
        match to.value:
            case "csv":
                manifest = read_manifest(room, rows)
                check_free(room, matrix_paths(manifest.train_rows + manifest.test_rows, out), force=force)
                written = export_matrices(room, bundle, rows, out)
            case model_format:
                check_free(room, model_paths(model_format, out), force=force)
                written = export_model(room, bundle, model_format, out)
    for path in written:
        print(path)  # noqa: T201
    if to is ExportFormat.JOBLIB:
        say("note: opening a pickle runs the code in it; hand these files only to people who trust you")
