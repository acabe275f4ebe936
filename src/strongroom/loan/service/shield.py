"""What every request passes on its way to a route: plain paths only, one log line, one count, no leaks."""

import re
import time
import traceback
from typing import Any, Final

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from strongroom.loan.service.metrics import Metrics
from strongroom.loan.service.problems import Problem, to_problem

# Checked on the bytes of the request line, before percent-decoding: an encoded slash or dot has no second reading.
PLAIN_PATH: Final = re.compile(rb"(/[A-Za-z0-9_-]+(\.[A-Za-z0-9]+)?){1,8}")
ROUTES: Final = frozenset(
    {
        "/ping",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/data_processing",
        "/train",
        "/predict",
    }
)
METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
CLIENT_GONE: Final = 499
HEADERS: Final = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))

log: Any = structlog.get_logger("strongroom.loan.service")


class Shield:
    """Outermost layer.

    Args:
        app: The routes.
        metrics: Counts requests.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        raw_path = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
        try:
            if PLAIN_PATH.fullmatch(raw_path):
                await self._app(scope, receive, send_with_headers)
            else:
                problem = Problem(404, "http.path", "no such path")
                await problem.response()(scope, receive, send_with_headers)
        except ClientDisconnect:
            status = status or CLIENT_GONE
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{frame.name}:{frame.lineno}"
            log.error("service.bug", error=type(error).__name__, where=where)  # noqa: TRY400 -- without its text
            if not status:
                await to_problem(error).response()(scope, receive, send_with_headers)
        finally:
            self._account(scope, status, time.perf_counter() - started_s)

    def _account(self, scope: Scope, status: int, duration_s: float) -> None:
        path, method = scope["path"], scope["method"]
        route = path if path in ROUTES else "/jobs/{id}" if path.startswith("/jobs/") else "other"
        method = method if method in METHODS else "OTHER"
        self._metrics.count_request(route, method, status, duration_s)
        client = scope.get("client")
        log.info(
            "http.request",
            client=client[0] if client else None,
            method=method,
            route=route,
            status=status,
            duration_ms=round(duration_s * 1000, 1),
        )
