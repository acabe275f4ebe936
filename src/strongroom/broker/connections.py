"""Connections that are given up when a request does not arrive, which the HTTP server by itself would wait for.

Too many at once are answered by an application of ours; the server's own answer would be plain text.

h11 is used, not httptools: it bounds the size of a request's head.
"""

import asyncio
from typing import ClassVar, Final

from fastapi.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_HEAD_BYTES: Final = 16 * 1024


class TimedConnection(H11Protocol):
    """A connection with a deadline for the head of each request; see `timed_connections`."""

    head_timeout_s: ClassVar[float]
    max_connections: ClassVar[int]
    busy: ClassVar[Response]
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """The deadline of the first request begins; a connection that is one too many meets another application."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self.app = self.busy
        self._begin()

    def data_received(self, data: bytes) -> None:
        """The deadline of a further request begins with its first byte; a whole head ends it."""
        if not self._is_serving():
            self._begin()
        super().data_received(data)
        if self._is_serving():
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """No deadline any more."""
        self._end()
        super().connection_lost(exc)

    def _is_serving(self) -> bool:
        cycle: object = self.cycle  # None before the first request, against uvicorn's annotation
        return cycle is not None and not self.cycle.response_complete

    def _begin(self) -> None:
        if self._deadline is None:
            # Not `close`, which over TLS waits half a minute for the other side's goodbye.
            self._deadline = self.loop.call_later(self.head_timeout_s, self.transport.abort)

    def _end(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def timed_connections(timeout_s: float, most: int, busy_answer: Response) -> type[TimedConnection]:
    """The protocol class for a server.

    Args:
        timeout_s: How long request line and headers may take, from the opening of the connection or from the first
            byte of a further request.
        most: Connections that are served at once.
        busy_answer: For requests on others.

    Returns:
        A class for uvicorn's ``http``.
    """
    busy_answer.headers["connection"] = "close"

    class Timed(TimedConnection):
        head_timeout_s = timeout_s
        max_connections = most
        busy = busy_answer

    return Timed
