"""`strongroom pipeline`: the Kubeflow pipeline: prepare its workloads, authorize, compile, run, submit."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from strongroom.cli.main import noun_app
from strongroom.cli.overlay import Overlay
from strongroom.cli.owner import Json, Owner, owner_client, put, say
from strongroom.errors import ConfigurationError
from strongroom.outcome import one_line

if TYPE_CHECKING:
    from strongroom.attestation.policy import AppraisalPolicy
    from strongroom.workload import Workload

app = noun_app("The Kubeflow pipeline of the loan application: seven attested steps, each with keys of its own.")

LOG_TAIL: Final = 16_384
ERROR_LINES: Final = 4
_ENDED: Final = re.compile(r"\s*strongroom\.errors\.\w+: ")  # the last line of what Python prints of our error
Workloads = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder that `pipeline init` wrote.", show_default=False)
]
DataUrl = Annotated[
    str | None,
    typer.Option("--data-url", metavar="URL", help="sealed:NAME, or a URL of the first step's list of sources."),
]
DataSize = Annotated[
    int, typer.Option("--data-size", min=1, help="Rows wanted; more than there are: copies with noise are trained on.")
]


@app.command(
    help="Write the workloads of the seven steps for one broker.",
    epilog="Example: strongroom pipeline init steps --broker-ca broker/room/ca.pem "
    "--allow https://data.example.com/loans.csv=SHA256",
)
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder.", show_default=False)],
    broker_ca: Annotated[Path, typer.Option("--broker-ca", help="The broker's ca.pem.", show_default=False)],
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="URL[=SHA256]", help="Data in the clear that the first step may read."),
    ] = None,
) -> None:
    """Write the workloads of the seven steps for one broker."""
    from strongroom.pipelines.prepare import prepare_workloads
    from strongroom.pipelines.sources import parse_source

    prepare_workloads(folder, broker_ca, [parse_source(text) for text in allow or []])
    say(f"wrote seven workloads to {folder}; next: strongroom pipeline authorize {folder}")


AUTHORIZE_EPILOG: Final = """Examples:

\b
  strongroom pipeline authorize steps --signatures enclaves
  strongroom pipeline authorize steps --accept-simulated
"""


@app.command(help="Make the pipeline's keys and grant each step its own.", epilog=AUTHORIZE_EPILOG)
def authorize(
    folder: Workloads,
    signatures: Annotated[
        Path | None, typer.Option("--signatures", metavar="DIR", help="DIR/STEP/STEP.sig says how SGX measures a step.")
    ] = None,
    accept_simulated: Annotated[
        bool, typer.Option("--accept-simulated", help="Accept the steps on a simulated machine: trials only.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of earlier grants.")] = False,
    owner: Owner = None,
) -> None:
    """Make the pipeline's keys and grant each step its own.

    Raises:
        ConfigurationError: Nothing says how the steps are measured, or a workload or signature is wrong.
        StrongroomError: The broker does not answer, or refuses.
    """
    from strongroom.broker.grants import Grant
    from strongroom.formats.kbs import ResourcePath

    if (signatures is not None) == accept_simulated:
        raise ConfigurationError(
            "how are the steps measured?",
            code="pipeline.measurement",
            hint="--signatures DIR with the signed enclaves, or --accept-simulated for a trial",
        )
    steps = load_steps(folder)
    granted = [
        Grant(
            name=step.name,
            policy=_policy(step, signatures),
            keys=tuple(sorted({ResourcePath.parse(path) for path in step.keys.values()}, key=str)),
        )
        for step in steps
    ]
    with owner_client(owner) as client:
        known = {str(key.path) for key in client.list_keys()}
        wanted = {str(path): path for grant in granted for path in grant.keys}
        for name in sorted(wanted.keys() - known):
            client.create_key(wanted[name])
        for grant in granted:
            client.add_grant(grant, replace=replace)
            say(f"authorized {grant.name}: {', '.join(map(str, grant.keys))}")
    if accept_simulated:
        say("warning: a SIMULATED machine is accepted, which protects nothing")


def load_steps(folder: Path) -> "list[Workload]":
    """The seven workloads of a folder, in the pipeline's order."""
    from strongroom.pipelines.prepare import STEP_NAMES
    from strongroom.workload import load_workload

    return [load_workload(folder / name / "workload.toml") for name in STEP_NAMES]


