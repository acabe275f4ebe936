"""Routes under `/v1`, for the owner: keys, grants and the log. Every request is signed with the owner's key."""

import base64
import os
from collections.abc import Callable
from typing import Final

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from strongroom.broker.audit import Entry
from strongroom.broker.grants import Grant
from strongroom.broker.http import bearer_token, client_address, read_body, target
from strongroom.broker.logs import log
from strongroom.broker.owner import SignedRequest
from strongroom.broker.parts import Parts
from strongroom.broker.problems import ADMIN, Refusal, to_owner
from strongroom.broker.records import MAX_PAGE
from strongroom.errors import FormatError, StrongroomError, VerificationError
from strongroom.formats.canonical import parse_json_object
from strongroom.formats.kbs import ResourcePath, TeePublicKey, b64_decode
from strongroom.formats.members import Members
from strongroom.keys.envelope import encrypt_to

KEY_BITS: Final = frozenset({128, 256})
_CODE: Final = "request.malformed"


async def owner_body(parts: Parts, request: Request) -> bytes:
    """Read a request's body and check that the owner signed exactly this request.

    Args:
        parts: Of the broker.
        request: The request.

    Returns:
        The body.

    Raises:
        Refusal: 401 if the owner did not sign it; 413 or 408.
        TooManyRequests: The address has tried too often.
        UnavailableError: The database can't be written.
    """
    limits = parts.settings
    token = bearer_token(request)
    if token is None:
        parts.rate.take(client_address(request.scope))
        raise Refusal(ADMIN, code="owner.missing")
    body = await read_body(request, max_bytes=limits.max_body_bytes, timeout_s=limits.body_timeout_s)
    signed = SignedRequest(request.method, target(request), body)
    now_s = int(parts.clock().timestamp())
    try:
        await anyio.to_thread.run_sync(lambda: parts.owner.check(token, signed, now_s=now_s))
    except VerificationError as error:
        parts.rate.take(client_address(request.scope))
        log.warning("owner.refused", client=client_address(request.scope), code=error.code)
        raise Refusal(ADMIN, code=error.code) from None
    return body


Work = Callable[[Members], object]


def native_routes(parts: Parts) -> APIRouter:
    """The routes.

    Args:
        parts: Of the broker.

    Returns:
        A router with the prefix `/v1`.
    """
    router = APIRouter(prefix="/v1")
    desk = OwnerDesk(parts)

    def post(path: str, work: Work, status: int) -> None:
        async def route(request: Request) -> Response:
            body = await owner_body(parts, request)

            def answer() -> object:
                members = Members(
                    parse_json_object(body, max_bytes=parts.settings.max_body_bytes), what="request", code=_CODE
                )
                return work(members)

            return await _for_owner(answer, status)

        router.post(path)(route)

    post("/keys", desk.create_key, 201)
    post("/keys/export", desk.export_key, 200)
    post("/grants", desk.add_grant, 201)

    @router.get("/keys")
    async def list_keys(request: Request) -> Response:
        await owner_body(parts, request)
        return await _for_owner(desk.list_keys, 200)

    @router.delete("/keys/{repository}/{type}/{tag}")
    async def delete_key(request: Request, repository: str, type: str, tag: str) -> Response:
        await owner_body(parts, request)
        return await _for_owner(lambda: desk.delete_key(f"{repository}/{type}/{tag}"), 200)

    @router.get("/grants")
    async def list_grants(request: Request) -> Response:
        await owner_body(parts, request)
        return await _for_owner(desk.list_grants, 200)

    @router.delete("/grants/{name}")
    async def revoke(request: Request, name: str) -> Response:
        await owner_body(parts, request)
        return await _for_owner(lambda: desk.revoke(name), 200)

    @router.get("/log")
    async def read_log(request: Request) -> Response:
        await owner_body(parts, request)
        query = dict(request.query_params)
        return await _for_owner(lambda: desk.read_log(query), 200)

    return router


async def _for_owner(answer: Callable[[], object], status: int) -> Response:
    try:
        return JSONResponse(await anyio.to_thread.run_sync(answer), status)
    except StrongroomError as error:
        log.warning("owner.failed", code=error.code)
        return to_owner(error)


