"""`strongroom analytics query` and `receipt`: SQL over encrypted tables, and the signed statement about it."""

import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from strongroom.cli.analytics_access import Access, Keys, State, Trust, find_access, public_key, save_receipt
from strongroom.cli.analytics_tables import Force, address
from strongroom.cli.main import noun_app
from strongroom.cli.owner import Owner, put, say
from strongroom.errors import ConfigurationError, WouldOverwrite

if TYPE_CHECKING:
    from strongroom.analytics.engine import Result
    from strongroom.analytics.receipts import Output

app = noun_app("SQL over encrypted tables.")

FORMS: Final = ("table", "csv", "json", "sealed")
EXAMPLES: Final = """Examples:

\b
  strongroom analytics query "SELECT puYear, count(*) FROM trips GROUP BY 1" --table tables/trips --keys keys
  strongroom analytics query query.sql --table tables/trips --output csv --plot trips.png --receipt receipt.json
  strongroom analytics query "SELECT ..." --table trips=data/2018 --output sealed \\
      --into tables/result --key taxi/key/out

The query is one SELECT statement, or the name of a file ending in .sql.
"""


@app.command(help="Run a SELECT over encrypted tables.", epilog=EXAMPLES)
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL|FILE.sql", help="One SELECT statement.", show_default=False)],
    table: Annotated[
        list[str], typer.Option("--table", metavar="[NAME=]DIR", help="A table; repeatable.", show_default=False)
    ],
    engine: Annotated[str, typer.Option("--engine", help="embedded (DuckDB, here) or spark.")] = "embedded",
    output: Annotated[str, typer.Option("--output", help="table, csv, json or sealed.")] = "table",
    into: Annotated[
        str | None, typer.Option("--into", metavar="[NAME=]DIR", help="New table, with --output sealed.")
    ] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="NAME", help="Master key of the new table.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw the result as a series.")
    ] = None,
    receipt: Annotated[Path | None, typer.Option("--receipt", metavar="FILE", help="Write a signed receipt.")] = None,
    memory: Annotated[str, typer.Option("--memory", help="Most memory for the engine, e.g. 4GB.")] = "",
    master: Annotated[str, typer.Option("--master", help="Where Spark's executors are: local[*], spark://...")] = (
        "local[*]"
    ),
    force: Force = False,
    keys: Keys = None,
    owner: Owner = None,
    state: State = None,
    trust: Trust = None,
) -> None:
    """Run a SELECT over encrypted tables.

    Raises:
        ConfigurationError: The statement or an option is wrong.
        StrongroomError: A table is not what its writer made, a key is refused, or the result can't be written.
    """
    from strongroom.analytics.engine import query_digest
    from strongroom.analytics.receipts import Receipt, sign_receipt
    from strongroom.analytics.table import open_table

    _check_outputs(output, into, key, [path for path in (plot, receipt) if path and not force])
    statement = _statement(sql)
    access = find_access(keys, owner, state, trust)
    reading = access.reading()
    tables = {name: open_table(folder, name, reading) for name, folder in map(address, table)}
    started = datetime.now(UTC)
    with _engine(engine, memory, access, master) as running, _progress(running):
        result, kept = _tee(running.query(statement, tables), keep=plot is not None)
        written = _write(result, output, access, into, key)
        if plot:
            _plot(kept, result, plot, overwrite=force)
        stated = Receipt(
            query=query_digest(statement),
            tables=tuple(opened.manifest for opened in tables.values()),
            engine=(running.name, running.version),
            workers=running.workers() if running.name == "spark" else (access.worker,),
            outputs=(written,),
            started=started,
            finished=datetime.now(UTC),
            job=running.job if running.name == "spark" else b"",
        )
    if receipt:
        save_receipt(receipt, sign_receipt(stated, access.signer), overwrite=force)


def _check_outputs(output: str, into: str | None, key: str | None, fresh: list[Path]) -> None:
    if output not in FORMS:
        raise ConfigurationError(f"--output is one of {', '.join(FORMS)}", code="query.output")
    if (output == "sealed") != (into is not None) or (into is None) != (key is None):
        raise ConfigurationError(
            "--output sealed, --into DIR and --key NAME belong together", code="query.sealed", hint="give all or none"
        )
    for path in fresh:
        if path.exists():
            raise WouldOverwrite(f"there is already a file {path}", hint="--force replaces it")


def _statement(text: str) -> str:
    from strongroom.analytics.engine import MAX_SQL_CHARS

    if not text.endswith(".sql"):
        return text
    try:
        with Path(text).open(encoding="utf-8") as file:
            return file.read(MAX_SQL_CHARS + 1)
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"can't read the query from {text}", code="query.file") from None


def _digest(text: str) -> bytes:
    """What a receipt says of a statement, or of an application's file."""
    from strongroom.analytics.engine import query_digest
    from strongroom.analytics.spark.submit import read_application

    if text.endswith(".py"):
        return hashlib.sha256(read_application(Path(text))).digest()
    return query_digest(_statement(text))


def _engine(name: str, memory: str, access: Access, master: str) -> Any:
    if name == "embedded":
        from strongroom.analytics.embedded import EmbeddedEngine

        return EmbeddedEngine(memory=memory)
    if name == "spark":
        from strongroom.cli.analytics_spark import spark_engine

        return spark_engine(access, memory, master)
    raise ConfigurationError("--engine is embedded or spark", code="query.engine")


