"""What every request passes on its way to a route: plain paths only, bounded bodies, one log line, no leaks."""

import asyncio
import re
import time
import traceback
from typing import Final

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from strongroom.broker.logs import log
from strongroom.broker.problems import INTERNAL, PATH, TOKEN_REFUSED, TOO_LONG, TOO_SLOW, Refusal, to_stranger
from strongroom.formats.kbs import SESSION_COOKIE

# Checked on the bytes of the request line, before percent-decoding: an encoded slash or dot has no second reading.
_PLAIN_PATH: Final = re.compile(rb"(/[A-Za-z0-9._-]+)+")
_DOT_SEGMENT: Final = re.compile(rb"/\.{1,2}(/|$)")
_BEARER: Final = re.compile(r"[Bb]earer ([A-Za-z0-9._-]{1,16384})")
_SESSION_ID: Final = re.compile(r"[0-9a-f]{32}")
_HEADERS: Final = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class Shield:
    """Outermost layer: refuses odd paths, adds headers, logs, and turns an unforeseen error into a plain 500.

    Args:
        app: The routes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        status: list[int] = []

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        plain = is_plain(scope.get("raw_path") or b"")
        try:
            app = self._app if plain else to_stranger(Refusal(PATH, code="http.path"))
            await app(scope, receive, send_with_headers)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{frame.name}:{frame.lineno}"
            log.error("broker.bug", error=type(error).__name__, where=where)
            if not status:
                await to_stranger(Refusal(INTERNAL, code="bug"))(scope, receive, send_with_headers)
        finally:
            log.info(
                "http.request",
                client=client_address(scope),
                method=scope["method"],
                path=scope["path"] if plain else "(refused)",
                status=status[0] if status else None,
                duration_ms=round((time.perf_counter() - started_s) * 1000, 1),
            )


def is_plain(raw_path: bytes) -> bool:
    """Whether a path, as sent, consists of plain non-empty segments, none of them "." or ".."."""
    return bool(_PLAIN_PATH.fullmatch(raw_path)) and not _DOT_SEGMENT.search(raw_path)


def client_address(scope: Scope) -> str:
    """The peer's IP address; headers that claim another one are not believed."""
    client = scope.get("client")
    return client[0] if client else "unknown"


def target(request: Request) -> str:
    """Path and query exactly as sent."""
    raw_path: bytes = request.scope["raw_path"]
    query: bytes = request.scope["query_string"]
    return (raw_path + b"?" + query if query else raw_path).decode("latin-1")


async def read_body(request: Request, *, max_bytes: int, timeout_s: int) -> bytes:
    """Read the body, no longer and no slower than allowed.

    Args:
        request: The request.
        max_bytes: Longest body.
        timeout_s: For the whole body.

    Returns:
        The body.

    Raises:
        Refusal: 413 or 408.
    """
    announced = request.headers.get("content-length", "0")
    if not announced.isdecimal() or len(announced) > 12 or int(announced) > max_bytes:
        raise Refusal(TOO_LONG, code="http.body")
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise Refusal(TOO_LONG, code="http.body")
    except TimeoutError:
        raise Refusal(TOO_SLOW, code="http.body") from None
    return bytes(body)


def bearer_token(request: Request) -> str | None:
    """The token of the Authorization header; None without one.

    Raises:
        Refusal: Another scheme, two headers, or characters no token has.
    """
    values = request.headers.getlist("authorization")
    if not values:
        return None
    found = _BEARER.fullmatch(values[0])
    if len(values) > 1 or found is None:
        raise Refusal(TOKEN_REFUSED, code="http.authorization")
    return found[1]


def session_cookie(request: Request) -> str | None:
    """The session's cookie; None without one, or with several."""
    pairs = [pair.strip() for header in request.headers.getlist("cookie") for pair in header.split(";")]
    values = [pair[len(SESSION_COOKIE) + 1 :] for pair in pairs if pair.startswith(SESSION_COOKIE + "=")]
    return values[0] if len(values) == 1 and _SESSION_ID.fullmatch(values[0]) else None
