"""Runs the broker: TLS 1.3 on one socket, clean end on SIGTERM and SIGINT."""

import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from strongroom.broker.app import create_app
from strongroom.broker.collateral_watch import watching
from strongroom.broker.connections import MAX_HEAD_BYTES, timed_connections
from strongroom.broker.denials import INTERVAL_S
from strongroom.broker.folder import BrokerFolder
from strongroom.broker.logs import log, send_server_messages_to_the_log
from strongroom.broker.parts import Parts, open_parts, utc_now
from strongroom.broker.periodic import repeating
from strongroom.broker.problems import UNAVAILABLE, Refusal, to_stranger
from strongroom.broker.provisioning_server import provisioning, provisioning_server
from strongroom.broker.settings import BrokerSettings, load_settings
from strongroom.broker.verifier import VerifierPool, trust
from strongroom.errors import ConfigurationError, UnavailableError

KEEP_ALIVE_S: Final = 15
BACKLOG: Final = 256
START_TIMEOUT_S: Final = 30.0
SIMULATED_WARNING: Final = "this broker believes SIMULATED platforms: it protects nothing, use it for trials only"


def serve(folder: Path, *, ready_file: Path | None = None) -> None:
    """Serve a broker's folder until SIGTERM or SIGINT.

    Args:
        folder: What `create_broker` made.
        ready_file: Written, with the URL as its only line, when the broker accepts connections.

    Raises:
        ConfigurationError: The folder or a setting is wrong, or the address can't be bound.
        UnavailableError: The verifier does not start, or the database's server does not answer.
        VerificationError: The root key is not the one the database was made with.
    """
    send_server_messages_to_the_log()
    files = BrokerFolder(folder)
    values = load_settings(files.settings)
    simulated_root = files.simulated_root if values.allow_simulated else None
    trusted = trust(files.collateral, simulated_root)
    pool = VerifierPool(
        trusted,
        processes=values.verifier_processes,
        timeout_s=values.verification_timeout_s,
    )
    try:
        parts = open_parts(files, values, pool)
        try:
            pool.warm_up()
            with listening(values.host, values.port) as listener:
                url = url_of(listener)
                config = _config(files, values, create_app(parts))
                server = BrokerServer(config, lambda: _announce(url, values, ready_file))
                with (
                    _also_provisioning(parts, files, values),
                    watching(trusted, utc_now),
                    repeating("denials", INTERVAL_S, lambda: parts.denials.flush(utc_now())),
                    _ends_on_signals(server),
                ):
                    server.run(sockets=[listener])
        finally:
            parts.close()
    finally:
        pool.close()
    log.info("broker.stopped")


@contextmanager
def _also_provisioning(parts: Parts, files: BrokerFolder, values: BrokerSettings) -> Iterator[None]:
    """Serve clients of Gramine's secret provisioning too, if the settings name a port for them."""
    if values.provisioning_port is None:
        yield
        return
    service = provisioning_server(parts, files)
    with listening(values.host, values.provisioning_port) as listener, provisioning(service, listener):
        log.info("provisioning.ready", port=listener.getsockname()[1])
        yield


@contextmanager
def _ends_on_signals(server: uvicorn.Server) -> Iterator[None]:
    """Let the first signal end the server, and let us tidy up after it: uvicorn raises the signal again at its end."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _announce(url: str, values: BrokerSettings, ready_file: Path | None) -> None:
    if values.allow_simulated:
        print(f"warning: {SIMULATED_WARNING}", file=sys.stderr)  # noqa: T201 -- for people, not for the log
    log.info("broker.ready", url=url, simulated=values.allow_simulated)
    if ready_file is not None:
        fresh = ready_file.with_name(ready_file.name + ".new")
        fresh.write_text(url + "\n", encoding="ascii")
        fresh.replace(ready_file)


class BrokerServer(uvicorn.Server):
    """A uvicorn server that says when it is ready.

    Args:
        config: Its configuration.
        on_ready: Called once, when connections are accepted.
    """

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def _config(files: BrokerFolder, values: BrokerSettings, app: ASGIApp) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=timed_connections(
            values.head_timeout_s,
            values.max_connections,
            to_stranger(Refusal(UNAVAILABLE, code="limit.connections")),
        ),
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # an address is what the socket says, not what a header claims
        lifespan="off",
        ws="none",
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=values.shutdown_grace_s,
    )
    config.load()
    config.ssl = tls_context(files)
    return config


def tls_context(files: BrokerFolder) -> ssl.SSLContext:
    """TLS 1.3 with the server's certificate.

    Raises:
        ConfigurationError: Certificate or key can't be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(files.server_certificate, files.server_key)
    except (OSError, ssl.SSLError):
        raise ConfigurationError("cannot read the server's certificate and key", code="broker.certificate") from None
    return context


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A listening socket; port 0 lets the system choose.

    Raises:
        ConfigurationError: The address can't be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}", code="broker.address", hint="choose another port"
        ) from None
    with listener:
        yield listener


def url_of(listener: socket.socket) -> str:
    """``https://host:port`` of a listening socket; localhost where it listens on a loopback or on every address."""
    host, port = listener.getsockname()[:2]
    name = "localhost" if host in {"0.0.0.0", "::", "127.0.0.1", "::1"} else host  # noqa: S104 -- compared, not bound
    return f"https://[{name}]:{port}" if ":" in name else f"https://{name}:{port}"


@contextmanager
def serving(app: ASGIApp, files: BrokerFolder, values: BrokerSettings) -> Iterator[str]:
    """Serve an application from a thread, on a free loopback port.

    Args:
        app: See `create_app`.
        files: For the certificate.
        values: Limits.

    Yields:
        The URL.

    Raises:
        UnavailableError: It does not start.
    """
    ready = threading.Event()
    with listening("127.0.0.1", 0) as listener:
        server = BrokerServer(_config(files, values, app), ready.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            if not ready.wait(START_TIMEOUT_S):
                raise UnavailableError("the broker does not start", code="broker.start")
            yield url_of(listener)
        finally:
            server.should_exit = True
            thread.join(START_TIMEOUT_S)
