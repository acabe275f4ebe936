"""`strongroom pipeline run --local` as a trial: everything the pipeline needs, made and used on this machine."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from strongroom.errors import ConfigurationError

if TYPE_CHECKING:
    from strongroom.cli.stage import Stage

MARKER: Final = ".strongroom-pipeline"
COMMANDS: Final = 11  # for the progress bar
SAMPLE_ROWS: Final = 32_000
BOOK: Final = "loans.csv"
# Sealed artifact, file that the owner opens it to.
OPENED: Final = (
    ("daal4py-inference", "report", "report.csv"),
    ("daal4py-inference", "prediction_data", "prediction_data.parquet"),
    ("convert-xgboost-to-daal4py", "daal4py_model", "model.bundle"),
)


def run_trial(out: Path, data: Path | None, data_url: str | None, data_size: int) -> Path:
    """Make machine, broker, keys and grants, run the pipeline, open its results.

    Args:
        out: Folder for everything.
        data: Loan book to seal; None: one is generated.
        data_url: URL to read instead; the first step is authorized for exactly this one.
        data_size: Rows wanted.

    Returns:
        The report, an HTML file.

    Raises:
        ConfigurationError: There is no such loan book.
        WouldOverwrite: The folder holds something else than an earlier trial.
        StrongroomError: A step did not end as it must.
    """
    from strongroom.cli.stage import Stage
    from strongroom.cli.trial import fresh_folder, simulated_broker

    if data is not None and not data.is_file():
        raise ConfigurationError(f"no such file: {data}", code="pipeline.data")
    stage = Stage(fresh_folder(out, MARKER))
    with stage.commands(COMMANDS), simulated_broker(stage):
        _authorize(stage, data_url)
        if data_url is None:
            _seal(stage, data)
        done = _run_steps(stage, data_url or f"sealed:{BOOK}", data_size)
        return _open_results(stage, done)


def _authorize(stage: "Stage", data_url: str | None) -> None:
    stage.title("The owner authorizes seven steps: each one's measurement, each one's keys")
    allow = ["--allow", data_url] if data_url else []
    ca = str(stage.out / "broker" / "room" / "ca.pem")
    stage.run("pipeline", "init", str(stage.out / "steps"), "--broker-ca", ca, *allow)
    stage.run("pipeline", "authorize", str(stage.out / "steps"), "--accept-simulated")


def _seal(stage: "Stage", data: Path | None) -> None:
    stage.title("The owner seals the loan book; only ciphertext goes to the storage")
    owner, sources = stage.out / "owner", stage.out / "sources"
    owner.mkdir()
    sources.mkdir()
    if data is None:
        stage.run("loan", "sample", "--rows", str(SAMPLE_ROWS), "--out", str(owner / BOOK))
    else:
        shutil.copyfile(data, owner / BOOK)
    sealed = ("--key", "pipeline/key/source", "--path", f"source/{BOOK}")
    stage.run("seal", str(owner / BOOK), str(sources / BOOK), *sealed)


def _run_steps(stage: "Stage", data_url: str, data_size: int) -> dict[str, Any]:
    stage.title("Kubeflow's local runner: seven steps, each attests, receives its keys, opens, computes, seals")
    where = ("--workloads", str(stage.out / "steps"), "--sources", str(stage.out / "sources"))
    what = ("--data-url", data_url, "--data-size", str(data_size))
    said = stage.run("pipeline", "run", "--local", "--out", str(stage.out / "run"), *where, *what)
    done: dict[str, Any] = json.loads(said)
    for name, value in done["metrics"].items():
        stage.say(f"   {name} {value:.2f} %")
    return done


def _open_results(stage: "Stage", done: dict[str, Any]) -> Path:
    from strongroom.cli.pipeline_report import write_results

    stage.title("The owner opens the results and the broker's log")
    owner = stage.out / "owner"
    owner.mkdir(exist_ok=True)
    for task, artifact, opened in OPENED:
        source, key = Path(done["artifacts"]) / task / artifact, f"pipeline/key/{artifact.replace('_', '-')}"
        stage.run("open", str(source), str(owner / opened), "--key", key, "--path", artifact)
    log = stage.run("broker", "log", str(stage.out / "broker"), "--json", "--verify")
    report = write_results(stage.out, owner, done, log)
    stage.say(f"\nreport: {report}   (simulated platform: nothing here was proved by hardware)")
    return report
