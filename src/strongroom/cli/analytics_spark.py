"""`strongroom analytics submit`, `job` and `spark-*`: Spark applications and their clusters."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from strongroom.cli.analytics_access import Access, Keys, State, Trust, find_access, save_receipt
from strongroom.cli.analytics_tables import Force, address
from strongroom.cli.main import noun_app
from strongroom.cli.owner import Owner
from strongroom.errors import ConfigurationError, KeyReleaseError, WouldOverwrite

if TYPE_CHECKING:
    from strongroom.analytics.spark.engine import SparkEngine
    from strongroom.analytics.spark.session import Rights

app = noun_app("Spark applications.")

Master = Annotated[
    str,
    typer.Option(
        "--master",
        help="local[*], spark://HOST:PORT or k8s://https://HOST:PORT: where executors are.",
        show_default="local[*]",
    ),
]
Conf = Annotated[
    list[str] | None,
    typer.Option("--conf", metavar="NAME=VALUE", help="A setting of Spark; in a TEE only harmless ones. Repeatable."),
]
SUBMIT_EXAMPLES: Final = """Examples:

\b
  strongroom analytics submit count.py --table trips=tables/trips --keys keys
  strongroom analytics submit train.py --table trips=tables/trips --into scores=tables/scores --key taxi/key/out \\
      --master spark://10.0.0.7:7077 -- --rounds 20

