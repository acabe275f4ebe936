"""`strongroom analytics federate`: parties train one model together, and each keeps its rows."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from strongroom.cli.analytics_access import Access, Keys, State, Trust, find_access
from strongroom.cli.analytics_query import _statement as read_statement
from strongroom.cli.analytics_tables import Force, address
from strongroom.cli.main import noun_app
from strongroom.cli.owner import Owner, put, say
from strongroom.errors import ConfigurationError

if TYPE_CHECKING:
    from strongroom.analytics.federated.certificates import Identity
    from strongroom.analytics.federated.training import Trained
    from strongroom.analytics.receipts import Together

app = noun_app("Federated training: parties train one XGBoost model together, and each keeps its rows.")

Secret = Annotated[
    str,
    typer.Option("--secret", metavar="NAME", help="Key that makes this process a member.", show_default=False),
]
Coordinator = Annotated[
    str, typer.Option("--coordinator", metavar="HOST:PORT", help="Where the coordinator is.", show_default=False)
]
Parties = Annotated[int, typer.Option("--parties", help="How many parties train.", show_default=False)]
PARTY_EXAMPLE: Final = """Example:

\b
  strongroom analytics federate party features.sql --table loans=data/loans --coordinator fl.example.org:9443 \\
      --parties 3 --rank 0 --secret fl/key/federation --model model.sealed --model-key bank/key/model

The query gives one row for each training row: features as numbers, and a column called "label".
"""


@app.command(help="Run the coordinator until it is ended. One coordinator serves one training.")
def coordinator(
    coordinator: Coordinator,
    parties: Parties,
    secret: Secret,
    timeout: Annotated[float | None, typer.Option("--timeout", help="End after so many seconds.")] = None,
    keys: Keys = None,
    owner: Owner = None,
    state: State = None,
) -> None:
    """Run the coordinator until it is ended.

    Raises:
        StrongroomError: The secret is refused, the port is taken, or XGBoost lacks the federated communicator.
    """
    from strongroom.analytics.federated.coordinator import coordinate
    from strongroom.analytics.federated.federation import Federation

    host, port = _host_and_port(coordinator)
    access = find_access(keys, owner, state, None)
    with _identity(access, secret, host=host) as identity:
        say(f"coordinating {parties} parties on port {port}")
        coordinate(Federation(host=host, port=port, parties=parties), identity, timeout_s=timeout)


@app.command(help="Train as one of the parties; the model is the same at all of them.", epilog=PARTY_EXAMPLE)
def party(
    query: Annotated[str, typer.Argument(metavar="SQL|FILE.sql", help="Training rows.", show_default=False)],
    table: Annotated[
        list[str], typer.Option("--table", metavar="[NAME=]DIR", help="A table; repeatable.", show_default=False)
    ],
    coordinator: Coordinator,
    parties: Parties,
    rank: Annotated[int, typer.Option("--rank", help="Number of this party, from 0.", show_default=False)],
    secret: Secret,
    model: Annotated[Path, typer.Option("--model", metavar="FILE", help="Sealed file for the model.")],
    model_key: Annotated[str, typer.Option("--model-key", metavar="NAME", help="Key of 16 bytes for the model.")],
    rounds: Annotated[int, typer.Option("--rounds", help="Boosting rounds; the same at every party.")] = 30,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="XGBoost parameter, e.g. max_depth=8; repeatable."),
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Longest time for all of it, seconds.")] = 3600.0,
    round_timeout: Annotated[float, typer.Option("--round-timeout", help="Longest time for a round, seconds.")] = 120.0,
    receipt: Annotated[Path | None, typer.Option("--receipt", metavar="FILE", help="Write a signed receipt.")] = None,
    force: Force = False,
    keys: Keys = None,
    owner: Owner = None,
    state: State = None,
    trust: Trust = None,
) -> None:
    """Train as one of the parties.

    Raises:
        StrongroomError: A key is refused, a table is not what its writer made, the others don't answer, or the model
            can't be written.
    """
    import pyarrow as pa

    from strongroom.analytics.embedded import EmbeddedEngine
    from strongroom.analytics.federated.federation import Federation
    from strongroom.analytics.federated.training import Patience, train
    from strongroom.analytics.receipts import Together
    from strongroom.analytics.table import open_table
    from strongroom.room.files import create_sealed

    host, port = _host_and_port(coordinator)
    federation = Federation(host=host, port=port, parties=parties, rounds=rounds, parameters=_parameters(set_ or []))
    patience = Patience(total_s=timeout, round_s=round_timeout)
    access = find_access(keys, owner, state, trust)
    statement = read_statement(query)
    sealing_key = access.secret(model_key)
    tables = {name: open_table(folder, name, access.reading()) for name, folder in map(address, table)}
    started = datetime.now(UTC)
    with EmbeddedEngine() as engine:
        result = engine.query(statement, tables)
        rows = pa.Table.from_batches(list(result.batches), result.schema)
    with _identity(access, secret, name=f"party-{rank}") as identity, _rounds(rounds) as heard:
        trained = train(federation, rank, identity, rows, patience=patience, heard=heard)
    with create_sealed(model, sealing_key, overwrite=force) as file:
        file.write(trained.model)
    if receipt:
        together = Together(
            coordinator=coordinator,
            parties=parties,
            rank=rank,
            rounds=rounds,
            agreement=federation.agreement(trained.features),
            parameters={name: str(value) for name, value in federation.training().items()},
        )
        _write_receipt(receipt, statement, tables, trained, together, access, started, overwrite=force)
    put(json.dumps({"model": trained.digest.hex(), "rows": trained.rows, "features": trained.features}))


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigurationError("--coordinator takes HOST:PORT", code="federate.address")
    return host.strip("[]"), int(port)


def _parameters(texts: list[str]) -> dict[str, str | float]:
    """Numbers where they are numbers; `Federation` says which there are.

    Raises:
        ConfigurationError: Not NAME=VALUE.
    """
    found: dict[str, str | float] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigurationError("--set takes NAME=VALUE", code="federate.parameter")
        try:
            number = float(value)
        except ValueError:
            found[name] = value
        else:
            found[name] = int(number) if number.is_integer() else number
    return found


@contextmanager
def _identity(access: Access, secret: str, **of: Any) -> "Iterator[Identity]":
    """This process's certificate, in a private folder in memory as long as it is needed."""
    from strongroom.analytics.federated.certificates import write_identity
    from strongroom.analytics.spark.private_folder import PrivateFolder

    key = access.secret(secret)
    with PrivateFolder() as folder:
        folder.guard()
        yield write_identity(folder.path, key, datetime.now(UTC), **of)


