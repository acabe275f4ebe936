"""Settings of the broker: `broker.toml` in its folder, then environment variables `STRONGROOM_BROKER_*`."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from strongroom.broker.database_url import DEFAULT_CONNECTIONS, parse_database_url
from strongroom.errors import ConfigurationError
from strongroom.formats.toml import parse_toml

ENV_PREFIX = "STRONGROOM_BROKER_"
MAX_SETTINGS_BYTES = 64 * 1024


class BrokerSettings(BaseSettings):
    """Everything that can be set. An unknown name, in the file or in the environment, is an error."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=ENV_PREFIX, use_attribute_docstrings=True)

    broker_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    """Random name of this broker; the owner's requests are addressed to it. 32 hexadecimal digits."""

    host: str = "127.0.0.1"
    """Address to listen on."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8443
    """TCP port to listen on; 0 lets the system choose (see `--ready-file`)."""

    allow_simulated: bool = False
    """Trust the simulated root in `roots/simulated.der`. Never true where data matters."""

    database_url: str | None = None
    """PostgreSQL database that replicas share, without a password in it; none: SQLite in `broker.db`."""

    database_connections: Annotated[int, Field(ge=2, le=1000)] = DEFAULT_CONNECTIONS
    """Connections of this replica to that database; who finds none free within 10 s is answered 503."""

    nonce_ttl_s: Annotated[int, Field(ge=60, le=120)] = 90
    """How long a challenge may be answered."""

    token_ttl_s: Annotated[int, Field(ge=10, le=300)] = 300
    """How long a token is good, unless the collateral ends before."""

    max_body_bytes: Annotated[int, Field(ge=1024, le=4 * 1024 * 1024)] = 128 * 1024
    """Longest request body; a longer one is refused while it is read."""

    max_quote_bytes: Annotated[int, Field(ge=1024, le=1024 * 1024)] = 16 * 1024
    """Longest quote handed to the verifier."""

    max_secret_bytes: Annotated[int, Field(ge=32, le=1024 * 1024)] = 64 * 1024
    """Longest secret stored."""

    head_timeout_s: Annotated[int, Field(ge=1, le=60)] = 10
    """How long request line and headers may take to arrive."""

    body_timeout_s: Annotated[int, Field(ge=1, le=60)] = 10
    """How long a request body may take to arrive."""

    max_sessions: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Open challenges; beyond it `/auth` answers 503."""

    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Live tokens; beyond it `/attest` answers 503."""

    max_connections: Annotated[int, Field(ge=1, le=10_000)] = 512
    """Connections served at once; beyond it the answer is 503."""

    verifier_processes: Annotated[int, Field(ge=1, le=256)] = 2
    """Processes that verify quotes (the verifier does not release the interpreter lock)."""

    max_verifications: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Verifications running or waiting; beyond it `/attest` answers 503."""

    verification_timeout_s: Annotated[int, Field(ge=1, le=120)] = 10
    """How long one verification may take before its process is given up."""

    requests_per_s: Annotated[float, Field(gt=0, le=100_000)] = 50.0
    """Sustained rate of `/auth`, `/attest` and `/resource` for one client address."""

    request_burst: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Requests one client address may send at once before the rate counts."""

    pccs_url: str | None = None
    """Cache that `fetch-collateral` asks: what stands before `/sgx/certification/v4`; none: Intel's own service."""

    pccs_ca: Path | None = None
    """Authorities of that cache's TLS certificate, PEM; none: public ones."""

    provisioning_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    """TCP port for clients of Gramine's secret provisioning, by custom 4433; none: they are not served."""

    provisioning_timeout_s: Annotated[float, Field(gt=0, le=120)] = 10.0
    """How long such a client may take for handshake and request, and again for taking the answer."""

    max_provisioning_connections: Annotated[int, Field(ge=1, le=10_000)] = 512
    """Such connections at once; beyond it the oldest that has not shown its evidence is dropped."""

    shutdown_grace_s: Annotated[int, Field(ge=0, le=300)] = 10
    """How long running requests may take after SIGTERM."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment before file; nothing else."""
        return env_settings, init_settings


def load_settings(path: Path) -> BrokerSettings:
    """Read `broker.toml` and the environment.

    Args:
        path: The file.

    Returns:
        The settings, checked.

    Raises:
        ConfigurationError: The file is absent, not TOML (`MalformedFile`) or too long; a name is unknown; a value is
            out of range.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_SETTINGS_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path}: {error.strerror}",
            code="broker.settings",
            hint="strongroom broker init DIR makes a broker",
        ) from None
    if len(text) > MAX_SETTINGS_BYTES:
        raise ConfigurationError(f"{path} is too long", code="broker.settings")
    _refuse_unknown_variables()
    document = parse_toml(text, what=str(path), code="broker.settings")
    try:
        values = BrokerSettings(**document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{path}: {name}: {first['msg']}", code="broker.settings") from None
    if values.database_url is not None:
        parse_database_url(values.database_url)
    return values


def _refuse_unknown_variables() -> None:
    for variable in os.environ:
        if variable.startswith(ENV_PREFIX) and variable[len(ENV_PREFIX) :].lower() not in BrokerSettings.model_fields:
            raise ConfigurationError(f"unknown setting in the environment: {variable}", code="broker.settings")