class OwnerDesk:
    """What the owner can do.

    Args:
        parts: Of the broker.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def create_key(self, members: Members) -> object:
        """Make or store a key: ``{"path", "bits"}`` or ``{"path", "value": base64}``.

        Raises:
            FormatError: A member is malformed.
            WouldOverwrite: There is a key of that name.
            UnavailableError: The database can't be written.
        """
        path = ResourcePath.parse(members.text("path"))
        value = self._given(members) if "value" in members else os.urandom(self._bits(members) // 8)
        members.finish()
        version = self._parts.keyring.create(path, value, self._parts.clock())
        return {"path": str(path), "version": version, "size_bytes": len(value)}

    def _given(self, members: Members) -> bytes:
        value = b64_decode(members.text("value", max_length=2 * self._parts.settings.max_secret_bytes))
        if not 1 <= len(value) <= self._parts.settings.max_secret_bytes:
            raise FormatError("the key is empty or too long", code="key.size")
        return value

    @staticmethod
    def _bits(members: Members) -> int:
        bits = members.number("bits")
        if bits not in KEY_BITS:
            raise FormatError("a key has 128 or 256 bits", code="key.size")
        return bits

    def export_key(self, members: Members) -> object:
        """Give the owner a key, encrypted: ``{"path", "version": number or null, "recipient": JWK}``.

        Raises:
            FormatError: A member is malformed.
            UnknownKey: No such key.
            VerificationError: The stored key was altered.
            UnavailableError: The key can't be read or the export can't be logged.
        """
        path = ResourcePath.parse(members.text("path"))
        wanted = members.value("version")
        recipient = TeePublicKey.parse(members.value("recipient"))
        members.finish()
        if wanted is not None and (type(wanted) is not int or not 1 <= wanted < 2**31):
            raise FormatError("not a version", code=_CODE)
        version, value = self._parts.keyring.read(path, wanted)
        envelope = encrypt_to(recipient, value)
        self._parts.audit.append(Entry("key.export", "allow", path=f"{path}@{version}"), self._parts.clock())
        return {"path": str(path), "version": version, "envelope": envelope}

    def list_keys(self) -> object:
        """Names, versions, sizes; never values.

        Raises:
            UnavailableError: The database can't be read.
        """
        keys = self._parts.keyring.list()
        return {
            "keys": [
                {"path": str(k.path), "version": k.version, "created": k.created, "size_bytes": k.size_bytes}
                for k in keys
            ]
        }

    def delete_key(self, path: str) -> object:
        """Delete all versions of a key.

        Raises:
            FormatError: Not a key name.
            UnknownKey: No such key.
            UnavailableError: The database can't be written.
        """
        self._parts.keyring.delete(ResourcePath.parse(path), self._parts.clock())
        return {}

    def add_grant(self, members: Members) -> object:
        """Store a grant: ``{"grant", "replace": true or false}``.

        Raises:
            FormatError: The grant is malformed.
            WouldOverwrite: There is a grant of that name.
            UnavailableError: The database can't be written.
        """
        grant, replace = Grant.from_json(members.value("grant")), members.boolean("replace")
        members.finish()
        self._parts.grants.add(grant, self._parts.clock(), replace=replace)
        return {"name": grant.name, "policy_digest": grant.policy.digest.hex()}

    def list_grants(self) -> object:
        """All grants.

        Raises:
            VerificationError: A stored grant was altered.
            UnavailableError: The database can't be read.
        """
        return {"grants": [grant.to_json() for grant in self._parts.grants.all()]}

    def revoke(self, name: str) -> object:
        """Remove a grant.

        Raises:
            UnknownGrant: There is none of that name.
            UnavailableError: The database can't be written.
        """
        self._parts.grants.revoke(name, self._parts.clock())
        return {}

    def read_log(self, query: dict[str, str]) -> object:
        """Records after ``after``, at most ``limit``.

        Raises:
            FormatError: The query is malformed.
            UnavailableError: The database can't be read.
        """
        if not query.keys() <= {"after", "limit"} or not all(v.isdecimal() and len(v) <= 15 for v in query.values()):
            raise FormatError("after and limit are numbers", code=_CODE)
        records = self._parts.log.read(int(query.get("after", 0)), int(query.get("limit", MAX_PAGE)))
        return {
            "records": [
                {
                    "seq": record.seq,
                    "record": base64.b64encode(record.record).decode(),
                    "leaf_hash": record.leaf_hash.hex(),
                }
                for record in records
            ]
        }
