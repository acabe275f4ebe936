"""One unary gRPC call: parse, use, answer; every refusal with its status, every surprise as INTERNAL."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import DecodeError

from strongroom.errors import StrongroomError
from strongroom.serving.metrics import Metrics
from strongroom.serving.status import InvalidRequest, Status, status_of, where

log: Any = structlog.get_logger("strongroom.serving")
CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_FAR_FUTURE_S: Final = 10 * 365 * 86400


@dataclass(slots=True)
class Call:
    """What a use case may know about the call it serves.

    Args:
        deadline: `time.monotonic()` when the caller stops listening; None when it has no deadline.
        metadata: The caller's metadata, lower-case names; the last value of a repeated name.
        trailing: Metadata the use case adds to the answer.
        model: Name of the model, once the use case knows it is one of ours; for the metrics.
    """

    deadline: float | None
    metadata: dict[str, str | bytes]
    trailing: list[tuple[str, str | bytes]]
    model: str = ""


UseCase = Callable[[Any, Call], Any]


def unary(method: str, request_class: Any, use: UseCase, metrics: Metrics | None) -> Any:
    """A gRPC handler that takes and gives bytes, so that a malformed message is our answer and not the library's.

    Args:
        method: Name of the method, for the metrics.
        request_class: Message class of the request.
        use: Turns a request into a response message.
        metrics: Where the call is counted; None for calls nobody counts.
    """

    def handle(body: bytes, context: grpc.ServicerContext) -> bytes:
        started = time.perf_counter()
        call = Call(_deadline(context), _metadata(context), [])
        try:
            answer: bytes = use(_parse(request_class, body), call).SerializeToString()
        except Exception as error:
            status, message = status_of(error)
            _count(metrics, call, method, status, started)
            if status is Status.INTERNAL and not isinstance(error, StrongroomError):
                log.warning("request failed", method=method, error=type(error).__name__, where=where(error))
            context.abort(CODES[int(status)], message)
            raise  # abort never returns; this tells the type checker
        _count(metrics, call, method, Status.OK, started)
        if call.trailing:
            context.set_trailing_metadata(tuple(call.trailing))
        return answer

    return grpc.unary_unary_rpc_method_handler(handle)


def _parse(request_class: Any, body: bytes) -> Any:
    try:
        return request_class.FromString(body)
    except DecodeError:
        raise InvalidRequest("the request is not a protobuf message of the expected form") from None


def _deadline(context: grpc.ServicerContext) -> float | None:
    left = context.time_remaining()
    return None if left is None or left > _FAR_FUTURE_S else time.monotonic() + left


def _metadata(context: grpc.ServicerContext) -> dict[str, str | bytes]:
    return dict(context.invocation_metadata() or ())


def _count(metrics: Metrics | None, call: Call, method: str, status: Status, started: float) -> None:
    if metrics is not None:
        metrics.request(call.model, method, "GRPC", status.name, time.perf_counter() - started)
