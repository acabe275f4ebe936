"""`strongroom broker`: make a key broker, run it, read its grants and its log."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from strongroom.cli.broker_amd import app as amd_collateral
from strongroom.cli.broker_collateral import app as collateral
from strongroom.cli.main import noun_app
from strongroom.cli.owner import Json, Owner, owner_client, put, say
from strongroom.errors import ConfigurationError
from strongroom.outcome import one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from strongroom.broker.audit import StoredAuditLog
    from strongroom.broker.log_head import LogHead
    from strongroom.broker.records import Record

FOLLOW_S: Final = 1.0

app = noun_app("The key broker: make one, run it, read its grants and its log.")
app.add_typer(collateral)
app.add_typer(amd_collateral)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The broker's folder.", show_default=False)]

INIT_EPILOG: Final = """Examples:

\b
  strongroom broker init broker
  strongroom broker init broker --host keys.example.com --listen 0.0.0.0
  strongroom broker init trial --allow-simulated --simulated-machine machine
  strongroom broker init broker --host keys.example.com --listen 0.0.0.0 --database-url
    "postgresql://broker@db.example.com/strongroom?sslrootcert=/etc/db/ca.pem&passfile=/etc/db/pgpass"

\b
With --database-url several replicas may serve copies of DIR at the same time.
DIR/owner goes to the owner's trusted machine, DIR/room to where workloads start; no secret is in DIR/room.
"""


@app.command(help="Make a broker: folder, keys, certificates, empty database.", epilog=INIT_EPILOG)
def init(
    folder: Folder,
    host: Annotated[
        list[str] | None, typer.Option("--host", help="Name or address clients use; may be repeated.")
    ] = None,
    listen: Annotated[str, typer.Option("--listen", help="IP address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="TCP port.")] = 8443,
    allow_simulated: Annotated[
        bool, typer.Option("--allow-simulated", help="Believe a simulated machine: for trials only.")
    ] = False,
    simulated_machine: Annotated[
        Path | None, typer.Option("--simulated-machine", help="Its folder (`strongroom platform simulate`).")
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option("--database-url", help="Empty PostgreSQL database, without a password; default: SQLite in DIR."),
    ] = None,
) -> None:
    """Make a broker.

    Raises:
        ConfigurationError: An option is wrong.
        WouldOverwrite: The folder is not empty.
    """
    from strongroom.broker.setup import create_broker
    from strongroom.composition import simulated_trust

    if allow_simulated != (simulated_machine is not None):
        raise ConfigurationError(
            "--allow-simulated and --simulated-machine belong together",
            code="broker.simulated",
            hint="both for a trial on a simulated machine; none for hardware",
        )
    trust = simulated_trust(simulated_machine) if simulated_machine else None
    files = create_broker(
        folder,
        now=datetime.now(UTC),
        hosts=host or (),
        listen=listen,
        port=port,
        simulated=trust,
        database_url=database_url,
    )
    say(f"made a broker in {files.root}")
    if trust is not None:
        say("warning: it believes a SIMULATED machine: it protects nothing, use it for trials only")
    say(f"the owner's folder: {files.owner}   the workloads' folder: {files.room}")
    say(f"next: strongroom broker serve {files.root}")
    if database_url is not None:
        say("another replica serves a copy of this folder; it needs neither owner/ nor ca.key")


@app.command(epilog="Example: strongroom broker serve broker --ready-file broker.ready")
def serve(
    folder: Folder,
    ready_file: Annotated[
        Path | None, typer.Option("--ready-file", help="Write the URL here once connections are accepted.")
    ] = None,
) -> None:
    """Run the broker until SIGTERM or Ctrl-C. Its log goes to stderr as JSON lines."""
    from strongroom.broker.server import serve as serve_broker

    serve_broker(folder, ready_file=ready_file)


@app.command(epilog="Example: strongroom broker renew broker --host keys.example.com")
def renew(
    folder: Folder,
    host: Annotated[list[str] | None, typer.Option("--host", help="Also for this name; may be repeated.")] = None,
) -> None:
    """Renew the server's TLS certificate; restart the broker afterwards. Clients need nothing new."""
    from strongroom.broker.folder import BrokerFolder
    from strongroom.broker.renewal import renew_certificate

    certificate = renew_certificate(BrokerFolder(folder), hosts=host or (), now=datetime.now(UTC))
    say(f"the new certificate is good until {certificate.not_valid_after_utc:%Y-%m-%d}; restart the broker")


