"""The service as an ASGI application."""

from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from strongroom.errors import StrongroomError
from strongroom.loan.service import openapi
from strongroom.loan.service.parts import LoanService
from strongroom.loan.service.places import VERSION
from strongroom.loan.service.problems import Problem, to_problem
from strongroom.loan.service.routes import job_routes, watch_routes, work_routes
from strongroom.loan.service.shield import CLIENT_GONE, Shield

EXPECTED: Final = (Problem, StrongroomError, OSError, MemoryError)

log: Any = structlog.get_logger("strongroom.loan.service")


def create_app(service: LoanService) -> ASGIApp:
    """Build the application.

    Args:
        service: Its parts.

    Returns:
        FastAPI routes behind a `Shield`.
    """
    return Shield(create_routes(service), service.metrics)


def create_routes(service: LoanService) -> FastAPI:
    """The routes alone, with their OpenAPI document at `/openapi.json`."""
    app = FastAPI(
        title="Strongroom loan service",
        version=VERSION,
        description=openapi.DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in (watch_routes(service), work_routes(service), job_routes(service)):
        app.include_router(router)
    for kind in EXPECTED:
        app.add_exception_handler(kind, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _problem)
    plain = app.openapi
    app.openapi = lambda: openapi.add_schemas(plain())  # type: ignore[method-assign]  # FastAPI's way of extending it
    return app


async def _problem(_request: Request, error: Exception) -> Response:
    problem = to_problem(error)
    log.info("request.refused", status=problem.status, code=problem.code)
    return problem.response()


async def _http(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if status == 405:
        return Problem(405, "http.method", "this path does not know this method", headers=headers).response()
    return Problem(404, "http.path", "no such path").response()


async def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)
