"""TensorFlow Serving's configuration files: protobuf's text format, strict, bounded.

Sources: tensorflow_serving/config/{model_server_config,monitoring_config}.proto and
servables/tensorflow/session_bundle_config.proto (BatchingParameters).
"""

from dataclasses import replace
from types import MappingProxyType
from typing import Any, Final

from google.protobuf import text_format
from google.protobuf.message import Message

from strongroom.errors import ConfigurationError
from strongroom.serving.models.limits import BatchingLimits
from strongroom.serving.models.policy import ALL_VERSIONS, ModelSettings, VersionPolicy
from strongroom.serving.wire.tensorflow import BatchingParameters, ModelServerConfig, MonitoringConfig

MAX_BYTES: Final = 1024 * 1024
MAX_MODELS: Final = 1000
DEFAULT_METRICS_PATH: Final = "/monitoring/prometheus/metrics"


def parse_model_config(raw: bytes) -> Message:
    """A ModelServerConfig from ``--model_config_file``.

    Raises:
        ConfigurationError: Not this message.
    """
    return _parse(raw, ModelServerConfig(), "model config")


def models_from_config(config: Any, defaults: ModelSettings) -> list[ModelSettings]:
    """What a ModelServerConfig asks for.

    Args:
        config: The message, from a file or a reload request.
        defaults: Limits and batching for every model; its name and path are not used.

    Raises:
        ConfigurationError: No models, names twice, missing fields.
    """
    models = [_settings(entry, defaults) for entry in config.model_config_list.config]
    names = [model.name for model in models]
    if not models or len(models) > MAX_MODELS:
        raise ConfigurationError("a model config must list between 1 and 1000 models", code="serving.config")
    if len(set(names)) != len(names):
        raise ConfigurationError("a model config names a model twice", code="serving.config")
    return models


def parse_batching(raw: bytes) -> BatchingLimits:
    """BatchingParameters from ``--batching_parameters_file``. Absent fields have TensorFlow Serving's defaults.

    Raises:
        ConfigurationError: Not this message, or numbers that make no sense.
    """
    message: Any = _parse(raw, BatchingParameters(), "batching parameters")
    limits = BatchingLimits()
    fields = {
        "max_batch_size": "max_batch_size",
        "batch_timeout_micros": "timeout_us",
        "max_enqueued_batches": "max_enqueued_batches",
        "num_batch_threads": "threads",
        "enable_large_batch_splitting": "split",
    }
    for theirs, ours in fields.items():
        if message.HasField(theirs):
            limits = replace(limits, **{ours: getattr(message, theirs).value})
    sizes = tuple(message.allowed_batch_sizes)
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != limits.max_batch_size):
        raise ConfigurationError("allowed_batch_sizes must grow and end with max_batch_size", code="serving.batching")
    if min(limits.max_batch_size, limits.max_enqueued_batches, limits.threads) < 1 or limits.timeout_us < 0:
        raise ConfigurationError("batching parameters must be positive", code="serving.batching")
    if message.pad_variable_length_inputs:
        raise ConfigurationError("pad_variable_length_inputs is not supported", code="serving.batching")
    return replace(limits, allowed_sizes=sizes)


def parse_monitoring(raw: bytes) -> str:
    """Path of the metrics page from ``--monitoring_config_file``; empty when it is not enabled.

    Raises:
        ConfigurationError: Not this message, or a path that is none.
    """
    message: Any = _parse(raw, MonitoringConfig(), "monitoring config")
    if not message.prometheus_config.enable:
        return ""
    path: str = message.prometheus_config.path or DEFAULT_METRICS_PATH
    if not path.startswith("/"):
        raise ConfigurationError("the metrics path must begin with /", code="serving.monitoring")
    return path


def _settings(entry: Any, defaults: ModelSettings) -> ModelSettings:
    if not entry.name or not entry.base_path:
        raise ConfigurationError("a model config entry needs a name and a base_path", code="serving.config")
    if entry.model_platform not in {"", "tensorflow"}:
        raise ConfigurationError(
            f"model_platform {entry.model_platform!r} is unknown",
            code="serving.config",
            hint='leave it, or "tensorflow"',
        )
    return replace(
        defaults,
        name=entry.name,
        base_path=entry.base_path.rstrip("/"),
        policy=_policy(entry.model_version_policy),
        labels=MappingProxyType(dict(entry.version_labels)),
    )


def _policy(message: Any) -> VersionPolicy:
    choice = message.WhichOneof("policy_choice")
    if choice == "all":
        return ALL_VERSIONS
    if choice == "specific":
        if not message.specific.versions:
            raise ConfigurationError("a specific version policy names no version", code="serving.config")
        return VersionPolicy(latest=None, specific=frozenset(message.specific.versions))
    return VersionPolicy(latest=message.latest.num_versions or 1)


def _parse(raw: bytes, message: Message, what: str) -> Message:
    if len(raw) > MAX_BYTES:
        raise ConfigurationError(f"the {what} is larger than {MAX_BYTES} bytes", code="serving.config")
    try:
        return text_format.Parse(raw.decode("utf-8"), message)
    except (text_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        where = f"line {error.GetLine()}" if isinstance(error, text_format.ParseError) else "it is no text"
        raise ConfigurationError(f"the {what} is malformed: {where}", code="serving.config") from None
