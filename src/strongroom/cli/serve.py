"""`strongroom serve`: the model server, with TensorFlow Serving's options."""

import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from strongroom.errors import ConfigurationError, StrongroomError

if TYPE_CHECKING:
    from strongroom.serving.config.tls import Tls
    from strongroom.serving.models.policy import ModelSettings
    from strongroom.serving.models.storage import ModelStorage
    from strongroom.serving.server import ModelServer, ServerOptions

MAX_CONFIG_BYTES: Final = 1024 * 1024
PLAINTEXT_WARNING: Final = "warning: models are read in the clear; whoever owns this machine can read and change them"
EPILOG: Final = """Examples:

\b
  strongroom serve --model_name loan --model_base_path models/loan
  strongroom serve --model_config_file models.config --ssl_config_file ssl.cfg --enable_batching
  strongroom serve --dangerous_plaintext_models ./models --model_name resnet --model_base_path resnet

Runs inside a workload (`strongroom workload run`): models and configuration files are sealed files below its mounts.
"""


def _option(*names: str, **settings: Any) -> Any:
    """An option under TensorFlow Serving's name and under the usual spelling with dashes."""
    spellings = [spelling for name in names for spelling in dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}"))]
    return typer.Option(*spellings, **settings)


def serve(
    port: Annotated[int, _option("port", min=0, max=65535, help="Port of gRPC; 0 for none.")] = 8500,
    rest_api_port: Annotated[int, _option("rest_api_port", min=0, max=65535, help="Port of REST; 0 for none.")] = 8501,
    model_name: Annotated[str, _option("model_name", help="Name of the one model.")] = "default",
    model_base_path: Annotated[str, _option("model_base_path", help="Its folder of numbered versions.")] = "",
    model_config_file: Annotated[str, _option("model_config_file", help="ModelServerConfig, text protobuf.")] = "",
    ssl_config_file: Annotated[str, _option("ssl_config_file", help="SSLConfig, text protobuf.")] = "",
    enable_batching: Annotated[bool, _option("enable_batching", help="Put requests together.")] = False,
    batching_parameters_file: Annotated[
        str, _option("batching_parameters_file", help="BatchingParameters, text protobuf.")
    ] = "",
    monitoring_config_file: Annotated[
        str, _option("monitoring_config_file", help="MonitoringConfig, text protobuf.")
    ] = "",
    file_system_poll_wait_seconds: Annotated[
        float, _option("file_system_poll_wait_seconds", min=0, help="Between looks for new versions; 0: once.")
    ] = 1.0,
    grpc_max_threads: Annotated[int, _option("grpc_max_threads", min=1, help="gRPC worker threads.")] = 64,
    rest_api_num_threads: Annotated[int, _option("rest_api_num_threads", min=1, help="REST worker threads.")] = 16,
    rest_api_timeout_in_ms: Annotated[int, _option("rest_api_timeout_in_ms", min=1, help="Limit of a call.")] = 30_000,
    host: Annotated[str, _option("host", help="IP address to listen on.")] = "127.0.0.1",
    max_concurrency: Annotated[int, _option("max_concurrency", min=1, help="Predictions of a model at once.")] = 2,
    max_queue: Annotated[int, _option("max_queue", min=0, help="Requests of a model that may wait.")] = 256,
    drain_seconds: Annotated[float, _option("drain_seconds", min=0, help="For requests under way at the end.")] = 30.0,
    allow_reload_requests: Annotated[
        bool, _option("allow_reload_requests", help="Obey HandleReloadConfigRequest from any caller.")
    ] = False,
    dangerous_plaintext_models: Annotated[
        Path | None,
        _option("dangerous_plaintext_models", help="Development: unsealed files of this folder, outside any room."),
    ] = None,
) -> None:
    """Serve models over TensorFlow Serving's gRPC and REST API.

    Raises:
        ConfigurationError: An option or a configuration file is wrong.
    """
    from strongroom.serving.http.app import HttpLimits
    from strongroom.serving.models.limits import BatchingLimits, ModelLimits
    from strongroom.serving.models.policy import ModelSettings
    from strongroom.serving.rpc.server import RpcLimits
    from strongroom.serving.server import ServerOptions

    if not port and not rest_api_port:
        raise ConfigurationError("neither gRPC nor REST has a port", code="serving.ports")
    storage = _storage(dangerous_plaintext_models)
    files = _Files(storage)
    batching = None
    if enable_batching:
        batching = BatchingLimits(threads=max_concurrency)
        if batching_parameters_file:
            batching = files.batching(batching_parameters_file)
    defaults = ModelSettings("", "", limits=ModelLimits(max_concurrency, max_queue), batching=batching)
    options = ServerOptions(
        models=files.models(model_config_file, model_name, model_base_path, defaults),
        defaults=defaults,
        host=host,
        grpc_port=port or None,
        rest_port=rest_api_port or None,
        metrics_path=files.metrics_path(monitoring_config_file),
        poll_wait_s=file_system_poll_wait_seconds,
        drain_s=drain_seconds,
        reloadable=allow_reload_requests,
        rpc=RpcLimits(threads=grpc_max_threads),
        http=HttpLimits(threads=rest_api_num_threads, timeout_s=rest_api_timeout_in_ms / 1000),
    )
    _run(options, storage, files.tls(ssl_config_file), max_concurrency)


