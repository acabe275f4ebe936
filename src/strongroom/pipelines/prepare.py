"""Copies the steps' workloads for one broker: its certificate and the allowed sources get measured."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from strongroom.errors import ConfigurationError, WouldOverwrite
from strongroom.pipelines.sources import Source
from strongroom.pipelines.steps import WORKLOADS

STEP_NAMES: Final = (
    "load-data",
    "create-train-test-set",
    "preprocess-features",
    "train-xgboost-model",
    "convert-xgboost-to-daal4py",
    "daal4py-inference",
    "plot-roc-curve",
)
CA_FILE: Final = "ca.pem"


def prepare_workloads(folder: Path, broker_ca: Path, sources: Sequence[Source] = ()) -> None:
    """Write the seven workloads into a new folder.

    Args:
        folder: New, or empty.
        broker_ca: The broker's CA certificate, PEM. Steps talk to no other broker.
        sources: Data in the clear that the first step may read.

    Raises:
        WouldOverwrite: The folder is not empty.
        ConfigurationError: The certificate can't be read, or a file can't be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise WouldOverwrite(f"{folder} is not empty", hint="name a new folder")
    try:
        for name in STEP_NAMES:
            shutil.copytree(WORKLOADS / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copyfile(broker_ca, folder / name / CA_FILE)
            _pin_broker(folder / name / "workload.toml")
        with (folder / "load-data" / "sources.toml").open("a", encoding="utf-8") as file:
            file.write(render_sources(sources))
    except OSError as error:
        raise ConfigurationError(
            f"can't write the workloads: {error.filename}: {error.strerror}", code="pipeline.prepare"
        ) from None


def _pin_broker(definition: Path) -> None:
    text = definition.read_text(encoding="utf-8")
    # An enclave reads its definition too, so it is one of its trusted files.
    trusted = f'broker_ca = "{CA_FILE}"\ntrusted_files = ["{CA_FILE}", "{definition.name}", '
    pinned = text.replace("trusted_files = [", trusted, 1)
    definition.write_text(pinned, encoding="utf-8")


def render_sources(sources: Sequence[Source]) -> str:
    """The list as TOML; `strongroom.pipelines.sources.parse_sources` reads it back."""
    entries = []
    for source in sources:
        digest = f'sha256 = "{source.sha256}"\n' if source.sha256 else ""
        entries.append(f'\n[[source]]\nurl = "{source.url}"\n{digest}')
    return "".join(entries)
