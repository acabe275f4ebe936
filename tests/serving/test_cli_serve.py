"""`strongroom serve`: options in this process, and once the whole way, from broker and sealed model to a client."""

import datetime as dt
import gc
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from strongroom.cli import serve as serve_command
from strongroom.cli.loan_engine import LoanBundleMaker
from strongroom.cli.loan_models import LoanCatalogs
from strongroom.cli.serve import app
from strongroom.cli.serving_room import RenewingRoom, enter_when_possible
from strongroom.cli.trial import free_port
from strongroom.errors import ConfigurationError, FormatError, PolicyRejected, UnavailableError, WrongKey
from strongroom.serving.config.toml import parse_serving_file
from strongroom.serving.models.policy import ModelSettings
from strongroom.serving.server import ServerOptions
from strongroom.serving.status import InvalidRequest, Refused, Status

RUNNER = CliRunner()


@contextmanager
def keep_collector() -> Iterator[None]:
    """What the command sets for its process is not for this one."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*threshold)
        gc.unfreeze()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[ServerOptions]:
    """What the command would start a server with."""
    options: list[ServerOptions] = []
    monkeypatch.setattr(serve_command, "_run", lambda given, *_: options.append(given))
    monkeypatch.setattr(serve_command, "_stop_on_signals", threading.Event)
    return options


def test_help_is_for_users() -> None:
    shown = RUNNER.invoke(app, ["--help"]).output
    assert "TensorFlow Serving" in shown and "Raises" not in shown


def test_options_of_tensorflow_serving(told: list[ServerOptions], tmp_path: Path) -> None:
    (tmp_path / "batching").write_text("max_batch_size { value: 7 }")
    (tmp_path / "monitoring").write_text("prometheus_config { enable: true }")
    arguments = (
        f"--dangerous_plaintext_models {tmp_path} --port 1 --rest_api_port 2 --model_name a --model_base_path b/ "
        "--enable_batching=true --batching_parameters_file batching --monitoring_config_file monitoring "
        "--file_system_poll_wait_seconds 5 --rest_api_timeout_in_ms 1500"
    )
    result = RUNNER.invoke(app, arguments.split())
    assert result.exit_code == 0, result.output
    assert "in the clear" in result.stderr
    (options,) = told
    (model,) = options.models
    assert (model.name, model.base_path) == ("a", "b")
    assert model.batching is not None and model.batching.max_batch_size == 7
    assert (options.grpc_port, options.rest_port, options.metrics_path) == (1, 2, "/monitoring/prometheus/metrics")
    assert (options.poll_wait_s, options.http.timeout_s, options.reloadable) == (5, 1.5, False)


@pytest.mark.parametrize("flag", ["--enable_batching=false", "--enable-batching=false"])
def test_flags_with_values(told: list[ServerOptions], tmp_path: Path, flag: str) -> None:
    arguments = ["--dangerous_plaintext_models", str(tmp_path), "--model_base_path", "m", flag]
    assert RUNNER.invoke(app, arguments).exit_code == 0
    assert told[0].models[0].batching is None


def test_model_config_file(told: list[ServerOptions], tmp_path: Path) -> None:
    text = "model_config_list { config { name: 'a' base_path: 'x' } config { name: 'b' base_path: 'y' } }"
    (tmp_path / "models").write_text(text)
    arguments = ["--dangerous_plaintext_models", str(tmp_path), "--model_config_file", "models", "--max_queue", "9"]
    assert RUNNER.invoke(app, arguments).exit_code == 0
    assert [(model.name, model.limits.queue) for model in told[0].models] == [("a", 9), ("b", 9)]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ([], ConfigurationError),
        (["--model_base_path", "m", "--precision", "int4"], ConfigurationError),
        (["--config", "c", "--model_base_path", "m"], ConfigurationError),
        (["--model_base_path", "m", "--ssl_config_file", "s", "--attested_tls", "n"], ConfigurationError),
        (["--model_base_path", "m", "--client_ca_file", "ca.pem"], ConfigurationError),
        (["--model_base_path", "m", "--batching_parameters_file", "b"], ConfigurationError),
        (["--model_config_file", "missing"], UnavailableError),
        (["--model_config_file", "../outside"], ConfigurationError),
    ],
)
def test_refuses_options(told: list[ServerOptions], tmp_path: Path, arguments: list[str], error: type) -> None:
    result = RUNNER.invoke(app, ["--dangerous_plaintext_models", str(tmp_path), *arguments])
    assert isinstance(result.exception, error)
    assert not told


class Starting:
    """A server whose start fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def start(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [ConfigurationError("such a path"), UnavailableError("no REST server")])
