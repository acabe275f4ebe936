"""The REST server: uvicorn in a thread of its own."""

import logging
import math
import socket
import ssl
import threading
from typing import Any

import uvicorn

from strongroom.errors import UnavailableError
from strongroom.serving.http.app import App
from strongroom.serving.http.protocol import BoundedProtocol

_START_TIMEOUT_S = 10.0


class HttpServer:
    """Listens at once, serves from `start` to `stop`.

    Args:
        app: The application.
        host: Address to listen on.
        port: 0 takes a free one.
        context: TLS, or None for plaintext.
        connections: At most so many connections and requests at once; more get 503.
        drain_s: How long requests under way may take at the end.

    Raises:
        UnavailableError: The address is taken or not ours.
    """

    def __init__(
        self,
        app: App,
        host: str,
        port: int,
        context: ssl.SSLContext | None,
        connections: int = 1024,
        drain_s: float = 30.0,
    ) -> None:
        self._app = app
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            app,
            loop=_loop(),
            http=BoundedProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            limit_concurrency=connections,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=math.ceil(drain_s),
            ssl_context_factory=None if context is None else lambda _config, _default: context,
        )
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._run, name="rest-server", daemon=True)

    def start(self) -> None:
        """Begin to accept.

        Raises:
            UnavailableError: It did not start.
        """
        self._thread.start()
        if not self._server.up.wait(_START_TIMEOUT_S):
            raise UnavailableError("the REST server did not start", code="serving.listen")

    def stop(self, timeout_s: float) -> None:
        """Accept nothing more, let the requests under way finish."""
        self._server.should_exit = True
        self._thread.join(timeout_s)
        self._app.close()
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])


class _Server(uvicorn.Server):
    """Tells another thread when it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError:
        listener.close()
        raise UnavailableError(
            f"can't listen on {host}:{port}", code="serving.listen", hint="is the port taken?"
        ) from None
    return listener


def _loop() -> Any:
    try:
        import uvloop  # noqa: F401  # only asks whether it is here
    except ImportError:
        return "asyncio"
    return "uvloop"
