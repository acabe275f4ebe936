"""Starts a run at a Kubeflow Pipelines endpoint.

Source: Kubeflow Pipelines API v2beta1, services ExperimentService and RunService. The few calls are made here: the
SDK's client prints to stdout, keeps files in the home folder and puts answers with their headers into exceptions.
"""

import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from strongroom.errors import ConfigurationError, FormatError, UnavailableError

MAX_TOKEN_BYTES: Final = 64 * 1024
MAX_PIPELINE_BYTES: Final = 4 << 20
MAX_ANSWER_BYTES: Final = 4 << 20
TIMEOUT_S: Final = 30.0
API: Final = "/apis/v2beta1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where Kubeflow Pipelines listens.

    Args:
        url: ``https://HOST/PREFIX``.
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
        name: Name of the run.
    """

    data_url: str
    data_size: int
    experiment: str
    service_account: str
    name: str = "strongroom"


def submit_pipeline(file: Path, endpoint: Endpoint, request: Request) -> str:
    """Start a run.

    Args:
        file: Compiled pipeline.
        endpoint: Where.
        request: What.

    Returns:
        The run's id.

    Raises:
        ConfigurationError: The file or the token can't be read, the URL is not https, or a library is missing.
        FormatError: The file is not a compiled pipeline, or the answer is not understood.
        UnavailableError: The endpoint does not answer or refuses.
    """
    documents = _read_pipeline(file)
    _check_url(endpoint)
    with _Client(endpoint) as client:
        experiment = client.experiment(request.experiment)
        run = {
            "display_name": request.name,
            "experiment_id": experiment,
            "pipeline_spec": documents,
            "runtime_config": {"parameters": {"data_url": request.data_url, "data_size": request.data_size}},
            "service_account": request.service_account,
        }
        return _text(client.call("POST", "/runs", body=run), "run_id")


class _Client:
    """The endpoint's API, as far as it is needed."""

    def __init__(self, endpoint: Endpoint) -> None:
        import httpx

        token = _read_token(endpoint.token_file) if endpoint.token_file else None
        try:
            verify = ssl.create_default_context(cafile=str(endpoint.ca) if endpoint.ca else None)
        except (OSError, ssl.SSLError):
            raise ConfigurationError(f"cannot read {endpoint.ca}", code="pipeline.ca") from None
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._namespace = endpoint.namespace
        self._http = httpx.Client(verify=verify, headers=headers, trust_env=False, timeout=TIMEOUT_S)
        self._url = endpoint.url.rstrip("/") + API

    def __enter__(self) -> "_Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def experiment(self, name: str) -> str:
        """Id of an experiment; it is made if it is not there."""
        predicate = {"operation": "EQUALS", "key": "name", "stringValue": name}
        query = {"namespace": self._namespace, "filter": json.dumps({"predicates": [predicate]})}
        found = self.call("GET", "/experiments", query=query).get("experiments") or []
        if isinstance(found, list) and found and isinstance(found[0], dict):
            return _text(found[0], "experiment_id")
        made = self.call("POST", "/experiments", body={"display_name": name, "namespace": self._namespace})
        return _text(made, "experiment_id")

    def call(
        self, method: str, path: str, *, query: dict[str, str] | None = None, body: object = None
    ) -> dict[str, Any]:
        """One call.

        Raises:
            UnavailableError: No answer, or not the status 200.
            FormatError: The answer is not a JSON object.
        """
        import httpx

        try:
            with self._http.stream(method, self._url + path, params=query, json=body) as response:
                status, raw = response.status_code, b""
                for block in response.iter_bytes():
                    raw += block
                    if len(raw) > MAX_ANSWER_BYTES:
                        break
        except httpx.HTTPError as error:
            raise UnavailableError(f"no answer: {type(error).__name__}", code="pipeline.endpoint") from None
        if status != 200:
            raise UnavailableError(f"Kubeflow Pipelines answered with status {status}", code="pipeline.endpoint")
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise FormatError("the endpoint's answer is not understood", code="pipeline.answer")
        return answer


def _text(answer: dict[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= 200:
        raise FormatError("the endpoint's answer is not understood", code="pipeline.answer")
    return value


def _read_pipeline(file: Path) -> dict[str, Any]:
    """Both documents of a compiled pipeline.

    Raises:
        ConfigurationError: PyYAML is not installed, or the file can't be read.
        FormatError: It is something else.
    """
    try:
        import yaml
    except ImportError:
        raise ConfigurationError("PyYAML is not installed", code="pipeline.kfp", hint=_INSTALL) from None
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {file}: {error.strerror}", code="pipeline.file", hint="strongroom pipeline compile"
        ) from None
    try:
        documents = list(yaml.safe_load_all(raw)) if len(raw) <= MAX_PIPELINE_BYTES else []
    except (yaml.YAMLError, RecursionError, ValueError):
        documents = []
    if len(documents) != 2 or not all(isinstance(part, dict) for part in documents) or "root" not in documents[0]:
        raise FormatError(f"{file} is not a compiled pipeline", code="pipeline.file")
    return {"pipeline_spec": documents[0], "platform_spec": documents[1]}


def _check_url(endpoint: Endpoint) -> None:
    try:
        parts = urlsplit(endpoint.url)
    except ValueError:
        parts = urlsplit("")
    if not parts.netloc or (parts.scheme != "https" and not (endpoint.plaintext and parts.scheme == "http")):
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


_INSTALL: Final = "pip install 'strongroom[pipelines]'"
