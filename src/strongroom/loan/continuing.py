"""Continues a model with a new batch of rows, and says honestly whether that helped.

Trees are added to the served version; its preprocessor stays, so the feature space can't shift under the old trees.
By default the new trees see all rows so far, and the old ones' leaves are fitted to them again: trees fitted to the new
batch alone forget the old one, and leaves fitted to the old one alone leave the new trees little to learn.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from strongroom.errors import ConfigurationError, FormatError
from strongroom.loan import catalog
from strongroom.loan.book import LoanBook, join
from strongroom.loan.bundle import Bundle
from strongroom.loan.drift import Baseline, Drift, measure_baseline, measure_drift
from strongroom.loan.evaluation import evaluate_scores
from strongroom.loan.prediction import predict_book
from strongroom.loan.processing import held_out_rows, read_manifest, read_rows
from strongroom.loan.split import without_copies
from strongroom.loan.storage import Storage
from strongroom.loan.training import Cancelled, Progress, add_trees

DEFAULT_ROUNDS: Final = 100
MAX_TREES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Continued:
    """What continuing did.

    Args:
        version: The published version.
        champion: Whether it is served from now on.
        before: Scores of the old version on the fixed held-out rows.
        after: Scores of the new version on the same rows.
        drift: PSI of the new batch against the rows trained on before, largest first.
        copies_left_out: New rows that were not trained on because the held-out rows hold the same inputs.
    """

    version: catalog.Version
    champion: bool
    before: dict[str, float]
    after: dict[str, float]
    drift: tuple[Drift, ...]
    copies_left_out: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "version": self.version.number,
            "champion": self.champion,
            "before": self.before,
            "after": self.after,
            "drift": [{"column": d.column, "psi": d.psi, "verdict": d.verdict} for d in self.drift],
            "copies_left_out": self.copies_left_out,
        }


@dataclass(frozen=True, slots=True)
class ContinueSettings:
    """How to continue.

    Args:
        rounds: Trees to add.
        rows: ``all``: old leaves and new trees see all rows so far; ``new``: the new trees see the new batch only.
        champion: Serve the new version; None: if its AUC on the held-out rows is not lower.
    """

    rounds: int = DEFAULT_ROUNDS
    rows: Literal["all", "new"] = "all"
    champion: bool | None = None

    def __post_init__(self) -> None:
        if self.rows not in {"all", "new"}:
            raise ConfigurationError("the rows are `all` or `new`", code="loan.data")
        if not 1 <= self.rounds <= MAX_TREES:
            raise ConfigurationError(f"the number of trees must lie between 1 and {MAX_TREES}", code="loan.rounds")


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of one continuation: trained on before, new without copies of held-out ones, held out."""

    old: list[LoanBook]
    new: LoanBook
    held_out: LoanBook
    copies_left_out: int


