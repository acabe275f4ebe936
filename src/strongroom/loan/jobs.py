"""The loan application's jobs: what a workload runs. Every file goes through the storage it is given."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from strongroom.errors import ConfigurationError
from strongroom.loan import catalog
from strongroom.loan.book import LoanBook, join
from strongroom.loan.bundle import Bundle
from strongroom.loan.drift import Baseline, Drift, measure_baseline, measure_drift
from strongroom.loan.evaluation import evaluate_scores, report_csv
from strongroom.loan.explanation import explain, write_reasons
from strongroom.loan.fairness import measure_fairness, privileged_rows, privileged_words
from strongroom.loan.model_card import render_model_card
from strongroom.loan.prediction import DEFAULT_THRESHOLD, Predictions, check_threshold, predict_book, write_predictions
from strongroom.loan.presets import TrainSettings
from strongroom.loan.processing import ProcessSettings, held_out_rows, process, read_manifest, read_rows
from strongroom.loan.report import render_report
from strongroom.loan.results import Results, importance
from strongroom.loan.storage import Storage
from strongroom.loan.table import read_csv
from strongroom.loan.training import Cancelled, Progress, TrainedModel
from strongroom.loan.training import train as train_rows

LEAKY_NOTE: Final = "Held-out rows have copies in the training set (reference protocol): scores look too good."


def train(
    storage: Storage,
    data: str | Sequence[str] = "processed",
    model: str = "loan",
    settings: TrainSettings | None = None,
    *,
    champion: bool = True,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> catalog.Version:
    """Train on processed data and publish a new version of the model.

    Args:
        storage: Where to read and write.
        data: Processed folder, or several.
        model: Model name.
        settings: Preset and changes to it.
        champion: Serve the new version from now on.
        progress: Called after every tree.
        cancelled: Asked after every tree.

    Returns:
        The published version. A training that fails or is cancelled publishes nothing.

    Raises:
        ConfigurationError: The model name or a setting is not allowed.
        FormatError: The data is not processed loan rows, or can't be trained on; or the model's catalog is damaged.
        TrainingCancelled: `cancelled` said so.
    """
    catalog.read_catalog(storage, model)  # what could not be published is not trained
    folders = [data] if isinstance(data, str) else list(data)
    settings = settings or TrainSettings()
    rows = training_rows(storage, folders)
    trained = train_rows(rows, settings, progress=progress, cancelled=cancelled)
    metadata = training_facts(trained, settings, rows, folders)
    manifests = {folder: read_manifest(storage, folder) for folder in folders}
    metadata["data_digests"] = [manifest.source_digest for manifest in manifests.values()]
    metadata["batches"] = {folder: manifest.digest for folder, manifest in manifests.items()}
    bundle = Bundle(trained.booster, trained.preprocessor, metadata)
    return catalog.publish(storage, model, bundle, now=datetime.now(UTC), note="trained", champion=champion)


def training_rows(storage: Storage, folders: Sequence[str]) -> LoanBook:
    """The training rows of processed folders, one after the other.

    Raises:
        ConfigurationError: No folder was given.
        FormatError: A folder doesn't hold processed loan rows.
    """
    if not folders:
        raise ConfigurationError("no processed data was named", code="loan.data")
    return join([read_rows(storage, folder, "train").weighted() for folder in folders])


def training_facts(
    trained: TrainedModel, settings: TrainSettings, rows: LoanBook, folders: Sequence[str]
) -> dict[str, Any]:
    """What the bundle's metadata says about a training run."""
    return {
        "preset": settings.preset,
        "parameters": {k: v for k, v in trained.parameters.items() if k != "nthread"},
        "rounds": trained.rounds,
        "train_rows": len(rows),
        "data": list(folders),
        "held_out": list(folders),
        "baseline": measure_baseline(rows).to_json(),
    }