@contextmanager
def _progress(engine: Any) -> Iterator[None]:
    """Percent and seconds on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, SpinnerColumn, TimeElapsedColumn
    from rich.text import Text

    class Percent(ProgressColumn):
        def render(self, task: object) -> Text:
            done = engine.progress()
            return Text(f"{done:.0f} %" if done > 0 else "")

    with Progress(SpinnerColumn(), Percent(), TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        bar.add_task("", total=None)
        yield


def _tee(result: "Result", *, keep: bool) -> "tuple[Result, list[Any]]":
    """The result, and a list that its batches are kept in as they pass."""
    from strongroom.analytics.engine import Result

    kept: list[Any] = []

    def batches() -> Iterator[Any]:
        for batch in result.batches:
            kept.append(batch)
            yield batch

    return (Result(result.schema, batches()), kept) if keep else (result, kept)


def _write(result: "Result", output: str, access: Access, into: str | None, key: str | None) -> "Output":
    from strongroom.analytics.results import seal_result, storable_schema, write_result
    from strongroom.analytics.writing import Protection, TableWriter

    if into is None or key is None:
        return write_result(result, output, sys.stdout.buffer)
    name, folder = address(into)
    _refuse_table(folder)
    schema = storable_schema(result.schema)
    writer = TableWriter(folder, name, schema, Protection(key), writing=access.writing())
    written = seal_result(result, writer)
    say(f"{name}: {written.rows:,} rows, sealed under {key}, in {folder}")
    return written


def _refuse_table(folder: Path) -> None:
    from strongroom.analytics.manifest import MANIFEST_NAME

    if (folder / MANIFEST_NAME).exists():
        raise WouldOverwrite(f"there is already a table at {folder}", hint="choose another folder")


def _plot(batches: list[Any], result: "Result", target: Path, *, overwrite: bool) -> None:
    import pyarrow as pa

    from strongroom.analytics.plot import plot_series

    plot_series(pa.Table.from_batches(batches, result.schema), target, overwrite=overwrite)
    say(f"wrote {target}")


RECEIPT_EXAMPLES: Final = """Examples:

\b
  strongroom analytics receipt receipt.json --query "SELECT ..." --result result.csv --keys keys
  strongroom analytics receipt receipt.json --result result.csv --policy policy.toml --collateral collateral.json

Without --policy the signer must be you, or be named with --trust.
"""


@app.command(
    help="Check a receipt: who signed it, and whether it is about this query, this output and these tables.",
    epilog=RECEIPT_EXAMPLES,
)
def receipt(
    file: Annotated[Path, typer.Argument(help="What `query --receipt` wrote.", show_default=False)],
    sql: Annotated[
        str | None, typer.Option("--query", metavar="SQL|FILE.sql|APP.py", help="The statement, or the application.")
    ] = None,
    result: Annotated[
        Path | None,
        typer.Option("--result", metavar="FILE|[NAME=]DIR", help="The output: its bytes, or the new table."),
    ] = None,
    table: Annotated[
        list[str] | None, typer.Option("--table", metavar="[NAME=]DIR", help="A table it must have read; repeatable.")
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            "--policy", metavar="POLICY.toml", help="Believe its signer if the evidence in it satisfies this."
        ),
    ] = None,
    collateral: Annotated[
        list[Path] | None,
        typer.Option("--collateral", metavar="FILE", help="QuoteCollateralV3 JSON from Intel; repeatable."),
    ] = None,
    simulated_machine: Annotated[
        Path | None, typer.Option("--simulated-machine", metavar="DIR", help="Believe this simulated machine: trials.")
    ] = None,
    keys: Keys = None,
    owner: Owner = None,
    state: State = None,
    trust: Trust = None,
) -> None:
    """Check a receipt.

    Raises:
        VerificationError: It is not genuine, or about something else.
        StrongroomError: A file can't be read.
    """
    from strongroom.analytics.receipts import MAX_RECEIPT_BYTES, verify_receipt, vouched_signer
    from strongroom.analytics.table import read_manifest
    from strongroom.cli.policy_file import load_policy
    from strongroom.cli.verify import _verifier as quote_verifier
    from strongroom.room.file_errors import file_errors

    with file_errors(file), file.open("rb") as stream:
        raw = stream.read(MAX_RECEIPT_BYTES + 1)
    trusted = {public_key(text) for text in trust or []}
    if policy:
        genuine = quote_verifier(collateral or [], simulated_machine)
        trusted.add(vouched_signer(raw, genuine, load_policy(policy), datetime.now(UTC)))
    sealed = result is not None and not result.is_file()
    access = find_access(keys, owner, state, trust) if table or sealed or not trusted else None
    manifests, digest = [], None
    if access:
        trusted |= access.trusted
        reading = replace(access.reading(), trusted=frozenset(trusted))
        manifests = [read_manifest(folder, name, reading) for name, folder in map(address, table or [])]
        if sealed:
            name, folder = address(str(result))
            digest = read_manifest(folder, name, reading).digest
    if result and not sealed:
        with file_errors(result), result.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").digest()
    statement = verify_receipt(
        raw, trusted=frozenset(trusted), query=_digest(sql) if sql else None, output=digest, manifests=manifests
    )
    for role, platform in sorted({(worker["role"], worker["platform"]) for worker in statement["workers"]}):
        if platform in {"none", "simulated"}:
            say(f"warning: the {role} ran on platform {platform}: no hardware vouches for it")
    put(json.dumps(statement, indent=2))
