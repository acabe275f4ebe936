"""Routes of the Confidential Containers key broker protocol, version 0.4.0.

Source: confidential-containers/trustee, kbs/docs/kbs_attestation_protocol.md and kbs/src. Tighter than the reference:
a challenge is answered once and within two minutes, tokens live at most five minutes and are remembered, a resource
has exactly three plain segments, bodies are bounded before they are parsed.
"""

from collections.abc import Callable
from typing import Final

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from strongroom.attestation.claims import TEES
from strongroom.broker.grants import GRANT_NAME
from strongroom.broker.http import bearer_token, client_address, read_body, session_cookie
from strongroom.broker.native import owner_body
from strongroom.broker.parts import Parts
from strongroom.broker.problems import ATTESTATION, PATH, TOKEN_MISSING, TOKEN_REFUSED, TOO_LONG, Refusal
from strongroom.broker.sessions import Attested, Session
from strongroom.errors import FormatError, VerificationError
from strongroom.formats.canonical import parse_json_object
from strongroom.formats.kbs import PATH_PREFIX, PROTOCOL_VERSION, SESSION_COOKIE, Attestation, ResourcePath

SUPPORTED_TEES: Final = frozenset(TEES)
MAX_REQUEST_BYTES: Final = 16 * 1024
_RESOURCE: Final = "/resource/{repository}/{type}/{tag}"


def kbs_routes(parts: Parts) -> APIRouter:
    """The routes.

    Args:
        parts: Of the broker.

    Returns:
        A router with the protocol's prefix.
    """
    router = APIRouter(prefix=PATH_PREFIX)
    # Verifications wait in threads of their own, so that releases never queue behind them.
    verifying = CapacityLimiter(parts.settings.max_verifications + 1)

    @router.post("/auth")
    async def auth(request: Request) -> Response:
        parts.rate.take(client_address(request.scope))
        tee, workload = _parse_request(await _body(parts, request))
        session = await _asked(parts, lambda: parts.sessions.open(tee, workload))
        answer = JSONResponse({"nonce": session.nonce, "extra-params": ""})
        answer.set_cookie(
            SESSION_COOKIE,
            session.id,
            max_age=parts.settings.nonce_ttl_s + parts.settings.token_ttl_s,
            path=PATH_PREFIX,
            secure=True,
            httponly=True,
            samesite="strict",
        )
        return answer

    @router.post("/attest")
    async def attest(request: Request) -> Response:
        parts.rate.take(client_address(request.scope))
        session = await _take_session(parts, request)
        attestation = _parse_attestation(await _body(parts, request), parts.settings.max_body_bytes)
        token = await anyio.to_thread.run_sync(parts.desk.attest, session, attestation, limiter=verifying)
        return JSONResponse({"token": token})

    @router.get(_RESOURCE)
    async def release(request: Request, repository: str, type: str, tag: str) -> Response:
        parts.rate.take(client_address(request.scope))
        path = _resource_path(repository, type, tag)
        return JSONResponse(await anyio.to_thread.run_sync(lambda: parts.desk.release(_attested(parts, request), path)))

    @router.post(_RESOURCE)
    async def store(request: Request, repository: str, type: str, tag: str) -> Response:
        body = await owner_body(parts, request)
        path = _resource_path(repository, type, tag)
        if not 1 <= len(body) <= parts.settings.max_secret_bytes:
            raise Refusal(TOO_LONG, code="key.size")
        await anyio.to_thread.run_sync(lambda: parts.keyring.create(path, body, parts.clock(), new_version=True))
        return Response()

    @router.delete(_RESOURCE)
    async def delete(request: Request, repository: str, type: str, tag: str) -> Response:
        await owner_body(parts, request)
        path = _resource_path(repository, type, tag)
        await anyio.to_thread.run_sync(lambda: parts.keyring.delete(path, parts.clock()))
        return Response()

    return router


async def _body(parts: Parts, request: Request) -> bytes:
    limits = parts.settings
    return await read_body(request, max_bytes=limits.max_body_bytes, timeout_s=limits.body_timeout_s)


async def _asked(parts: Parts, question: Callable[[], Session]) -> Session:
    """Ask for a session: here where it is in memory, in a thread where a database is asked."""
    return await anyio.to_thread.run_sync(question) if parts.sessions.blocking else question()


def _parse_request(body: bytes) -> tuple[str, str | None]:
    try:
        members = parse_json_object(body, max_bytes=MAX_REQUEST_BYTES)
    except FormatError as error:
        raise Refusal(ATTESTATION, code=error.code) from None
    if members.keys() != {"version", "tee", "extra-params"}:
        raise Refusal(ATTESTATION, code="kbs.message")
    if members["version"] != PROTOCOL_VERSION:
        raise Refusal(ATTESTATION, code="kbs.version")
    tee = members["tee"]
    if not isinstance(tee, str) or tee not in SUPPORTED_TEES:
        raise Refusal(ATTESTATION, code="kbs.tee")
    return tee, _hint(members["extra-params"])


def _hint(extra: object) -> str | None:
    """The grant the client says it is meant for; other parameters are the reference client's and are not needed."""
    workload = extra.get("workload") if isinstance(extra, dict) else None
    return workload if isinstance(workload, str) and GRANT_NAME.fullmatch(workload) else None


async def _take_session(parts: Parts, request: Request) -> Session:
    cookie = session_cookie(request)
    if cookie is None:
        raise Refusal(ATTESTATION, code="session.missing")
    try:
        return await _asked(parts, lambda: parts.sessions.take(cookie))
    except VerificationError as error:
        raise Refusal(ATTESTATION, code=error.code) from None


def _parse_attestation(body: bytes, max_bytes: int) -> Attestation:
    try:
        return Attestation.parse(parse_json_object(body, max_bytes=max_bytes))
    except FormatError as error:
        raise Refusal(ATTESTATION, code=error.code) from None


def _attested(parts: Parts, request: Request) -> Attested:
    now_s = int(parts.clock().timestamp())
    token, cookie = bearer_token(request), session_cookie(request)
    try:
        if token is not None:
            return parts.attestations.by_id(parts.signer.verify(token, now_s=now_s), now_s)
        if cookie is not None:
            return parts.attestations.by_session(cookie, now_s)
    except VerificationError as error:
        raise Refusal(TOKEN_REFUSED, code=error.code) from None
    raise Refusal(TOKEN_MISSING, code="token.missing")


def _resource_path(repository: str, type_: str, tag: str) -> ResourcePath:
    try:
        return ResourcePath(repository, type_, tag)
    except FormatError as error:
        raise Refusal(PATH, code=error.code) from None
