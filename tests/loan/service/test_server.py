"""The service on a socket: TLS, the README's curl lines, hostile clients, a gentle end."""

import asyncio
import datetime as dt
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn

from strongroom.attestation.claims import Claims
from strongroom.attestation.collateral import Collateral
from strongroom.attestation.policy import AppraisalPolicy, EnclaveIdentity
from strongroom.attestation.roots import TrustRoot
from strongroom.attestation.verify import verify_quote
from strongroom.errors import ConfigurationError
from strongroom.loan.service.server import ServiceServer, _drain, listening, serving
from strongroom.loan.service.settings import Limits
from strongroom.loan.service.tls import TlsMaterial, attested_material, server_context
from strongroom.platforms.simulated import SimulatedMachine
from strongroom.ratls.address import parse_address
from strongroom.ratls.pin import attested_server, ssl_context

MR_ENCLAVE = b"\xab" * 32
NOW = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def machine() -> SimulatedMachine:
    return SimulatedMachine.build(NOW - dt.timedelta(days=1))


@pytest.fixture(scope="module")
def material(machine: SimulatedMachine) -> TlsMaterial:
    return attested_material(machine.platform(mr_enclave=MR_ENCLAVE, isv_prod_id=5, isv_svn=1))


@pytest.fixture
def url(trained: Any, material: TlsMaterial) -> Iterator[str]:
    with serving(trained.service, material) as url:
        yield url


@pytest.fixture
def http(url: str, material: TlsMaterial) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cadata=material.certificate.decode())
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = True
    with httpx.Client(base_url=url, verify=context, trust_env=False, timeout=60) as client:
        yield client


def test_serves_over_tls_under_its_name(http: httpx.Client) -> None:
    assert http.get("/ping").json() == {"Message": "Server is Running"}


def test_refuses_plain_http_on_the_tls_port(url: str) -> None:
    with pytest.raises(httpx.HTTPError), httpx.Client(trust_env=False) as client:
        client.get(url.replace("https://", "http://") + "/ping")


def test_the_certificate_says_which_code_serves(url: str, machine: SimulatedMachine) -> None:
    collateral = Collateral.from_json(machine.collateral())
    root = TrustRoot("simulated", machine.root_der)

    def genuine(quote: bytes, now: dt.datetime) -> Claims:
        return verify_quote(quote, collateral, root, now).claims

    policy = AppraisalPolicy(
        measurements=(EnclaveIdentity(MR_ENCLAVE),),
        tees=frozenset({"sgx"}),
        tcb_statuses=frozenset({"UpToDate"}),
        advisories=(),
        min_tcb_eval_data_number=0,
        accept_simulated=True,
    )
    peer = attested_server(parse_address(url.removeprefix("https://")), genuine, policy, NOW)
    with httpx.Client(base_url=url, verify=ssl_context(peer), trust_env=False, timeout=60) as client:
        assert client.get("/ping").status_code == 200


@pytest.mark.parametrize("part", ["certificate", "key"])
def test_refuses_a_certificate_and_key_that_do_not_belong_together(
    machine: SimulatedMachine, material: TlsMaterial, part: str
) -> None:
    other = attested_material(machine.platform(mr_enclave=MR_ENCLAVE, isv_prod_id=5, isv_svn=1))
    mixed = TlsMaterial(other.certificate if part == "certificate" else b"junk", material.key)
    with pytest.raises(ConfigurationError) as refused:
        server_context(mixed)
    assert refused.value.code == "loan.tls"
    assert "PRIVATE" not in repr(material)


