"""Receives a form: streamed, bounded in length and time, its file straight into the spool."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request

from strongroom.errors import FormatError
from strongroom.loan.service.fields import Form
from strongroom.loan.service.multipart import MultipartReader, Part, boundary_of
from strongroom.loan.service.problems import Problem
from strongroom.loan.service.settings import Limits
from strongroom.loan.service.spool import Incoming, Spool

MAX_PARTS: Final = 16
MAX_TEXT_BYTES: Final = 4096
MAX_URLENCODED_BYTES: Final = 16 << 10
URLENCODED: Final = "application/x-www-form-urlencoded"
FILE: Final = "file"
CLOSE: Final = {"Connection": "close"}


class FormParts:
    """Collects the parts of one form.

    Args:
        spool: Where the file goes.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._texts: dict[str, bytearray] = {}
        self._filename = ""
        self._text: bytearray | None = None
        self._count = 0
        self.incoming: Incoming | None = None
        self.pending: list[bytes] = []

    def begin(self, part: Part) -> None:
        """A part begins.

        Raises:
            Problem: Too many parts, or one twice.
        """
        self._count += 1
        if self._count > MAX_PARTS:
            raise Problem(422, "form.fields", "the form has too many fields")
        twice = part.name in self._texts or (part.name == FILE and self.incoming is not None)
        if twice:
            raise Problem(422, "form.fields", "a form field is there twice")
        if part.name == FILE and part.filename is not None:
            self._text = None
            self._filename = part.filename
            self.incoming = self._spool.receive()
            return
        if part.filename is not None:
            error = {"field": part.name[:64], "expected": "text, not a file"}
            raise Problem(422, "form.fields", "a form field is a file and should be text", errors=[error])
        self._text = self._texts[part.name] = bytearray()

    def data(self, piece: bytes) -> None:
        """Content of the part that began last.

        Raises:
            Problem: A text is too long.
        """
        if self._text is None:
            self.pending.append(piece)
            return
        self._text += piece
        if len(self._text) > MAX_TEXT_BYTES:
            raise Problem(422, "form.fields", "a form field is too long")

    def form(self) -> Form:
        """The form.

        Raises:
            Problem: A text is not UTF-8.
            UnavailableError: The disk is full or fails.
        """
        try:
            texts = {name: bytes(text).decode("utf-8") for name, text in self._texts.items()}
        except UnicodeDecodeError:
            raise Problem(422, "form.fields", "a form field is not UTF-8 text") from None
        upload = self.incoming.finish() if self.incoming is not None else None
        return Form(texts, self._filename, upload)


class Receiver:
    """Receives forms, a bounded number at once.

    Args:
        limits: Length, time and number.
        spool: Where files go.
    """

    def __init__(self, limits: Limits, spool: Spool) -> None:
        self._limits = limits
        self._spool = spool
        self._open = 0

    async def receive(self, request: Request, max_bytes: int | None = None) -> Form:
        """The form of a request.

        Args:
            request: Its body was not touched.
            max_bytes: Longest body, if shorter than what all calls may have.

        Returns:
            The form; close it.

        Raises:
            Problem: 400, 408, 413, 415, 422, 503 or 507: the body is not such a form, or breaks a limit.
            StrongroomError: The same; see `to_problem`.
        """
        most = min(self._limits.max_upload_bytes, max_bytes or self._limits.max_upload_bytes)
        self._check_head(request, most)
        async with self._place():
            try:
                async with asyncio.timeout(self._limits.body_s):
                    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == URLENCODED:
                        return await self._urlencoded(request, most)
                    return await self._multipart(request, most)
            except TimeoutError:
                raise Problem(408, "http.body_slow", "the body took too long", headers=CLOSE) from None

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self._open >= self._limits.max_uploads:
            raise Problem(503, "service.busy", "too many requests are being received", headers=CLOSE)
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    def _check_head(self, request: Request, most: int) -> None:
        if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise Problem(415, "http.content_encoding", "the body must not be compressed", headers=CLOSE)
        announced = request.headers.get("content-length", "0")
        if len(announced) > 15 or not announced.isdecimal() or int(announced) > most:
            raise _too_long(most)

    async def _urlencoded(self, request: Request, most: int) -> Form:
        raw = bytearray()
        async for chunk in self._chunks(request, min(most, MAX_URLENCODED_BYTES)):
            raw += chunk
        try:
            pairs = parse_qsl(
                raw.decode("ascii"), True, True, encoding="utf-8", errors="strict", max_num_fields=MAX_PARTS
            )
        except ValueError:
            raise FormatError("the form is malformed", code="form.malformed") from None
        texts = dict(pairs)
        if len(texts) != len(pairs):
            raise Problem(422, "form.fields", "a form field is there twice")
        return Form(texts)

    async def _multipart(self, request: Request, most: int) -> Form:
        parts = FormParts(self._spool)
        reader = MultipartReader(boundary_of(request.headers.get("content-type", "")), parts.begin, parts.data)
        try:
            async for chunk in self._chunks(request, most):
                reader.feed(chunk)
                if parts.pending:
                    await _spool(parts)
            reader.finish()
            return parts.form()
        except BaseException:
            if parts.incoming is not None:
                parts.incoming.abort()
            raise

    async def _chunks(self, request: Request, most: int) -> AsyncIterator[bytes]:
        size = 0
        stream = request.stream()
        while True:
            async with asyncio.timeout(self._limits.idle_s):
                try:
                    chunk = await anext(stream)
                except StopAsyncIteration:
                    return
            size += len(chunk)
            if size > most:
                raise _too_long(most)
            if chunk:
                yield chunk


def _too_long(most: int) -> Problem:
    return Problem(413, "http.body_too_long", f"the body is longer than {most} bytes", headers=CLOSE)


async def _spool(parts: FormParts) -> None:
    pieces = b"".join(parts.pending)
    parts.pending = []
    incoming = parts.incoming
    if incoming is None:
        return
    if incoming.needs_disk(len(pieces)):
        await asyncio.to_thread(incoming.write, pieces)
    else:
        incoming.write(pieces)
