"""Where things are below a storage root: `Place` is what the loan application sees of it.

    DATA/SIZE/BATCH/{train.parquet,test.parquet,manifest.json}   one processed batch, named after its content
    DATA/SIZE/latest.json                                        the batch that `/train` with this size means
    MODELS/NAME/{catalog.json,v0001-....bundle,...}              the versions of a model
    MODELS/NAME_results.{csv,json,html,md}                       its last evaluation
    SAMPLES/predictions-....csv, SAMPLES/sample_predictions.csv  results of `/predict`

A batch's folder is named after a digest of the uploaded file and the settings: the same upload makes the same files
again, and another one never replaces rows that a model was trained on.
"""

import hashlib
import json
import re
from contextlib import AbstractContextManager
from dataclasses import asdict
from importlib.metadata import version
from typing import BinaryIO, Final

from strongroom.errors import FormatError, MissingFile
from strongroom.loan.processing import ProcessSettings
from strongroom.loan.service.fields import MODELS
from strongroom.loan.service.problems import Problem
from strongroom.loan.service.settings import Root
from strongroom.loan.service.spool import Upload
from strongroom.loan.storage import alone

VERSION: Final = version("strongroom")
UPLOAD: Final = "upload"
BATCH_DIGITS: Final = 16
BATCH_NAME: Final = re.compile(rf"[0-9a-f]{{{BATCH_DIGITS}}}", re.ASCII)
MAX_POINTER_BYTES: Final = 1024


class Place:
    """One storage root as the loan application's storage.

    The application's own folder for models is the caller's `model_directory`, its file `upload` the caller's file.

    Args:
        root: The storage root.
        model_directory: Stands for ``models``.
        upload: Stands for ``upload``.
    """

    def __init__(self, root: Root, model_directory: str = MODELS, upload: Upload | None = None) -> None:
        self._root = root
        self._model_directory = model_directory
        self._upload = upload

    def open(self, path: str, /) -> BinaryIO:
        """Open a file of the root, or the upload.

        Raises:
            MissingFile: There is none.
        """
        if path == UPLOAD:
            if self._upload is None:
                raise MissingFile("there is no upload")
            return self._upload.file
        return self._root.storage.open(self._path(path))

    def create(self, path: str, /) -> AbstractContextManager[BinaryIO]:
        """Create or replace a file of the root."""
        return self._root.storage.create(self._path(path))

    def lock(self, folder: str, /) -> AbstractContextManager[None]:
        """Keep others waiting that would write into the same folder of the root."""
        return alone(self._root.storage, self._path(folder))

    def _path(self, path: str) -> str:
        head, slash, rest = path.partition("/")
        return self._root.path(f"{self._model_directory}{slash}{rest}" if head == MODELS else path)


def batch_name(upload: Upload, settings: ProcessSettings) -> str:
    """16 hexadecimal digits that stand for a file and how it is processed, by this version of the code."""
    facts = json.dumps([upload.digest, asdict(settings), VERSION], sort_keys=True)
    return hashlib.sha256(facts.encode()).hexdigest()[:BATCH_DIGITS]


def batch_folder(data_directory: str, size: int, batch: str) -> str:
    """Folder of a processed batch."""
    return f"{data_directory}/{size}/{batch}"


def point_to_batch(place: Place, data_directory: str, size: int, batch: str) -> None:
    """Make a batch the one that `/train` with this size means. Written last, when the batch is complete."""
    with place.create(f"{data_directory}/{size}/latest.json") as sink:
        sink.write(json.dumps({"batch": batch}).encode())


def find_batch(place: Place, data_directory: str, size: int) -> str:
    """Folder of the last batch of a size.

    Raises:
        Problem: 404, nothing of this size was processed into the directory.
        FormatError: The pointer is damaged, code ``loan.batch``.
    """
    try:
        with place.open(f"{data_directory}/{size}/latest.json") as source:
            raw = source.read(MAX_POINTER_BYTES + 1)
    except FileNotFoundError:
        raise Problem(
            404,
            "loan.unknown_batch",
            "no data of this size was processed into data_directory",
            hint=f"POST /data_processing with size={size} first",
        ) from None
    try:
        value = json.loads(raw) if len(raw) <= MAX_POINTER_BYTES else None
    except (ValueError, RecursionError):
        value = None
    batch = value.get("batch") if isinstance(value, dict) else None
    if not isinstance(batch, str) or not BATCH_NAME.fullmatch(batch):
        raise FormatError("the pointer to the processed data is malformed", code="loan.batch")
    return batch_folder(data_directory, size, batch)
