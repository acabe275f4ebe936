"""The ASGI application: bounds on bodies and callers, one worker thread a request, errors as JSON."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import structlog

from strongroom.serving.http.exchange import Request, Response, error_response
from strongroom.serving.metrics import Metrics
from strongroom.serving.status import InvalidRequest, Overloaded, Refused, Status, status_of, where

log: Any = structlog.get_logger("strongroom.serving")
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bounds of the REST server.

    Args:
        threads: Requests that are worked on at once.
        requests: Requests accepted at once; one more is answered 429.
        max_body_bytes: Largest body.
        body_timeout_s: How long a caller may take to send its body.
        timeout_s: How long an answer may take.
    """

    threads: int = 16
    requests: int = 512
    max_body_bytes: int = 128 * 1024 * 1024
    body_timeout_s: float = 30.0
    timeout_s: float = 30.0


SMALL_BODY_BYTES: Final = 4096
_NAME_AT: Final = len("/v1/models/")


class _Gone(Exception):
    """The caller hung up before its body was complete."""


class App:
    """Speaks ASGI; what a request means is for `dispatch`.

    Args:
        dispatch: Answers requests.
        limits: Bounds.
        metrics: Where requests are counted.
        quick: Whether a model, by its name, answers so quickly that a worker thread is not worth its while.
    """

    def __init__(
        self,
        dispatch: Callable[[Request], Response],
        limits: HttpLimits,
        metrics: Metrics,
        quick: Callable[[str], bool],
    ) -> None:
        self._dispatch = dispatch
        self._quick = quick
        self._limits = limits
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(limits.threads, thread_name_prefix="rest")
        self._active = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one HTTP request; anything else is ignored."""
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        request = Request(
            scope["method"],
            scope["path"],
            {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
            b"",
            time.monotonic() + self._limits.timeout_s,
        )
        self._active += 1
        try:
            response, status = await self._answer(request, receive)
        except _Gone:
            return
        finally:
            self._active -= 1
        if request.api:
            self._metrics.request(request.model, request.api, "REST", status.name, time.perf_counter() - started)
        await _reply(send, response, head=request.method == "HEAD")

    async def _answer(self, request: Request, receive: Receive) -> tuple[Response, Status]:
        try:
            if self._active > self._limits.requests:
                raise Overloaded("too many requests at once")
            request.body = await self._body(request, receive)
            if len(request.body) <= SMALL_BODY_BYTES and self._quick(model_in(request.path)):
                return self._dispatch(request), Status.OK
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._dispatch, request), Status.OK
        except _Gone:
            raise
        except Exception as error:
            status, message = status_of(error)
            if status is Status.INTERNAL and not isinstance(error, Refused):
                log.warning("request failed", api=request.api, error=type(error).__name__, where=where(error))
            response = error_response(status, message)
            if not request.body:
                response.headers["connection"] = "close"  # an unread body must not become the next request
            return response, status

    async def _body(self, request: Request, receive: Receive) -> bytes:
        if request.method in {"GET", "HEAD"}:
            return b""
        length = request.headers.get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length[:20]) > self._limits.max_body_bytes:
            raise self._too_large()
        try:
            async with asyncio.timeout(self._limits.body_timeout_s):
                return await self._read(receive)
        except TimeoutError:
            raise Refused(Status.DEADLINE_EXCEEDED, "the body did not arrive in time") from None

    async def _read(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self._limits.max_body_bytes:
                raise self._too_large()
            chunks.append(chunk)
            more = message.get("more_body", False)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _too_large(self) -> Refused:
        return InvalidRequest(f"the body is larger than {self._limits.max_body_bytes} bytes")

    def close(self) -> None:
        """Let the worker threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def model_in(path: str) -> str:
    """Name of the model in ``/v1/models/NAME...`` or ``/v2/models/NAME...``, as it is written there; else empty."""
    if not path.startswith(("/v1/models/", "/v2/models/")):
        return ""
    return path[_NAME_AT:].partition("/")[0].partition(":")[0]


async def _reply(send: Send, response: Response, *, head: bool) -> None:
    headers = [
        (b"content-type", response.content_type.encode("latin-1")),
        (b"content-length", str(len(response.body)).encode("ascii")),
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers.items()),
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else response.body})