@app.command(epilog="Example: strongroom broker grants --json")
def grants(owner: Owner = None, as_json: Json = False) -> None:
    """List grants: which workload may have which keys, under which policy."""
    with owner_client(owner) as client:
        found = client.list_grants()
    if as_json:
        put(json.dumps([grant.to_json() for grant in found], indent=2))
        return
    for grant in found:
        simulated = "  SIMULATED accepted" if grant.policy.accept_simulated else ""
        until = f"  until {grant.not_after:%Y-%m-%d %H:%M} UTC" if grant.not_after else ""
        put(
            f"{grant.name}  {' '.join(map(str, grant.keys))}  policy {grant.policy.digest.hex()[:16]}{until}{simulated}"
        )


LOG_EPILOG: Final = """Examples:

\b
  strongroom broker log --verify
  strongroom broker log --json --follow
  strongroom broker log broker --json       (on the broker's machine; it need not run)
"""


@app.command(epilog=LOG_EPILOG)
def log(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="The broker's folder; else the broker is asked.")
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify", help="Check that it continues the log of the last --verify, and remember its end for the next."
        ),
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for new records until Ctrl-C.")] = False,
    owner: Owner = None,
    as_json: Json = False,
) -> None:
    """Print the audit log. Every record's hash and place is checked; an altered log ends with an error.

    Raises:
        VerificationError: A record was changed, removed or reordered, or the log was rolled back.
        StrongroomError: The log can't be read.
    """
    from strongroom.broker.log_head import FILE_NAME, read_head, write_head

    remembered = owner / FILE_NAME if verify and folder is None and owner else None
    with owner_client(owner) if folder is None else _stored_log(folder) as source:
        end = _put_stretch(source.read, None, read_head(remembered) if remembered else None, as_json=as_json)
        while True:
            if remembered and end.last.seq:
                write_head(remembered, end.last)
            if not follow:
                break
            time.sleep(FOLLOW_S)
            end = _put_stretch(source.read, end, end.last, as_json=as_json)
    if verify:
        say(f"checked: {end.last.seq} records, last leaf hash {end.last.leaf_hash.hex() if end.last.seq else '-'}")


class _End(NamedTuple):
    """The last record that was printed and the one before it; sequence number 0: none."""

    before: "LogHead"
    last: "LogHead"


def _put_stretch(
    read: "Callable[[int], list[Record]]", end: _End | None, seen: "LogHead | None", *, as_json: bool
) -> _End:
    """Print what came since `end`. The last record is read again: a log that was rolled back meanwhile is noticed."""
    from strongroom.broker.log_head import LogHead, continuing
    from strongroom.broker.records import NO_RECORD, verified

    before, last = end or _End(LogHead(0, NO_RECORD), LogHead(0, NO_RECORD))
    stretch = verified(read, after=before.seq, head=before.leaf_hash)
    for record in continuing(stretch, seen if seen and seen.seq else None, after=before.seq):
        if record.seq > last.seq:
            put(record.record.decode() if as_json else _line(json.loads(record.record)))
            before, last = last, LogHead(record.seq, record.leaf_hash)
    return _End(before, last)


def _stored_log(folder: Path) -> "AbstractContextManager[StoredAuditLog]":
    from strongroom.broker.parts import stored_log  # with the whole broker: not where the broker is asked

    return stored_log(folder)


def _line(record: dict[str, Any]) -> str:
    who = record.get("who", {})
    parts = [f"{record['seq']:>6}", record["time"], f"{record['decision']:<5}", record["event"]]
    parts += [record[name] for name in ("name", "path") if name in record]
    if who:
        kind = "SIMULATED" if who.get("simulated") else str(who.get("tee"))
        guest = who.get("snp", {}).get("measurement")
        measurement = str(who.get("mr_enclave") or who.get("mr_td") or guest)[:16]
        parts.append(f"{kind} {measurement} {who.get('tcb_status') or '-'}")
    parts += [f"{finding['code']}: {finding['detail']}" for finding in record.get("findings", [])]
    parts += [f"{number} x {kind}" for kind, number in record.get("counted", {}).items()]
    return one_line("  ".join(parts))
