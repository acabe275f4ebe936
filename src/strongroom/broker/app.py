"""The broker as an ASGI application."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from strongroom.broker.http import Shield
from strongroom.broker.kbs import kbs_routes
from strongroom.broker.limits import TooManyRequests
from strongroom.broker.logs import log
from strongroom.broker.native import native_routes
from strongroom.broker.parts import Parts
from strongroom.broker.problems import INTERNAL, METHOD, PATH, RATE, UNAVAILABLE, Kind, Refusal, to_stranger
from strongroom.errors import StrongroomError, UnavailableError


def create_app(parts: Parts) -> ASGIApp:
    """Build the application.

    Args:
        parts: Of the broker, see `open_parts`.

    Returns:
        FastAPI routes behind a `Shield`.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.include_router(kbs_routes(parts))
    app.include_router(native_routes(parts))
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(StrongroomError, _error)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)

    @app.get("/healthz")
    async def healthz() -> Response:
        return JSONResponse({"status": "ok"})

    @app.get("/readyz")
    def readyz() -> Response:
        parts.log.read(limit=1)
        return JSONResponse({"status": "ready", "simulated": parts.settings.allow_simulated})

    return Shield(app)


async def _refusal(_request: Request, error: Exception) -> Response:
    refusal = error if isinstance(error, Refusal) else Refusal(INTERNAL, code="bug")
    log.info("request.refused", answer=refusal.kind.name, code=refusal.code)
    return to_stranger(refusal)


async def _error(_request: Request, error: Exception) -> Response:
    """Errors nobody expected where they came up: a database that fails or was altered, a bound that is reached."""
    code = error.code if isinstance(error, StrongroomError) else "bug"
    kind: Kind = INTERNAL
    if isinstance(error, UnavailableError):
        kind = RATE if isinstance(error, TooManyRequests) else UNAVAILABLE
    log.error("request.failed", answer=kind.name, code=code)
    return to_stranger(Refusal(kind, code=code))


async def _http(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    kind = {404: PATH, 405: METHOD}.get(status, INTERNAL)
    return to_stranger(Refusal(kind, code="http.route"))


async def _bug(_request: Request, _error: Exception) -> Response:
    """The answer; the error goes on to the `Shield`, which logs it without its text."""
    return to_stranger(Refusal(INTERNAL, code="bug"))
