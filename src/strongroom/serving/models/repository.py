"""All models and their versions: what is wanted is loaded, what is not is drained; a bad version changes nothing."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from strongroom.errors import StrongroomError
from strongroom.serving.engines import EngineMaker
from strongroom.serving.models.heap import gather_heap, trim_heap
from strongroom.serving.models.loading import load_version
from strongroom.serving.models.policy import ModelSettings, VersionPolicy, version_folders
from strongroom.serving.models.served import ServedVersion, State, VersionStatus
from strongroom.serving.models.storage import ModelStorage, relative
from strongroom.serving.status import InvalidRequest, ModelNotFound, Refused, Status, status_of, where

log: Any = structlog.get_logger("strongroom.serving")
MAX_RETRY_S: Final = 300.0
_KEPT_STATUSES: Final = 64
_OLDER_TRIED: Final = 8


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which version a caller asked for.

    Args:
        name: Of the model.
        version: Its number, or None.
        label: Its label, or empty.
    """

    name: str
    version: int | None = None
    label: str = ""


class _Model:
    """What the repository knows about one model. Only the thread that holds the work lock changes it."""

    def __init__(self, settings: ModelSettings) -> None:
        self.settings = settings
        self.pending_labels: Mapping[str, int] = {}  # wait for their versions
        self.served: dict[int, ServedVersion] = {}  # replaced as a whole, so that readers need no lock
        self.made_with: dict[int, ModelSettings] = {}
        self.statuses: dict[int, VersionStatus] = {}
        self.retry_at: dict[int, float] = {}
        self.failures: dict[int, int] = {}


