"""The routes: each reads its form, hands the work to a pool and answers."""

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response

from strongroom.loan.service import openapi, work
from strongroom.loan.service.answers import PING
from strongroom.loan.service.fields import Form, predict_call, process_call, train_call
from strongroom.loan.service.jobs import ENDED, Job
from strongroom.loan.service.metrics import MEDIA_TYPE as METRICS_TYPE
from strongroom.loan.service.parts import LoanService
from strongroom.loan.service.problems import Problem

JOB_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
WAIT: Final = re.compile(r"wait=([0-9]{1,5})", re.ASCII)
JSON: Final = "application/json"
ACCEPTED: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "model": openapi.JobDocument,
        "description": "Accepted as a job (Prefer: respond-async)",
        "headers": {"Location": {"description": "Address of the job", "schema": {"type": "string"}}},
    }
}
FORM_PROBLEMS: Final = (400, 404, 408, 413, 415, 422, 500, 503, 507)


def watch_routes(service: LoanService) -> APIRouter:
    """Routes that say how the service is; they answer from the event loop and wait for nothing."""
    router = APIRouter(tags=["watch"])

    @router.get("/ping", response_model=openapi.Ping, summary="The reference's sign of life")
    async def ping() -> Response:
        return Response(PING, media_type=JSON)

    @router.get("/healthz", response_model=openapi.Ping, summary="The process is alive")
    async def healthz() -> Response:
        return Response(PING, media_type=JSON)

    @router.get(
        "/readyz",
        response_model=openapi.Ready,
        responses=openapi.problems(503),
        summary="The service takes requests; 503 while it ends",
    )
    async def readyz() -> Response:
        if service.board.draining:
            raise Problem(503, "service.draining", "the service is ending; ask another replica")
        return JSONResponse({"status": "ready", "simulated": service.settings.simulated})

    @router.get("/metrics", response_class=PlainTextResponse, summary="Counts and durations, Prometheus text format")
    async def metrics() -> Response:
        gauges = {
            "models_loaded": len(service.models.versions()),
            "model_refresh_failures": service.models.failures,
            "draining": int(service.board.draining),
        }
        return Response(service.metrics.text(service.board.counts(), gauges), media_type=METRICS_TYPE)

    return router


def work_routes(service: LoanService) -> APIRouter:
    """The reference's three calls."""
    settings = service.settings
    router = APIRouter(tags=["loan"])

    @router.post(
        "/data_processing",
        response_model=openapi.Processed,
        responses={**ACCEPTED, **openapi.problems(*FORM_PROBLEMS, 403, 409)},
        openapi_extra={
            **openapi.form(settings, ("az_file_path", "data_directory", "file"), ("size",)),
            "parameters": [openapi.prefer()],
        },
        summary="Validate a loan book, hold rows out, grow the rest to `size` rows, store both sealed",
    )
    async def data_processing(request: Request) -> Response:
        form = await service.receiver.receive(request)
        with _kept(form) as keep:
            call = process_call(form, settings)
            job = service.board.submit("data_processing", lambda job: work.process(call, job), cleanup=form.close)
            keep()
        return await _answer(request, job)

    @router.post(
        "/train",
        response_model=openapi.Trained,
        responses={**ACCEPTED, **openapi.problems(*FORM_PROBLEMS, 403, 409)},
        openapi_extra={
            **openapi.form(
                settings,
                ("az_file_path", "data_directory", "model_directory", "model_name"),
                ("continue_training", "size"),
            ),
            "parameters": [openapi.prefer()],
        },
        summary="Train a model, or continue the served one, and publish it as a new version",
    )
    async def train(request: Request) -> Response:
        form = await service.receiver.receive(request)
        with _kept(form):
            call = train_call(form, settings)
        job = service.board.submit(
            "train",
            lambda job: work.train(call, settings.training, service.models, job),
            exclusive=call.model.key,
        )
        return await _answer(request, job)

    @router.post(
        "/predict",
        response_model=openapi.Predicted,
        responses=openapi.problems(*FORM_PROBLEMS, 403),
        openapi_extra=openapi.form(
            settings,
            ("file", "az_file_path", "data_directory", "model_directory", "model_name", "sample_directory"),
            ("threshold", "reasons"),
        ),
        summary="Score applicants with the served version of a model",
    )
    async def predict(request: Request) -> Response:
        form = await service.receiver.receive(request, settings.limits.max_predict_bytes)
        with _kept(form):
            call = predict_call(form, settings)
            pool = service.predictions_for(call.upload.size)
            body, headers, rows = await pool.run(lambda: service.predictor.predict(call))
        service.metrics.count_rows(rows)
        return Response(body, headers=headers, media_type=JSON)

    return router


def job_routes(service: LoanService) -> APIRouter:
    """Jobs: look and cancel. Who knows a job's id may do both."""
    router = APIRouter(tags=["jobs"])

    @router.get(
        "/jobs/{job_id}",
        response_model=openapi.JobDocument,
        responses=openapi.problems(404),
        openapi_extra={"parameters": [openapi.job_id()]},
        summary="How a job stands, and its result",
    )
    async def look(request: Request) -> Response:
        return JSONResponse(_job(service, request).document())

    @router.delete(
        "/jobs/{job_id}",
        response_model=openapi.JobDocument,
        responses={
            202: {"model": openapi.JobDocument, "description": "It ends soon"},
            **openapi.problems(404),
        },
        openapi_extra={"parameters": [openapi.job_id()]},
        summary="Cancel a job; one that has ended stays as it is",
    )
    async def cancel(request: Request) -> Response:
        job = _job(service, request)
        if job.state in ENDED:
            return JSONResponse(job.document())
        job.cancel()
        return JSONResponse(job.document(), 202)

    return router


def _job(service: LoanService, request: Request) -> Job:
    job_id = request.path_params["job_id"]
    return service.board.find(job_id if JOB_ID.fullmatch(job_id) else "")


class _kept:  # noqa: N801 -- used as a block: `with _kept(form) as keep`
    """Forgets the form's upload at the end of the block, unless somebody else keeps it."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._kept = False

    def _keep(self) -> None:
        self._kept = True

    def __enter__(self) -> Callable[[], None]:
        return self._keep

    def __exit__(self, *_error: object) -> None:
        if not self._kept:
            self._form.close()


async def _answer(request: Request, job: Job) -> Response:
    """Wait for the job as long as the caller prefers; its answer, its problem, or the job itself."""
    wait_s = _wait_s(request)
    if wait_s != 0:
        await asyncio.wait({asyncio.ensure_future(_ended(job))}, timeout=wait_s)
    if wait_s == 0 or not job.ended.done():
        headers = {"Location": f"/jobs/{job.id}", "Preference-Applied": "respond-async"}
        return JSONResponse(job.document(), 202, headers)
    if job.problem is not None:
        raise job.problem
    return JSONResponse(job.result)


async def _ended(job: Job) -> None:
    # Shielded: a caller who goes away must not touch the job's own future.
    await asyncio.shield(asyncio.wrap_future(job.ended))


def _wait_s(request: Request) -> float | None:
    """Seconds to wait for a job; None: until it ends (RFC 7240: respond-async, wait)."""
    preferences = [p.strip().lower() for line in request.headers.getlist("prefer") for p in line.split(",")]
    if "respond-async" not in preferences:
        return None
    waits = [int(found[1]) for p in preferences if (found := WAIT.fullmatch(p))]
    return float(waits[0]) if waits else 0.0
