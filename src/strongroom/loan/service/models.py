"""Models that are loaded once and kept, and replaced when another version is published.

A version that does not load (damaged, exchanged) never replaces one that did: the last good one goes on being served,
and the log and `/metrics` say so.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import structlog

from strongroom.errors import StrongroomError
from strongroom.loan.catalog import Version, load_model, read_catalog
from strongroom.loan.engine import Scorer, load_scorer
from strongroom.loan.service.fields import Model
from strongroom.loan.service.places import Place
from strongroom.loan.service.problems import to_problem

log: Any = structlog.get_logger("strongroom.loan.service")

Key = tuple[int, str]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory.

    Args:
        scorer: Trees and preprocessor, with the engines that were measured for them.
        version: Which version it is.
    """

    scorer: Scorer
    version: Version


class LoadedModels:
    """The models in memory.

    Args:
        most: How many are kept; beyond it the one that was unused longest goes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._loaded: OrderedDict[Key, tuple[Model, LoadedModel]] = OrderedDict()
        self._failures = 0

    def get(self, model: Model) -> LoadedModel:
        """The served version of a model; loads it when it is asked for the first time.

        Args:
            model: Where it is.

        Raises:
            ConfigurationError: There is no such model, code ``loan.unknown_model``.
            FormatError: Catalog or bundle is damaged.
            SealedDataError: The same, seen earlier.
        """
        found = self._peek(model)
        if found is not None:
            return found
        with self._loading:
            return self._peek(model) or self._load(model)

    def refresh(self, model: Model) -> None:
        """Load what is published, if it is not what is loaded; keep what is loaded if that fails."""
        with self._loading:
            current = self._peek(model)
            try:
                catalog = read_catalog(Place(model.root, model.directory), model.name)
                if current is None or catalog.find().digest != current.version.digest:
                    self._load(model)
            except (StrongroomError, OSError) as error:
                self._failures += 1
                log.error("model.not_refreshed", model=model.name, code=to_problem(error).code)  # noqa: TRY400 -- no text

    def refresh_all(self) -> None:
        """`refresh` for every model in memory."""
        with self._lock:
            models = [model for model, _ in self._loaded.values()]
        for model in models:
            self.refresh(model)

    @property
    def failures(self) -> int:
        """How often a published version could not be loaded."""
        return self._failures

    def versions(self) -> dict[Key, int]:
        """Version number of every model in memory."""
        with self._lock:
            return {key: loaded.version.number for key, (_, loaded) in self._loaded.items()}

    def _peek(self, model: Model) -> LoadedModel | None:
        with self._lock:
            found = self._loaded.get(model.key)
            if found is None:
                return None
            self._loaded.move_to_end(model.key)
            return found[1]

    def _load(self, model: Model) -> LoadedModel:
        place = Place(model.root, model.directory)
        catalog = read_catalog(place, model.name)
        number = catalog.champion or None
        scorer = load_scorer(load_model(place, model.name, number))
        loaded = LoadedModel(scorer, catalog.find(number))
        with self._lock:
            self._loaded[model.key] = (model, loaded)
            self._loaded.move_to_end(model.key)
            while len(self._loaded) > self._most:
                self._loaded.popitem(last=False)
        engines = [choice.engine for choice in scorer.choices]
        log.info("model.loaded", model=model.name, version=loaded.version.number, engines=engines)
        return loaded


class Refresher:
    """Compares the loaded models with what is published, again and again, from a thread of its own.

    Args:
        models: The models.
        every_s: Pause between two rounds.
    """

    def __init__(self, models: LoadedModels, every_s: float) -> None:
        self._models = models
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loan-models", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """End, and wait for it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._models.refresh_all()