In the application, spark.read.parquet("tables/trips") and SQL over trips read the checked table.
"""


@app.command(
    help="Run a PySpark application, as it is, over encrypted tables.",
    epilog=SUBMIT_EXAMPLES,
    context_settings={"allow_interspersed_args": True},
)
def submit(
    application: Annotated[Path, typer.Argument(metavar="APP.py", help="The application.", show_default=False)],
    arguments: Annotated[list[str] | None, typer.Argument(help="Its own arguments.", show_default=False)] = None,
    table: Annotated[
        list[str] | None, typer.Option("--table", metavar="[NAME=]DIR", help="A table it reads; repeatable.")
    ] = None,
    into: Annotated[
        list[str] | None, typer.Option("--into", metavar="[NAME=]DIR", help="A table it writes; repeatable.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="NAME", help="Master key of what it writes, tables and other files.")
    ] = None,
    scratch: Annotated[
        str | None,
        typer.Option("--scratch", metavar="NAME", help="Let a later job of this NAME read files that are no table."),
    ] = None,
    master: Master = "",
    conf: Conf = None,
    properties_file: Annotated[
        Path | None, typer.Option("--properties-file", help="Settings as spark-submit takes them.")
    ] = None,
    receipt: Annotated[
        Path | None,
        typer.Option("--receipt", metavar="FILE", help="Write a signed receipt when it has ended well."),
    ] = None,
    force: Force = False,
    pod: Annotated[
        bool, typer.Option("--pod", help="Be the driver that Spark on Kubernetes started this container for.")
    ] = False,
    keys: Keys = None,
    owner: Owner = None,
    state: State = None,
    trust: Trust = None,
) -> None:
    """Run a PySpark application over encrypted tables.

    Raises:
        ConfigurationError: An option is wrong.
        KeyReleaseError: Executors were refused, and so the application failed.
        WouldOverwrite: There is a receipt already.
        Exit: The application ended with a status of its own.
        StrongroomError: The application or a setting is not allowed, or a table is not what its writer made.
    """
    from strongroom.analytics.spark.properties import read_properties
    from strongroom.analytics.spark.session import Session
    from strongroom.analytics.spark.settings import accepted
    from strongroom.analytics.spark.submit import check_allowed, read_application, run_application
    from strongroom.analytics.spark.unmodified import Output, declared

    if into and not key:
        raise ConfigurationError("--into needs --key NAME", code="spark.key")
    source = read_application(application)
    rights = spark_rights(keys, owner, state, trust)
    check_allowed(application, source, rights.job)
    if pod:
        refuse_beside_pod(master=master, conf=conf, properties_file=properties_file)
        master, given, more = pod_driver(application)
        application, arguments = application.absolute(), [*(arguments or []), *more]
        os.chdir(os.environ.get("STRONGROOM_STORAGE", "."))
    else:
        given = (read_properties(properties_file) if properties_file else {}) | _pairs(conf)
    if receipt and receipt.exists() and not force:
        raise WouldOverwrite(f"there is already a file {receipt}", hint="--force replaces it")
    given = accepted(given, rights.job.settings if rights.job else {}, kubernetes=pod)
    outputs = [Output(name, folder, key or "") for name, folder in map(address, into or [])]
    with Session(rights, master=master or "local[*]", given=given, key=key, scratch=scratch) as session:
        for name, folder in map(address, table or []):
            session.declare(name, folder)
        with declared(session, outputs):
            status = run_application(application, source, arguments or [])
        if receipt and not status:
            save_receipt(receipt, session.receipt(source), overwrite=force)
        if status and session.driver.refused:
            raise KeyReleaseError(
                f"the application failed, and {session.driver.refused[-1]}", code="spark.executors_refused"
            )
    if status:
        raise typer.Exit(status)


def refuse_beside_pod(*, master: str, conf: list[str] | None, properties_file: Path | None) -> None:
    """Refuse options that say what Kubernetes says.

    Raises:
        ConfigurationError: One is given.
    """
    if master or conf or properties_file:
        raise ConfigurationError(
            "--pod takes master and settings from Spark on Kubernetes", code="spark.pod", hint="leave them out"
        )


def pod_driver(application: Path) -> tuple[str, dict[str, str], tuple[str, ...]]:
    """What the driver of a pod is asked to do.

    Args:
        application: The workload's own.

    Returns:
        Master, the cluster's settings, further arguments of the application.

    Raises:
        PolicyRejected: The cluster asks for another application, or adds arguments that are not allowed.
        ConfigurationError: What the cluster says is malformed, or this is not a workload.
    """
    from strongroom.analytics.spark import pod
    from strongroom.analytics.spark.attested import WORKLOAD_VARIABLE, in_room
    from strongroom.analytics.spark.properties import read_properties
    from strongroom.workload import load_workload

    if not in_room():
        raise ConfigurationError("--pod is for a workload", code="spark.pod", hint="leave it out")
    asked = pod.driver_call(pod.parse_call(os.environ.get(pod.CALL_VARIABLE, "")))
    workload = load_workload(Path(os.environ[WORKLOAD_VARIABLE]))
    pod.check_asked(asked, application, arguments_allowed=workload.insecure_host_arguments)
    return pod.MASTER, pod.cluster_settings(read_properties(asked.properties), asked), asked.arguments


def spark_rights(keys: Path | None, owner: Path | None, state: Path | None, trust: list[str] | None) -> "Rights":
    """Keys and trust for Spark: of the room this process is in, else of the options.

    Raises:
        StrongroomError: As `find_access`, or the broker refuses.
    """
    from strongroom.analytics.spark.attested import in_room
    from strongroom.analytics.spark.session import Rights, attested_rights
    from strongroom.cli.analytics_access import public_key

    if in_room() and keys is None and owner is None:
        return attested_rights(public_key(text) for text in trust or [])
    access = find_access(keys, owner, state, trust)
    return Rights(access.reading(), access.writing())


def spark_engine(access: Access, memory: str, master: str) -> "SparkEngine":
    """The engine of `query --engine spark`.

    Args:
        access: What the command may use.
        memory: For driver and executors each, e.g. "4GB"; empty: 1 GiB.
        master: Where the executors are.

    Raises:
        StrongroomError: The broker refuses, or Spark doesn't start.
    """
    from strongroom.analytics.spark.attested import in_room
    from strongroom.analytics.spark.engine import SparkEngine
    from strongroom.analytics.spark.session import Rights, Session, attested_rights
    from strongroom.analytics.spark.settings import accepted

    outside = Rights(access.reading(), access.writing())
    rights = attested_rights(access.trusted, access.signer) if in_room() else outside
    amount = memory.lower().removesuffix("b").removesuffix("i")
    given = {"spark.driver.memory": amount, "spark.executor.memory": amount} if memory else {}
    return SparkEngine(Session(rights, master=master, given=accepted(given, {})))


def _pairs(items: list[str] | None) -> dict[str, str]:
    pairs = [item.partition("=") for item in items or []]
    if bad := [name for name, separator, _ in pairs if not separator or not name]:
        raise ConfigurationError(f"--conf takes NAME=VALUE, not {bad[0]!r}", code="spark.conf")
    return {name: value for name, _, value in pairs}


@app.command(
    help="Print the job of an application: what an owner stores at the broker, so that this application and no other "
    "runs with the keys of a workload that was measured without it.",
    epilog="Example: strongroom analytics job count.py > job.json; strongroom key import taxi/key/job job.json",
)
def job(
    application: Annotated[Path, typer.Argument(metavar="APP.py", help="The application.", show_default=False)],
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="NAME=VALUE", help="A setting that is used, and that a cluster may repeat."),
    ] = None,
) -> None:
    """Print the job of an application.

    Raises:
        StrongroomError: It can't be read, or a setting is pinned.
    """
    from strongroom.analytics.spark.job import make_job, serialize_job
    from strongroom.analytics.spark.submit import read_application

    sys.stdout.buffer.write(serialize_job(make_job(read_application(application), _pairs(allow))))


@app.command(
    "spark-executor",
    help="Attest and become the executor that Spark on Kubernetes started this container for; a workload's command.",
    epilog='Example: command = ["python3", "-m", "strongroom", "analytics", "spark-executor"]',
)
def spark_executor() -> None:
    """Attest and become an executor.

    Raises:
        Exit: The executor may not take part; the status says why.
    """
    from strongroom.analytics.spark.executor import main_in_pod

    main_in_pod()


Host = Annotated[str, typer.Option("--host", help="Name or address to listen at.")]


@app.command(
    "spark-master",
    help="Attest and become the master of a standalone cluster; run it as a workload.",
    epilog="Example: strongroom workload run spark-node.toml -- spark-master --host 10.0.0.7",
)
def spark_master(
    host: Host = "127.0.0.1", port: Annotated[int, typer.Option("--port", help="TCP port.", min=1, max=65535)] = 7077
) -> None:
    """Attest and become the master of a standalone cluster.

    Raises:
        StrongroomError: The broker refuses or does not answer, or there is no Java.
    """
    from strongroom.analytics.spark.node import become_master

    become_master(host, port)


@app.command(
    "spark-worker",
    help="Attest and become a worker of a standalone cluster; each of its executors attests by itself.",
    epilog="Example: strongroom analytics spark-worker spark://10.0.0.7:7077 --host 10.0.0.8 --cores 4 --memory 8g",
)
def spark_worker(
    master: Annotated[str, typer.Argument(metavar="spark://HOST:PORT", help="The master.", show_default=False)],
    host: Host = "127.0.0.1",
    cores: Annotated[int, typer.Option("--cores", help="Cores it offers.", min=1)] = 1,
    memory: Annotated[str, typer.Option("--memory", help="Memory it offers, e.g. 4g.")] = "2g",
    work: Annotated[Path, typer.Option("--work", help="Folder for the executors' logs.")] = Path("work"),
) -> None:
    """Attest and become a worker of a standalone cluster.

    Raises:
        StrongroomError: The broker refuses or does not answer, or there is no Java.
    """
    from strongroom.analytics.spark.node import become_worker

    become_worker(master, host, cores=cores, memory=memory, work=work)
