"""`strongroom serve`: the model server, with TensorFlow Serving's options."""

import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer
from typer.core import TyperCommand

from strongroom.errors import ConfigurationError

if TYPE_CHECKING:
    from strongroom.serving.config.toml import ServingFile
    from strongroom.serving.identity import AttestedIdentity
    from strongroom.serving.models.policy import ModelSettings
    from strongroom.serving.models.storage import ModelStorage
    from strongroom.serving.server import ModelServer, ServerOptions

MAX_CONFIG_BYTES: Final = 1024 * 1024
FLAGS: Final = frozenset({"enable_batching", "allow_reload_requests"})
SWITCH_S: Final = 0.0001
GARBAGE_OBJECTS: Final = 10_000  # Python's 700 is one collection every few requests
PINNED_NAME: Final = "strongroom"  # a DNS name for clients that pin the key but must compare some name
PLAINTEXT_WARNING: Final = "warning: models are read in the clear; whoever owns this machine can read and change them"
EPILOG: Final = """Examples:

\b
  strongroom serve --model_name loan --model_base_path models/loan --attested_tls models.example
  strongroom serve --model_config_file models.config --ssl_config_file ssl.cfg --enable_batching
  strongroom serve --config serving.toml
  strongroom serve --dangerous_plaintext_models ./models --model_name resnet --model_base_path resnet

Runs inside a workload (`strongroom workload run`): models and configuration files are sealed files below its mounts.
"""


def _option(name: str, **settings: Any) -> Any:
    """An option under TensorFlow Serving's name and under the usual spelling with dashes."""
    return typer.Option(*dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}")), **settings)


class FlagsWithValues(TyperCommand):
    """Takes ``--enable_batching=true``, as TensorFlow Serving's users write it, beside ``--enable_batching``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Turn such flags into plain ones."""
        return super().parse_args(ctx, [plain for argument in args for plain in _plain_flag(argument)])


def _plain_flag(argument: str) -> tuple[str, ...]:
    name, given, value = argument.partition("=")
    if not given or name.removeprefix("--").replace("-", "_") not in FLAGS or value not in {"true", "false"}:
        return (argument,)
    return (name,) if value == "true" else ()


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command(
    cls=FlagsWithValues,
    epilog=EPILOG,
    help="Serve models over TensorFlow Serving's API and the Open Inference Protocol.",
)
def serve(
    port: Annotated[int, _option("port", min=0, max=65535, help="Port of gRPC; 0 for none.")] = 8500,
    rest_api_port: Annotated[int, _option("rest_api_port", min=0, max=65535, help="Port of REST; 0 for none.")] = 8501,
    model_name: Annotated[str, _option("model_name", help="Name of the one model.")] = "default",
    model_base_path: Annotated[str, _option("model_base_path", help="Its folder of numbered versions.")] = "",
    model_config_file: Annotated[str, _option("model_config_file", help="ModelServerConfig, text protobuf.")] = "",
    ssl_config_file: Annotated[str, _option("ssl_config_file", help="SSLConfig, text protobuf.")] = "",
    attested_tls: Annotated[
        list[str] | None, _option("attested_tls", help="TLS with a quote in the certificate; a name in it. Repeatable.")
    ] = None,
    client_ca_file: Annotated[
        str, _option("client_ca_file", help="With attested TLS: PEM authorities of the only clients, two-way TLS.")
    ] = "",
    quote_renew_seconds: Annotated[float, _option("quote_renew_seconds", min=60, help="Age of a new quote.")] = 3600.0,
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
    grpc_max_threads: Annotated[
        int | None, _option("grpc_max_threads", min=1, help="gRPC worker threads [default: few; many with batching].")
    ] = None,
    rest_api_num_threads: Annotated[int, _option("rest_api_num_threads", min=1, help="REST worker threads.")] = 16,
    rest_api_timeout_in_ms: Annotated[int, _option("rest_api_timeout_in_ms", min=1, help="Limit of a call.")] = 30_000,
    host: Annotated[str, _option("host", help="IP address to listen on.")] = "127.0.0.1",
    max_concurrency: Annotated[int, _option("max_concurrency", min=1, help="Predictions of a model at once.")] = 2,
    max_queue: Annotated[int, _option("max_queue", min=0, help="Requests of a model that may wait.")] = 256,
    precision: Annotated[str, _option("precision", help="f32, or bf16 (OpenVINO).")] = "f32",
    drain_seconds: Annotated[float, _option("drain_seconds", min=0, help="For requests under way at the end.")] = 30.0,
    allow_reload_requests: Annotated[
        bool, _option("allow_reload_requests", help="Obey HandleReloadConfigRequest from any caller.")
    ] = False,
    broker_wait_seconds: Annotated[
        float, _option("broker_wait_seconds", min=0, help="How long to wait for a broker that does not answer.")
    ] = 60.0,
    config: Annotated[str, _option("config", help="TOML with all of this and more for each model.")] = "",
    dangerous_plaintext_models: Annotated[
        Path | None,
        _option("dangerous_plaintext_models", help="Development: unsealed files of this folder, outside any room."),
    ] = None,
) -> None:
    """Serve models over TensorFlow Serving's API and the Open Inference Protocol.

    Raises:
        ConfigurationError: An option or a configuration file is wrong.
    """
    from strongroom.serving.config.text import parse_batching, parse_monitoring
    from strongroom.serving.http.app import HttpLimits
    from strongroom.serving.models.limits import BatchingLimits, ModelLimits
    from strongroom.serving.models.policy import ModelSettings
    from strongroom.serving.rpc.server import RpcLimits
    from strongroom.serving.server import ServerOptions

    if config and (model_base_path or model_config_file or ssl_config_file or attested_tls or client_ca_file):
        raise ConfigurationError("--config says it all: models and TLS stand in the file", code="serving.config")
    if batching_parameters_file and not enable_batching:
        raise ConfigurationError("--batching_parameters_file goes with --enable_batching", code="serving.batching")
    stop = _stop_on_signals()
    storage = _storage(dangerous_plaintext_models, stop, broker_wait_seconds)
    if config:
        _run_file(_read_file(storage, config), storage, stop)
        return
    batching: BatchingLimits | None = BatchingLimits(threads=max_concurrency) if enable_batching else None
    if enable_batching and batching_parameters_file:
        batching = parse_batching(_read(storage, batching_parameters_file))
    defaults = ModelSettings("", "", limits=ModelLimits(max_concurrency, max_queue), batching=batching)
    options = ServerOptions(
        models=_models(storage, model_config_file, model_name, model_base_path, defaults),
        defaults=defaults,
        host=host,
        grpc_port=port or None,
        rest_port=rest_api_port or None,
        metrics_path=parse_monitoring(_read(storage, monitoring_config_file)) if monitoring_config_file else "",
        poll_wait_s=file_system_poll_wait_seconds,
        drain_s=drain_seconds,
        reloadable=allow_reload_requests,
        rpc=RpcLimits(threads=grpc_max_threads or _rpc_threads(max_concurrency, batched=batching is not None)),
        http=HttpLimits(threads=rest_api_num_threads, timeout_s=rest_api_timeout_in_ms / 1000),
    )
    tls = _TlsChoice(ssl_config_file, tuple(attested_tls or ()), quote_renew_seconds, client_ca_file)
    _run(options, storage, tls, stop, _precision(precision))


