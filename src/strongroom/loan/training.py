"""Trains gradient-boosted trees with XGBoost on loan rows."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xgboost as xgb

from strongroom.errors import FormatError, StrongroomError
from strongroom.loan.book import Labels, LoanBook
from strongroom.loan.bundle import Bundle
from strongroom.loan.features import Matrix, Preprocessor, fit_preprocessor
from strongroom.loan.presets import MONOTONE, Preset, TrainSettings
from strongroom.loan.split import split_rows

CHUNK_ROWS: Final = 500_000
# Below, waiting for each other costs the threads more than they gain.
PARALLEL_FROM_ROWS: Final = 10_000
VALIDATION_SHARE: Final = 0.1
# A leaf's value is an average, which more rows hardly change; but the features of all of them exist at once.
REFRESH_ROWS: Final = 500_000
PARAMETERS: Final = frozenset(
    {
        "objective",
        "eval_metric",
        "tree_method",
        "seed",
        "verbosity",
        "learning_rate",
        "max_depth",
        "min_child_weight",
        "subsample",
        "colsample_bytree",
        "max_bin",
        "scale_pos_weight",
        "monotone_constraints",
    }
)

Progress = Callable[[int, int], None]
"""Called with trees done and trees wanted."""
Cancelled = Callable[[], bool]
"""Asked after every tree; True ends the training."""


class TrainingCancelled(StrongroomError):
    """The training was cancelled; nothing was published."""

    default_code = "loan.cancelled"


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """Trees with the preprocessor they were trained behind.

    Args:
        booster: XGBoost's booster; its input is the preprocessor's output.
        preprocessor: From loan rows to its features.
        parameters: XGBoost parameters of the run.
        rounds: Number of trees.
    """

    booster: xgb.Booster
    preprocessor: Preprocessor
    parameters: dict[str, Any]
    rounds: int


@dataclass(frozen=True, slots=True)
class TrainedTrees:
    """Trees alone; `TrainedModel` says more."""

    booster: xgb.Booster
    parameters: dict[str, Any]
    rounds: int


def train(
    book: LoanBook,
    settings: TrainSettings | None = None,
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> TrainedModel:
    """Train a model.

    Args:
        book: Training rows with a target.
        settings: Preset and changes to it.
        progress: Called after every tree.
        cancelled: Asked after every tree.

    Raises:
        FormatError: The rows have no target or only one class, code ``loan.target``.
        TrainingCancelled: `cancelled` said so.
    """
    settings = settings or TrainSettings()
    labels = _labels(book)
    preset = settings.choose(len(book))
    preprocessor = fit_preprocessor(book, preset.recipe, seed=settings.seed)
    parameters = _parameters(preset, settings, labels, preprocessor.names)
    rounds = settings.rounds or preset.rounds
    watch = _Watch(rounds, progress, cancelled)
    if settings.early_stopping_rounds is None:
        data = quantile_matrix([book], preprocessor, preset)
        booster = xgb.train(parameters, data, num_boost_round=rounds, callbacks=[watch])
        return TrainedModel(booster, preprocessor, parameters, rounds)
    split = split_rows(book, test_share=VALIDATION_SHARE, seed=settings.seed + 1)
    data = quantile_matrix([book.take(split.train)], preprocessor, preset)
    validation = quantile_matrix([book.take(split.test)], preprocessor, preset, like=data)
    stop = xgb.callback.EarlyStopping(rounds=settings.early_stopping_rounds, save_best=True)
    booster = xgb.train(
        parameters,
        data,
        num_boost_round=rounds,
        evals=[(validation, "validation")],
        verbose_eval=False,
        callbacks=[watch, stop],
    )
    return TrainedModel(booster, preprocessor, parameters, booster.num_boosted_rounds())


def train_on_features(features: Matrix, labels: Labels, names: Sequence[str], settings: TrainSettings) -> TrainedTrees:
    """Train on features that a preprocessor made before, as `train` does without early stopping.

    Args:
        features: Shape (rows, features).
        labels: Outcomes of the rows.
        names: Feature names in column order.
        settings: Preset and changes to it; ``early_stopping_rounds`` is not looked at.

    Raises:
        FormatError: Only one class, code ``loan.target``.
    """
    _check_classes(labels, len(features))
    preset = settings.choose(len(features))
    parameters = _parameters(preset, settings, labels, names)
    bins = preset.parameters.get("max_bin", 256)
    data = xgb.QuantileDMatrix(features, labels, feature_names=list(names), max_bin=bins)
    rounds = settings.rounds or preset.rounds
    return TrainedTrees(xgb.train(parameters, data, num_boost_round=rounds), parameters, rounds)


def add_trees(
    bundle: Bundle,
    books: Sequence[LoanBook],
    rounds: int,
    *,
    refresh: bool = False,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> xgb.Booster:
    """Grow more trees on a bundle's own; the bundle is not changed.

    Args:
        bundle: Model whose preprocessor and parameters are used.
        books: Rows with a target, for the new trees.
        rounds: Trees to add.
        refresh: Give the old trees' leaves the values of these rows first; they are fitted to few rows otherwise, and
            new trees learn little beside them. The splits stay. Not with monotone constraints, which it could break.
        progress: Called after every added tree.
        cancelled: Asked after every tree.

    Raises:
        FormatError: The rows have only one class, or the bundle doesn't say its parameters.
        TrainingCancelled: `cancelled` said so.
    """
    rows, defaults = _count(books)
    if not 0 < defaults < rows:
        raise FormatError("training needs rows with defaults and non-defaults", code="loan.target")
    parameters = _known_parameters(bundle.metadata.get("parameters"))
    preset = Preset(bundle.preprocessor.recipe, rounds, parameters)
    booster = bundle.booster.copy()
    if refresh and "monotone_constraints" not in parameters:
        booster = _refresh_leaves(booster, parameters, _some_rows(books), bundle.preprocessor, cancelled)
    # Another seed than the first trees had, or the new ones would draw the same rows and columns again.
    parameters["seed"] = int(parameters.get("seed", 0)) + bundle.booster.num_boosted_rounds()
    return xgb.train(
        {**parameters, "nthread": _threads(rows)},
        quantile_matrix(books, bundle.preprocessor, preset),
        num_boost_round=rounds,
        xgb_model=booster,
        callbacks=[_Watch(rounds, progress, cancelled)],
    )


def _refresh_leaves(
    booster: xgb.Booster,
    parameters: dict[str, Any],
    books: Sequence[LoanBook],
    preprocessor: Preprocessor,
    cancelled: Cancelled | None,
) -> xgb.Booster:
    """The same splits, each leaf with the value that these rows give it (XGBoost's updater `refresh`)."""
    rounds = booster.num_boosted_rounds()
    update = {name: value for name, value in parameters.items() if name not in {"tree_method", "max_bin"}}
    update |= {"process_type": "update", "updater": "refresh", "refresh_leaf": True}
    watch = _Watch(rounds, None, cancelled)
    with xgb.config_context(verbosity=0):  # it warns that an updater was named
        refreshed = xgb.train(
            {**update, "nthread": _threads(_count(books)[0])},
            _whole_matrix(books, preprocessor),
            num_boost_round=rounds,
            xgb_model=booster,
            callbacks=[watch],
        )
    # The updater stays in a booster's settings, but not in its model.
    return xgb.Booster(model_file=refreshed.save_raw("ubj"))


def _some_rows(books: Sequence[LoanBook]) -> Sequence[LoanBook]:
    """All rows, or every n-th of them: at most `REFRESH_ROWS`."""
    step = -(-_count(books)[0] // REFRESH_ROWS)
    return books if step == 1 else [book.take(np.arange(0, len(book), step)) for book in books]


def _whole_matrix(books: Sequence[LoanBook], preprocessor: Preprocessor) -> xgb.DMatrix:
    """All features at once: what refreshing needs."""
    parts: list[dict[str, Any]] = []
    chunks = _Chunks(books, preprocessor)
    while chunks.next(lambda **part: parts.append(part)):
        pass
    weight = np.concatenate([part.get("weight", np.ones(len(part["label"]), np.float32)) for part in parts])
    features, labels = (np.concatenate([part[name] for part in parts]) for name in ("data", "label"))
    return xgb.DMatrix(features, labels, weight=weight, feature_names=list(preprocessor.names))


def _known_parameters(parameters: Any) -> dict[str, Any]:
    if not isinstance(parameters, dict) or not set(parameters) <= PARAMETERS:
        raise FormatError("the model's training parameters are unknown", code="loan.bundle")
    return dict(parameters)


def available_threads() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _count(books: Sequence[LoanBook]) -> tuple[int, int]:
    """Rows and defaults; rows without a target have none."""
    defaults = sum(int(book.target.sum()) for book in books if book.target is not None)
    return sum(len(book) for book in books), defaults


def _threads(rows: int) -> int:
    return available_threads() if rows >= PARALLEL_FROM_ROWS else 1


def _labels(book: LoanBook) -> Labels:
    return _check_classes(book.target, len(book))


def _check_classes(labels: Labels | None, rows: int) -> Labels:
    if labels is None or not 0 < int(labels.sum()) < rows:
        raise FormatError("training needs rows with defaults and non-defaults", code="loan.target")
    return labels


def _parameters(preset: Preset, settings: TrainSettings, labels: Labels, names: Sequence[str]) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "objective": "binary:logistic",
        "eval_metric": "logloss",
        "tree_method": "hist",
        "seed": settings.seed,
        "nthread": settings.threads or _threads(len(labels)),
        "verbosity": 0,
        **preset.parameters,
    }
    weight = settings.positive_weight
    if weight is not None:
        balanced = (len(labels) - int(labels.sum())) / int(labels.sum())
        parameters["scale_pos_weight"] = balanced if weight == "balanced" else weight
    if settings.monotone:
        parameters["monotone_constraints"] = {name: sign for name, sign in MONOTONE.items() if name in names}
    return parameters


def quantile_matrix(
    books: Sequence[LoanBook], preprocessor: Preprocessor, preset: Preset, *, like: xgb.QuantileDMatrix | None = None
) -> xgb.QuantileDMatrix:
    """XGBoost's binned matrix, built chunk by chunk so that the features never exist as a whole.

    Args:
        books: Rows with a target.
        preprocessor: Makes the features.
        preset: Its ``max_bin`` is used.
        like: Use this matrix's bins (for validation rows).
    """
    return xgb.QuantileDMatrix(_Chunks(books, preprocessor), max_bin=preset.parameters.get("max_bin", 256), ref=like)


class _Chunks(xgb.DataIter):
    """Feeds features to XGBoost a chunk at a time."""

    def __init__(self, books: Sequence[LoanBook], preprocessor: Preprocessor) -> None:
        super().__init__()
        self._parts = [
            book.between(start, start + CHUNK_ROWS) for book in books for start in range(0, len(book), CHUNK_ROWS)
        ]
        self._preprocessor = preprocessor
        self._next = 0

    def next(self, input_data: Callable[..., Any]) -> bool:
        """Hand over the next chunk; False at the end."""
        if self._next == len(self._parts):
            return False
        part = self._parts[self._next]
        self._next += 1
        target = part.target if part.target is not None else np.empty(0, np.int8)
        # The reference's preset counts every row alike, as the reference does.
        weight = {} if part.weight is None or self._preprocessor.recipe == "reference" else {"weight": part.weight}
        names = list(self._preprocessor.names)
        input_data(data=self._preprocessor.transform(part), label=target, feature_names=names, **weight)
        return True

    def reset(self) -> None:
        """Start again at the first chunk."""
        self._next = 0


class _Watch(xgb.callback.TrainingCallback):
    """Reports progress and ends a cancelled training between two trees."""

    def __init__(self, rounds: int, progress: Progress | None, cancelled: Cancelled | None) -> None:
        super().__init__()
        self._rounds = rounds
        self._progress = progress
        self._cancelled = cancelled
        self._done = 0

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """One more tree is done.

        Raises:
            TrainingCancelled: Somebody asked for it.
        """
        del model, epoch, evals_log
        self._done += 1
        if self._progress:
            self._progress(self._done, self._rounds)
        if self._cancelled and self._cancelled():
            raise TrainingCancelled("the training was cancelled; no model was published")
        return False