@contextmanager
def _rounds(total: int) -> "Iterator[Callable[[int], None]]":
    """A progress bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _round: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("waiting for the parties", total=total)
        yield lambda number: bar.update(task, completed=number, description="rounds")


def _write_receipt(
    target: Path,
    statement: str,
    tables: dict[str, Any],
    trained: "Trained",
    together: "Together",
    access: Access,
    started: datetime,
    *,
    overwrite: bool,
) -> None:
    import xgboost

    from strongroom.analytics.engine import query_digest
    from strongroom.analytics.receipts import Output, Receipt, sign_receipt
    from strongroom.room.new_file import NewFile

    stated = Receipt(
        query=query_digest(statement),
        tables=tuple(opened.manifest for opened in tables.values()),
        engine=("xgboost-federated", xgboost.__version__),
        workers=(access.worker,),
        outputs=(Output("model", trained.digest, trained.rows),),
        started=started,
        finished=datetime.now(UTC),
        federation=together,
    )
    with NewFile(target, overwrite=overwrite) as file:
        file.write_at(sign_receipt(stated, access.signer), 0)


@app.command(
    help="Show it on this machine: a coordinator and three parties, each with tables and keys of its own.",
    epilog="Example: strongroom analytics federate demo federation/",
)
def demo(
    folder: Annotated[Path, typer.Argument(help="New folder for keys, tables and models.", show_default=False)],
    rows: Annotated[int, typer.Option("--rows", help="Trips of each party.")] = 20_000,
    rounds: Annotated[int, typer.Option("--rounds", help="Boosting rounds.")] = 20,
) -> None:
    """Show it on this machine.

    Raises:
        StrongroomError: The folder exists, or a step fails.
    """
    from strongroom.analytics.federated.processes import federated_xgboost
    from strongroom.cli.analytics_federate_demo import run_demo

    federated_xgboost()
    print("warning: no attestation here: this shows the traffic and the keys, not the TEE", file=sys.stderr)  # noqa: T201
    put(json.dumps(run_demo(folder, rows=rows, rounds=rounds), indent=2))
