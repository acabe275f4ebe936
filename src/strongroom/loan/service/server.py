"""Runs the service on one socket and ends it gently: SIGTERM stops new work and lets running work finish."""

import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

import structlog
import uvicorn
from starlette.types import ASGIApp

from strongroom.broker.connections import timed_connections
from strongroom.errors import ConfigurationError, UnavailableError
from strongroom.loan.service.app import create_app
from strongroom.loan.service.parts import LoanService
from strongroom.loan.service.problems import Problem
from strongroom.loan.service.settings import ServiceSettings
from strongroom.loan.service.tls import TlsMaterial, server_context

DEFAULT_PORT: Final = 5000
KEEP_ALIVE_S: Final = 75
BACKLOG: Final = 256
MAX_CONNECTIONS: Final = 512
MAX_HEAD_BYTES: Final = 32 << 10
_BUSY: Final = Problem(503, "service.connections", "too many connections at once", hint="try again in a moment")
START_TIMEOUT_S: Final = 30.0
AFTER_CANCEL_S: Final = 5

log: Any = structlog.get_logger("strongroom.loan.service")


@dataclass(frozen=True, slots=True)
class Listen:
    """Where and how the service listens.

    Args:
        host: Address.
        port: TCP port; 0 lets the system choose.
        tls: Certificate and key; None: plain HTTP, which everybody on the way can read.
        ready_file: Gets the URL as its only line when connections are accepted.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    tls: TlsMaterial | None = None
    ready_file: Path | None = None


def serve(settings: ServiceSettings, listen: Listen) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: Of the service.
        listen: Where.

    Raises:
        ConfigurationError: The address can't be bound, or certificate and key don't work together.
    """
    context = server_context(listen.tls) if listen.tls is not None else None
    with listening(listen.host, listen.port) as listener:
        service = LoanService(settings)
        try:
            service.start()
            url = url_of(listener, tls=context is not None)
            config = _config(create_app(service), settings, context)
            server = ServiceServer(config, lambda: _announce(url, listen), lambda: _drain(service))
            with _signals_end_here():
                server.run(sockets=[listener])
        finally:
            service.close()
    log.info("service.stopped")


@contextmanager
def _signals_end_here() -> Iterator[None]:
    """Let us tidy up after the server: at its end uvicorn raises again the signal that ended it."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _drain(service: LoanService) -> None:
    """Not ready, no new jobs; running jobs get the drain time."""
    service.drain()
    cancel = threading.Timer(service.settings.limits.drain_s, service.board.cancel_all)
    cancel.daemon = True
    cancel.start()


def _announce(url: str, listen: Listen) -> None:
    log.info("service.ready", url=url, tls=listen.tls is not None)
    if listen.ready_file is not None:
        fresh = listen.ready_file.with_name(listen.ready_file.name + ".new")
        fresh.write_text(url + "\n", encoding="ascii")
        fresh.replace(listen.ready_file)


class ServiceServer(uvicorn.Server):
    """A uvicorn server that says when it is ready and when it begins to end.

    Args:
        config: Its configuration.
        on_ready: Called once, when connections are accepted.
        on_end: Called once, from a thread of its own, when a signal asks for the end.
    """

    def __init__(
        self, config: uvicorn.Config, on_ready: Callable[[], None], on_end: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._on_end = on_end

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: accept no new connections, and drain. A second one does not hurry it."""
        if self.should_exit:
            return
        self.should_exit = True
        # Not here: the handler may have interrupted a holder of the locks that draining needs.
        threading.Thread(target=self._on_end, name="loan-drain").start()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def _config(app: ASGIApp, settings: ServiceSettings, context: ssl.SSLContext | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=timed_connections(
            settings.limits.head_s, MAX_CONNECTIONS, _BUSY.response()
        ),  # h11: bounds a head's length
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # an address is what the socket says, not what a header claims
        lifespan="off",
        ws="none",
        interface="asgi3",
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.limits.drain_s) + AFTER_CANCEL_S,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket.

    Args:
        host: Address.
        port: TCP port; 0 lets the system choose.

    Yields:
        The socket.

    Raises:
        ConfigurationError: The address can't be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}",
            code="loan.address",
            hint="choose another --host or --port",
        ) from None
    with listener:
        yield listener


def url_of(listener: socket.socket, *, tls: bool) -> str:
    """URL of a listening socket; localhost where it listens on a loopback or on every address."""
    host, port = listener.getsockname()[:2]
    name = "localhost" if host in {"0.0.0.0", "::", "127.0.0.1", "::1"} else host  # noqa: S104 -- compared, not bound
    return f"{'https' if tls else 'http'}://{f'[{name}]' if ':' in name else name}:{port}"


@contextmanager
def serving(service: LoanService, tls: TlsMaterial | None = None) -> Iterator[str]:
    """Serve from a thread, on a free loopback port; starts the service and leaves closing it to the caller.

    Args:
        service: Its parts.
        tls: Certificate and key; None: plain HTTP.

    Yields:
        The URL.

    Raises:
        UnavailableError: It does not start.
    """
    ready = threading.Event()
    context = server_context(tls) if tls is not None else None
    with listening("127.0.0.1", 0) as listener:
        service.start()
        server = ServiceServer(_config(create_app(service), service.settings, context), ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            if not ready.wait(START_TIMEOUT_S):
                raise UnavailableError("the service does not start", code="loan.start")
            yield url_of(listener, tls=tls is not None)
        finally:
            server.should_exit = True
            thread.join(START_TIMEOUT_S)
