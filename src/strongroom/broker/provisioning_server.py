"""Serves clients of Gramine's secret provisioning: mutual TLS on a port of its own, in a thread of its own.

Every connection has one deadline for handshake and request and one for taking the answer, and a bounded share of
memory. When all places are taken, the oldest connection that has not yet shown its evidence loses its own: clients
that open connections and say nothing can't keep others out.
"""

import asyncio
import functools
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL

from strongroom.broker.folder import BrokerFolder
from strongroom.broker.logs import log
from strongroom.broker.parts import Parts
from strongroom.errors import ConfigurationError, StrongroomError, UnavailableError, VerificationError
from strongroom.formats.secret_provisioning import REQUEST, parse_request, serialize_response
from strongroom.ratls.stream import CHUNK, TlsStream
from strongroom.ratls.tls import TlsPipe, server_context

START_TIMEOUT_S: Final = 30.0
DECISION_THREADS: Final = 16


@dataclass(frozen=True, slots=True)
class ProvisioningLimits:
    """Bounds of the service.

    Args:
        max_connections: At once.
        handshake_timeout_s: For handshake and request together.
        decision_timeout_s: For the decision, waiting for its turn included.
        answer_timeout_s: For taking the answer.
    """

    max_connections: int
    handshake_timeout_s: float
    decision_timeout_s: float
    answer_timeout_s: float


class ProvisioningServer:
    """The service. `start` it inside an event loop; `stop` ends it and everything it serves.

    Args:
        provide: Decides: DER certificate and server name in, secret out; see `ProvisioningDesk.provide`.
        admit: Called with the client's address before the decision; raises UnavailableError to turn it away.
        context: TLS, see `strongroom.ratls.tls.server_context`.
        limits: Bounds.
    """

    def __init__(
        self,
        provide: Callable[[bytes, str | None], bytes],
        admit: Callable[[str], None],
        context: SSL.Context,
        limits: ProvisioningLimits,
    ) -> None:
        self._provide = provide
        self._admit = admit
        self._context = context
        self._limits = limits
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._unproven: dict[asyncio.Task[None], None] = {}  # in the order they came
        self._threads = ThreadPoolExecutor(DECISION_THREADS, thread_name_prefix="provisioning")
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Accept connections."""
        self._server = await asyncio.start_server(self._accept, sock=listener, limit=CHUNK)

    async def stop(self) -> None:
        """Accept no more, and drop every connection."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self._limits.max_connections and not self._drop_oldest():
            writer.transport.abort()
            log.warning("provisioning.full")
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections[task] = writer
        self._unproven[task] = None
        task.add_done_callback(self._forget)

    def _drop_oldest(self) -> bool:
        oldest = next(iter(self._unproven), None)
        if oldest is None:
            return False
        oldest.cancel()
        self._forget(oldest)
        log.warning("provisioning.dropped_oldest")
        return True

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._unproven.pop(task, None)
        if writer := self._connections.pop(task, None):
            writer.transport.abort()  # here, not in the task: one that is cancelled before it began runs none of it

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = str((writer.get_extra_info("peername") or ("unknown",))[0])
        try:
            await self._converse(TlsStream(reader, writer, TlsPipe(self._context)), address)
            log.info("provisioning.served", client=address)
        except StrongroomError as error:
            log.info("provisioning.refused", client=address, code=error.code)
        except (TimeoutError, OSError) as error:
            log.info("provisioning.gone", client=address, error=type(error).__name__)
        except Exception as error:
            log.error("broker.bug", error=type(error).__name__)

    async def _converse(self, stream: TlsStream, address: str) -> None:
        async with asyncio.timeout(self._limits.handshake_timeout_s):
            await stream.handshake()
            parse_request(await stream.read_exactly(len(REQUEST)))
        certificate = stream.pipe.peer_certificate
        if certificate is None:
            raise VerificationError("the client showed no certificate", code="tls.no_certificate")
        self._proving()
        self._admit(address)
        async with asyncio.timeout(self._limits.decision_timeout_s):
            decide = functools.partial(self._provide, certificate, stream.pipe.server_name)
            secret = await asyncio.get_running_loop().run_in_executor(self._threads, decide)
        async with asyncio.timeout(self._limits.answer_timeout_s):
            await stream.send_last(serialize_response(secret))

    def _proving(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._unproven.pop(task, None)


def provisioning_context(files: BrokerFolder) -> SSL.Context:
    """TLS with the broker's own server certificate.

    Raises:
        ConfigurationError: Certificate or key can't be read or don't belong together.
    """
    try:
        chain = x509.load_pem_x509_certificates(files.server_certificate.read_bytes())
        key = serialization.load_pem_private_key(files.server_key.read_bytes(), None)
    except (OSError, ValueError, TypeError, x509.InvalidVersion):
        raise ConfigurationError("cannot read the server's certificate and key", code="broker.certificate") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ConfigurationError("the server's key is neither EC nor RSA", code="broker.certificate")
    return server_context(chain, key)


def provisioning_server(parts: Parts, files: BrokerFolder) -> ProvisioningServer:
    """The service of a broker, not started yet.

    Raises:
        ConfigurationError: The server's certificate or key can't be read.
    """
    values = parts.settings
    limits = ProvisioningLimits(
        max_connections=values.max_provisioning_connections,
        handshake_timeout_s=values.provisioning_timeout_s,
        decision_timeout_s=values.verification_timeout_s + values.provisioning_timeout_s,
        answer_timeout_s=values.provisioning_timeout_s,
    )
    return ProvisioningServer(parts.provisioning.provide, parts.rate.take, provisioning_context(files), limits)


@contextmanager
def provisioning(server: ProvisioningServer, listener: socket.socket) -> Iterator[None]:
    """Serves from a thread while the block runs.

    Args:
        server: Not started yet.
        listener: Where to listen.

    Raises:
        UnavailableError: It does not start.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=_run, args=(loop,), name="provisioning", daemon=True)
    thread.start()
    try:
        try:
            asyncio.run_coroutine_threadsafe(server.start(listener), loop).result(START_TIMEOUT_S)
        except (OSError, TimeoutError):
            raise UnavailableError("the provisioning service does not start", code="broker.start") from None
        yield
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(START_TIMEOUT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(START_TIMEOUT_S)


def _run(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()
