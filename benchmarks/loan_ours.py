"""The steps of `benchmarks/loan.py` on our side, each in a process of its own; every file is sealed.

    python benchmarks/loan_ours.py process|train|score|predict|small|quality|continue FOLDER ...

Prints one JSON line with wall seconds, processor seconds and peak memory.
"""

import io
import json
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from strongroom.loan import jobs, metrics
from strongroom.loan.book import LoanBook
from strongroom.loan.catalog import load_model, read_catalog
from strongroom.loan.continuing import ContinueSettings, continue_training
from strongroom.loan.engine import load_scorer
from strongroom.loan.prediction import Predictions, write_predictions
from strongroom.loan.presets import PresetName, TrainSettings
from strongroom.loan.processing import ProcessSettings, read_rows
from strongroom.loan.split import row_hashes
from strongroom.loan.table import read_csv
from strongroom.loan.training import train as train_rows
from strongroom.loan.writing import write_csv
from strongroom.room.files import create_sealed, open_sealed

KEY = bytes(range(16))
FOLDS = 5
SMALL_CALLS = 50


class Sealed:
    """A folder of sealed files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, path: str, /) -> BinaryIO:
        """Open for reading."""
        return open_sealed(self._folder / path, KEY, sealed_path=path)

    def create(self, path: str, /) -> BinaryIO:
        """Create or replace."""
        (self._folder / path).parent.mkdir(parents=True, exist_ok=True)
        return create_sealed(self._folder / path, KEY, sealed_path=path, overwrite=True)


def put(storage: Sealed, path: str, source: str) -> None:
    with storage.create(path) as sink:
        sink.write(Path(source).read_bytes())


def process(storage: Sealed, size: str) -> dict[str, Any]:
    manifest = jobs.process(storage, "data/loans.csv", "processed", ProcessSettings(size=int(size)))
    return {"train_rows": manifest.train_rows, "test_rows": manifest.test_rows}


def train(storage: Sealed, preset: PresetName) -> dict[str, Any]:
    jobs.train(storage, "processed", preset, TrainSettings(preset))
    return {"rounds": load_model(storage, preset).booster.num_boosted_rounds()}


def score(storage: Sealed, preset: str) -> dict[str, Any]:
    scores = jobs.evaluate(storage, "processed", preset, f"results/{preset}").evaluation.scores
    return {"auc_on_unseen_rows": scores["auc"], "calibration_error": scores["calibration_error"]}


def predict(storage: Sealed, model: str, path: str) -> dict[str, Any]:
    """Sealed CSV in, sealed predictions out, with the model loaded as a service has it."""
    scorer = load_scorer(load_model(storage, model))
    walls, cpus, rows = [], [], 0
    for _ in range(3):
        start, used = time.perf_counter(), time.process_time()
        with storage.open(path) as source:
            book = read_csv(source, labelled=False)
        with storage.create("predictions/out.csv") as sink:
            write_predictions(Predictions(scorer.score(book)), sink)
        walls.append(time.perf_counter() - start)
        cpus.append(time.process_time() - used)
        rows = len(book)
    return {"rows": rows, "warm_wall_s": min(walls), "warm_cpu_s": min(cpus), "engine": scorer.engine_for(rows).name}


def small(storage: Sealed, model: str, path: str) -> dict[str, Any]:
    """The same in memory, many times, for small batches."""
    scorer = load_scorer(load_model(storage, model))
    with storage.open(path) as source:
        raw = source.read()
    walls, cpus, rows = [], [], 0
    for _ in range(SMALL_CALLS):
        start, used = time.perf_counter(), time.process_time()
        book = read_csv(io.BytesIO(raw), labelled=False)
        Predictions(scorer.score(book)).to_json()
        walls.append(time.perf_counter() - start)
        cpus.append(time.process_time() - used)
        rows = len(book)
    choices = {c.up_to_rows: c.milliseconds for c in scorer.choices}
    return {
        "rows": rows,
        "p50_ms": statistics.median(walls) * 1e3,
        "best_ms": min(walls) * 1e3,
        "cpu_ms": statistics.median(cpus) * 1e3,
        "engines_ms": choices,
    }


def quality(storage: Sealed, preset: PresetName, repeats: str) -> dict[str, Any]:
    """Repeated 5-fold cross-validation on the real rows; equal rows are never on both sides."""
    with storage.open("data/loans.csv") as source:
        book = read_csv(source)
    assert book.target is not None
    aucs: list[float] = []
    whole: list[tuple[float, float, float, float]] = []
    for repeat in range(int(repeats)):
        fold = _folds(book, repeat)
        scores = np.empty(len(book), np.float32)
        for number in range(FOLDS):
            held_out = np.flatnonzero(fold == number)
            trained = train_rows(book.take(np.flatnonzero(fold != number)), TrainSettings(preset, seed=repeat))
            rows = book.take(held_out)
            scores[held_out] = trained.booster.inplace_predict(trained.preprocessor.transform(rows))
            assert rows.target is not None
            aucs.append(metrics.auc(metrics.rank(rows.target, scores[held_out])))
        bins = metrics.calibration(book.target, scores)
        ranking = metrics.rank(book.target, scores)
        whole.append(
            (
                metrics.pr_auc(ranking),
                metrics.log_loss(book.target, scores),
                metrics.brier(book.target, scores),
                metrics.calibration_error(bins),
            )
        )
    means = np.mean(whole, axis=0)
    names = ("pr_auc", "log_loss", "brier", "calibration_error")
    facts = {"auc": float(np.mean(aucs)), "auc_sd": float(np.std(aucs)), "folds": len(aucs)}
    return facts | {name: float(value) for name, value in zip(names, means, strict=True)}


def _folds(book: LoanBook, seed: int) -> npt.NDArray[np.int64]:
    """Fold of every row, by the hash of its inputs within its class."""
    assert book.target is not None
    hashes = row_hashes(book, seed)
    fold = np.empty(len(book), np.int64)
    for label in (0, 1):
        rows = np.flatnonzero(book.target == label)
        distinct, place = np.unique(hashes[rows], return_inverse=True)
        fold[rows] = place * FOLDS // len(distinct)
    return fold


def continuing(storage: Sealed) -> dict[str, Any]:
    """Three batches of the real rows, one after the other; AUC on the same held-out rows."""
    with storage.open("data/loans.csv") as source:
        book = read_csv(source)
    third = len(book) // 3
    for number in range(3):
        with storage.create(f"data/batch{number}.csv") as sink:
            write_csv([book.between(number * third, (number + 1) * third)], sink)
        jobs.process(storage, f"data/batch{number}.csv", f"batch{number}")
    facts: dict[str, Any] = {}
    ways: tuple[Literal["all", "new"], ...] = ("all", "new")
    for rows in ways:
        jobs.train(storage, "batch0", rows)
        steps = []
        for number in (1, 2):
            settings = ContinueSettings(rows=rows, champion=True)
            outcome = continue_training(storage, f"batch{number}", rows, settings)
            steps += [outcome.before["auc"], outcome.after["auc"]]
        facts[f"{rows}_rows"] = [steps[0], steps[1], steps[3]]
    jobs.train(storage, ["batch0", "batch1", "batch2"], "scratch")
    held_out = read_rows(storage, "batch0", "test").book
    bundle = load_model(storage, "scratch", read_catalog(storage, "scratch").champion)
    assert held_out.target is not None
    features = bundle.preprocessor.transform(held_out)
    facts["from_scratch"] = metrics.auc(metrics.rank(held_out.target, bundle.booster.inplace_predict(features)))
    return facts


STEPS: dict[str, Any] = {
    "put": put,
    "process": process,
    "train": train,
    "score": score,
    "predict": predict,
    "small": small,
    "quality": quality,
    "continue": continuing,
}


def main() -> None:
    step, folder, *rest = sys.argv[1:]
    started, used = time.perf_counter(), time.process_time()
    facts = STEPS[step](Sealed(Path(folder)), *rest) or {}
    facts |= {
        "wall_s": time.perf_counter() - started,
        "cpu_s": time.process_time() - used,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