def continue_training(
    storage: Storage,
    data: str | Sequence[str],
    model: str = "loan",
    settings: ContinueSettings | None = None,
    *,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Continued:
    """Add trees to the served version of a model and publish the result.

    Args:
        storage: Where to read and write.
        data: Processed folder of the new batch, or several.
        model: Model name.
        settings: How.
        progress: Called after every tree.
        cancelled: Asked after every tree.

    Raises:
        ConfigurationError: Unknown model, or a setting is not allowed.
        FormatError: Model or data are malformed, nothing is left to train on, or the rows of before were replaced.
        TrainingCancelled: `cancelled` said so; nothing was published.
    """
    settings = settings or ContinueSettings()
    folders = [data] if isinstance(data, str) else list(data)
    if not folders:
        raise ConfigurationError("no processed data was named", code="loan.data")
    bundle = catalog.load_model(storage, model)
    if bundle.booster.num_boosted_rounds() + settings.rounds > MAX_TREES:
        raise ConfigurationError(f"a model has at most {MAX_TREES} trees", code="loan.rounds")
    drift_baseline = Baseline.from_json(bundle.metadata.get("baseline"))
    rows = _rows(storage, bundle, folders)
    everything = settings.rows == "all"
    seen = [*rows.old, rows.new] if everything else [rows.new]
    booster = add_trees(bundle, seen, settings.rounds, refresh=everything, progress=progress, cancelled=cancelled)
    metadata = _metadata(storage, bundle, folders, [*rows.old, rows.new])
    grown = replace(bundle, booster=booster, metadata={**metadata, "rounds": booster.num_boosted_rounds()})
    before, after = _scores(bundle, rows.held_out), _scores(grown, rows.held_out)
    serve = after["auc"] >= before["auc"] if settings.champion is None else settings.champion
    note = f"continued ({settings.rows} rows)"
    version = catalog.publish(storage, model, grown, now=datetime.now(UTC), note=note, champion=serve)
    drift = measure_drift(drift_baseline, rows.new)
    return Continued(version, serve, before, after, drift, rows.copies_left_out)


def write_continued(storage: Storage, outcome: Continued, out: str) -> None:
    """Write the outcome as JSON.

    Args:
        storage: Where to write.
        outcome: What `continue_training` returned.
        out: Path of the file.
    """
    with storage.create(out) as sink:
        sink.write(json.dumps(outcome.to_json(), allow_nan=False, indent=1).encode())


def _rows(storage: Storage, bundle: Bundle, folders: list[str]) -> _Rows:
    _check_batches(storage, bundle)
    held_out = join([_held_out(storage, folder) for folder in _folders(bundle, "held_out")])
    batch = join([read_rows(storage, folder, "train").weighted() for folder in folders])
    kept = batch.take(without_copies(batch, held_out))
    if not len(kept):
        raise FormatError("every new row is a copy of a held-out row", code="loan.too_few")
    earlier = [folder for folder in _folders(bundle, "data") if folder not in folders]
    old = [read_rows(storage, folder, "train").weighted() for folder in earlier]
    return _Rows(old, kept, held_out, len(batch) - len(kept))


def _folders(bundle: Bundle, key: str) -> list[str]:
    folders = bundle.metadata.get(key)
    if not isinstance(folders, list) or not folders or not all(isinstance(folder, str) for folder in folders):
        raise FormatError(f"the model does not say its {key} folders", code="loan.bundle")
    return folders


def _check_batches(storage: Storage, bundle: Bundle) -> None:
    """Refuse rows that took the place of those the model was trained on: held-out rows could be among them.

    Raises:
        FormatError: A folder holds other rows, code ``loan.data_changed``.
    """
    batches = bundle.metadata.get("batches")
    if not isinstance(batches, dict):
        raise FormatError(
            "the model does not say which rows it was trained on", code="loan.bundle", hint="train it again"
        )
    for folder in dict.fromkeys([*_folders(bundle, "data"), *_folders(bundle, "held_out")]):
        if read_manifest(storage, folder).digest != batches.get(folder):
            raise FormatError(
                f"the rows in {folder!r} are not those the model was trained on",
                code="loan.data_changed",
                hint="process a new file into a folder of its own, and continue with that",
            )


def _held_out(storage: Storage, folder: str) -> LoanBook:
    return held_out_rows(read_rows(storage, folder, "test"), read_manifest(storage, folder))


def _metadata(storage: Storage, bundle: Bundle, folders: list[str], rows: list[LoanBook]) -> dict[str, Any]:
    manifests = {folder: read_manifest(storage, folder) for folder in folders}
    digests = [manifest.source_digest for manifest in manifests.values()]
    everything = join(rows)
    return {
        **bundle.metadata,
        "train_rows": len(everything),
        "data": list(dict.fromkeys([*_folders(bundle, "data"), *folders])),
        "data_digests": list(dict.fromkeys([*bundle.metadata.get("data_digests", []), *digests])),
        "batches": {**bundle.metadata["batches"], **{folder: m.digest for folder, m in manifests.items()}},
        "baseline": measure_baseline(everything).to_json(),
        "continued_from": bundle.digest,
    }


def _scores(bundle: Bundle, book: LoanBook) -> dict[str, float]:
    return evaluate_scores(book.target, predict_book(bundle, book)).scores
