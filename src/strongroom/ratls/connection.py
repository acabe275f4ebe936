"""A TLS connection of a client, with one deadline for all of it."""

import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from OpenSSL import SSL

from strongroom.errors import FormatError, UnavailableError
from strongroom.ratls.address import Address
from strongroom.ratls.tls import TlsPipe

TIMEOUT_S: Final = 30.0
_CHUNK: Final = 16 * 1024


class TlsConnection:
    """Connects and does the handshake. Use it as a context manager.

    Args:
        address: The server.
        context: From `strongroom.ratls.tls.client_context`.
        timeout_s: For connecting, handshake and everything after it together.
        monotonic_s: Clock that never goes back.

    Raises:
        UnavailableError: Nobody answers, or the server breaks off (``tls.unreachable``, ``tls.timeout``).
        VerificationError: The handshake failed (``tls.handshake``), or the server's certificate does not lead to an
            accepted root (``tls.server_certificate``).
    """

    def __init__(
        self,
        address: Address,
        context: SSL.Context,
        *,
        timeout_s: float = TIMEOUT_S,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._monotonic_s = monotonic_s
        self._deadline_s = monotonic_s() + timeout_s
        self._pipe = TlsPipe(context, server_name=address.host)
        try:
            self._socket = socket.create_connection((address.host, address.port), timeout=timeout_s)
        except OSError as error:
            raise UnavailableError(
                f"{address} does not answer: {error.strerror or 'timed out'}", code="tls.unreachable"
            ) from None
        try:
            while not self._pipe.handshake():
                self._flush()
                self._receive()
            self._flush()
        except BaseException:
            self._socket.close()
            raise

    @property
    def peer_certificate(self) -> bytes:
        """DER of the server's certificate, whose key it has proved to hold.

        Raises:
            UnavailableError: The server showed none.
        """
        certificate = self._pipe.peer_certificate
        if certificate is None:
            raise UnavailableError(f"{self._address} shows no certificate", code="tls.no_certificate")
        return certificate

    def write(self, plaintext: bytes) -> None:
        """Sends.

        Raises:
            UnavailableError: The server went away.
        """
        self._pipe.write(plaintext)
        self._flush()

    def read_exactly(self, size: int) -> bytes:
        """Receives exactly `size` bytes.

        Raises:
            FormatError: The server ended the connection before that (``tls.truncated``).
            VerificationError: The connection was altered (``tls.broken``).
            UnavailableError: The server went away or is too slow (``tls.unreachable``, ``tls.timeout``).
        """
        content = bytearray()
        while len(content) < size:
            part = self._pipe.read(size - len(content))
            if part is None:
                self._receive()
            elif part:
                content += part
            else:
                raise FormatError(f"{self._address} sent {len(content)} of {size} bytes", code="tls.truncated")
        return bytes(content)

    def _flush(self) -> None:
        try:
            self._socket.settimeout(self._left_s())
            self._socket.sendall(self._pipe.to_send())
        except OSError as error:
            raise self._gone(error) from None

    def _receive(self) -> None:
        try:
            self._socket.settimeout(self._left_s())
            ciphertext = self._socket.recv(_CHUNK)
        except OSError as error:
            raise self._gone(error) from None
        if not ciphertext:
            raise UnavailableError(f"{self._address} broke off the connection", code="tls.unreachable")
        self._pipe.receive(ciphertext)

    def _left_s(self) -> float:
        left_s = self._deadline_s - self._monotonic_s()
        if left_s <= 0:
            raise TimeoutError
        return left_s

    def _gone(self, error: OSError) -> UnavailableError:
        if isinstance(error, TimeoutError):
            return UnavailableError(f"{self._address} is too slow", code="tls.timeout")
        return UnavailableError(f"{self._address} broke off: {error.strerror}", code="tls.unreachable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.close()
        try:
            self._flush()
        except UnavailableError:
            pass  # it went away first
        finally:
            self._socket.close()
