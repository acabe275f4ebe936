"""What the service is told once, at its start: storage roots, bounds, how models are trained."""

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Literal

from strongroom.errors import ConfigurationError
from strongroom.loan.presets import TrainSettings
from strongroom.loan.storage import Storage

REFERENCE_ROOT: Final = "/loan_app/azure-fileshare"
ROOT_NAME: Final = re.compile(r"[A-Za-z0-9/._:@-]{1,256}", re.ASCII)
FOLDER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,63}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,63}){0,7})?", re.ASCII)
ADDRESS: Final = re.compile(r"abfss?://\S+")

Create = Callable[[str], AbstractContextManager[BinaryIO]]
"""Creates a file as `Storage.create` does."""


@dataclass(frozen=True, slots=True)
class Root:
    """A part of the storage that callers may name.

    Args:
        storage: Where its files are.
        folder: Relative folder below which everything of this root is; empty: the storage itself.
        create_quickly: Creates a file that need not survive a power failure; None: as the storage creates all files.
    """

    storage: Storage
    folder: str = ""
    create_quickly: Create | None = None

    def path(self, relative: str) -> str:
        """The storage's path of a path below this root."""
        return f"{self.folder}/{relative}" if self.folder else relative


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what callers can make the service do.

    Args:
        max_upload_bytes: Longest request body.
        max_predict_bytes: Longest request body of `/predict`, whose answer is made in memory.
        memory_upload_bytes: A longer upload is kept in a sealed temporary file instead of in memory.
        max_uploads: Requests whose body is being received at once.
        head_s: How long request line and headers may take, from the opening of the connection on.
        idle_s: How long a body may pause.
        body_s: How long a body may take.
        max_size: Largest `size` and longest uploaded loan book, rows.
        workers: Data steps and trainings at once.
        max_jobs_waiting: Data steps and trainings that wait for a worker.
        max_jobs_kept: Jobs remembered, the ended ones included.
        job_ttl_s: How long an ended job is remembered.
        predict_workers: Predictions computed at once.
        max_predictions: Predictions computed or waiting.
        max_models: Models kept loaded.
        refresh_s: How often loaded models are compared with what is published.
        drain_s: How long running work may take after SIGTERM.
    """

    max_upload_bytes: int = 2 << 30
    max_predict_bytes: int = 256 << 20
    memory_upload_bytes: int = 16 << 20
    max_uploads: int = 16
    head_s: float = 10.0
    idle_s: float = 30.0
    body_s: float = 900.0
    max_size: int = 20_000_000
    workers: int = 2
    max_jobs_waiting: int = 16
    max_jobs_kept: int = 1000
    job_ttl_s: float = 3600.0
    predict_workers: int = 4
    max_predictions: int = 64
    max_models: int = 8
    refresh_s: float = 1.0
    drain_s: float = 25.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name} must be positive", code="loan.service_limit")


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Everything the service is told.

    Args:
        roots: By the name callers give in `az_file_path`; nothing else can be reached.
        limits: Bounds.
        training: How models are trained.
        spool: Folder for sealed temporary files; None: the system's.
        keep_results: `each`: every prediction leaves a file of its own, and the newest is also
            ``sample_predictions.csv``; `latest`: only that one is kept.
        simulated: Whether no hardware stands behind this room; said in `/readyz`.
    """

    roots: Mapping[str, Root]
    limits: Limits = field(default_factory=Limits)
    training: TrainSettings = field(default_factory=TrainSettings)
    spool: Path | None = None
    keep_results: Literal["each", "latest"] = "each"
    simulated: bool = False

    def __post_init__(self) -> None:
        if not self.roots:
            raise ConfigurationError("the service needs a storage root", code="loan.roots", hint="--root NAME=FOLDER")
        for name, root in self.roots.items():
            if not ROOT_NAME.fullmatch(name) or not FOLDER.fullmatch(root.folder):
                raise ConfigurationError(
                    "a storage root is NAME=FOLDER, the folder a plain relative path or empty",
                    code="loan.roots",
                    hint=f"for example {REFERENCE_ROOT}=",
                )


def parse_root(text: str) -> tuple[str, str]:
    """Name and place of ``NAME=FOLDER`` or ``NAME=URL``; a name without ``=`` stands for the whole storage.

    Raises:
        ConfigurationError: It is not of that form.
    """
    name, _, place = text.partition("=")
    place = place.rstrip("/")
    if not ROOT_NAME.fullmatch(name) or not (ADDRESS.fullmatch(place) or FOLDER.fullmatch(place)):
        raise ConfigurationError(
            "a storage root is NAME=FOLDER, the folder a plain relative path or empty, or NAME=abfs://...",
            code="loan.roots",
            hint=f"for example {REFERENCE_ROOT}=",
        )
    return name, place
