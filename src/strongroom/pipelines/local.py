"""Runs the pipeline on this machine, without containers: Kubeflow's own local runner, one process a step."""

import contextlib
import io
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from strongroom.errors import FormatError, StrongroomError
from strongroom.pipelines.compile import require_kfp

MAX_OUTPUT_BYTES: Final = 16 << 20
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_FAILED: Final = re.compile(r"task failed: '([a-z0-9-]+)'")


@dataclass(frozen=True, slots=True)
class LocalRun:
    """What a run left behind.

    Args:
        folder: One folder a task, in it one file an artifact.
        metrics: What `daal4py_inference` logged, by name.
        roc: (false positive rate, recall, threshold), as Kubeflow would draw them.
    """

    folder: Path
    metrics: Mapping[str, float]
    roc: tuple[tuple[float, float, float], ...]

    def artifact(self, task: str, name: str) -> Path:
        """The sealed file of an artifact."""
        return self.folder / task / name


def run_local(root: Path, data_url: str, data_size: int, log: TextIO) -> LocalRun:
    """Run the seven steps, one after the other.

    The steps find broker, platform and workloads in this process's environment, as `strongroom workload run` and
    `strongroom.pipelines.steps.StepSettings` say.

    Args:
        root: Folder for the artifacts.
        data_url: For `load_data`.
        data_size: Rows wanted in all.
        log: Gets what Kubeflow and the steps say.

    Raises:
        ConfigurationError: Kubeflow's SDK is not installed.
        StrongroomError: A step failed, code ``pipeline.failed``; the log says why.
        FormatError: The runner left something unexpected behind.
    """
    require_kfp()
    from kfp import local

    from strongroom.pipelines.definition import make_pipeline

    with _talking_to(log), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # resources and placement mean nothing on one machine
        local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root))
        try:
            make_pipeline(lambda _task, _name: None)(data_url=data_url, data_size=data_size)
        except RuntimeError as error:
            raise StrongroomError(_failure(str(error)), code="pipeline.failed") from None
    return read_run(root)


def _failure(text: str) -> str:
    """Which step failed, out of Kubeflow's coloured message."""
    failed = _FAILED.search(_COLOUR.sub("", text))
    return f"step {failed[1]} failed" if failed else "the pipeline failed"


@contextlib.contextmanager
def _talking_to(log: TextIO) -> Iterator[None]:
    """Kubeflow prints the steps' output to stdout and talks through the root logger: both go to the log."""
    handler = logging.StreamHandler(log)
    root = logging.getLogger()
    before = root.handlers[:]
    root.handlers = [handler]
    try:
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        root.handlers = before


def read_run(root: Path) -> LocalRun:
    """The newest run below a folder.

    Raises:
        FormatError: There is none, or its results are not there.
    """
    runs = sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise FormatError("the pipeline left no run behind", code="pipeline.run")
    metrics = _metadata(runs[-1] / "daal4py-inference", "metrics")
    curve = _metadata(runs[-1] / "plot-roc-curve", "roc_curve_daal4py")
    try:
        points = [
            (float(p["falsePositiveRate"]), float(p["recall"]), float(p["confidenceThreshold"]))
            for p in curve["confidenceMetrics"]
        ]
        return LocalRun(runs[-1], {"AUC": float(metrics["AUC"]), "Accuracy": float(metrics["Accuracy"])}, tuple(points))
    except (KeyError, TypeError, ValueError):
        raise FormatError("the run's metrics are malformed", code="pipeline.run") from None


def _metadata(task: Path, artifact: str) -> dict[str, Any]:
    try:
        raw = (task / "executor_output.json").read_bytes()
        data: Any = json.loads(raw) if len(raw) <= MAX_OUTPUT_BYTES else None
        return dict(data["artifacts"][artifact]["artifacts"][0]["metadata"])
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        raise FormatError(f"step {task.name} left no results", code="pipeline.run") from None