class _TlsChoice:
    """Plain, ssl.cfg, or attested; attested TLS may demand client certificates, too."""

    def __init__(self, ssl_config_file: str, names: tuple[str, ...], renew_s: float, client_ca_file: str) -> None:
        if ssl_config_file and names:
            raise ConfigurationError("TLS is either attested or from ssl.cfg", code="serving.tls")
        if client_ca_file and not names:
            raise ConfigurationError(
                "client_ca_file goes with attested TLS; ssl.cfg has its own", code="serving.tls", hint="custom_ca"
            )
        self._client_ca_file = client_ca_file
        self._file = ssl_config_file
        self._names = names
        self._renew_s = renew_s

    def identity(self) -> "AttestedIdentity | None":
        """The attested key, when TLS is to be attested."""
        if not self._names:
            return None
        from strongroom.broker.certificates import general_name
        from strongroom.composition import find_platform, room_settings
        from strongroom.ratls.certificate import attested_certificate
        from strongroom.serving.identity import AttestedIdentity
        from strongroom.workload import load_workload

        settings = room_settings()
        platform = find_platform(settings, load_workload(settings.workload))
        names = [general_name(name) for name in (*self._names, PINNED_NAME)]
        return AttestedIdentity(
            lambda: attested_certificate(platform, kind="p256", names=names), self._renew_s, time.monotonic
        )

    def tls(self, storage: "ModelStorage", identity: "AttestedIdentity | None") -> Any:
        """The TLS of both ports, or None for plaintext."""
        from dataclasses import replace

        from strongroom.formats.ssl_config import parse_ssl_config
        from strongroom.serving.config.tls import Tls, TlsMaterial

        if identity is not None and not self._client_ca_file:
            return Tls(identity.material)
        if identity is not None:
            return Tls(lambda: replace(identity.material(), client_ca=_read(storage, self._client_ca_file)))
        if not self._file:
            return None
        return Tls(lambda: TlsMaterial.from_ssl_config(parse_ssl_config(_read(storage, self._file))))