def test_start_that_time_does_not_mend_ends_the_command(error: Exception) -> None:
    server: Any = Starting(error)
    with keep_collector(), pytest.raises(type(error)):
        serve_command._start(server)


def test_start_without_a_model_waits_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    server: Any = Starting(Refused(Status.FAILED_PRECONDITION, "model m has no version"))
    with keep_collector():
        serve_command._start(server)
    assert "model m has no version; trying again" in capsys.readouterr().err


def test_outside_a_room_only_plaintext_by_name(told: list[ServerOptions], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("STRONGROOM_")]:
        monkeypatch.delenv(name)
    result = RUNNER.invoke(app, ["--model_base_path", "m"])
    assert isinstance(result.exception, ConfigurationError) and not told


TOML = """
port = 0
metrics_path = "/m"
attested_tls = ["models.example"]
[[models]]
name = "loan"
base_path = "models/loan"
versions = [1, 2]
labels = {stable = 1}
digests = {1 = "sha256:%s"}
concurrency = 4
timeout_s = 5
[models.batching]
timeout_us = 100
[[models]]
name = "all"
base_path = "all"
versions = "all"
""" % ("ab" * 32)


def test_toml(told: list[ServerOptions], tmp_path: Path) -> None:
    (tmp_path / "serving.toml").write_text(TOML)
    result = RUNNER.invoke(app, ["--dangerous_plaintext_models", str(tmp_path), "--config", "serving.toml"])
    assert result.exit_code == 0, result.output
    (options,) = told
    loan, everything = options.models
    assert options.grpc_port is None and options.rest_port == 8501 and options.metrics_path == "/m"
    assert loan.policy.wanted([1, 2, 3]) == {1, 2} and everything.policy.wanted([1, 2]) == {1, 2}
    assert (dict(loan.labels), loan.digests[1][-4:], loan.limits.concurrency) == ({"stable": 1}, "abab", 4)
    assert loan.batching is not None and loan.batching.timeout_us == 100


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "models = []",
        "[[models]]\nname='a'",
        "[[models]]\nname='a'\nbase_path='b'\nunknown=1",
        "[[models]]\nname='a/b'\nbase_path='b'",
        "[[models]]\nname='a'\nbase_path='b'\nconcurrency='2'",
        "[[models]]\nname='a'\nbase_path='b'\ndigests={1='x'}",
        "[[models]]\nname='a'\nbase_path='b'\n[[models]]\nname='a'\nbase_path='b'",
        "port = -1\n[[models]]\nname='a'\nbase_path='b'",
        "precision = 'int8'\n[[models]]\nname='a'\nbase_path='b'",
    ],
)
def test_refuses_toml(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_serving_file(text.encode())


def test_refuses_digests_of_no_version() -> None:
    file = parse_serving_file(b"[[models]]\nname='a'\nbase_path='b'\ndigests={x='" + b"ab" * 32 + b"'}")
    with pytest.raises(ConfigurationError):
        file.models[0].settings()


class FakeRoom:
    """Opens what was sealed with its key."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.closed = False

    def open(self, path: str) -> Any:
        assert not self.closed
        if not path.startswith(self.key):
            raise WrongKey("no")
        return io.BytesIO(path.encode())

    def close(self) -> None:
        self.closed = True


def test_broker_down_at_start_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    answers = [UnavailableError("the broker does not answer"), UnavailableError("still not"), FakeRoom("a")]
    now = [0.0]
    stop = threading.Event()

    def enter() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait(timeout: float | None = None) -> bool:
        now[0] += timeout or 0
        return False

    stop.wait = wait  # type: ignore[method-assign]
    assert enter_when_possible(enter, stop, 60, lambda: now[0]).open("a").read() == b"a"
    assert now[0] == 3
    assert "trying again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "wait_s"), [(UnavailableError("down"), 0), (PolicyRejected([]), 60)], ids=["in time", "refused"]
)
def test_broker_that_never_answers_or_refuses(error: Exception, wait_s: float) -> None:
    def enter() -> Any:
        raise error

    with pytest.raises(type(error)):
        enter_when_possible(enter, threading.Event(), wait_s, lambda: 0.0)


def test_changed_key_is_fetched_once_and_broker_down_then_hurts_only_the_new_version() -> None:
    rooms: list[Any] = [UnavailableError("down"), FakeRoom("b")]
    now = [0.0]

    def enter() -> Any:
        answer = rooms.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    old = FakeRoom("a")
    room = RenewingRoom(old, enter, lambda: now[0])
    assert room.open("a1").read() == b"a1"
    with pytest.raises(UnavailableError):
        room.open("b1")
    assert room.open("a1").read() == b"a1"  # what has the old key goes on
    with pytest.raises(WrongKey):
        room.open("b1")  # not asked again at once
    now[0] = 60
    assert room.open("b1").read() == b"b1"
    assert old.closed
    now[0] = 61
    with pytest.raises(WrongKey):
        room.open("c1")


@pytest.fixture(scope="session")
def bundle() -> bytes:
    from strongroom.loan.bundle import Bundle, serialize_bundle
    from strongroom.loan.presets import TrainSettings
    from strongroom.loan.sample import sample_book
    from strongroom.loan.training import train

    (book,) = sample_book(1000, 0)
    trained = train(book, TrainSettings(rounds=3))
    return serialize_bundle(Bundle(trained.booster, trained.preprocessor, {}))


class OneFile:
    """A version with one file."""

    def __init__(self, name: str, raw: bytes) -> None:
        self.names = frozenset({name})
        self._raw = raw

    def read(self, name: str) -> bytes:
        return self._raw


def applicants(rows: int = 3) -> dict[str, Any]:
    """Raw rows of the sample, as a client has them."""
    from strongroom.loan.sample import sample_book
    from strongroom.loan.schema import CATEGORIES, NUMBERS

    (book,) = sample_book(rows, 1)
    columns: dict[str, Any] = {column.name: book.numbers[column.name] for column in NUMBERS}
    for column in CATEGORIES:
        texts = np.empty(rows, dtype=object)
        texts[:] = [column.values[code].encode() for code in book.codes[column.name]]
        columns[column.name] = texts
    return columns


def test_loan_bundle_takes_raw_applicant_rows(bundle: bytes) -> None:
    from strongroom.loan.bundle import read_bundle
    from strongroom.loan.prediction import predict_book
    from strongroom.loan.sample import sample_book

    engine = LoanBundleMaker().load(OneFile("loan.bundle", bundle))
    (book,) = sample_book(3, 1)
    expected = predict_book(read_bundle(io.BytesIO(bundle)), book)
    assert engine.run("serving_default", applicants(), ("probability",))["probability"] == pytest.approx(expected)
    outputs = engine.run("classification", applicants(), ("classes", "scores"))
    assert outputs["scores"][:, 1] == pytest.approx(expected)
    assert outputs["classes"][0].tolist() == [b"paid", b"default"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("person_age", 1.0),
        ("person_age", 30.5),
        ("person_age", np.nan),
        ("person_age", np.inf),
        ("person_income", -1.0),
        ("loan_grade", b"Z"),
        ("loan_grade", b""),
    ],
)
def test_loan_bundle_refuses_rows_that_are_no_applicants(bundle: bytes, column: str, value: Any) -> None:
    engine = LoanBundleMaker().load(OneFile("loan.bundle", bundle))
    rows = applicants()
    rows[column] = rows[column].copy()
    rows[column][1] = value
    with pytest.raises(InvalidRequest, match=column):
        engine.run("serving_default", rows, ("probability",))
    with pytest.raises(InvalidRequest):
        engine.run("serving_default", applicants() | {column: applicants(2)[column]}, ("probability",))


def test_loan_model_from_a_catalog_follows_its_champion(serve: Any, memory: Any, bundle: bytes) -> None:
    from contextlib import contextmanager

    from strongroom.loan.bundle import read_bundle
    from strongroom.loan.catalog import promote, publish

    class Writable(type(memory)):  # type: ignore[misc]
        @contextmanager
        def create(self, path: str) -> Iterator[Any]:
            sink = io.BytesIO()
            yield sink
            self.files[path] = sink.getvalue()

        def open(self, path: str) -> Any:
            if path not in self.files:
                raise FileNotFoundError(path)
            return io.BytesIO(self.files[path])

    storage = Writable()
    model = read_bundle(io.BytesIO(bundle))
    for _ in range(2):
        publish(storage, "loan", model, now=dt.datetime.now(dt.UTC), note="trained")
    catalogs = LoanCatalogs(storage)
    served = serve([ModelSettings("loan", "models/loan")], catalogs, [LoanBundleMaker()])
    assert served.server.repository.versions("loan") == [2]
    row = {
        name: values[0] if isinstance(values[0], bytes) else float(values[0]) for name, values in applicants().items()
    }
    instance = {name: value.decode() if isinstance(value, bytes) else value for name, value in row.items()}
    status, body, _ = served.http("/v1/models/loan:predict", {"instances": [instance]})
    assert status == 200 and 0 <= body["predictions"][0] <= 1
    promote(storage, "loan", 1)
    until = time.monotonic() + 60
    while served.server.repository.versions("loan") != [1]:
        assert time.monotonic() < until
        time.sleep(0.01)
    file = next(name for name in storage.files if name.startswith("models/loan/v0002"))
    storage.files[file] += b"x"
    promote(storage, "loan", 2)
    served.server.repository.poll()
    assert served.server.repository.versions("loan") == [1]  # swapped: does not displace a good one
    with pytest.raises(FormatError):
        catalogs.open("models/loan/2/loan.bundle")


class Town:
    """Broker, owner and cloud of one end-to-end run, each command as a user types it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
            "STRONGROOM_OWNER": str(root / "broker/owner"),
            "STRONGROOM_ROOM": str(root / "broker/room"),
            "STRONGROOM_STORAGE": str(root / "storage"),
            "STRONGROOM_PLATFORM": "simulated",
            "STRONGROOM_SIMULATED_MACHINE": str(root / "machine"),
        }
        self.started: list[subprocess.Popen[bytes]] = []

    def run(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "strongroom", *map(str, arguments)]
        done = subprocess.run(
            command, env=self.environment, cwd=self.root, capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr.decode()

    def start(self, *arguments: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "strongroom", *map(str, arguments)]
        process = subprocess.Popen(command, env=self.environment, cwd=self.root, stderr=subprocess.PIPE)
        self.started.append(process)
        return process


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.kill()
        process.wait(20)
        if process.stderr is not None:
            process.stderr.close()


WORKLOAD = """
name = "serve"
command = ["python3", "-m", "strongroom", "serve", "--config", "models/serving.toml"]
product_id = 1
security_version = 1
broker_ca = "ca.pem"
trusted_files = ["ca.pem"]
packages = ["strongroom"]
[keys]
model = "serve/key/model"
[[mounts]]
path = "models"
key = "model"
mode = "read"
[resources]
memory = "4GiB"
cpus = 2
epc = "2GiB"
threads = 128
"""


@pytest.mark.slow
def test_the_whole_way_from_broker_and_sealed_model_to_an_attested_client(town: Town, booster: Any) -> None:
    from strongroom.attestation.collateral import Collateral
    from strongroom.attestation.policy import AppraisalPolicy, EnclaveIdentity
    from strongroom.attestation.roots import TrustRoot
    from strongroom.attestation.verify import verify_quote
    from strongroom.client import GrpcClient, RestClient, Trust
    from strongroom.platforms.simulated import SimulatedMachine
    from strongroom.workload import load_workload, measure

    root, broker_port, ports = town.root, free_port(), (free_port(), free_port())
    town.run("platform", "simulate", "machine")
    town.run("broker", "init", "broker", "--port", broker_port, "--allow-simulated", "--simulated-machine", "machine")
    broker = town.start("broker", "serve", "broker")
    until = time.monotonic() + 120
    while subprocess.run(
        [sys.executable, "-m", "strongroom", "key", "create", "serve/key/model"],
        env=town.environment, cwd=root, capture_output=True, check=False,
    ).returncode:  # fmt: skip
        assert time.monotonic() < until and broker.poll() is None
        time.sleep(0.2)
    (root / "plain/models/tabular/1").mkdir(parents=True)
    booster.save_model(root / "plain/models/tabular/1/model.ubj")
    (root / "plain/models/serving.toml").write_text(
        f"port = {ports[0]}\nrest_api_port = {ports[1]}\nattested_tls = ['localhost']\n"
        "[[models]]\nname = 'tabular'\nbase_path = 'models/tabular'\n"
    )
    for file in ("models/tabular/1/model.ubj", "models/serving.toml"):
        town.run("seal", f"plain/{file}", root / "storage" / file, "--key", "serve/key/model", "--path", file)
    (root / "workload").mkdir()
    (root / "workload/workload.toml").write_text(WORKLOAD)
    (root / "workload/ca.pem").write_bytes((root / "broker/room/ca.pem").read_bytes())
    town.run("authorize", "workload/workload.toml", "--accept-simulated")
    server = town.start("workload", "run", "workload/workload.toml")
    assert server.stderr is not None
    lines: list[bytes] = []
    while not any(b"serving:" in line for line in lines):
        line = server.stderr.readline()
        assert line, b"".join(lines).decode()
        lines.append(line)

    machine = SimulatedMachine.load(root / "machine")
    collateral, simulated = Collateral.from_json(machine.collateral()), TrustRoot("simulated", machine.root_der)
    policy = AppraisalPolicy(
        measurements=(EnclaveIdentity(measure(load_workload(root / "workload/workload.toml")).mr_enclave),),
        tees=frozenset({"sgx"}),
        tcb_statuses=frozenset({"UpToDate"}),
        advisories=(),
        min_tcb_eval_data_number=0,
        accept_simulated=True,
    )
    trust = Trust(lambda quote, now: verify_quote(quote, collateral, simulated, now).claims, policy)
    rows = np.random.default_rng(3).random((5, 4), dtype=np.float32)
    expected = pytest.approx(booster.inplace_predict(rows, validate_features=False))
    with GrpcClient(f"127.0.0.1:{ports[0]}", trust, seal_requests=True) as client:
        answer = client.predict("tabular", {"inputs": rows}, receipt=True)
        assert answer.outputs["outputs"] == expected and answer.receipt is not None
    with RestClient(f"127.0.0.1:{ports[1]}", trust) as rest:
        assert rest.predict("tabular", {"inputs": rows}).outputs["outputs"] == expected
    assert re.search(rb"simulated", b"".join(lines))
    for path in (root / "storage").rglob("*"):
        assert path.is_dir() or b"learner" not in path.read_bytes()
    server.send_signal(signal.SIGTERM)
    assert server.wait(30) == 0
