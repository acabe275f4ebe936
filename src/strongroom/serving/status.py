"""Canonical status codes: what a caller is told, once for gRPC and once for REST."""

import enum
from typing import Final

from strongroom.errors import (
    ConfigurationError,
    FormatError,
    StrongroomError,
    UnavailableError,
)


class Status(enum.IntEnum):
    """google.rpc.Code; gRPC and TensorFlow use the same numbers."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


HTTP_STATUS: Final = {
    Status.OK: 200,
    Status.CANCELLED: 499,
    Status.UNKNOWN: 500,
    Status.INVALID_ARGUMENT: 400,
    Status.DEADLINE_EXCEEDED: 504,
    Status.NOT_FOUND: 404,
    Status.ALREADY_EXISTS: 409,
    Status.PERMISSION_DENIED: 403,
    Status.RESOURCE_EXHAUSTED: 429,
    Status.FAILED_PRECONDITION: 400,
    Status.ABORTED: 409,
    Status.OUT_OF_RANGE: 400,
    Status.UNIMPLEMENTED: 501,
    Status.INTERNAL: 500,
    Status.UNAVAILABLE: 503,
    Status.DATA_LOSS: 500,
    Status.UNAUTHENTICATED: 401,
}
"""TensorFlow Serving, model_servers/http_server.cc, ToHTTPStatusCode."""


class Refused(StrongroomError):
    """A request that is answered with a status other than OK.

    Args:
        status: What the caller's protocol says.
        message: One line for the caller; nothing of another caller, no secret.
        code: Stable dotted code; derived from the status when absent.
    """

    default_code = "serving.refused"

    def __init__(self, status: Status, message: str, *, code: str | None = None) -> None:
        super().__init__(message, code=code or f"serving.{status.name.lower()}")
        self.status = status


class InvalidRequest(Refused):
    """The request itself is wrong: INVALID_ARGUMENT."""

    def __init__(self, message: str) -> None:
        super().__init__(Status.INVALID_ARGUMENT, message)


class ModelNotFound(Refused):
    """No such model, version or service: NOT_FOUND."""

    def __init__(self, message: str) -> None:
        super().__init__(Status.NOT_FOUND, message)


class Overloaded(Refused):
    """A limit is reached; trying again later may help: RESOURCE_EXHAUSTED."""

    def __init__(self, message: str) -> None:
        super().__init__(Status.RESOURCE_EXHAUSTED, message)


def status_of(error: BaseException) -> tuple[Status, str]:
    """What a caller is told about any exception.

    Returns:
        The status and one line of text. Anything unexpected is INTERNAL with a fixed text: what went wrong inside is
        for our log, not for a stranger.
    """
    if isinstance(error, Refused):
        return error.status, error.message
    if isinstance(error, FormatError):
        return Status.INVALID_ARGUMENT, error.message
    if isinstance(error, UnavailableError):
        return Status.UNAVAILABLE, error.message
    if isinstance(error, ConfigurationError):
        return Status.FAILED_PRECONDITION, error.message
    return Status.INTERNAL, "internal error"


def where(error: BaseException) -> str:
    """Where an exception came from, for the log: its text and its traceback may quote what a stranger sent."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
