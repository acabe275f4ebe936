"""A TLS connection of a server, over asyncio streams."""

import asyncio
from typing import Final

from strongroom.errors import FormatError, VerificationError
from strongroom.ratls.tls import TlsPipe

CHUNK: Final = 16 * 1024
_MAX_GOODBYE_BYTES: Final = 64 * 1024


class TlsStream:
    """Speaks TLS over a pair of asyncio streams. Deadlines are the caller's: wrap calls into `asyncio.timeout`.

    Args:
        reader: Of the connection, with a limit of `CHUNK`.
        writer: Of the connection.
        pipe: A fresh one.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pipe: TlsPipe) -> None:
        self._reader = reader
        self._writer = writer
        self._pipe = pipe

    @property
    def pipe(self) -> TlsPipe:
        """What is known of the peer."""
        return self._pipe

    async def handshake(self) -> None:
        """Does the handshake.

        Raises:
            VerificationError: It failed (``tls.handshake``); the peer was told.
            FormatError: The peer went away (``tls.truncated``).
        """
        try:
            while not self._pipe.handshake():
                await self._flush()
                await self._receive()
        except VerificationError:
            await self._flush()
            raise
        await self._flush()

    async def read_exactly(self, size: int) -> bytes:
        """Receives exactly `size` bytes.

        Raises:
            FormatError: The peer went away, or ended before that (``tls.truncated``).
            VerificationError: The connection was altered (``tls.broken``).
        """
        content = bytearray()
        while len(content) < size:
            part = self._pipe.read(size - len(content))
            if part is None:
                await self._receive()
            elif part:
                content += part
            else:
                raise FormatError("the client ended too early", code="tls.truncated")
        return bytes(content)

    async def send_last(self, plaintext: bytes) -> None:
        """Sends, says goodbye, and waits until the peer has ended too, so that nothing it has not read is lost."""
        self._pipe.write(plaintext)
        self._pipe.close()
        await self._flush()
        self._writer.write_eof()
        left = _MAX_GOODBYE_BYTES
        while left > 0 and (received := await self._reader.read(CHUNK)):
            left -= len(received)

    async def _flush(self) -> None:
        self._writer.write(self._pipe.to_send())
        await self._writer.drain()

    async def _receive(self) -> None:
        ciphertext = await self._reader.read(CHUNK)
        if not ciphertext:
            raise FormatError("the client went away", code="tls.truncated")
        self._pipe.receive(ciphertext)
