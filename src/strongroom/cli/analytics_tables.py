"""`strongroom analytics import|export|inspect|rotate|sample-taxi`: encrypted tables in and out, and their keys."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from strongroom.cli.analytics_access import Access, Keys, State, Trust, data_key, find_access
from strongroom.cli.main import noun_app
from strongroom.cli.owner import Json, Owner, put, say
from strongroom.cli.seal_jobs import progress
from strongroom.errors import ConfigurationError, WouldOverwrite

if TYPE_CHECKING:
    from strongroom.analytics.manifest import Manifest

app = noun_app("Encrypted tables.")

TableAddress = Annotated[
    str,
    typer.Argument(
        metavar="TABLE", help="Folder of the table; NAME=FOLDER if they are called differently.", show_default=False
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what exists.")]
IMPORT_EXAMPLES: Final = """Examples:

\b
  strongroom analytics import trips.csv tables/trips --keys keys --key taxi/key/trips
  strongroom analytics import 2018/ tables/trips --owner broker/owner --key taxi/key/trips \\
      --column-key fareAmount=taxi/key/fares
  strongroom analytics import 2019/ tables/trips --keys keys --key taxi/key/trips --append
"""


@app.command("import", help="Turn CSV, JSON or Parquet into an encrypted table.", epilog=IMPORT_EXAMPLES)
def import_(
    source: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="Rows to import.", show_default=False)],
    table: TableAddress,
    key: Annotated[str, typer.Option("--key", metavar="NAME", help="Master key of the table.", show_default=False)],
    column_key: Annotated[
        list[str] | None,
        typer.Option("--column-key", metavar="COLUMN=NAME", help="A key of its own for a column; repeatable."),
    ] = None,
    type_: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="COLUMN=TYPE", help="Type of a column instead of the guessed one; repeatable."),
    ] = None,
    taxi: Annotated[
        bool, typer.Option("--taxi", help="These are the TLC's taxi files: bring them to the open dataset's columns.")
    ] = False,
    bigdl_key: Annotated[
        Path | None,
        typer.Option("--bigdl-key", metavar="FILE", help="The files are BigDL's AES/CBC; this is their data key."),
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Add rows to a table that exists.")] = False,
    force: Force = False,
    keys: Keys = None,
    owner: Owner = None,
    state: State = None,
    trust: Trust = None,
) -> None:
    """Turn CSV, JSON or Parquet into an encrypted table.

    Raises:
        WouldOverwrite: The table exists.
        ConfigurationError: Options that exclude each other.
        StrongroomError: The rows can't be read, a key is refused, or the table can't be written.
    """
    from strongroom.analytics import bigdl
    from strongroom.analytics.importing import open_source
    from strongroom.analytics.taxi.real_trips import open_trips, trips
    from strongroom.analytics.taxi.schema import SCHEMA
    from strongroom.analytics.writing import Protection, TableWriter

    if taxi and bigdl_key:
        raise ConfigurationError("--taxi takes no --bigdl-key: import into a table, then query it", code="import.both")
    access = find_access(keys, owner, state, trust)
    name, folder = address(table)
    previous = _previous(folder, name, access, replace=append or force)
    opener: Callable[[Path], Any] = str if bigdl_key is None else bigdl.opener(data_key(bigdl_key), _warn_once())
    rows = open_trips(source) if taxi else open_source(source, _pairs(type_, "--type"), opener)
    schema, batches = (SCHEMA, trips(rows)) if taxi else (rows.schema, rows.batches())
    protection = Protection(key, _pairs(column_key, "--column-key"))
    writer = TableWriter(folder, name, schema, protection, writing=access.writing(), previous=previous, append=append)
    with progress(f"importing {name}", sum(file.stat().st_size for file in rows.files)) as advance, writer:
        for batch in batches:
            writer.write(batch)
            advance(batch.nbytes)
    if writer.manifest is not None:
        say(f"{name}: {writer.manifest.rows:,} rows, version {writer.manifest.version}, in {folder}")


def _warn_once() -> Callable[[str], None]:
    """Warns on stderr, once for each text: every file is opened twice."""
    said: set[str] = set()

    def warn(text: str) -> None:
        if text not in said:
            said.add(text)
            say(f"warning: {text}")

    return warn


def _previous(folder: Path, name: str, access: Access, *, replace: bool) -> "Manifest | None":
    """The manifest of a table that is to be continued or replaced; None where there is no table.

    Raises:
        WouldOverwrite: There is one, and nobody said that it may change.
    """
    from strongroom.analytics.manifest import MANIFEST_NAME
    from strongroom.analytics.table import read_manifest

    if not (folder / MANIFEST_NAME).exists():
        return None
    if not replace:
        raise WouldOverwrite(
            f"there is already a table at {folder}", hint="--append adds rows to it, --force replaces it"
        )
    return read_manifest(folder, name, access.reading())


@app.command(
    help="Write a table, or some of its columns, as CSV, JSON lines or plain Parquet.",
    epilog="Example: strongroom analytics export tables/trips trips.csv --columns tripDistance --keys keys",
)
def export(
    table: TableAddress,
    file: Annotated[Path, typer.Argument(help="Ends in .csv, .json, .jsonl or .parquet.", show_default=False)],
    columns: Annotated[str, typer.Option("--columns", metavar="A,B", help="Which columns; else all.")] = "",
    force: Force = False,
    keys: Keys = None,
    owner: Owner = None,
    state: State = None,
    trust: Trust = None,
) -> None:
    """Write a table, or some of its columns, in plaintext.

    Raises:
        StrongroomError: The table is not what its writer made, a key is refused, or the file can't be written.
    """
    from strongroom.analytics.exporting import export as export_batches
    from strongroom.analytics.exporting import table_batches
    from strongroom.analytics.table import open_table

    access = find_access(keys, owner, state, trust)
    name, folder = address(table)
    opened = open_table(folder, name, access.reading())
    batches = table_batches(opened, columns.split(",") if columns else None)
    rows = export_batches(batches, file, overwrite=force)
    say(f"wrote {rows:,} rows to {file}, readable by everybody who can read that file")


@app.command(
    help="Show a table's columns and which key guards which. Data is not touched.",
    epilog="Example: strongroom analytics inspect tables/trips --keys keys --json",
)
def inspect(
    table: TableAddress,
    as_json: Json = False,
    keys: Keys = None,
    owner: Owner = None,
    state: State = None,
    trust: Trust = None,
) -> None:
    """Show a table's columns and which key guards which.

    Raises:
        StrongroomError: The manifest is not what the table's writer made, or its key is refused.
    """
    from strongroom.analytics.table import read_manifest

    access = find_access(keys, owner, state, trust)
    name, folder = address(table)
    manifest = read_manifest(folder, name, access.reading())
    shown = {
        "table": manifest.table,
        "version": manifest.version,
        "manifest": manifest.digest.hex(),
        "rows": manifest.rows,
        "files": len(manifest.parts),
        "bytes": sum(part.size for part in manifest.parts),
        "key": manifest.key,
        "columns": [{"name": c.name, "type": c.type, "key": c.key} for c in manifest.columns],
    }
    put(json.dumps(shown, indent=2) if as_json else _description(manifest))


def _description(manifest: "Manifest") -> str:
    width = max((len(column.name) for column in manifest.columns), default=0)
    head = f"{manifest.table}, version {manifest.version}: {manifest.rows:,} rows in {len(manifest.parts)} files"
    lines = [f"  {c.name:{width}}  {c.type:16}  {c.key}" for c in manifest.columns]
    return "\n".join([head, f"manifest {manifest.digest.hex()}", *lines])


@app.command(
    help="Put a table under other master keys. Data pages are neither decrypted nor changed.",
    epilog="Example: strongroom analytics rotate tables/trips --from taxi/key/trips --to taxi/key/trips2 --keys keys",
)
def rotate(
    table: TableAddress,
    old: Annotated[list[str], typer.Option("--from", metavar="NAME", help="Old key; repeatable.", show_default=False)],
    new: Annotated[list[str], typer.Option("--to", metavar="NAME", help="Its new key.", show_default=False)],
    keys: Keys = None,
    owner: Owner = None,
    state: State = None,
    trust: Trust = None,
) -> None:
    """Put a table under other master keys.

    Raises:
        ConfigurationError: Not as many new keys as old ones, or the table has no such key.
        StrongroomError: The table is not what its writer made, or a key is refused.
    """
    from strongroom.analytics.rotation import rotate as rotate_table

    if len(old) != len(new) or len(set(old)) != len(old):
        raise ConfigurationError("give one --to for each --from", code="rotate.keys")
    access = find_access(keys, owner, state, trust)
    name, folder = address(table)
    manifest = rotate_table(folder, name, dict(zip(old, new, strict=True)), access.reading(), access.signer)
    say(f"{name}: version {manifest.version}, {len(manifest.parts)} files; revoke the old keys for old copies")


@app.command(
    "sample-taxi",
    help="Make a table of taxi trips like the real ones (New York, 2009 to 2018).",
    epilog="Example: strongroom analytics sample-taxi tables/trips --rows 30_000_000 --keys keys --key taxi/key/trips",
)
def sample_taxi(
    table: TableAddress,
    key: Annotated[str, typer.Option("--key", metavar="NAME", help="Master key of the table.", show_default=False)],
    rows: Annotated[str, typer.Option("--rows", help="How many, e.g. 30_000_000.")] = "1_000_000",
    seed: Annotated[int, typer.Option("--seed", help="The same rows and seed give the same trips.")] = 0,
    zones: Annotated[
        str | None, typer.Option("--zones", metavar="[NAME=]DIR", help="Also make the table of zones and boroughs.")
    ] = None,
    keys: Keys = None,
    owner: Owner = None,
    state: State = None,
) -> None:
    """Make a table of taxi trips like the real ones.

    Raises:
        ConfigurationError: The number of rows is none.
        StrongroomError: The table exists, its key is refused, or it can't be written.
    """
    from strongroom.analytics.taxi.sample import write_sample
    from strongroom.analytics.taxi.schema import SCHEMA
    from strongroom.analytics.taxi.zones import zones_table
    from strongroom.analytics.writing import Protection, TableWriter

    if not rows.replace("_", "").isascii() or not rows.replace("_", "").isdigit():
        raise ConfigurationError(f"--rows is a number, not {rows[:50]!r}", code="taxi.rows")
    access = find_access(keys, owner, state, None)
    name, folder = address(table)
    _previous(folder, name, access, replace=False)
    writer = TableWriter(folder, name, SCHEMA, Protection(key), writing=access.writing())
    count = int(rows)
    with row_progress(f"making {name}", count) as advance, writer:
        write_sample(writer, count, seed=seed, advance=advance)
    say(f"{name}: {count:,} trips in {folder}")
    if zones:
        name, folder = address(zones)
        _previous(folder, name, access, replace=False)
        with TableWriter(folder, name, zones_table().schema, Protection(key), writing=access.writing()) as writer:
            writer.write(zones_table())
        say(f"{name}: {zones_table().num_rows} zones in {folder}")


@contextmanager
def row_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar of rows on stderr, where that is a terminal.

    Args:
        what: Its label.
        total: Rows to come.

    Yields:
        A function to call with the number of rows just done.
    """
    if not sys.stderr.isatty():
        yield lambda _rows: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda rows: bar.advance(task, rows)


def address(text: str) -> tuple[str, Path]:
    """Name and folder of ``FOLDER`` or ``NAME=FOLDER``.

    Raises:
        ConfigurationError: The name is none that SQL can use.
    """
    from strongroom.analytics.engine import check_table_name

    name, separator, folder = text.partition("=")
    if not separator:
        name, folder = Path(text).resolve().name, text
    return check_table_name(name), Path(folder)


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts or []]
    if any(not name or not value for name, _, value in pairs) or len({name for name, _, _ in pairs}) != len(pairs):
        raise ConfigurationError(f"{option} takes COLUMN=VALUE, once for each column", code="analytics.option")
    return {name: value for name, _, value in pairs}
