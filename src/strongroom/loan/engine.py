"""What computes the probabilities: XGBoost, or oneDAL where it is installed, agrees and is faster.

XGBoost compares in float32, so every engine is fed float32. An engine is used only after it agreed with XGBoost to
1e-5 on rows that lie on both sides of the model's own splits; which one scores a batch is measured when the model is
loaded, by batch size. onnxruntime, treelite and tl2cgen were measured too and lost (docs/benchmarks.md).
"""

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from strongroom.errors import ConfigurationError
from strongroom.loan.book import LoanBook
from strongroom.loan.bundle import Bundle
from strongroom.loan.features import Matrix

Probabilities = npt.NDArray[np.float32]

TOLERANCE: Final = 1e-5
PROBE_ROWS: Final = 2_000
BATCH_SIZES: Final = (1, 10, 100, 1_000)
REPEATS: Final = 3
CHUNK_ROWS: Final = 250_000
# From here on, converting the trees costs less than it saves in a single batch.
WORTH_CONVERTING_ROWS: Final = 250_000


class Engine(Protocol):
    """Scores feature rows."""

    name: str

    def score(self, features: Matrix) -> Probabilities:
        """Probability of default for every row."""
        ...


class XgboostEngine:
    """XGBoost itself: always there, and what the others are compared with."""

    name = "xgboost"

    def __init__(self, booster: xgb.Booster) -> None:
        self._booster = booster

    def score(self, features: Matrix) -> Probabilities:
        """Probability of default for every row."""
        return np.asarray(self._booster.inplace_predict(features), np.float32)


class OneDalEngine:
    """Intel oneDAL through daal4py.

    Raises:
        ConfigurationError: It is not installed, code ``loan.engine``.
    """

    name = "onedal"

    def __init__(self, booster: xgb.Booster) -> None:
        try:
            import daal4py
        except ImportError:
            raise ConfigurationError("oneDAL is not installed", code="loan.engine") from None
        self._model: Any = daal4py.mb.convert_model(booster)
        self._lock = threading.Lock()

    def score(self, features: Matrix) -> Probabilities:
        """Probability of default for every row; one batch at a time, on all processors."""
        with self._lock:
            return np.asarray(self._model.predict_proba(np.ascontiguousarray(features))[:, 1], np.float32)


Maker = Callable[[xgb.Booster], Engine]
CANDIDATES: Final[tuple[Maker, ...]] = (OneDalEngine,)


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine for batches up to a size.

    Args:
        up_to_rows: Largest batch; the last choice serves every larger one too.
        engine: Name of the engine.
        milliseconds: Measured, by name.
    """

    up_to_rows: int
    engine: str
    milliseconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Scorer:
    """A loaded model that scores batches with the engine that is fastest for their size.

    Args:
        bundle: The model.
        engines: By name; all agree.
        choices: By rising batch size.
        refused: Engines that did not agree or could not convert the trees, with the reason.
    """

    bundle: Bundle
    engines: dict[str, Engine]
    choices: tuple[Choice, ...]
    refused: dict[str, str] = field(default_factory=dict)

    def engine_for(self, rows: int) -> Engine:
        """The engine for a batch of this many rows."""
        chosen = next((c for c in self.choices if rows <= c.up_to_rows), self.choices[-1])
        return self.engines[chosen.engine]

    def score(self, book: LoanBook) -> Probabilities:
        """Probability of default for every row.

        Args:
            book: Rows; a target is not looked at.
        """
        engine = self.engine_for(len(book))
        parts = [
            engine.score(self.bundle.preprocessor.transform(book.between(start, start + CHUNK_ROWS)))
            for start in range(0, len(book), CHUNK_ROWS)
        ]
        return np.concatenate(parts) if len(parts) > 1 else parts[0]


def load_scorer(bundle: Bundle, candidates: Sequence[Maker] = CANDIDATES) -> Scorer:
    """Make the engines, check that they agree, measure them.

    Args:
        bundle: The model; takes about a second for a large one.
        candidates: What to try beside XGBoost.
    """
    standard = XgboostEngine(bundle.booster)
    probe = probe_rows(bundle)
    expected = standard.score(probe)
    engines: dict[str, Engine] = {standard.name: standard}
    refused: dict[str, str] = {}
    for maker in candidates:
        name = getattr(maker, "name", maker.__name__)
        try:
            engine = maker(bundle.booster)
            difference = float(np.max(np.abs(engine.score(probe) - expected)))
        except Exception as error:  # whatever an optional library raises, XGBoost serves
            refused[name] = f"does not take this model: {type(error).__name__}"
            continue
        if difference <= TOLERANCE:
            engines[name] = engine
        else:
            refused[name] = f"differs from xgboost by {difference:.2g}"
    return Scorer(bundle, engines, _measure(engines, probe), refused)


def quick_scorer(bundle: Bundle, rows: int) -> Scorer:
    """A scorer for one batch: other engines are tried only where that pays.

    Args:
        bundle: The model.
        rows: Size of the batch.
    """
    if rows >= WORTH_CONVERTING_ROWS:
        return load_scorer(bundle)
    standard = XgboostEngine(bundle.booster)
    return Scorer(bundle, {standard.name: standard}, (Choice(WORTH_CONVERTING_ROWS, standard.name, {}),))


def probe_rows(bundle: Bundle, rows: int = PROBE_ROWS) -> Matrix:
    """Feature rows at, just below and just above the model's own splits, with missing values, always the same.

    Args:
        bundle: The model.
        rows: Number of rows.
    """
    rng = np.random.default_rng(0)
    splits = _splits(bundle)
    matrix = np.empty((rows, len(splits)), np.float32)
    for index, values in enumerate(splits):
        drawn = values[rng.integers(0, len(values), rows)]
        below, above = np.nextafter(drawn, np.float32(-np.inf)), np.nextafter(drawn, np.float32(np.inf))
        side = rng.integers(0, 3, rows)
        matrix[:, index] = np.where(side == 0, drawn, np.where(side == 1, below, above))
        matrix[rng.random(rows) < 0.1, index] = np.nan
    return matrix


def _splits(bundle: Bundle) -> list[npt.NDArray[np.float32]]:
    """The split values of every feature; [0] for one without."""
    trees = json.loads(bundle.booster.save_raw("json"))["learner"]["gradient_booster"]["model"]["trees"]
    found: list[set[float]] = [set() for _ in bundle.preprocessor.names]
    for tree in trees:
        for child, feature, value in zip(
            tree["left_children"], tree["split_indices"], tree["split_conditions"], strict=True
        ):
            if child != -1:
                found[feature].add(value)
    return [np.array(sorted(values) or [0.0], np.float32) for values in found]


def _measure(engines: dict[str, Engine], probe: Matrix) -> tuple[Choice, ...]:
    choices = []
    for rows in BATCH_SIZES:
        batch = np.ascontiguousarray(probe[:rows])
        times = {name: _milliseconds(engine, batch) for name, engine in engines.items()}
        choices.append(Choice(rows, min(times, key=lambda name: times[name]), times))
    return tuple(choices)


def _milliseconds(engine: Engine, batch: Matrix) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        start = time.perf_counter()
        engine.score(batch)
        best = min(best, time.perf_counter() - start)
    return best * 1e3