def evaluate(
    storage: Storage,
    data: str = "processed",
    model: str = "loan",
    out: str = "results/loan",
    *,
    version: int | None = None,
    threshold: float = DEFAULT_THRESHOLD,
    fairness: Sequence[tuple[str, Sequence[str]]] = (),
) -> Results:
    """Score a model on the held-out rows; write `OUT.json`, `.csv`, `.html` (report) and `.md` (model card).

    Args:
        storage: Where to read and write.
        data: Processed folder whose held-out rows to use.
        model: Model name.
        out: Path of the results, without suffix.
        version: Version number; None: the champion.
        threshold: A probability above it is called a default.
        fairness: Columns to compare groups by, each with its privileged values (of a number: one lower bound).

    Raises:
        ConfigurationError: Unknown model, version, column or value, or the threshold is no probability.
        FormatError: Model or data are malformed.
    """
    check_threshold(threshold)
    bundle = catalog.load_model(storage, model, version)
    manifest = read_manifest(storage, data)
    book = held_out_rows(read_rows(storage, data, "test"), manifest)
    probabilities = predict_book(bundle, book)
    evaluation = evaluate_scores(book.target, probabilities, threshold=threshold)
    compared = tuple(
        measure_fairness(
            book.target,
            probabilities > threshold,
            privileged_rows(book, column, values),
            column=column,
            name=privileged_words(book, column, values),
        )
        for column, values in fairness
    )
    notes = (LEAKY_NOTE,) if manifest.leaky else ()
    results = Results(bundle.metadata, evaluation, importance(bundle), notes, compared)
    texts = {
        "json": json.dumps(results.to_json(), allow_nan=False),
        "csv": report_csv(evaluation.report),
        "html": render_report(results),
        "md": render_model_card(results),
    }
    for suffix, text in texts.items():
        with storage.create(f"{out}.{suffix}") as sink:
            sink.write(text.encode())
    return results


def predict(
    storage: Storage,
    source: str,
    model: str = "loan",
    out: str = "predictions/loan.csv",
    *,
    version: int | None = None,
    threshold: float = DEFAULT_THRESHOLD,
) -> Predictions:
    """Score the rows of a CSV file and write the predictions.

    Args:
        storage: Where to read and write.
        source: Path of the CSV file; a ``loan_status`` column is ignored.
        model: Model name.
        out: Path of the predictions.
        version: Version number; None: the champion.
        threshold: A probability above it is called a default.

    Raises:
        ConfigurationError: Unknown model or version, or the threshold is no probability.
        FormatError: Model or rows are malformed.
        LoanRowsError: Rows are wrong; lists them.
        FileNotFoundError: There is no such file.
    """
    check_threshold(threshold)
    bundle = catalog.load_model(storage, model, version)
    predictions = Predictions(predict_book(bundle, _applicants(storage, source)), threshold)
    with storage.create(out) as sink:
        write_predictions(predictions, sink)
    return predictions


def predict_with_reasons(
    storage: Storage,
    source: str,
    model: str = "loan",
    out: str = "predictions/loan.csv",
    *,
    version: int | None = None,
    threshold: float = DEFAULT_THRESHOLD,
    progress: Progress | None = None,
) -> Predictions:
    """`predict`, with the four inputs that raise each row's risk most; takes about 2 ms a row.

    Args:
        storage: Where to read and write.
        source: Path of the CSV file; a ``loan_status`` column is ignored.
        model: Model name.
        out: Path of the predictions.
        version: Version number; None: the champion.
        threshold: A probability above it is called a default.
        progress: Called with rows done and rows in all.

    Raises:
        ConfigurationError: Unknown model or version, or the threshold is no probability.
        FormatError: Model or rows are malformed.
        LoanRowsError: Rows are wrong; lists them.
        FileNotFoundError: There is no such file.
    """
    check_threshold(threshold)
    bundle = catalog.load_model(storage, model, version)
    book = _applicants(storage, source)
    predictions = Predictions(predict_book(bundle, book), threshold)
    with storage.create(out) as sink:
        write_reasons(predictions, explain(bundle, book, progress=progress), sink)
    return predictions


def _applicants(storage: Storage, source: str) -> LoanBook:
    with storage.open(source) as file:
        return read_csv(file, labelled=False)


def drift(
    storage: Storage, data: str = "processed", model: str = "loan", *, version: int | None = None
) -> tuple[Drift, ...]:
    """Compare processed rows with those a model was trained on.

    Args:
        storage: Where to read.
        data: Processed folder; its training rows are looked at.
        model: Model name.
        version: Version number; None: the champion.

    Raises:
        ConfigurationError: Unknown model or version.
        FormatError: Model or data are malformed.
    """
    baseline = Baseline.from_json(catalog.load_model(storage, model, version).metadata.get("baseline"))
    return measure_drift(baseline, read_rows(storage, data, "train").book)


def read_results(storage: Storage, path: str) -> Results:
    """The results `evaluate` wrote.

    Args:
        storage: Where to read.
        path: Path of the JSON file.

    Raises:
        FormatError: It is malformed, code ``loan.results``.
        FileNotFoundError: There is no such file.
    """
    with storage.open(path) as source:
        return Results.parse(source.read(Results.MAX_BYTES + 1))


__all__ = [
    "ProcessSettings",
    "drift",
    "evaluate",
    "predict",
    "predict_with_reasons",
    "process",
    "read_results",
    "train",
]
