"""The OpenAPI document of the service: form fields, answers, problems."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from strongroom.loan.catalog import NAME_PATTERN
from strongroom.loan.evaluation import REPORT_ROWS
from strongroom.loan.prediction import DEFAULT_THRESHOLD
from strongroom.loan.service.fields import DEFAULT_SIZE, NO, YES
from strongroom.loan.service.problems import MEDIA_TYPE, TITLES
from strongroom.loan.service.settings import ServiceSettings

DESCRIPTION: Final = """Credit-risk models inside a trusted execution environment.

Calls and answers are those of Intel's cloud optimization module for Azure. Errors are problem documents (RFC 9457).
`POST /data_processing` and `POST /train` answer when the work is done, or, with `Prefer: respond-async`, at once with
a job."""
JOB_ID: Final = "^[0-9a-f]{32}$"
PROBLEM: Final = "#/components/schemas/Problem"


class Ping(BaseModel):
    """The server runs."""

    Message: str = Field(examples=["Server is Running"])


class Processed(BaseModel):
    """A loan book was processed."""

    Message: str = Field(examples=["credit_risk_dataset.csv successfully processed and saved"])


class Trained(BaseModel):
    """A model was trained; precision, recall, f1-score and support, each by class and average."""

    model_config = ConfigDict(populate_by_name=True)

    Message: str = Field(examples=["XGBoost model succesfully trained and saved"])
    scores: dict[str, dict[str, float]] = Field(
        alias="Validation Scores", examples=[{"precision": dict.fromkeys(REPORT_ROWS, 0.95)}]
    )


class ReasonCode(BaseModel):
    """One input that raises an applicant's risk."""

    column: str = Field(examples=["loan_grade"])
    statement: str = Field(examples=["Credit grade"], description="For an adverse-action notice")
    contribution: float = Field(examples=[1.26], description="Log odds, an exact SHAP value")


class PredictionOutput(BaseModel):
    """By row number, counted from 0."""

    Probability: dict[str, float] = Field(examples=[{"0": 0.98}])
    Prediction: dict[str, str] = Field(examples=[{"0": "True"}])
    Reasons: dict[str, list[ReasonCode]] = Field(default={}, description="At most four a row; only if asked for")


class Predicted(BaseModel):
    """Applicants were scored."""

    Message: str = Field(examples=["Model Inference Complete"])
    output: PredictionOutput = Field(alias="Prediction Output")


class WrongPlace(BaseModel):
    """One wrong place of the input."""

    field: str | None = None
    row: int | None = None
    column: str | None = None
    kind: str | None = None
    expected: str


class ProblemDocument(BaseModel):
    """Why a request was not served (RFC 9457)."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(description="urn:strongroom:error: and the code")
    title: str
    status: int
    code: str = Field(description="Stable; for programs")
    detail: str = Field(description="For people")
    hint: str | None = None
    errors: list[WrongPlace] = Field(default=[], description="The first wrong places, at most 20")
    more: int = Field(default=0, description="How many more there are")


class JobProgress(BaseModel):
    """Rows of a data step or trees of a training; 0 of 0 before the first."""

    done: int
    total: int


class JobDocument(BaseModel):
    """A data step or training."""

    id: str = Field(pattern=JOB_ID)
    kind: str = Field(examples=["train"])
    state: str = Field(pattern="^(queued|running|succeeded|failed|cancelled)$")
    cancel_requested: bool
    created_at: str
    started_at: str | None
    ended_at: str | None
    progress: JobProgress
    result: dict[str, Any] | None = Field(description="What the call would have answered")
    problem: dict[str, Any] | None = Field(description="A problem document, when it failed or was cancelled")


class Ready(BaseModel):
    """The service takes requests."""

    status: str
    simulated: bool = Field(description="No hardware stands behind this service")


NAME: Final = {"type": "string", "pattern": f"^{NAME_PATTERN.pattern}$"}
_FIELDS: Final[Mapping[str, dict[str, Any]]] = {
    "data_directory": {**NAME, "description": "Directory of processed data below the root", "example": "data"},
    "model_directory": {**NAME, "description": "Directory of models below the root", "example": "models"},
    "model_name": {**NAME, "description": "Name of the model", "example": "XGBoost"},
    "sample_directory": {**NAME, "description": "Directory for predictions below the root", "example": "samples"},
    "file": {
        "type": "string",
        "format": "binary",
        "description": "CSV file with the columns of the credit risk data set, UTF-8; at least one row",
    },
    "continue_training": {
        "type": "string",
        "enum": ["", "True", "False", *sorted(YES | NO)],
        "description": "Add trees to the served version instead of training a new one",
    },
    "threshold": {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "default": DEFAULT_THRESHOLD,
        "description": "A probability above it is called a default",
    },
    "reasons": {
        "type": "string",
        "enum": ["", "True", "False", *sorted(YES | NO)],
        "description": "Say which four inputs raise each applicant's risk most; for at most 1,000 rows",
    },
}


def form(settings: ServiceSettings, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """The request body of a call.

    Args:
        settings: Names the roots and the largest size.
        required: Field names.
        optional: Field names.

    Returns:
        What `openapi_extra` takes.
    """
    known = {
        **_FIELDS,
        "az_file_path": {
            "type": "string",
            "enum": sorted(settings.roots),
            "description": "Name of a configured storage root",
        },
        "size": {
            "type": "integer",
            "minimum": 1,
            "maximum": settings.limits.max_size,
            "default": DEFAULT_SIZE,
            "description": "Rows of the processed data",
        },
    }
    schema = {
        "type": "object",
        "required": list(required),
        "properties": {name: known[name] for name in (*required, *optional)},
        "additionalProperties": False,
    }
    content = {"multipart/form-data": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def prefer() -> dict[str, Any]:
    """The Prefer header of calls that can become jobs."""
    text = "`respond-async`: answer at once with a job (202); `respond-async, wait=N`: after N seconds at the latest"
    return {"name": "Prefer", "in": "header", "required": False, "description": text, "schema": {"type": "string"}}


def job_id() -> dict[str, Any]:
    """The path parameter of a job."""
    return {"name": "job_id", "in": "path", "required": True, "schema": {"type": "string", "pattern": JOB_ID}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The responses with a problem document."""
    return {
        status: {"description": TITLES[status], "content": {MEDIA_TYPE: {"schema": {"$ref": PROBLEM}}}}
        for status in statuses
    }


def add_schemas(document: dict[str, Any]) -> dict[str, Any]:
    """Add the schemas that are only referred to."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    model = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(model.pop("$defs"))
    schemas["Problem"] = model
    return document