def test_the_key_passes_through_no_file_in_the_clear(
    material: TlsMaterial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []
    write = Path.write_bytes

    def watched(path: Path, data: bytes) -> int:
        written.append(data)
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", watched)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server_context(material)
    assert b"ENCRYPTED PRIVATE KEY" in written[0]
    assert b"BEGIN PRIVATE KEY" not in written[0]
    assert list(tmp_path.iterdir()) == []


def test_with_client_authorities_strangers_are_not_let_in(trained: Any, material: TlsMaterial) -> None:
    closed = TlsMaterial(material.certificate, material.key, client_ca=material.certificate)
    refused = pytest.raises(httpx.HTTPError)
    with (
        serving(trained.service, closed) as url,
        httpx.Client(verify=trusting(), trust_env=False, timeout=60) as client,
        refused,
    ):
        client.get(url + "/ping")


def curl(*arguments: str, folder: Path) -> Any:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        [program, "--silent", "--show-error", "--noproxy", "*", *arguments], cwd=folder, capture_output=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("tls", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_readmes_curl_lines_work_unchanged(
    client: Any, material: TlsMaterial, tmp_path: Path, book_csv: bytes, sample_csv: bytes, tls: bool
) -> None:
    """The four commands of the README of Intel's module, with our address; -k as the certificate is self-signed."""
    (tmp_path / "credit_risk_dataset.csv").write_bytes(book_csv)
    (tmp_path / "sample.csv").write_bytes(sample_csv)
    form = ("-H", "Content-Type: multipart/form-data", "-F", "az_file_path=/loan_app/azure-fileshare")
    process = (*form, "-F", "data_directory=data", "-F", "file=@credit_risk_dataset.csv")
    train = (*form, "-F", "data_directory=data", "-F", "model_directory=models", "-F", "model_name=XGBoost")
    with serving(client.service, material if tls else None) as url:

        def call(path: str, *arguments: str) -> Any:
            return curl(*(("-k",) if tls else ()), f"{url}/{path}", *arguments, folder=tmp_path)

        done = {"Message": "credit_risk_dataset.csv successfully processed and saved"}
        assert call("data_processing", *process, "-F", "size=4000") == done
        answer = call("train", *train, "-F", "continue_training=False", "-F", "size=4000")
        assert answer["Message"] == "XGBoost model succesfully trained and saved"
        assert call("data_processing", *process, "-F", "size=3500") == done
        answer = call("train", *train, "-F", "continue_training=True", "-F", "size=3500")
        assert answer["Validation Scores"]["precision"]["Non-Default"] > 0.5
        answer = call(
            "predict",
            *("-H", "Content-Type: multipart/form-data", "-F", "file=@sample.csv"),
            *("-F", "az_file_path=/loan_app/azure-fileshare", "-F", "data_directory=data"),
            *("-F", "model_directory=models", "-F", "model_name=XGBoost", "-F", "sample_directory=samples"),
        )
        assert list(answer["Prediction Output"]["Prediction"]) == [str(row) for row in range(10)]


def trusting() -> ssl.SSLContext:
    """A client context that believes everything."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextmanager
def connected(url: str) -> Iterator[ssl.SSLSocket]:
    address = urlsplit(url)
    plain = socket.create_connection((address.hostname, address.port or 443), 20)
    with plain, trusting().wrap_socket(plain) as tls:
        yield tls


def raw(url: str, request: bytes) -> bytes:
    """Send bytes over TLS and read the answer to the end; the server may hang up while we still send."""
    answer = b""
    with connected(url) as tls:
        with suppress(ConnectionError):
            tls.sendall(request)
        with suppress(ConnectionError):
            while chunk := tls.recv(65536):
                answer += chunk
    return answer


def test_ten_gigabytes_are_refused_on_the_wire_before_they_are_sent(url: str) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    answer = raw(url, head + b"Content-Length: 10000000000\r\nExpect: 100-continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"http.body_too_long" in answer


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /ping\r\n\r\n",
        b"\x16\x03\x01 nonsense\r\n\r\n",
        b"POST /train HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST /train HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_malformed_requests_are_answered_with_400_or_hung_up_on(url: str, request_head: bytes) -> None:
    answer = raw(url, request_head.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nConnection: close\r\n", 1))
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 ", b"HTTP/1.1 415 ", b"HTTP/1.1 422 "))


def test_a_body_that_pauses_too_long_is_given_up(open_client: Any, material: TlsMaterial) -> None:
    client = open_client(idle_s=0.05)
    with serving(client.service, material) as url:
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
        answer = raw(url, head + b"Content-Length: 100\r\n\r\n--b\r\n")
    assert answer.startswith(b"HTTP/1.1 408 ")


def let_in(http: httpx.Client, url: str) -> bool:
    """Whether a request is served; on a loaded machine its head may come too late, too."""
    try:
        return http.get(f"{url}/ping").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("sent", [b"", b"GET /ping HTTP/1.1\r\nHost: loc"])
def test_idle_connections_do_not_keep_others_out(
    open_client: Any, material: TlsMaterial, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strongroom.loan.service.server.MAX_CONNECTIONS", 4)
    client = open_client(head_s=1.5)
    with serving(client.service, material) as url, ExitStack() as idle:
        for _ in range(6):
            idle.enter_context(connected(url)).sendall(sent)  # and nobody reads: not even a goodbye is answered
        started_s = time.monotonic()
        with httpx.Client(verify=trusting(), trust_env=False, timeout=60) as http:
            while not let_in(http, url):
                assert time.monotonic() - started_s < 60


def test_a_connection_too_many_gets_a_problem_document(
    open_client: Any, material: TlsMaterial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strongroom.loan.service.server.MAX_CONNECTIONS", 1)
    with (
        serving(open_client().service, material) as url,
        httpx.Client(verify=trusting(), trust_env=False, timeout=60) as first,
        httpx.Client(verify=trusting(), trust_env=False, timeout=60) as second,
    ):
        assert first.get(f"{url}/ping").status_code == 200
        refused = second.get(f"{url}/ping")
        assert (refused.status_code, refused.json()["code"]) == (503, "service.connections")
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.headers["connection"] == "close"
        assert int(refused.headers["retry-after"]) > 0
        assert first.get(f"{url}/ping").status_code == 200


def test_a_client_that_leaves_in_the_middle_leaves_nothing_behind(
    open_client: Any, material: TlsMaterial, tmp_path: Path
) -> None:
    client = open_client(memory_upload_bytes=1000)
    with serving(client.service, material) as url:
        with connected(url) as tls:
            head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            tls.sendall(head + b"Content-Length: 10000000\r\n\r\n")
            tls.sendall(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 50_000)
        with httpx.Client(verify=trusting(), trust_env=False, timeout=60) as http:
            while 'route="/predict"' not in http.get(f"{url}/metrics").text:
                pass
        spool = Path(client.service._spool._folder.name)
        assert list(spool.iterdir()) == []
        assert client.service.receiver._open == 0


def test_a_signal_drains_running_work_and_then_ends(trained: Any) -> None:
    """What SIGTERM does, without the signal: ready no more, the running training finishes, the server ends."""
    reached, go_on = threading.Event(), threading.Event()
    open_file = trained.storage.open

    def slow(path: str, /) -> Any:
        if path.endswith("train.parquet"):
            reached.set()
            assert go_on.wait(30)
        return open_file(path)

    trained.storage.open = slow
    answers: list[httpx.Response] = []
    with listening("127.0.0.1", 0) as listener:
        ready = threading.Event()
        config = uvicorn.Config(trained.app, lifespan="off", log_config=None, timeout_graceful_shutdown=30)
        server = ServiceServer(config, ready.set, lambda: _drain(trained.service))
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        assert ready.wait(30)
        fields = {name: value for name, value in trained.fields.items() if name != "sample_directory"}
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/train"
        data = {**fields, "size": "3000"}
        caller = threading.Thread(
            target=lambda: answers.append(httpx.post(url, data=data, timeout=60, trust_env=False))
        )
        caller.start()
        assert reached.wait(30)
        server.handle_exit(15, None)
        while trained.http.get("/readyz").status_code == 200:
            pass
        assert trained.train().json()["code"] == "service.draining"
        go_on.set()
        caller.join(60)
        thread.join(60)
        assert not thread.is_alive()
    assert answers[0].status_code == 200


def test_running_work_is_cancelled_when_the_drain_time_is_over(open_client: Any) -> None:
    client = open_client(drain_s=0.01)
    running = threading.Event()

    def work(job: Any) -> dict[str, Any]:
        while True:
            running.set()
            job.advance(1, 2)

    job = client.service.board.submit("train", work)
    assert running.wait(30)
    _drain(client.service)
    job.ended.result(30)
    assert job.state.value == "cancelled"


def test_an_address_in_use_is_an_error_with_a_hint() -> None:
    with listening("127.0.0.1", 0) as first, pytest.raises(ConfigurationError) as refused, ExitStack() as stack:
        stack.enter_context(listening("127.0.0.1", first.getsockname()[1]))
    assert refused.value.code == "loan.address"


def test_limits_are_positive() -> None:
    with pytest.raises(ConfigurationError):
        Limits(max_uploads=0)
