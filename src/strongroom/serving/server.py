"""The model server: everything wired, started, made ready, drained."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc
import structlog

from strongroom.serving.config.text import models_from_config
from strongroom.serving.config.tls import Tls
from strongroom.serving.engines import EngineMaker
from strongroom.serving.http.app import App, HttpLimits
from strongroom.serving.http.confidential import ConfidentialRest
from strongroom.serving.http.dispatch import Dispatcher
from strongroom.serving.http.exchange import Handler
from strongroom.serving.http.monitoring import Monitoring
from strongroom.serving.http.server import HttpServer
from strongroom.serving.http.tensorflow import TensorFlowRest
from strongroom.serving.http.v2 import InferenceV2Rest
from strongroom.serving.identity import AttestedIdentity
from strongroom.serving.inference import Inference
from strongroom.serving.metrics import Metrics
from strongroom.serving.models.policy import ModelSettings
from strongroom.serving.models.repository import Repository
from strongroom.serving.models.storage import ModelStorage
from strongroom.serving.receipts import Receipts
from strongroom.serving.rpc.calls import Caller
from strongroom.serving.rpc.confidential import ConfidentialService
from strongroom.serving.rpc.health import SERVICE as HEALTH
from strongroom.serving.rpc.health import Health
from strongroom.serving.rpc.reflection import Reflection
from strongroom.serving.rpc.server import RpcLimits, bind, make_server
from strongroom.serving.rpc.tensorflow import TensorFlowServices
from strongroom.serving.rpc.v2 import InferenceV2Service
from strongroom.serving.status import Refused, Status, where

log: Any = structlog.get_logger("strongroom.serving")


@dataclass(frozen=True)
class ServerOptions:
    """What a server is told. Ports: None for not at all, 0 for a free one.

    Args:
        models: What to serve.
        defaults: Limits and batching for models that a reload request names.
        host: Address to listen on.
        grpc_port: Port of gRPC.
        rest_port: Port of REST.
        metrics_path: Path of the metrics page; empty for none.
        poll_wait_s: Seconds between looks at the storage; 0 to look once.
        drain_s: How long requests under way may take at the end.
        reloadable: Whether callers may send a reload request. Off by default: who reaches the port could ask for any
            folder of the storage.
        rpc: Bounds of gRPC.
        http: Bounds of REST.
    """

    models: tuple[ModelSettings, ...]
    defaults: ModelSettings = field(default_factory=lambda: ModelSettings("", ""))
    host: str = "127.0.0.1"
    grpc_port: int | None = 8500
    rest_port: int | None = 8501
    metrics_path: str = ""
    poll_wait_s: float = 1.0
    drain_s: float = 30.0
    reloadable: bool = False
    rpc: RpcLimits = field(default_factory=RpcLimits)
    http: HttpLimits = field(default_factory=HttpLimits)


class ModelServer:
    """gRPC and REST over one repository.

    Args:
        options: What it is told.
        storage: Where models are.
        makers: The engines, the preferred first.
        tls: TLS for both ports, or None for plaintext.
        identity: Attested key for receipts and sealed requests, or None for neither.

    Raises:
        UnavailableError: A port is taken.
    """

    def __init__(
        self,
        options: ServerOptions,
        storage: ModelStorage,
        makers: Sequence[EngineMaker],
        tls: Tls | None = None,
        identity: AttestedIdentity | None = None,
    ) -> None:
        self._options = options
        self._identity = identity
        self._receipts = None if identity is None else Receipts(identity, lambda: datetime.now(UTC))
        self._stop = threading.Event()
        self.metrics = Metrics()
        self.repository = Repository(storage, makers, drain_timeout_s=options.drain_s)
        self.inference = Inference(self.repository, self.metrics)
        self.health = Health(self.repository, max(1, options.rpc.threads // 4))
        self.metrics.gauge("ready", lambda: float(self.health.ready))
        self._grpc, self.grpc_port = self._make_grpc(tls)
        self._http = self._make_http(tls)
        self.rest_port = None if self._http is None else self._http.port
        self._poller = threading.Thread(target=self._poll, name="poll", daemon=True)

    def _make_grpc(self, tls: Tls | None) -> tuple[Any, int | None]:
        if self._options.grpc_port is None:
            return None, None
        server = make_server(self._grpc_handlers(), self._options.rpc)
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host
        credentials = None if tls is None else tls.grpc_credentials()
        return server, bind(server, f"{host}:{self._options.grpc_port}", credentials)

    def _grpc_handlers(self) -> list[grpc.GenericRpcHandler]:
        caller = Caller(self.metrics, self._receipts)
        services = {
            **TensorFlowServices(self.inference, self._reload).services(),
            **InferenceV2Service(self.inference, self.health).services(),
        }
        self.health.know(services)
        handlers = [caller.handler(name, methods) for name, methods in services.items()]
        handlers += self.health.handlers(caller)
        handlers += Reflection((*services, HEALTH)).handlers()
        if self._identity is not None:
            inside = {f"/{name}/{method}": one for name, methods in services.items() for method, one in methods.items()}
            handlers += ConfidentialService(self._identity, caller, inside).handlers()
        return handlers

    def _make_http(self, tls: Tls | None) -> HttpServer | None:
        if self._options.rest_port is None:
            return None
        monitoring = Monitoring(self.metrics, lambda: self.health.ready, self._options.metrics_path)
        apis: list[Handler] = [TensorFlowRest(self.inference), InferenceV2Rest(self.inference, self.health)]
        outside: list[Handler] = [*apis, monitoring]
        if self._identity is not None:
            outside.append(ConfidentialRest(self._identity, Dispatcher(apis, self._receipts)))
        app = App(Dispatcher(outside, self._receipts), self._options.http, self.metrics, self.repository.quick)
        context = None if tls is None else tls.context()
        return HttpServer(app, self._options.host, self._options.rest_port, context, drain_s=self._options.drain_s)

    def start(self) -> None:
        """Accept connections, then load the models; readiness says when they answer.

        Raises:
            Refused: A model has no version that can be served. The server runs on and keeps trying: the storage or
                the broker may come back.
            UnavailableError: The REST server did not start.
        """
        if self._grpc is not None:
            self._grpc.start()
        if self._http is not None:
            self._http.start()
        try:
            self.repository.configure(self._options.models)
        finally:
            if self._options.poll_wait_s > 0:
                self._poller.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until every model answers.

        Returns:
            Whether they do.
        """
        until = time.monotonic() + timeout_s
        while not self.health.ready:
            if time.monotonic() > until or self._stop.wait(0.02):
                return False
        return True

    def drain(self) -> None:
        """Say NOT_SERVING, take nothing new, finish what is under way, drop the models."""
        self.health.drain()
        self._stop.set()
        log.info("draining")
        stopped = None if self._grpc is None else self._grpc.stop(self._options.drain_s)
        if self._http is not None:
            self._http.stop(self._options.drain_s)
        if stopped is not None:
            stopped.wait(self._options.drain_s)
        self.repository.close()

    def _reload(self, config: Any) -> None:
        if not self._options.reloadable:
            raise Refused(Status.PERMISSION_DENIED, "this server does not take reload requests")
        self.repository.configure(models_from_config(config, self._options.defaults))

    def _poll(self) -> None:
        while not self._stop.wait(self._options.poll_wait_s):
            _survive(self.repository.poll)


def _survive(work: Callable[[], None]) -> None:
    """The poller must outlive anything the storage does."""
    try:
        work()
    except Exception as error:  # whatever the storage does
        log.warning("looking at the storage failed", error=type(error).__name__, where=where(error))
