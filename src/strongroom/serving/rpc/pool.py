"""grpcio's worker threads, passed by for calls that take less time than handing them to a thread does.

grpcio's server lets a worker thread take each call before its message is read: two changes of thread and one wait for a
condition, which together cost several times what a small model does, and under load from REST each waits for the
interpreter lock. Here the message is read first. A call that is quick is then answered by the thread that read it, any
other is handed to a worker with its message.

This leans on names inside grpcio (`_NEEDED`). Where one is missing, or a call arrives in another form than expected,
grpcio's own way is taken.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import grpc
import structlog
from grpc import _server

log: Any = structlog.get_logger("strongroom.serving")
_NEEDED: Final = (
    "cygrpc",
    "_abort",
    "_is_rpc_state_active",
    "_receive_message",
    "_send_status_from_server",
    "_unary_response_in_pool",
    "_CLOSED",
    "_EMPTY_FLAGS",
    "_RECEIVE_MESSAGE_TOKEN",
    "_SEND_STATUS_FROM_SERVER_TOKEN",
)
READS_FIRST: Final = all(hasattr(_server, name) for name in _NEEDED)
_ARGUMENTS: Final = 7


@dataclass(frozen=True, slots=True)
class Reply:
    """What a quick call is answered.

    Args:
        body: The response's bytes; None for a refusal.
        code: Number of the status.
        details: Text of a refusal.
        trailing: Trailing metadata.
    """

    body: bytes | None
    code: int = 0
    details: bytes = b""
    trailing: tuple[tuple[str, str], ...] | None = None


class UnaryBehavior(ABC):
    """What a unary method does, bytes to bytes; and the same at once, where that is quick."""

    @abstractmethod
    def __call__(self, body: bytes, context: grpc.ServicerContext) -> bytes:
        """Answer a call."""

    @abstractmethod
    def at_once(self, body: bytes, metadata: Iterable[Any], left_s: Callable[[], float]) -> Reply | None:
        """Answer if that takes so little time, and no waiting, that other calls may wait meanwhile; else None.

        Args:
            body: The request's bytes.
            metadata: Pairs of name and value.
            left_s: Says how many seconds the caller still listens.
        """


class WorkerPool(ThreadPoolExecutor):
    """What `grpc.server` is given as its thread pool.

    Args:
        threads: Calls that are worked on at once, quick ones aside.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(threads, thread_name_prefix="grpc")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Called by grpcio, in the thread that reads from the network, for each call that arrives."""
        ours = READS_FIRST and len(args) == _ARGUMENTS and args[0] is _server._unary_response_in_pool  # noqa: SLF001
        if ours and isinstance(args[3], UnaryBehavior) and args[5] is None:
            finished: Future[Any] = _Reading(super().submit, fn, *args[:4]).finished
            return finished
        return super().submit(fn, *args, **kwargs)


class _Finished:
    """Tells grpcio, which counts calls under way, that a call is done: the part of a `Future` it uses."""

    __slots__ = ("_callbacks", "_done")

    def __init__(self) -> None:
        self._callbacks: list[Callable[[Any], Any]] = []
        self._done = False

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        """Call a function at the end; grpcio does this before the message can arrive: it holds the server's lock."""
        if self._done:
            fn(self)
        else:
            self._callbacks.append(fn)

    def set_result(self, _: None) -> None:
        """The end."""
        self._done = True
        while self._callbacks:
            self._callbacks.pop()(self)


class _Reading:
    """One call whose message is being read.

    Args:
        submit: Hands work to a worker thread.
        run: Runs something in the call's context.
        respond: grpcio's function that calls the behavior and sends what it answers.
        event: grpcio's event of the call.
        state: grpcio's state of the call.
        behavior: Of the method.
    """

    __slots__ = ("_behavior", "_event", "_receive", "_respond", "_run", "_state", "_submit", "finished")

    def __init__(
        self, submit: Any, run: Any, respond: Callable[..., None], event: Any, state: Any, behavior: UnaryBehavior
    ) -> None:
        self.finished: Any = _Finished()
        self._submit, self._run, self._respond = submit, run, respond
        self._event, self._state, self._behavior = event, state, behavior
        self._receive = _server._receive_message(state, event.call, None)  # noqa: SLF001
        operation = _server.cygrpc.ReceiveMessageOperation(_server._EMPTY_FLAGS)  # noqa: SLF001
        with state.condition:
            event.call.start_server_batch((operation,), self._received)
            state.due.add(_server._RECEIVE_MESSAGE_TOKEN)  # noqa: SLF001

    def _received(self, event: Any) -> Any:
        """The message is here, or will never be. An exception would end the thread that reads: none leaves."""
        outcome = self._receive(event)
        try:
            body, self._state.request = self._state.request, None
            if body is None:
                self._without_message()
            elif (reply := self._at_once(body)) is not None:
                self._send(reply)
            else:
                self._submit(self._run, self._answer, body)
        except Exception as error:  # whatever it is, the caller is told and the next one is served
            log.warning("call not answered", error=type(error).__name__)
            self._event.call.cancel()
            self.finished.set_result(None)
        return outcome

    def _without_message(self) -> None:
        if self._state.client is _server._CLOSED:  # noqa: SLF001
            with self._state.condition:
                code = _server.cygrpc.StatusCode.unimplemented
                _server._abort(self._state, self._event.call, code, b"a call has one request message")  # noqa: SLF001
        self.finished.set_result(None)

    def _at_once(self, body: bytes) -> Reply | None:
        deadline = self._event.call_details.deadline
        return self._behavior.at_once(body, self._event.invocation_metadata, lambda: max(deadline - time.time(), 0))

    def _send(self, reply: Reply) -> None:
        """Answer as grpcio's `_status` does, in one batch."""
        cygrpc, flags = _server.cygrpc, _server._EMPTY_FLAGS  # noqa: SLF001
        operations = [
            cygrpc.SendInitialMetadataOperation(None, flags),
            cygrpc.SendStatusFromServerOperation(reply.trailing, reply.code, reply.details, flags),
        ]
        if reply.body is not None:
            operations.append(cygrpc.SendMessageOperation(reply.body, flags))
        with self._state.condition:
            if _server._is_rpc_state_active(self._state):  # noqa: SLF001
                token = _server._SEND_STATUS_FROM_SERVER_TOKEN  # noqa: SLF001
                sent = _server._send_status_from_server(self._state, token)  # noqa: SLF001
                self._event.call.start_server_batch(operations, sent)
                self._state.statused = True
                self._state.due.add(token)
        self.finished.set_result(None)

    def _answer(self, body: bytes) -> None:
        try:
            self._respond(self._event, self._state, self._behavior, lambda: body, None, None)
        finally:
            self.finished.set_result(None)