def _read(storage: "ModelStorage", path: str) -> bytes:
    """A configuration file, from where the models are.

    Raises:
        ConfigurationError: It is too large.
    """
    with storage.open(path) as file:
        raw = file.read(MAX_CONFIG_BYTES + 1)
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigurationError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes", code="serving.config")
    return raw


def _read_file(storage: "ModelStorage", path: str) -> "ServingFile":
    from strongroom.serving.config.toml import parse_serving_file

    return parse_serving_file(_read(storage, path))


def _models(
    storage: "ModelStorage", config_file: str, name: str, base_path: str, defaults: "ModelSettings"
) -> tuple["ModelSettings", ...]:
    from dataclasses import replace

    from strongroom.serving.config.text import models_from_config, parse_model_config

    if config_file:
        return tuple(models_from_config(parse_model_config(_read(storage, config_file)), defaults))
    if not base_path:
        raise ConfigurationError(
            "no model to serve", code="serving.config", hint="--model_base_path, --model_config_file or --config"
        )
    return (replace(defaults, name=name, base_path=base_path.rstrip("/")),)


def _storage(plaintext: Path | None, stop: threading.Event, wait_s: float) -> "ModelStorage":
    from strongroom.cli.loan_models import LoanCatalogs
    from strongroom.serving.models.storage import DangerousPlaintextFolder, SealedModels

    if plaintext is not None:
        _say(PLAINTEXT_WARNING)
        return LoanCatalogs(DangerousPlaintextFolder(plaintext))
    from strongroom.cli.serving_room import RenewingRoom, enter_when_possible
    from strongroom.composition import enter, room_settings

    settings = room_settings()
    room = enter_when_possible(enter, stop, wait_s, time.monotonic)
    return LoanCatalogs(SealedModels(RenewingRoom(room, enter).open, settings.storage))


def _run_file(file: "ServingFile", storage: "ModelStorage", stop: threading.Event) -> None:
    from strongroom.serving.rpc.server import RpcLimits
    from strongroom.serving.server import ServerOptions

    options = ServerOptions(
        models=tuple(model.settings() for model in file.models),
        host=file.host,
        grpc_port=file.port or None,
        rest_port=file.rest_api_port or None,
        metrics_path=file.metrics_path,
        poll_wait_s=file.poll_wait_s,
        drain_s=file.drain_s,
        reloadable=file.allow_reload_requests,
        rpc=RpcLimits(
            threads=_rpc_threads(
                sum(model.concurrency for model in file.models),
                batched=any(model.batching is not None for model in file.models),
            )
        ),
    )
    tls = _TlsChoice(file.ssl_config_file, tuple(file.attested_tls), file.quote_renew_s, file.client_ca_file)
    _run(options, storage, tls, stop, file.precision)


def _run(
    options: "ServerOptions",
    storage: "ModelStorage",
    choice: _TlsChoice,
    stop: threading.Event,
    precision: Literal["f32", "bf16"],
) -> None:
    from strongroom.cli.engines import engine_makers
    from strongroom.serving.models.heap import bound_heap
    from strongroom.serving.server import ModelServer

    if options.grpc_port is None and options.rest_port is None:
        raise ConfigurationError("neither gRPC nor REST has a port", code="serving.ports")
    bound_heap()
    _configure_logging()
    identity = choice.identity()
    tls = choice.tls(storage, identity)
    server = ModelServer(options, storage, engine_makers(precision), tls, identity)
    try:
        _start(server)
        how = "attested TLS" if identity else "TLS" if tls else "no TLS"
        _say(f"serving: gRPC port {server.grpc_port or 'none'}, REST port {server.rest_port or 'none'}, {how}")
        while not stop.wait(options.poll_wait_s or 60):
            if tls is not None:
                tls.renew()
    finally:
        server.drain()


def _start(server: "ModelServer") -> None:
    """Start; a model that can't be loaded yet is reported and tried again, readiness waits for it."""
    import gc

    from strongroom.serving.status import Refused

    # Two threads read from the network, one for each API. One that works lets the other wait at most this long.
    sys.setswitchinterval(SWITCH_S)
    try:
        server.start()
    except Refused as error:
        _say(f"warning: {error.message}; trying again")
    gc.collect()
    gc.freeze()  # what is loaded stays: no need to look at it again and again
    gc.set_threshold(GARBAGE_OBJECTS)


def _rpc_threads(concurrency: int, *, batched: bool) -> int:
    """Requests that wait for a batch hold a thread; otherwise a few more than can run are quickest."""
    return 64 if batched else max(8, 2 * concurrency)


def _precision(text: str) -> Literal["f32", "bf16"]:
    if text == "f32":
        return "f32"
    if text == "bf16":
        return "bf16"
    raise ConfigurationError("the precision is f32 or bf16", code="serving.precision")


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


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
