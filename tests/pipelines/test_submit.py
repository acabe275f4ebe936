"""Starting a run at an endpoint that speaks the Kubeflow Pipelines API."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import ConfigurationError, FormatError, UnavailableError
from strongroom.pipelines.compile import Placement, compile_pipeline
from strongroom.pipelines.submit import Endpoint, Request, submit_pipeline

pytest.importorskip("kfp")

TOKEN = "a-bearer-token-that-no-error-shows"


class FakeKubeflow(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.tokens: set[str | None] = set()
        self.status = 200
        self.experiments: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: FakeKubeflow

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _answer(self, body: dict[str, Any]) -> None:
        self.server.requests.append((self.command, self.path.partition("?")[0], body))
        self.server.tokens.add(self.headers.get("authorization"))
        answer = {"experiments": self.server.experiments, "experiment_id": "e1", "run_id": "run-7"}
        raw = json.dumps(answer).encode()
        self.send_response(self.server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


@pytest.fixture
def kubeflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeKubeflow]:
    monkeypatch.setenv("HOME", str(tmp_path))
    server = FakeKubeflow()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    compile_pipeline(Placement(image="x@sha256:" + "0" * 64), tmp_path / "pipeline.yaml")
    return tmp_path / "pipeline.yaml"


REQUEST = Request("sealed:loans.csv", 32_581, "strongroom", "strongroom-pipeline")


def test_starts_a_run_with_inputs_account_and_token(kubeflow: FakeKubeflow, package: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    endpoint = Endpoint(kubeflow.url, "kubeflow", tmp_path / "token", plaintext=True)
    assert submit_pipeline(package, endpoint, REQUEST) == "run-7"
    ((_, _, body),) = [request for request in kubeflow.requests if request[:2] == ("POST", "/apis/v2beta1/runs")]
    assert body["runtime_config"]["parameters"] == {"data_url": "sealed:loans.csv", "data_size": 32_581}
    assert body["service_account"] == "strongroom-pipeline"
    assert kubeflow.tokens == {f"Bearer {TOKEN}"}


def test_an_experiment_that_is_there_is_used(kubeflow: FakeKubeflow, package: Path) -> None:
    kubeflow.experiments = [{"experiment_id": "e9"}]
    submit_pipeline(package, Endpoint(kubeflow.url, "team-a", plaintext=True), REQUEST)
    (listed, run) = kubeflow.requests
    assert listed[:2] == ("GET", "/apis/v2beta1/experiments")
    assert run[2]["experiment_id"] == "e9"
    assert kubeflow.tokens == {None}


@pytest.mark.filterwarnings("ignore:This client only works:FutureWarning")
def test_sends_what_kubeflow_s_own_client_sends(kubeflow: FakeKubeflow, package: Path) -> None:
    import kfp

    submit_pipeline(package, Endpoint(kubeflow.url, "kubeflow", plaintext=True), REQUEST)
    ours = kubeflow.requests[:]
    kubeflow.requests.clear()
    kfp.Client(host=kubeflow.url, namespace="kubeflow").create_run_from_pipeline_package(
        str(package),
        {"data_url": REQUEST.data_url, "data_size": REQUEST.data_size},
        run_name=REQUEST.name,
        experiment_name=REQUEST.experiment,
        namespace="kubeflow",
        service_account=REQUEST.service_account,
    )
    theirs = [request for request in kubeflow.requests if "healthz" not in request[1]]
    assert [request[:2] for request in ours] == [request[:2] for request in theirs]
    assert ours[1][2] == theirs[1][2]
    assert ours[2][2] == theirs[2][2]


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"run_id": 7}', b"[" * 100_000])
def test_refuses_an_answer_that_is_none(
    kubeflow: FakeKubeflow, package: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    def say(self: Handler, _body: object) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    monkeypatch.setattr(Handler, "_answer", say)
    with pytest.raises(FormatError):
        submit_pipeline(package, Endpoint(kubeflow.url, "kubeflow", plaintext=True), REQUEST)


def test_nobody_listens(package: Path) -> None:
    with pytest.raises(UnavailableError):
        submit_pipeline(package, Endpoint("http://127.0.0.1:1", "kubeflow", plaintext=True), REQUEST)


@pytest.mark.parametrize("content", [b"", b"a: 1", b"---\n- 1\n---\n{}", b"{", b"\xff\xfe\x00"])
def test_refuses_what_is_no_compiled_pipeline(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.yaml").write_bytes(content)
    with pytest.raises(FormatError):
        submit_pipeline(tmp_path / "x.yaml", Endpoint("https://x.example", "kubeflow"), REQUEST)


def test_says_no_token_when_the_endpoint_refuses(kubeflow: FakeKubeflow, package: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    kubeflow.status = 403
    with pytest.raises(UnavailableError) as refusal:
        submit_pipeline(package, Endpoint(kubeflow.url, "kubeflow", tmp_path / "token", plaintext=True), REQUEST)
    assert "403" in refusal.value.message
    assert TOKEN not in repr(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize("url", ["http://kubeflow.example.com", "ftp://x", "kubeflow.example.com", ""])
def test_sends_nothing_over_a_plain_connection(package: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match="https"):
        submit_pipeline(package, Endpoint(url, "kubeflow"), REQUEST)


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff", b"x" * 100_000])
def test_refuses_a_file_that_is_no_token(package: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(ConfigurationError, match="token"):
        submit_pipeline(package, Endpoint("https://x.example", "kubeflow", tmp_path / "token"), REQUEST)


def test_refuses_a_pipeline_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot read"):
        submit_pipeline(tmp_path / "absent.yaml", Endpoint("https://x.example", "kubeflow"), REQUEST)
