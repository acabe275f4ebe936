"""Our own configuration file: everything the options say, and more of it for each model."""

from types import MappingProxyType
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from strongroom.errors import ConfigurationError
from strongroom.formats.toml import parse_toml
from strongroom.serving.models.limits import BatchingLimits, ModelLimits
from strongroom.serving.models.policy import ALL_VERSIONS, ModelSettings, VersionPolicy

MAX_BYTES: Final = 1024 * 1024
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^/:\x00-\x1f]+$")]
Digest = Annotated[str, Field(pattern=r"^(sha256:)?[0-9a-fA-F]{64}$")]
Positive = Annotated[int, Field(ge=1, le=1_000_000)]
Port = Annotated[int, Field(ge=0, le=65535)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class BatchingTable(_Table):
    """``[models.batching]``."""

    max_batch_size: Positive = 32
    """Rows of one batch."""
    timeout_us: Annotated[int, Field(ge=0, le=60_000_000)] = 500
    """The oldest request waits at most this long for company."""
    max_enqueued_batches: Positive = 100
    """Full batches that may wait; more is refused."""
    threads: Annotated[int, Field(ge=1, le=64)] = 2
    """Batches that run at the same time."""
    allowed_sizes: list[Positive] = []
    """Sizes a batch is padded up to."""
    split: bool = True
    """Whether a request larger than a batch is split."""


class ModelTable(_Table):
    """``[[models]]``."""

    name: Name
    """Name callers use."""
    base_path: Annotated[str, Field(min_length=1)]
    """Folder of numbered versions, below the workload's mounts."""
    engine: str = ""
    """"xgboost", "onnx", "openvino" or "loan"; empty to tell it from the files."""
    versions: Literal["latest", "all"] | list[Positive] = "latest"
    """Which versions are served."""
    latest: Positive = 1
    """How many of the highest, with ``versions = "latest"``."""
    labels: dict[str, Positive] = {}
    """Label to version."""
    digests: dict[str, Digest] = {}
    """Version to the only digest it may have."""
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 2
    """Predictions at the same time."""
    queue: Annotated[int, Field(ge=0, le=1_000_000)] = 256
    """Requests that may wait."""
    timeout_s: Annotated[float, Field(gt=0, le=3600, strict=False)] = 30.0
    """How long a request without a deadline may wait."""
    isolation: Literal["thread", "process"] = "thread"
    """Where the engine runs: with "process", a crash in native code ends a process of its own, not the server."""
    batching: BatchingTable | None = None
    """How requests are put together."""

    def settings(self) -> ModelSettings:
        """The same as the repository takes it.

        Raises:
            ConfigurationError: A digest for something that is no version.
        """
        if not all(version.isascii() and version.isdigit() for version in self.digests):
            raise ConfigurationError(f"model {self.name}: digests are by version number", code="serving.config")
        batching = None
        if self.batching is not None:
            values = self.batching.model_dump() | {"allowed_sizes": tuple(self.batching.allowed_sizes)}
            batching = BatchingLimits(**values)
        return ModelSettings(
            self.name,
            self.base_path.rstrip("/"),
            self._policy(),
            MappingProxyType(dict(self.labels)),
            self.engine,
            MappingProxyType({int(version): digest for version, digest in self.digests.items()}),
            ModelLimits(self.concurrency, self.queue, self.timeout_s),
            batching,
            isolated=self.isolation == "process",
        )

    def _policy(self) -> VersionPolicy:
        if isinstance(self.versions, list):
            return VersionPolicy(latest=None, specific=frozenset(self.versions))
        return ALL_VERSIONS if self.versions == "all" else VersionPolicy(latest=self.latest)


class ServingFile(_Table):
    """The whole file."""

    host: str = "127.0.0.1"
    """IP address to listen on."""
    port: Port = 8500
    """Port of gRPC; 0 for none."""
    rest_api_port: Port = 8501
    """Port of REST; 0 for none."""
    metrics_path: str = ""
    """Path of the metrics page; empty for none."""
    poll_wait_s: Annotated[float, Field(ge=0, le=86400, strict=False)] = 1.0
    """Seconds between looks for new versions; 0 to look once."""
    drain_s: Annotated[float, Field(ge=0, le=3600, strict=False)] = 30.0
    """For requests under way at the end."""
    allow_reload_requests: bool = False
    """Obey HandleReloadConfigRequest from any caller."""
    ssl_config_file: str = ""
    """Sealed ssl.cfg of TensorFlow Serving."""
    attested_tls: list[str] = []
    """Names in the attested certificate; with any, TLS is attested."""
    client_ca_file: str = ""
    """With attested TLS: PEM authorities of the only clients that are let in (two-way TLS)."""
    quote_renew_s: Annotated[float, Field(ge=60, le=7 * 86400, strict=False)] = 3600.0
    """Age at which the attested key and its quote are renewed."""
    precision: Literal["f32", "bf16"] = "f32"
    """Of OpenVINO."""
    models: Annotated[list[ModelTable], Field(min_length=1, max_length=1000)]
    """What to serve."""


def parse_serving_file(raw: bytes) -> ServingFile:
    """Read the file, strictly.

    Raises:
        ConfigurationError: Malformed; every wrong key is named.
    """
    if len(raw) > MAX_BYTES:
        raise ConfigurationError(f"the serving file is larger than {MAX_BYTES} bytes", code="serving.config")
    document = parse_toml(raw, what="the serving file", code="serving.config")
    try:
        file = ServingFile.model_validate(document)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()[:10])
        raise ConfigurationError(f"the serving file is wrong: {wrong}", code="serving.config") from None
    names = [model.name for model in file.models]
    if len(set(names)) != len(names):
        raise ConfigurationError("the serving file names a model twice", code="serving.config")
    return file
