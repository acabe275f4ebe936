"""One request and one response, free of ASGI."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from strongroom.serving.inference import Answer
from strongroom.serving.status import HTTP_STATUS, Status
from strongroom.serving.tensors.json_values import render_json

JSON = "application/json"


@dataclass(slots=True)
class Request:
    """What a caller sent.

    Args:
        method: "GET" or "POST".
        path: Percent-decoded path.
        headers: Lower-case names.
        body: Whole body.
        deadline: `time.monotonic()` after which the answer is of no use.
        model: Name of the model, once a handler knows it is one of ours; for the metrics.
        api: What was asked, for the metrics.
        answer: Who answered, for the receipt.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    deadline: float
    model: str = ""
    api: str = ""
    answer: Answer | None = None


@dataclass(slots=True)
class Response:
    """What is answered.

    Args:
        body: Bytes.
        status: HTTP status.
        content_type: Media type.
        headers: More headers.
    """

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)


class Handler(Protocol):
    """One family of paths."""

    def handle(self, request: Request) -> Response | None:
        """Answer, or None when the path is not of this family.

        Raises:
            Refused: The request can't be served.
        """


def json_response(value: Any, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(render_json(value), status)


def error_response(status: Status, message: str) -> Response:
    """TensorFlow Serving's error JSON, which V2 uses too."""
    response = json_response({"error": message}, HTTP_STATUS[status])
    if status is Status.RESOURCE_EXHAUSTED:
        response.headers["retry-after"] = "1"
    return response