class _Files:
    """Configuration files, read from where the models are."""

    def __init__(self, storage: "ModelStorage") -> None:
        self._storage = storage

    def read(self, path: str) -> bytes:
        with self._storage.open(path) as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
        if len(raw) > MAX_CONFIG_BYTES:
            raise ConfigurationError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes", code="serving.config")
        return raw

    def models(
        self, config_file: str, name: str, base_path: str, defaults: "ModelSettings"
    ) -> tuple["ModelSettings", ...]:
        from dataclasses import replace

        from strongroom.serving.config.text import models_from_config, parse_model_config

        if config_file:
            return tuple(models_from_config(parse_model_config(self.read(config_file)), defaults))
        if not base_path:
            raise ConfigurationError(
                "no model to serve", code="serving.config", hint="--model_base_path or --model_config_file"
            )
        return (replace(defaults, name=name, base_path=base_path.rstrip("/")),)

    def batching(self, path: str) -> Any:
        from strongroom.serving.config.text import parse_batching

        return parse_batching(self.read(path))

    def metrics_path(self, path: str) -> str:
        from strongroom.serving.config.text import parse_monitoring

        return parse_monitoring(self.read(path)) if path else ""

    def tls(self, path: str) -> "Tls | None":
        from strongroom.formats.ssl_config import parse_ssl_config
        from strongroom.serving.config.tls import Tls, TlsMaterial

        if not path:
            return None
        return Tls(lambda: TlsMaterial.from_ssl_config(parse_ssl_config(self.read(path))))


def _storage(plaintext: Path | None) -> "ModelStorage":
    from strongroom.cli.loan_models import LoanCatalogs
    from strongroom.serving.models.storage import DangerousPlaintextFolder, SealedModels

    if plaintext is not None:
        _say(PLAINTEXT_WARNING)
        return LoanCatalogs(DangerousPlaintextFolder(plaintext))
    from strongroom.composition import enter, room_settings

    return LoanCatalogs(SealedModels(enter().open, room_settings().storage))


def _run(options: "ServerOptions", storage: "ModelStorage", tls: "Tls | None", threads: int) -> None:
    from strongroom.cli.engines import engine_makers
    from strongroom.serving.server import ModelServer

    _configure_logging()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server = ModelServer(options, storage, engine_makers(threads), tls)
    try:
        _start(server)
        _say(
            f"serving: gRPC {server.grpc_port or 'off'}, REST {server.rest_port or 'off'}, {'TLS' if tls else 'plain'}"
        )
        while not stop.wait(options.poll_wait_s or 60):
            if tls is not None:
                tls.renew()
    finally:
        server.drain()


def _start(server: "ModelServer") -> None:
    """Start; a model that can't be loaded yet is reported and tried again, readiness waits for it."""
    try:
        server.start()
    except StrongroomError as error:
        _say(f"warning: {error.message}; trying again")


def _configure_logging() -> None:
    import structlog

    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201
