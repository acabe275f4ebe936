"""Starts a run at a Kubeflow Pipelines endpoint."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from strongroom.errors import ConfigurationError, UnavailableError
from strongroom.pipelines.compile import require_kfp

MAX_TOKEN_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where Kubeflow Pipelines listens.

    Args:
        url: ``https://...``.
        namespace: Kubeflow profile.
        token_file: File with the bearer token; None: none is sent.
        ca: CA certificate, PEM; None: the system's.
        plaintext: Accept ``http://``.
    """

    url: str
    namespace: str
    token_file: Path | None = None
    ca: Path | None = None
    plaintext: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """What to run.

    Args:
        data_url: Input of the pipeline.
        data_size: Input of the pipeline.
        experiment: Experiment to file the run under; made if it is not there.
        service_account: Account of the steps' pods.
    """

    data_url: str
    data_size: int
    experiment: str
    service_account: str


def submit_pipeline(file: Path, endpoint: Endpoint, request: Request) -> str:
    """Start a run; nothing is cached, because a cached step proves nothing.

    Args:
        file: Compiled pipeline.
        endpoint: Where.
        request: What.

    Returns:
        The run's id.

    Raises:
        ConfigurationError: The SDK is not installed, the file or the token can't be read, or the URL is not https.
        UnavailableError: The endpoint does not answer or refuses.
    """
    kfp = require_kfp()
    if not file.is_file():
        raise ConfigurationError(f"no such file: {file}", code="pipeline.file", hint="strongroom pipeline compile")
    _check_url(endpoint)
    token = _read_token(endpoint.token_file) if endpoint.token_file else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client: Any = kfp.Client(
                host=endpoint.url,
                namespace=endpoint.namespace,
                existing_token=token,
                ssl_ca_cert=str(endpoint.ca) if endpoint.ca else None,
            )
            started = client.create_run_from_pipeline_package(
                str(file),
                arguments={"data_url": request.data_url, "data_size": request.data_size},
                experiment_name=request.experiment,
                namespace=endpoint.namespace,
                service_account=request.service_account,
                enable_caching=False,
            )
    except Exception as error:
        # The SDK lets errors of several libraries through, with headers (and so the token) in their text.
        status = getattr(error, "status", None)
        said = f"status {status}" if isinstance(status, int) else type(error).__name__
        raise UnavailableError(f"Kubeflow Pipelines did not start the run: {said}", code="pipeline.endpoint") from None
    return str(started.run_id)


def _check_url(endpoint: Endpoint) -> None:
    scheme = urlsplit(endpoint.url).scheme
    if scheme != "https" and not (endpoint.plaintext and scheme == "http"):
        raise ConfigurationError(
            "the endpoint's URL does not start with https://",
            code="pipeline.endpoint",
            hint="a port-forward on this machine: --dangerous-plaintext-endpoint",
        )


def _read_token(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TOKEN_BYTES + 1)
        token = raw.decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        token = ""
    if not token or len(token) > MAX_TOKEN_BYTES or not token.isprintable():
        raise ConfigurationError(f"no token in {path}", code="pipeline.token")
    return token