class Repository:
    """The models this server has.

    Args:
        storage: Where their files are.
        makers: The engines, the preferred first.
        drain_timeout_s: How long a retired version's last requests may take.
    """

    def __init__(self, storage: ModelStorage, makers: Sequence[EngineMaker], *, drain_timeout_s: float = 30.0) -> None:
        self._storage = storage
        self._makers = tuple(makers)
        self._drain_timeout_s = drain_timeout_s
        self._models: dict[str, _Model] = {}
        self._work = threading.Lock()
        self._scattered_bytes = 0  # of models loaded since the heap was gathered

    def configure(self, models: Sequence[ModelSettings]) -> None:
        """Serve exactly these models: load what is new, then drop what is no longer named.

        Raises:
            Refused: A model can't be loaded, or a label names a version that is not available. What could be loaded
                is served; labels stay as they were; where there were none, they appear with their versions.
            ConfigurationError: A base path leads out of the storage; nothing has changed.
        """
        for settings in models:
            relative(settings.base_path)
        with self._work:
            before = self._models
            after: dict[str, _Model] = {}
            for settings in models:
                model = before.get(settings.name) or _Model(settings)
                model.settings = replace(settings, labels=model.settings.labels if settings.name in before else {})
                model.retry_at.clear()
                after[settings.name] = model
            self._models = {**before, **after}
            for model in after.values():
                self._settle(model)
            self._models = after
            for name in before.keys() - after.keys():
                self._retire(before[name], set(before[name].served))
            self._finish(models, after)

    def poll(self) -> None:
        """Look at the storage once: load new versions, retire those that were replaced."""
        with self._work:
            for model in self._models.values():
                self._settle(model)
                if model.pending_labels:
                    _label(model, model.pending_labels)
            scattered, self._scattered_bytes = self._scattered_bytes, 0
        gather_heap(scattered)  # here, where nobody waits for it

    def lease(self, chosen: Chosen) -> ServedVersion:
        """Acquire a version: it stays loaded until it is released. It is its own context manager.

        Raises:
            Refused: No such model, version or label.
        """
        for _ in range(3):  # a version found may be retired before it is leased: its successor is then there
            version = self.find(chosen)
            if version.acquire():
                return version
        raise Refused(Status.UNAVAILABLE, "the model is being replaced")

    def find(self, chosen: Chosen) -> ServedVersion:
        """The available version a caller asked for; the highest when none is named.

        Raises:
            ModelNotFound: No such model or version.
            InvalidRequest: The model has no such label.
        """
        model = self._models.get(chosen.name)
        served = model.served if model else {}
        version = chosen.version
        if chosen.label and model:
            version = model.settings.labels.get(chosen.label)
            if version is None:
                raise InvalidRequest(f"Unrecognized servable version label: {chosen.label}")
        if version is None and served:
            return served[max(served)]
        if version not in served:
            wanted = f"Latest({chosen.name})" if version is None else f"Specific({chosen.name}, {version})"
            raise ModelNotFound(f"Servable not found for request: {wanted}")
        return served[version]

    def status(self, chosen: Chosen) -> list[VersionStatus]:
        """State of the version named, or of all versions of the model.

        Raises:
            ModelNotFound: No such model or version.
        """
        model = self._models.get(chosen.name)
        statuses = dict(model.statuses) if model else {}
        version = chosen.version
        if chosen.label and model:
            version = self.find(chosen).version
        if version is not None:
            if version not in statuses:
                raise ModelNotFound(f"Could not find version {version} of model {chosen.name}")
            return [statuses[version]]
        if not statuses:
            raise ModelNotFound(f"Could not find any versions of model {chosen.name}")
        return [statuses[number] for number in sorted(statuses, reverse=True)]

    def knows(self, name: str) -> bool:
        """Whether a model of this name is configured."""
        return name in self._models

    def known(self, name: str) -> str:
        """The name, if it is a configured model's, else empty: strangers' words do not become metrics."""
        return name if name in self._models else ""

    def quick(self, name: str) -> bool:
        """Whether a request for a model would be answered at once and in next to no time."""
        model = self._models.get(name)
        served = model.served if model else {}
        return bool(served) and all(version.quick and version.runner.idle for version in served.values())

    def names(self) -> list[str]:
        """Names of the configured models."""
        return sorted(self._models)

    def versions(self, name: str) -> list[int]:
        """Available versions of a model, lowest first."""
        model = self._models.get(name)
        return sorted(model.served) if model else []

    def ready(self) -> bool:
        """Whether every configured model has a version that answers."""
        models = self._models
        return bool(models) and all(
            any(version.answers for version in model.served.values()) for model in models.values()
        )

    def close(self) -> None:
        """Retire everything."""
        with self._work:
            for model in self._models.values():
                self._retire(model, set(model.served))

    def _settle(self, model: _Model) -> None:
        """Bring one model to what its policy wants; called with the work lock held."""
        settings = model.settings
        folders = version_folders(self._names(settings))
        wanted = settings.policy.wanted(folders)
        if not wanted:
            return  # an emptied or hidden folder is no order to stop serving
        for version in sorted(wanted):
            self._load_if_due(model, version, folders[version])
        if not settings.policy.specific:
            self._fall_back(model, folders, min(wanted))
        if all(self._is_current(model, version) for version in wanted):
            self._retire(model, model.served.keys() - wanted)

    def _load_if_due(self, model: _Model, version: int, folder: str) -> None:
        if not self._is_current(model, version) and time.monotonic() >= model.retry_at.get(version, 0.0):
            self._load(model, version, folder)

    def _fall_back(self, model: _Model, folders: Mapping[int, str], below: int) -> None:
        """Serve an older version where none that is wanted loads: a restart lets no bad one displace a good one."""
        older = sorted((version for version in folders if version < below), reverse=True)
        for version in older[:_OLDER_TRIED]:
            if model.served:
                return
            self._load_if_due(model, version, folders[version])

    def _names(self, settings: ModelSettings) -> list[str]:
        """Entries of a model's folder; none where they can't be read, which must not hold up the other models."""
        try:
            return self._storage.names(settings.base_path)
        except Exception as error:  # whatever the storage does
            log.warning(
                "folder of a model not read", model=settings.name, error=type(error).__name__, where=where(error)
            )
            return []

    def _is_current(self, model: _Model, version: int) -> bool:
        return version in model.served and _made_alike(model.made_with[version], model.settings)

    def _load(self, model: _Model, version: int, folder: str) -> None:
        if version not in model.served:
            model.statuses[version] = VersionStatus(version, State.LOADING)
        started = time.monotonic()
        try:
            served = load_version(self._storage, self._makers, model.settings, version, folder)
        except Exception as error:
            self._failed(model, version, error)
            return
        replaced = model.served.get(version)
        model.served = {**model.served, version: served}
        model.made_with[version] = model.settings
        model.failures.pop(version, None)
        model.statuses[version] = VersionStatus(version, State.AVAILABLE)
        self._scattered_bytes += 0 if model.settings.isolated else served.model_bytes
        log.info(
            "model version available",
            model=model.settings.name,
            version=version,
            digest=served.digest,
            seconds=round(time.monotonic() - started, 3),
        )
        if replaced:
            replaced.retire(self._drain_timeout_s)

    def _failed(self, model: _Model, version: int, error: Exception) -> None:
        failures = model.failures[version] = model.failures.get(version, 0) + 1
        model.retry_at[version] = time.monotonic() + min(2.0**failures, MAX_RETRY_S)
        status, message = _load_error(error)
        if version not in model.served:
            model.statuses[version] = VersionStatus(version, State.END, status, message)
            _forget_oldest(model)
        log.error(
            "model version not loaded",
            model=model.settings.name,
            version=version,
            code=getattr(error, "code", type(error).__name__),
            error=message,
        )

    def _retire(self, model: _Model, versions: Any) -> None:
        retired = {version: model.served[version] for version in versions}
        model.served = {number: served for number, served in model.served.items() if number not in retired}
        for version, served in retired.items():
            model.statuses[version] = VersionStatus(version, State.UNLOADING)
            drained = served.retire(self._drain_timeout_s)
            model.statuses[version] = VersionStatus(version, State.END)
            model.made_with.pop(version, None)
            log.info("model version unloaded", model=model.settings.name, version=version, drained=drained)
        if retired:
            trim_heap(sum(served.model_bytes for served in retired.values()))
        _forget_oldest(model)

    def _finish(self, models: Sequence[ModelSettings], after: Mapping[str, _Model]) -> None:
        for settings in models:
            model = after[settings.name]
            if not _label(model, settings.labels):
                model.pending_labels = {} if model.settings.labels else settings.labels
        for settings in models:
            model = after[settings.name]
            if not model.served:
                raise Refused(Status.FAILED_PRECONDITION, f"model {settings.name} has no version that can be served")
            for label, version in settings.labels.items():
                if version not in model.served:
                    raise Refused(
                        Status.FAILED_PRECONDITION,
                        f"label {label} of model {settings.name} names version {version}, which is not available",
                    )


def _label(model: _Model, labels: Mapping[str, int]) -> bool:
    """Let the labels name their versions, if all of these are available; returns whether they are."""
    if not model.served.keys() >= set(labels.values()):
        return False
    model.settings, model.pending_labels = replace(model.settings, labels=labels), {}
    return True


def _made_alike(made_with: ModelSettings, settings: ModelSettings) -> bool:
    same = VersionPolicy()
    return replace(made_with, policy=same, labels={}) == replace(settings, policy=same, labels={})


def _load_error(error: Exception) -> tuple[Status, str]:
    if isinstance(error, StrongroomError):
        status, _ = status_of(error)
        return (Status.FAILED_PRECONDITION if status is Status.INVALID_ARGUMENT else status), f"{error.code}"
    return Status.INTERNAL, type(error).__name__


def _forget_oldest(model: _Model) -> None:
    ended = sorted(number for number, status in model.statuses.items() if status.state is State.END)
    for version in ended[:-_KEPT_STATUSES]:
        model.statuses.pop(version, None)
        model.retry_at.pop(version, None)
        model.failures.pop(version, None)
