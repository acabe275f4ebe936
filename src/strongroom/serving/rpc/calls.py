"""One unary gRPC call: parse, use, answer; every refusal with its status, every surprise as INTERNAL."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import structlog
from google.protobuf.message import DecodeError

from strongroom.serving.inference import Answer
from strongroom.serving.metrics import Metrics
from strongroom.serving.receipts import HEADER, WANTED, Receipts
from strongroom.serving.rpc.pool import Reply, UnaryBehavior
from strongroom.serving.status import InvalidRequest, Refused, Status, status_of, where

log: Any = structlog.get_logger("strongroom.serving")
CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
SMALL_BODY_BYTES: Final = 4096
_FAR_FUTURE_S: Final = 10 * 365 * 86400


@dataclass(slots=True)
class Call:
    """What a use case may know about the call it serves, and what it tells.

    Args:
        deadline: `time.monotonic()` when the caller stops listening; None when it has no deadline.
        metadata: The caller's metadata, lower-case names; the last value of a repeated name.
        model: Name of the model, once the use case knows it is one of ours; for the metrics.
        answer: Who answered, for the receipt; the last one of a call with several tasks.
        receipt: The receipt, when one was asked for.
    """

    deadline: float | None
    metadata: Mapping[str, str | bytes] = field(default_factory=dict)
    model: str = ""
    answer: Answer | None = None
    receipt: str = ""


UseCase = Callable[[Any, Call], Any]


@dataclass(frozen=True, slots=True)
class Method:
    """One method of a service.

    Args:
        request_class: Message class of the request.
        use: Turns a request into a response: a message or its bytes.
        counted: Whether the metrics count its calls.
        quick: Whether a request will be answered in next to no time; None for a method that never is.
        read: From the request's bytes to what `use` and `quick` take; None for the message itself.
    """

    request_class: Any
    use: UseCase
    counted: bool = True
    quick: Callable[[Any], bool] | None = None
    read: Callable[[bytes], Any] | None = None


class Caller:
    """Answers calls, whichever way they came.

    Args:
        metrics: Where calls are counted.
        receipts: Issues receipts; None where there is no attested key.
    """

    def __init__(self, metrics: Metrics, receipts: Receipts | None) -> None:
        self._metrics = metrics
        self._receipts = receipts

    def answer(self, name: str, method: Method, body: bytes, call: Call, parsed: Any = None) -> tuple[Status, bytes]:
        """The status and the response's bytes, or the error's text.

        Args:
            name: Of the method.
            method: What to do.
            body: The request's bytes, from a stranger.
            call: What is known about it; the receipt is left in it.
            parsed: The request, where it was parsed already.
        """
        started = time.perf_counter()
        status = Status.OK
        try:
            wanted = self._wants_receipt(call)
            response = method.use(_read(method, body) if parsed is None else parsed, call)
            raw: bytes = response if isinstance(response, bytes) else response.SerializeToString()
            if wanted is not None and call.answer is not None:
                call.receipt = wanted.issue(call.answer, body, raw)
        except Exception as error:  # this is where every surprise ends
            status, message = status_of(error)
            raw = message.encode("utf-8", "replace")
            if status is Status.INTERNAL and not isinstance(error, Refused):
                log.warning("request failed", method=name, error=type(error).__name__, where=where(error))
        if method.counted:
            self._metrics.request(call.model, name, "GRPC", status.name, time.perf_counter() - started)
        return status, raw

    def _wants_receipt(self, call: Call) -> Receipts | None:
        if call.metadata.get(HEADER) != WANTED:
            return None
        if self._receipts is None:
            raise Refused(Status.FAILED_PRECONDITION, "this server has no attested key to sign receipts with")
        return self._receipts

    def handler(self, service: str, methods: Mapping[str, Method]) -> grpc.GenericRpcHandler:
        """The gRPC handler of a service.

        It takes and gives bytes, so that a malformed message is answered by us and not by the library.
        """
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(_Unary(self, name, method)) for name, method in methods.items()
        }
        return grpc.method_handlers_generic_handler(service, handlers)


class _Unary(UnaryBehavior):
    """A method as grpcio and our `WorkerPool` call it."""

    def __init__(self, caller: Caller, name: str, method: Method) -> None:
        self._caller = caller
        self._name = name
        self._method = method

    def __call__(self, body: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer, or abort with the status."""
        call = Call(deadline_of(context), dict(context.invocation_metadata() or ()))
        status, raw = self._caller.answer(self._name, self._method, body, call)
        if status is not Status.OK:
            context.abort(CODES[int(status)], raw.decode("utf-8", "replace"))
        if call.receipt:
            context.set_trailing_metadata(((HEADER, call.receipt),))
        return raw

    def at_once(self, body: bytes, metadata: Iterable[Any], left_s: Callable[[], float]) -> Reply | None:
        """Answer a small request for a quick model. What can't be read is for a worker to refuse."""
        if self._method.quick is None or len(body) > SMALL_BODY_BYTES:
            return None
        try:
            request = _read(self._method, body)
        except InvalidRequest:
            return None
        if not self._method.quick(request):
            return None
        call = Call(_deadline(left_s()), dict(metadata or ()))
        status, raw = self._caller.answer(self._name, self._method, body, call, request)
        if status is not Status.OK:
            return Reply(None, int(status), raw)
        return Reply(raw, trailing=((HEADER, call.receipt),) if call.receipt else None)


def deadline_of(context: grpc.ServicerContext) -> float | None:
    """`time.monotonic()` when the caller stops listening, or None."""
    return _deadline(context.time_remaining())


def _deadline(left_s: float | None) -> float | None:
    return None if left_s is None or left_s > _FAR_FUTURE_S else time.monotonic() + left_s


def _read(method: Method, body: bytes) -> Any:
    try:
        return (method.read or method.request_class.FromString)(body)
    except DecodeError:
        raise InvalidRequest("the request is not a protobuf message of the expected form") from None
