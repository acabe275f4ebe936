"""The form fields of the calls, strictly: what is not plainly a name, a number or a yes or no is refused."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.loan.catalog import NAME_PATTERN
from strongroom.loan.prediction import DEFAULT_THRESHOLD
from strongroom.loan.service.problems import InvalidField, Problem
from strongroom.loan.service.settings import Root, ServiceSettings
from strongroom.loan.service.spool import Upload

DEFAULT_SIZE: Final = 4_000_000
NAME_SAYS: Final = "1 to 64 letters, digits, _ and -, beginning with a letter or digit"
MODELS: Final = "models"
FILENAME: Final = re.compile(r"[^/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}")
NUMBER: Final = re.compile(r"([0-9]{1,2}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE]-?[0-9]{1,3})?", re.ASCII)
DIGITS: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
YES: Final = frozenset({"true", "1", "yes", "on", "t", "y"})
NO: Final = frozenset({"false", "0", "no", "off", "f", "n"})


@dataclass(frozen=True, slots=True)
class Form:
    """A received form.

    Args:
        texts: Text fields by name.
        filename: Of the file field; empty without one.
        upload: Content of the file field, or None.
    """

    texts: Mapping[str, str]
    filename: str = ""
    upload: Upload | None = None

    def close(self) -> None:
        """Forget the upload."""
        if self.upload is not None:
            self.upload.close()


@dataclass(frozen=True, slots=True)
class Model:
    """Where a model is.

    Args:
        root: The storage root.
        directory: `model_directory`.
        name: `model_name`.
    """

    root: Root
    directory: str
    name: str

    @property
    def key(self) -> tuple[int, str]:
        """Names this model among all models, by whichever root a caller came to it."""
        return id(self.root.storage), self.root.path(f"{self.directory}/{self.name}")


@dataclass(frozen=True, slots=True)
class ProcessCall:
    """`POST /data_processing`; `max_rows` is the longest file."""

    root: Root
    data_directory: str
    size: int
    filename: str
    upload: Upload
    max_rows: int


@dataclass(frozen=True, slots=True)
class TrainCall:
    """`POST /train`."""

    model: Model
    data_directory: str
    continue_training: bool
    size: int


@dataclass(frozen=True, slots=True)
class PredictCall:
    """`POST /predict`. `data_directory` is checked and not used: the model brings its own preprocessor.

    Args:
        model: Which one.
        sample_directory: Where the predictions are kept.
        upload: The applicants.
        threshold: A probability above it is called a default.
        reasons: Whether to say what raises each applicant's risk.
    """

    model: Model
    sample_directory: str
    upload: Upload
    threshold: float
    reasons: bool


class Fields:
    """Reads the fields of one call.

    Args:
        form: What was received.
        settings: Roots and bounds.
    """

    def __init__(self, form: Form, settings: ServiceSettings) -> None:
        self._form = form
        self._settings = settings

    def check(self, required: Iterable[str], optional: Iterable[str] = (), *, file: bool = False) -> None:
        """Refuse a form that lacks a field or has one that the call does not know.

        Raises:
            Problem: 422, naming the fields.
        """
        required = list(required)
        texts = self._form.texts
        wrong = [{"field": name, "expected": "a value"} for name in required if not texts.get(name)]
        if file and self._form.upload is None:
            wrong.append({"field": "file", "expected": "a file"})
        if not file and self._form.upload is not None:
            wrong.append({"field": "file", "expected": "no such field"})
        unknown = [name for name in texts if name not in {*required, *optional}]
        wrong += [{"field": name[:64], "expected": "no such field"} for name in unknown]
        if wrong:
            names = ", ".join(error["field"] for error in wrong)
            raise Problem(422, "form.fields", f"these form fields are missing or unknown: {names}", errors=wrong)

    def root(self) -> Root:
        """The storage root that `az_file_path` names.

        Raises:
            InvalidField: 404, it names none.
        """
        name = self._form.texts["az_file_path"]
        for candidate in (name, name.removesuffix("/")):
            if candidate in self._settings.roots:
                return self._settings.roots[candidate]
        raise InvalidField(
            "az_file_path", "the name of a configured storage root", code="loan.unknown_root", status=404
        )

    def name(self, field: str) -> str:
        """A directory or model name.

        Raises:
            InvalidField: 422, it is not a plain name.
        """
        value = self._form.texts[field]
        if not NAME_PATTERN.fullmatch(value):
            code = "loan.model_name" if field == "model_name" else "loan.directory"
            raise InvalidField(field, NAME_SAYS, code=code)
        return value

    def size(self) -> int:
        """`size`; 4,000,000 when it is absent or empty.

        Raises:
            InvalidField: 422, it is not a number of rows, or too large.
        """
        text = self._form.texts.get("size", "").strip()
        if not text:
            return DEFAULT_SIZE
        most = self._settings.limits.max_size
        if not DIGITS.fullmatch(text) or not 1 <= int(text) <= most:
            raise InvalidField("size", f"a number of rows from 1 to {most}", code="loan.size")
        return int(text)

    def flag(self, field: str) -> bool:
        """A yes or no; no when it is absent or empty.

        Raises:
            InvalidField: 422, it is neither.
        """
        text = self._form.texts.get(field, "").strip().lower()
        if text in YES or text in NO or not text:
            return text in YES
        raise InvalidField(field, "true or false")

    def threshold(self) -> float:
        """`threshold`; 0.5 when it is absent or empty.

        Raises:
            InvalidField: 422, it is no probability.
        """
        text = self._form.texts.get("threshold", "").strip() or str(DEFAULT_THRESHOLD)
        if not NUMBER.fullmatch(text) or float(text) > 1:
            raise InvalidField("threshold", "a number from 0 to 1", code="loan.threshold")
        return float(text)

    def filename(self) -> str:
        """The name of the uploaded file; it is repeated in the answer and used for nothing else.

        Raises:
            InvalidField: 422, it is empty, too long, or holds a path or control characters.
        """
        if not FILENAME.fullmatch(self._form.filename) or self._form.filename in {".", ".."}:
            raise InvalidField("file", "a file name of 1 to 255 characters, without a path", code="form.filename")
        return self._form.filename

    def model(self) -> Model:
        """The model that the call names.

        Raises:
            InvalidField: 404 or 422, a field does not name one.
        """
        return Model(self.root(), self.name("model_directory"), self.name("model_name"))


def process_call(form: Form, settings: ServiceSettings) -> ProcessCall:
    """The fields of `POST /data_processing`.

    Raises:
        InvalidField: A field is wrong.
        Problem: Fields are missing or unknown.
    """
    fields = Fields(form, settings)
    fields.check(("az_file_path", "data_directory"), ("size",), file=True)
    if form.upload is None:
        raise InvalidField("file", "a file")
    most = settings.limits.max_size
    return ProcessCall(
        fields.root(), fields.name("data_directory"), fields.size(), fields.filename(), form.upload, most
    )


def train_call(form: Form, settings: ServiceSettings) -> TrainCall:
    """The fields of `POST /train`.

    Raises:
        InvalidField: A field is wrong.
        Problem: Fields are missing or unknown.
    """
    fields = Fields(form, settings)
    fields.check(("az_file_path", "data_directory", "model_directory", "model_name"), ("continue_training", "size"))
    model, data_directory = fields.model(), fields.name("data_directory")
    if data_directory == MODELS != model.directory:
        raise InvalidField("data_directory", f"another name than {MODELS!r}", code="loan.directory")
    return TrainCall(model, data_directory, fields.flag("continue_training"), fields.size())


def predict_call(form: Form, settings: ServiceSettings) -> PredictCall:
    """The fields of `POST /predict`.

    Raises:
        InvalidField: A field is wrong.
        Problem: Fields are missing or unknown.
    """
    fields = Fields(form, settings)
    names = ("az_file_path", "data_directory", "model_directory", "model_name", "sample_directory")
    fields.check(names, ("threshold", "reasons"), file=True)
    if form.upload is None:
        raise InvalidField("file", "a file")
    fields.filename()
    fields.name("data_directory")
    directory = fields.name("sample_directory")
    return PredictCall(fields.model(), directory, form.upload, fields.threshold(), fields.flag("reasons"))
