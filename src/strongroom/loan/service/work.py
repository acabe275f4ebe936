"""What each call does, on a worker's thread, with the loan application's own jobs."""

from typing import Any, Final

from strongroom.loan import jobs as loan
from strongroom.loan.book import LoanBook
from strongroom.loan.bundle import Bundle
from strongroom.loan.continuing import continue_training, write_continued
from strongroom.loan.explanation import Reason, explain
from strongroom.loan.prediction import Predictions
from strongroom.loan.presets import TrainSettings
from strongroom.loan.service.answers import RowKeys, predicted, processed, trained
from strongroom.loan.service.fields import MODELS, PredictCall, ProcessCall, TrainCall
from strongroom.loan.service.jobs import Job
from strongroom.loan.service.models import LoadedModels
from strongroom.loan.service.places import (
    UPLOAD,
    Place,
    batch_folder,
    batch_name,
    find_batch,
    point_to_batch,
)
from strongroom.loan.service.problems import InvalidField
from strongroom.loan.service.results import ResultFiles
from strongroom.loan.table import read_csv

MAX_REASON_ROWS: Final = 1_000  # about 2 ms each


def process(call: ProcessCall, job: Job) -> dict[str, Any]:
    """Validate, divide, grow and store an uploaded loan book.

    Args:
        call: The fields.
        job: Gets the progress in rows.

    Returns:
        The answer.

    Raises:
        StrongroomError: The file is wrong, the storage refuses, or the job was cancelled.
    """
    settings = loan.ProcessSettings(size=call.size)
    batch = batch_name(call.upload, settings)
    place = Place(call.root, upload=call.upload)
    folder = batch_folder(call.data_directory, call.size, batch)
    loan.process(place, UPLOAD, folder, settings, max_rows=call.max_rows, progress=job.advance)
    point_to_batch(place, call.data_directory, call.size, batch)
    return processed(call.filename)


def train(call: TrainCall, settings: TrainSettings, models: LoadedModels, job: Job) -> dict[str, Any]:
    """Train or continue a model on the last batch of a size, and evaluate it on that batch's held-out rows.

    Args:
        call: The fields.
        settings: How to train.
        models: Gets the new version before the answer is given.
        job: Gets the progress in trees.

    Returns:
        The answer.

    Raises:
        StrongroomError: Data or model are wrong or missing, the storage refuses, or the job was cancelled.
        Problem: No data of this size.
    """
    model = call.model
    place = Place(model.root, model.directory)
    data = find_batch(place, call.data_directory, call.size)
    if call.continue_training:
        outcome = continue_training(place, data, model.name, progress=job.advance, cancelled=job.check)
        write_continued(place, outcome, f"{MODELS}/{model.name}_continued.json")
        version = outcome.version
    else:
        version = loan.train(place, data, model.name, settings, progress=job.advance, cancelled=job.check)
    models.refresh(model)
    results = loan.evaluate(place, data, model.name, f"{MODELS}/{model.name}_results", version=version.number)
    return trained(model.name, results.evaluation.report)


class Predictor:
    """Predicts uploaded applicants.

    Args:
        models: Loaded models.
        files: Where predictions are kept.
    """

    def __init__(self, models: LoadedModels, files: ResultFiles) -> None:
        self._models = models
        self._files = files
        self._keys = RowKeys()

    def predict(self, call: PredictCall) -> tuple[bytes, dict[str, str], int]:
        """Score the rows, keep the predictions, make the answer.

        Args:
            call: The fields.

        Returns:
            The answer's JSON text, its headers, and the number of rows.

        Raises:
            StrongroomError: Model or rows are wrong or missing, or the storage refuses.
            InvalidField: Reasons for too many rows.
        """
        loaded = self._models.get(call.model)
        book = read_csv(call.upload.file, labelled=False)
        predictions = Predictions(loaded.scorer.score(book), call.threshold)
        reasons = _reasons(loaded.scorer.bundle, book) if call.reasons else None
        path = self._files.write(call.model.root, call.sample_directory, predictions, reasons)
        headers = {"Strongroom-Model-Version": str(loaded.version.number), "Strongroom-Result": path}
        return predicted(predictions, self._keys, reasons), headers, len(book)


def _reasons(bundle: Bundle, book: LoanBook) -> list[tuple[Reason, ...]]:
    if len(book) > MAX_REASON_ROWS:
        raise InvalidField("reasons", f"false, or a file with at most {MAX_REASON_ROWS} rows")
    return list(explain(bundle, book))
