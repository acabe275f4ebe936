"""What the pipeline's components call: start a step's workload on copies of its sealed artifacts.

This code runs outside the room and holds no key. Artifacts are sealed files; each has one path, its name, wherever
Kubeflow keeps it, so a step's inputs are laid out under their names in a folder that lives as long as the step.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from strongroom.errors import ConfigurationError, StrongroomError
from strongroom.pipelines.published import MAX_PUBLISHED_BYTES, parse_published
from strongroom.pipelines.sources import SEALED, SEALED_FOLDER, sealed_name
from strongroom.workload.arguments import VARIABLE as ADDED_ARGUMENTS
from strongroom.workload.arguments import write_arguments

WORKLOADS: Final = Path(__file__).parent / "workloads"
ENCLAVE_LAUNCHER: Final = "gramine-sgx"
WORK_FOLDER: Final = "/work"
"""Where `strongroom.deployment.gramine_manifest` mounts the folder that an enclave starts in."""


class StepSettings(BaseSettings):
    """What a step's container is told (``STRONGROOM_PIPELINE_*``); nothing in here is secret."""

    model_config = SettingsConfigDict(env_prefix="STRONGROOM_PIPELINE_", frozen=True)

    workloads: Path = WORKLOADS
    """Folder with one folder a step, each with `workload.toml`."""
    enclaves: Path | None = None
    """Folder with one folder a step, each with a signed Gramine enclave of the step's name; none: without Gramine."""
    sources: Path | None = None
    """Folder of the files that `sealed:NAME` names."""


def run_step(
    name: str, inputs: Mapping[str, str], outputs: Mapping[str, str], arguments: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Run one step inside the room.

    Args:
        name: Folder of its workload, e.g. ``load-data``.
        inputs: Artifact names and the sealed files they are kept in.
        outputs: Artifact names and where to put them.
        arguments: For the step's command.

    Returns:
        What the step publishes.

    Raises:
        ConfigurationError: A setting is malformed, or an input is missing.
        FormatError: The step published something else than it should, or an output is not a sealed file.
        StrongroomError: The step failed; its own error is on stderr. Code ``pipeline.step``.
    """
    settings = _settings()
    with tempfile.TemporaryDirectory(prefix="strongroom-step-") as temporary:
        storage = Path(temporary)
        for artifact, path in inputs.items():
            _copy(Path(path), storage / artifact)
        said = _launch(settings, name, storage, arguments)
        for artifact, path in outputs.items():
            _hand_over(storage / artifact, Path(path))
    return parse_published(said)


def load_data(data_url: str, credit_risk_dataset: str) -> dict[str, Any]:
    """Step 1: read the loan book from a source that the step's workload allows.

    Args:
        data_url: ``sealed:NAME``, ``https://...`` or ``file:///...``.
        credit_risk_dataset: Where to put the artifact.

    Raises:
        ConfigurationError: ``sealed:`` is used and no folder of sources is set.
        StrongroomError: As `run_step`.
    """
    inputs = {}
    if data_url.startswith(SEALED):
        folder, name = _settings().sources, sealed_name(data_url)
        if folder is None:
            raise ConfigurationError("STRONGROOM_PIPELINE_SOURCES is not set", code="pipeline.settings")
        inputs[f"{SEALED_FOLDER}/{name}"] = str(folder / name)
    return run_step("load-data", inputs, {"credit_risk_dataset": credit_risk_dataset}, (data_url,))


def _settings() -> StepSettings:
    try:
        return StepSettings()
    except ValidationError:
        raise ConfigurationError("STRONGROOM_PIPELINE_* is malformed", code="pipeline.settings") from None


def _launch(settings: StepSettings, name: str, storage: Path, arguments: tuple[str, ...]) -> bytes:
    """Start the workload; only its stdout is looked at, its stderr goes to the step's log.

    Raises:
        StrongroomError: It did not end well.
    """
    definition = settings.workloads / name / "workload.toml"
    if settings.enclaves is None:
        environment = {**os.environ, "STRONGROOM_STORAGE": str(storage)}
        command = [sys.executable, "-m", "strongroom", "workload", "run", str(definition.absolute())]
        command += ["--", *arguments] if arguments else []
        folder = None
    else:
        environment, folder = _lay_out_enclave(settings.enclaves / name, storage), storage
        environment |= {ADDED_ARGUMENTS: write_arguments(arguments)} if arguments else {}
        command = [ENCLAVE_LAUNCHER, name]
    sys.stdout.flush()
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE) as step:
        said = step.stdout.read(MAX_PUBLISHED_BYTES + 1) if step.stdout else b""
    if step.returncode:
        status = step.returncode
        ended = f"ended with status {status}" if status > 0 else f"was ended by {signal.strsignal(-status)}"
        hint = "its error is above" if status > 0 else "a fault in native code, or the system ended it: memory?"
        raise StrongroomError(f"step {name} {ended}", code="pipeline.step", hint=hint)
    return said


def _lay_out_enclave(enclave: Path, storage: Path) -> dict[str, str]:
    """Put the signed enclave and the room's folder beside the inputs: its mounts are relative to where it starts.

    Returns:
        The environment; the paths in it are those inside the enclave.

    Raises:
        ConfigurationError: A folder is missing.
    """
    try:
        shutil.copytree(enclave, storage, dirs_exist_ok=True)
        shutil.copytree(os.environ.get("STRONGROOM_ROOM", "room"), storage / "room", dirs_exist_ok=True)
    except OSError:
        raise ConfigurationError(
            f"the enclave {enclave.name} or the room's folder is not there", code="pipeline.enclave"
        ) from None
    inside = {"WORKLOAD": f"{WORK_FOLDER}/workload.toml", "ROOM": "/room", "STORAGE": WORK_FOLDER}
    return {**os.environ, **{f"STRONGROOM_{key}": value for key, value in inside.items()}}


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise ConfigurationError(
            f"the input {target.name} is not there: {error.strerror}", code="pipeline.input"
        ) from None


def _hand_over(made: Path, target: Path) -> None:
    from strongroom.room.files import inspect_header

    inspect_header(made)  # a step that wrote its output in the clear must not have it stored
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(made, target)
