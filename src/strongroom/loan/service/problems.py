"""Errors on the wire: problem documents (RFC 9457) with a stable code for each reason.

A document says where and what was expected, and never repeats a caller's data or a path of the machine.
"""

import errno
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from strongroom.errors import (
    ConfigurationError,
    FormatError,
    SealedDataError,
    StrongroomError,
    UnavailableError,
    WouldOverwrite,
)
from strongroom.loan.problems import LoanRowsError

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:strongroom:error:"
RETRY_AFTER_S: Final = 5
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

TITLES: Final[Mapping[int, str]] = {
    400: "Malformed request",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Request too slow",
    409: "Conflict",
    413: "Request too large",
    415: "Unsupported media type",
    422: "Invalid input",
    500: "Internal error",
    503: "Not available now",
    507: "Storage is full",
}

# Codes whose status does not follow from the class of their error.
STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "form.malformed": 400,
    "form.media_type": 415,
    "form.encoding": 415,
    "loan.unknown_root": 404,
    "loan.unknown_model": 404,
    "loan.unknown_version": 404,
    "loan.unknown_batch": 404,
    "workload.no_mount": 404,
    "room.read_only": 403,
    "file.permission": 403,
    "loan.cancelled": 409,
    # What is stored is damaged: not the caller's fault.
    "loan.bundle": 500,
    "loan.bundle_swapped": 500,
    "loan.catalog": 500,
    "loan.data_changed": 500,
    "loan.engine": 500,
    "loan.manifest": 500,
    "loan.processed": 500,
    "loan.preprocessor": 500,
    "loan.batch": 500,
}
# First match wins.
STATUS_OF_CLASS: Final[tuple[tuple[type[StrongroomError], int], ...]] = (
    (WouldOverwrite, 409),
    (UnavailableError, 503),
    (SealedDataError, 500),
    (FormatError, 422),
    (ConfigurationError, 422),
)
# What others say may name paths of the machine or of the workload; callers get these texts instead.
OWN_CODES: Final = ("loan.", "form.", "service.", "storage.")
TEXTS: Final[Mapping[str, str]] = {
    "workload.no_mount": "the service has no storage for a directory of this name",
    "room.read_only": "the service may only read this directory",
    "file.permission": "the storage does not permit this",
    "file.not_found": "a stored file is missing",
    "file.io": "the storage does not answer",
}
# What the commands say to do next, in the words of the calls.
HINTS: Final[Mapping[str, str]] = {
    "loan.unknown_model": "POST /train with this model_directory and model_name first",
    "workload.no_mount": "name a directory that has a mount in the service's workload",
    "room.read_only": "name a directory whose mount is read-write in the service's workload",
}
DAMAGED: Final = "a stored file is damaged or was exchanged"
FULL_TEXT: Final = "the storage is full; nothing earlier was lost"


class Problem(Exception):
    """Ends a request, or a job, with a problem document.

    Args:
        status: HTTP status.
        code: Stable dotted code.
        detail: One sentence for a person.
        hint: What to do next.
        errors: The places that are wrong, each an object: `field` and `expected`, or `row`, `column`, `kind` and
            `expected`.
        more: How many more there are.
        headers: Further headers.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        hint: str | None = None,
        errors: Sequence[Mapping[str, object]] = (),
        more: int = 0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.detail = detail
        self.hint = hint
        self.errors = tuple(dict(error) for error in errors)
        self.more = more
        self.headers = dict(headers or {})

    def document(self) -> dict[str, Any]:
        """The JSON object."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.code,
            "title": TITLES.get(self.status, "Error"),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        if self.hint:
            document["hint"] = self.hint
        if self.errors:
            document |= {"errors": list(self.errors), "more": self.more}
        return document

    def response(self) -> Response:
        """The document with its status and headers."""
        headers = dict(self.headers)
        if self.status == 503:
            headers.setdefault("Retry-After", str(RETRY_AFTER_S))
        return JSONResponse(self.document(), self.status, headers, MEDIA_TYPE)


class InvalidField(Problem):
    """A form field has a wrong value.

    Args:
        field: Its name.
        expected: What it should be.
        code: Stable dotted code.
        status: HTTP status.
    """

    def __init__(self, field: str, expected: str, *, code: str = "form.field", status: int = 422) -> None:
        detail = f"{field} is not acceptable: expected {expected}"
        super().__init__(status, code, detail, errors=[{"field": field, "expected": expected}])


def to_problem(error: BaseException) -> Problem:
    """What a caller is told about an error.

    Args:
        error: Of ours, of the operating system, or a bug.
    """
    if isinstance(error, Problem):
        return error
    if is_full(error):
        return Problem(507, "storage.full", FULL_TEXT, hint="make room on the storage and try again")
    if isinstance(error, LoanRowsError):
        rows = [{"row": p.row, "column": p.column, "kind": p.kind, "expected": p.expected} for p in error.problems]
        return Problem(422, error.code, error.message, hint=error.hint, errors=rows, more=error.more)
    return _ours(error) if isinstance(error, StrongroomError) else _foreign(error)


def is_full(error: BaseException) -> bool:
    """Whether a full disk or quota is behind an error."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            return False
        if isinstance(seen, OSError) and seen.errno in FULL:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _foreign(error: BaseException) -> Problem:
    match error:
        case FileNotFoundError():
            return Problem(500, "file.not_found", TEXTS["file.not_found"])
        case OSError():
            return Problem(503, "file.io", TEXTS["file.io"])
        case MemoryError():
            return Problem(503, "service.memory", "the work needs more memory than there is", hint="send fewer rows")
        case _:
            return Problem(500, "bug", "an error of the service; it was logged")


def _ours(error: StrongroomError) -> Problem:
    own = error.code.startswith(OWN_CODES)
    status = STATUS_OF_CODE.get(error.code)
    if status is None:
        status = next((status for kind, status in STATUS_OF_CLASS if isinstance(error, kind)), 500)
        if status == 422 and not own:
            status = 500  # malformed or wrong, but not what the caller sent
    if own:
        hint = HINTS.get(error.code, error.hint) if status < 500 else None
        return Problem(status, error.code, error.message, hint=hint)
    if status == 500 and isinstance(error, SealedDataError | FormatError):
        return Problem(status, error.code, DAMAGED)
    text = TEXTS.get(error.code, "the service can't do this now; it was logged")
    return Problem(status, error.code, text, hint=HINTS.get(error.code))