def _policy(step: "Workload", signatures: Path | None) -> "AppraisalPolicy":
    from strongroom.attestation.policy import ANY, AppraisalPolicy, EnclaveIdentity
    from strongroom.cli.signed_enclave import describe_signature
    from strongroom.workload import measure

    if signatures is None:
        mr_enclave = measure(step).mr_enclave
    else:
        described = describe_signature(signatures / step.name / f"{step.name}.sig", step)
        mr_enclave = bytes.fromhex(str(described["mr_enclave"]))
    return AppraisalPolicy(
        measurements=(EnclaveIdentity(mr_enclave),),
        tees=frozenset({"sgx"}),
        tcb_statuses=frozenset({"UpToDate"}),
        advisories=(),
        min_tcb_eval_data_number=ANY,
        accept_simulated=signatures is None,
    )


COMPILE_EPILOG: Final = """Examples:

\b
  strongroom pipeline compile --image registry.example.com/strongroom-pipeline@sha256:...
  strongroom pipeline compile --image ... --workloads steps --sources loans --out pipeline.yaml
  strongroom pipeline compile --image ... --overlay aks-cvm --node-selector agentpool=confvm
"""


@app.command("compile", help="Write the pipeline as Kubeflow's YAML.", epilog=COMPILE_EPILOG)
def compile_(
    image: Annotated[str, typer.Option("--image", help="Container image of the steps.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.")] = Path("intel-xgboost-daal4py.yaml"),
    workloads: Annotated[
        Path | None, typer.Option("--workloads", metavar="DIR", help="The steps, as authorized [default: built in].")
    ] = None,
    image_workloads: Annotated[
        str | None, typer.Option("--image-workloads", metavar="DIR", help="The same folder inside the image.")
    ] = None,
    image_enclaves: Annotated[
        str | None, typer.Option("--image-enclaves", metavar="DIR", help="Signed Gramine enclaves inside the image.")
    ] = None,
    node_selector: Annotated[
        list[str] | None,
        typer.Option("--node-selector", metavar="LABEL=VALUE", help="Nodes; may be repeated [default: the overlay's]."),
    ] = None,
    overlay: Annotated[Overlay, typer.Option("--overlay", help="What the nodes are.")] = Overlay.AKS_SGX,
    epc: Annotated[
        str, typer.Option("--epc", metavar="RESOURCE", help="Resource of protected memory on SGX nodes.")
    ] = "sgx.intel.com/epc",
    room: Annotated[str, typer.Option("--room", help="ConfigMap with room.toml and ca.pem.")] = "strongroom-room",
    sources: Annotated[
        str | None, typer.Option("--sources", metavar="PVC", help="Volume claim with the sealed loan books.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write the pipeline as Kubeflow's YAML: every step with its image, nodes, EPC and keys.

    Raises:
        ConfigurationError: An option is wrong.
        WouldOverwrite: The file exists.
    """
    from strongroom.errors import WouldOverwrite
    from strongroom.pipelines.compile import Placement, compile_pipeline
    from strongroom.pipelines.steps import WORKLOADS

    if out.exists() and not force:
        raise WouldOverwrite(f"{out} exists", hint="--force replaces it")
    placement = Placement(
        image=image,
        workloads=workloads or WORKLOADS,
        container_workloads=image_workloads,
        container_enclaves=image_enclaves,
        overlay=overlay.value,
        node_selector=dict(map(_label, node_selector)) if node_selector else None,
        epc=epc,
        room=room,
        sources=sources,
    )
    compile_pipeline(placement, out)
    if overlay is Overlay.SIMULATED:
        say("warning: the overlay `simulated` protects nothing")
    say(f"wrote {out}")


def _label(text: str) -> tuple[str, str]:
    label, found, value = text.partition("=")
    if not (label and found):
        raise ConfigurationError("a node selector is LABEL=VALUE", code="pipeline.node_selector")
    return label, value


RUN_EPILOG: Final = """Examples:

\b
  strongroom pipeline run --local --data loans.csv
  strongroom pipeline run --local --workloads steps --sources sealed --data-url sealed:loans.csv

Without --workloads a trial is made: a simulated machine, a broker, keys, grants, all in the folder of --out.
"""


@app.command(help="Run the pipeline on this machine, without containers.", epilog=RUN_EPILOG)
def run(
    local: Annotated[bool, typer.Option("--local", help="On this machine; for a cluster: `pipeline submit`.")] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder for what the run makes.")] = Path("pipeline-room"),
    data: Annotated[
        Path | None, typer.Option("--data", help="Your own loan book (CSV); without it one is generated.")
    ] = None,
    data_url: DataUrl = None,
    data_size: DataSize = 1,
    workloads: Annotated[
        Path | None,
        typer.Option("--workloads", metavar="DIR", help="Authorized steps; the broker is STRONGROOM_ROOM's."),
    ] = None,
    sources: Annotated[
        Path | None, typer.Option("--sources", metavar="DIR", help="Folder of sealed loan books.")
    ] = None,
) -> None:
    """Run the pipeline on this machine, without containers.

    Raises:
        ConfigurationError: Options contradict each other, or Kubeflow's SDK is not installed.
        StrongroomError: A step failed.
    """
    from strongroom.pipelines.compile import require_kfp

    if not local:
        raise ConfigurationError(
            "where? --local runs the pipeline here", code="pipeline.where", hint="a cluster: strongroom pipeline submit"
        )
    require_kfp()
    if workloads is None:
        from strongroom.cli.pipeline_trial import run_trial

        if sources is not None or (data is not None and data_url is not None):
            raise ConfigurationError("a trial takes --data or --data-url", code="pipeline.trial")
        put(str(run_trial(out, data, data_url, data_size)))
        return
    if data_url is None or data is not None:
        raise ConfigurationError("with --workloads the data is named by --data-url", code="pipeline.data")
    _run_here(out, data_url, data_size, workloads, sources)


def _run_here(out: Path, data_url: str, data_size: int, workloads: Path, sources: Path | None) -> None:
    import os

    from strongroom.pipelines.local import run_local

    out.mkdir(parents=True, exist_ok=True)
    os.environ["STRONGROOM_PIPELINE_WORKLOADS"] = str(workloads.absolute())
    if sources is not None:
        os.environ["STRONGROOM_PIPELINE_SOURCES"] = str(sources.absolute())
    log = out / "pipeline.log"
    with log.open("w", encoding="utf-8") as talk:
        try:
            done = run_local(out.absolute() / "artifacts", data_url, data_size, talk)
        except Exception:
            talk.flush()
            _say_why(log)
            raise
    put(json.dumps({"artifacts": str(done.folder), "metrics": dict(done.metrics), "roc": done.roc}))


def _say_why(log: Path) -> None:
    """The failed step's own error, found at the end of the log, and how the step ended, if it could not say one."""
    last = log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:].splitlines()
    first = next((at for at, line in enumerate(last) if line.lstrip().startswith("error:")), len(last))
    for line in last[first : first + ERROR_LINES] + [line for line in last if _ENDED.match(line)][-1:]:
        if not line.lstrip().startswith(("Traceback", "File")):
            say(one_line(line.strip()))
    say(f"the steps' log: {log}")


SUBMIT_EPILOG: Final = """Example:

\b
  strongroom pipeline submit intel-xgboost-daal4py.yaml --host https://kubeflow.example.com/pipeline \\
      --data-url sealed:loans.csv --data-size 32581 --token-file token
"""


@app.command(help="Start a run at a Kubeflow Pipelines endpoint.", epilog=SUBMIT_EPILOG)
def submit(
    file: Annotated[Path, typer.Argument(metavar="PIPELINE.yaml", help="What `compile` wrote.", show_default=False)],
    data_url: Annotated[str, typer.Option("--data-url", metavar="URL", help="As for `run`.", show_default=False)],
    host: Annotated[str, typer.Option("--host", envvar="KF_PIPELINES_ENDPOINT", help="https:// URL of the endpoint.")],
    data_size: DataSize = 1,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File with the bearer token; no token goes into a command line.")
    ] = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="CA certificate of the endpoint (PEM).")] = None,
    namespace: Annotated[str, typer.Option("--namespace", help="Kubeflow profile.")] = "kubeflow",
    experiment: Annotated[str, typer.Option("--experiment", help="Experiment to file the run under.")] = "strongroom",
    service_account: Annotated[
        str, typer.Option("--service-account", help="Account of the steps' pods.")
    ] = "strongroom-pipeline",
    dangerous_plaintext: Annotated[
        bool, typer.Option("--dangerous-plaintext-endpoint", help="Accept http:// (a port-forward on this machine).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start a run at a Kubeflow Pipelines endpoint."""
    from strongroom.pipelines.submit import Endpoint, Request, submit_pipeline

    endpoint = Endpoint(host, namespace, token_file, ca, plaintext=dangerous_plaintext)
    request = Request(data_url, data_size, experiment, service_account)
    run_id = submit_pipeline(file, endpoint, request)
    put(json.dumps({"run_id": run_id}) if as_json else run_id)
