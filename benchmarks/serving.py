"""How fast the model server is, beside its engines and beside other servers.

    python benchmarks/serving.py [--seconds 5] [--rounds 3] [--only tabular,tls,resnet,start,soak] [--soak 600]
        [--mlserver /tmp/mlserver] [--kserve /tmp/kserve]

Needs `h2load` (Debian: nghttp2-client). Peers are measured where their environments are named:

    python -m venv /tmp/mlserver && /tmp/mlserver/bin/pip install mlserver mlserver-xgboost
    python -m venv /tmp/kserve && /tmp/kserve/bin/pip install kserve xgboost-cpu

Server and load generator share the processors, so requests a second are a lower bound; each round measures every
server once, and the best round counts, so that other work on the machine hurts all of them alike. Milliseconds of
processor time a request are the server's own and hardly depend on other work.
"""

import argparse
import json
import os
import platform as host
import runpy
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import xgboost
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from strongroom.deployment.service_tls import service_tls
from strongroom.serving.sealing import SealedCall, SealedReply, key_id, open_call, open_reply, seal_call, seal_reply
from strongroom.serving.tensors.tensor_proto import fill_tensor
from strongroom.serving.wire import inference_v2, tensorflow

RESULT = Path(os.environ.get("RESULT", Path(__file__).parent / "results" / "serving.json"))
PEERS = Path(__file__).parent / "serving_peers"
RESNET = Path(__file__).parents[1] / "examples/serving/make_resnet50.py"
FEATURES, TREES, DEPTH = 16, 100, 6
PREDICT = "/tensorflow.serving.PredictionService/Predict"
INFER = "/inference.GRPCInferenceService/ModelInfer"
CONNECTIONS = 16


@dataclass
class Row:
    """One measurement."""

    server: str
    protocol: str
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms_per_request: float


@dataclass
class Target:
    """One request to one server."""

    server: str
    protocol: str
    url: str
    body: bytes
    headers: tuple[str, ...]
    pid: int


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def tree_of(pid: int) -> list[int]:
    """A process and everything below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += tree_of(int(child))
    return found


def cpu_s(pid: int) -> float:
    ticks = 0
    for one in tree_of(pid):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in tree_of(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def process(command: list[str], ready: Callable[[], bool], **environment: str) -> Iterator[int]:
    with tempfile.TemporaryFile() as log:
        started = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment})
        try:
            until = time.monotonic() + 120
            while not ready():
                if started.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    sys.exit(log.read().decode(errors="replace")[-3000:])
                time.sleep(0.02)
            yield started.pid
        finally:
            started.terminate()
            started.wait(30)


_UNVERIFIED = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_UNVERIFIED.check_hostname, _UNVERIFIED.verify_mode = False, ssl.CERT_NONE  # asks this machine whether it is ready


def answers(url: str) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=2, context=_UNVERIFIED) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    return ask


@contextmanager
def strongroom(models: Path, config: str, scheme: str = "http") -> Iterator[tuple[int, int, int]]:
    """Process id, gRPC port, REST port of `strongroom serve`."""
    ports = free_port(), free_port()
    (models / "serving.toml").write_text(f"port = {ports[0]}\nrest_api_port = {ports[1]}\npoll_wait_s = 5\n{config}")
    command = [sys.executable, "-m", "strongroom", "serve", "--config", "serving.toml"]
    command += ["--dangerous_plaintext_models", str(models)]
    with process(command, answers(f"{scheme}://127.0.0.1:{ports[1]}/readyz")) as pid:
        yield pid, *ports


def h2load(target: Target, seconds: float, connections: int = CONNECTIONS) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "body").write_bytes(target.body)
        command = ["h2load", "-D", str(round(seconds)), "--warm-up-time=1", "-c", str(connections), "-t", "1"]
        command += ["-d", f"{folder}/body", f"--log-file={folder}/log", target.url]
        command += [part for header in target.headers for part in ("-H", header)]
        if "grpc" not in target.protocol:
            command.append("--h1")
        before, started = cpu_s(target.pid), time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        cpu, elapsed = cpu_s(target.pid) - before, time.monotonic() - started
        lines = [line.split() for line in (Path(folder) / "log").read_text().splitlines()]
    good = np.array([int(line[2]) for line in lines if line[1] == "200"]) / 1000
    if len(good) < 0.99 * len(lines) or not len(good):
        sys.exit(f"{target.server} {target.protocol}: {len(lines) - len(good)} of {len(lines)} failed\n{done.stdout}")
    total = len(good) * elapsed / round(seconds)  # the warm-up is not in the log
    p50, p99 = np.percentile(good, [50, 99])
    return Row(target.server, target.protocol, len(good) / round(seconds), p50, p99, 1000 * cpu / total)


def best(targets: list[Target], seconds: float, rounds: int) -> list[Row]:
    """Every target in every round; the best round of each."""
    rows: dict[tuple[str, str], Row] = {}
    for _ in range(rounds):
        for target in targets:
            row = h2load(target, seconds)
            kept = rows.get((row.server, row.protocol))
            if kept is None or row.requests_per_s > kept.requests_per_s:
                rows[row.server, row.protocol] = row
    for row in rows.values():
        show(row)
    return list(rows.values())


def show(row: Row) -> None:
    print(
        f"{row.server:<22} {row.protocol:<10} {row.requests_per_s:>8.0f} req/s   p50 {row.p50_ms:>7.2f} ms   "
        f"p99 {row.p99_ms:>7.2f} ms   {row.cpu_ms_per_request:>6.2f} CPU ms"
    )


def framed(message: Any) -> bytes:
    raw: bytes = message.SerializeToString()
    return b"\0" + len(raw).to_bytes(4, "big") + raw


GRPC = ("content-type: application/grpc", "te: trailers")
JSON = ("content-type: application/json",)


def predict(model: str, name: str, array: Any) -> Any:
    request = tensorflow.PredictRequest()
    request.model_spec.name = model
    fill_tensor(request.inputs[name], array)
    return request


def infer(array: Any) -> Any:
    request = inference_v2.ModelInferRequest(model_name="tabular")
    request.inputs.add(name="inputs", datatype="FP32", shape=array.shape)
    request.raw_input_contents.append(array.tobytes())
    return request


def targets_of(server: str, pid: int, grpc_port: int, rest_port: int, row: Any, *, v1: bool) -> list[Target]:
    """What V2 servers have in common, and TensorFlow's REST form where they have it."""
    at, rest = f"http://127.0.0.1:{grpc_port}", f"http://127.0.0.1:{rest_port}"
    entry = {"name": "inputs", "shape": list(row.shape), "datatype": "FP32", "data": row.ravel().tolist()}
    found = [
        Target(server, "grpc v2", at + INFER, framed(infer(row)), GRPC, pid),
        Target(
            server,
            "rest v2",
            rest + "/v2/models/tabular/infer",
            json.dumps({"id": "1", "inputs": [entry]}).encode(),
            JSON,
            pid,
        ),
    ]
    if v1:
        body = json.dumps({"instances": row.tolist()}).encode()
        found.append(Target(server, "rest v1", rest + "/v1/models/tabular:predict", body, JSON, pid))
    return found


def write_tabular(folder: Path) -> Path:
    rows = np.random.default_rng(0).random((5000, FEATURES), dtype=np.float32)
    data = xgboost.DMatrix(rows, label=(rows @ np.arange(FEATURES) > 60))
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": DEPTH, "nthread": 1}, data, TREES)
    (folder / "tabular/1").mkdir(parents=True)
    (folder / "echo/1").mkdir(parents=True)
    booster.save_model(folder / "tabular/1/model.ubj")
    (folder / "echo/1/identity.toml").write_text('[tensors]\nx = {datatype = "FP32", shape = [-1, 16]}\n')
    return folder / "tabular/1/model.ubj"


def engine_alone(model: Path, row: Any) -> float:
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(model)
    started, done = time.monotonic(), 0
    while time.monotonic() - started < 2:
        booster.inplace_predict(row, validate_features=False)
        done += 1
    return done / (time.monotonic() - started)


@contextmanager
def mlserver(home: Path, folder: Path, model: Path) -> Iterator[tuple[int, int, int]]:
    ports = free_port(), free_port()
    (folder / "mlserver").mkdir()
    settings = {"http_port": ports[1], "grpc_port": ports[0], "metrics_port": free_port(), "host": "127.0.0.1"}
    (folder / "mlserver/settings.json").write_text(json.dumps(settings | {"parallel_workers": 0}))
    shutil.copy(model, folder / "mlserver/model.ubj")
    described = {
        "name": "tabular",
        "implementation": "mlserver_xgboost.XGBoostModel",
        "parameters": {"uri": "./model.ubj", "content_type": "np"},
    }
    (folder / "mlserver/model-settings.json").write_text(json.dumps(described))
    command = [str(home / "bin/mlserver"), "start", str(folder / "mlserver")]
    with process(command, answers(f"http://127.0.0.1:{ports[1]}/v2/models/tabular/ready"), OMP_NUM_THREADS="1") as pid:
        yield pid, *ports


@contextmanager
def kserve(home: Path, model: Path) -> Iterator[tuple[int, int, int]]:
    ports = free_port(), free_port()
    command = [str(home / "bin/python"), str(PEERS / "kserve_peer.py")]
    command += ["--http_port", str(ports[1]), "--grpc_port", str(ports[0])]
    with process(
        command, answers(f"http://127.0.0.1:{ports[1]}/v2/models/tabular/ready"), MODEL=str(model), OMP_NUM_THREADS="1"
    ) as pid:
        yield pid, *ports


@contextmanager
def fastapi(model: Path) -> Iterator[tuple[int, int]]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "fastapi_peer:app", "--app-dir", str(PEERS), "--port", str(port)]
    command += ["--no-access-log", "--log-level", "warning"]
    with process(command, answers(f"http://127.0.0.1:{port}/openapi.json"), MODEL=str(model)) as pid:
        yield pid, port


def tabular(seconds: float, rounds: int, peers: dict[str, Path]) -> dict[str, Any]:
    row = np.random.default_rng(1).random((1, FEATURES), dtype=np.float32)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model = write_tabular(folder)
        config = "".join(
            f"[[models]]\nname = '{name}'\nbase_path = '{name}'\nconcurrency = 2\n" for name in ("tabular", "echo")
        )
        pid, grpc_port, rest_port = stack.enter_context(strongroom(folder, config))
        at = f"http://127.0.0.1:{grpc_port}"
        targets = targets_of("strongroom", pid, grpc_port, rest_port, row, v1=True)
        targets.append(Target("strongroom", "grpc", at + PREDICT, framed(predict("tabular", "inputs", row)), GRPC, pid))
        targets.append(Target("strongroom no-op", "grpc", at + PREDICT, framed(predict("echo", "x", row)), GRPC, pid))
        echo = json.dumps({"instances": row.tolist()}).encode()
        url = f"http://127.0.0.1:{rest_port}/v1/models/echo:predict"
        targets.append(Target("strongroom no-op", "rest v1", url, echo, JSON, pid))
        if "mlserver" in peers:
            there = stack.enter_context(mlserver(peers["mlserver"], folder, model))
            targets += targets_of("mlserver", *there, row, v1=False)
        if "kserve" in peers:
            there = stack.enter_context(kserve(peers["kserve"], model))
            targets += targets_of("kserve", *there, row, v1=True)
        other, port = stack.enter_context(fastapi(model))
        url = f"http://127.0.0.1:{port}/v1/models/tabular:predict"
        targets.append(Target("fastapi", "rest v1", url, echo, JSON, other))
        check_same_answers(targets, row)
        rows = best(targets, seconds, rounds)
        print("both at once:")
        together = [
            {key: value for key, value in asdict(one).items() if key != "cpu_ms_per_request"}
            for one in beside([targets[0], targets[2]], seconds)
        ]
        per_s = engine_alone(model, row)
    print(f"engine alone, one thread: {per_s:.0f} predictions/s")
    return {
        "connections": CONNECTIONS,
        "engine_alone_per_s": per_s,
        "rows": [asdict(one) for one in rows],
        "grpc_v2_beside_rest_v1": together,
        "times_the_better_peer": ratios(rows),
    }


def ratios(rows: list[Row]) -> dict[str, float]:
    """Requests a second against the better of MLServer and KServe, by protocol."""
    found = {}
    for protocol in ("grpc v2", "rest v2", "rest v1"):
        peers = [
            row.requests_per_s for row in rows if row.server in {"mlserver", "kserve"} and row.protocol == protocol
        ]
        ours = [row.requests_per_s for row in rows if row.server == "strongroom" and row.protocol == protocol]
        if peers and ours:
            found[protocol] = max(ours) / max(peers)
            print(f"{protocol}: {found[protocol]:.2f} times the better peer")
    return found


def beside(targets: list[Target], seconds: float) -> list[Row]:
    """Both APIs at once, each with its own connections: neither may starve the other."""
    rows: list[Row] = []
    threads = [threading.Thread(target=lambda one=one: rows.append(h2load(one, seconds))) for one in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for row in rows:
        row.cpu_ms_per_request = float("nan")  # of both together
        show(row)
    return rows


def check_same_answers(targets: list[Target], row: Any) -> None:
    """A server that answers nonsense quickly is not fast."""
    seen: list[float] = []
    for target in targets:
        if "grpc" in target.protocol or "no-op" in target.server:
            continue
        request = urllib.request.Request(target.url, target.body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            document = json.load(answer)
        seen.append(document["predictions"][0] if "predictions" in document else document["outputs"][0]["data"][0])
    if np.ptp(seen) > 1e-5:
        sys.exit(f"the servers disagree: {seen}")


def certificates() -> dict[str, bytes]:
    """Files of a two-way TLS site, by path."""
    made = service_tls(["localhost"], datetime.now(UTC), client="client.example")
    return {str(file.path): bytes(file.content) for file in made}


def resnet(seconds: float, rounds: int) -> dict[str, Any]:
    """The engine in this process against the same engine behind gRPC with two-way TLS, in turns.

    In both forms: one prediction at a time on all cores, and two at a time (the server's default) on half of them each.
    """
    results: dict[str, Any] = {}
    raw: bytes = runpy.run_path(str(RESNET))["make_resnet50"]()
    for places, callers in ((1, (1, 2)), (2, (2, 4))):
        with resnet_server(raw, places) as (pid, ask):
            for size in (1, 16):
                numbers = callers if size == 1 else (places,)
                found = resnet_shares(raw, ask, places, size, numbers, seconds, rounds)
                for name, row in found.items():
                    print(
                        f"ResNet-50 batch {size:>2}, {places} at a time, {name}: {row['images_per_s']:.1f} images/s",
                        end="",
                    )
                    print(f", {row['share']:.1%} of the engine" if "share" in row else "")
                results[f"batch_{size}_{places}_at_a_time"] = found
            results[f"resident_mb_{places}_at_a_time"] = resident_mb(pid)
            print(f"resident {resident_mb(pid):.0f} MB for a model of {len(raw) / 1e6:.0f} MB")
    return results


@contextmanager
def resnet_server(raw: bytes, places: int) -> Iterator[tuple[int, Callable[[bytes], Any]]]:
    """Our server with two-way TLS; its process, and a function that sends it the bytes of a request."""
    files = certificates()
    with tempfile.TemporaryDirectory() as temporary:
        folder, port = Path(temporary), free_port()
        (folder / "resnet/1").mkdir(parents=True)
        (folder / "resnet/1/saved_model.pb").write_bytes(raw)
        (folder / "ssl.cfg").write_bytes(files["ssl.cfg"])
        config = f"port = {port}\nrest_api_port = 0\nssl_config_file = 'ssl.cfg'\n"
        config += f"[[models]]\nname = 'resnet'\nbase_path = 'resnet'\nconcurrency = {places}\n"
        (folder / "serving.toml").write_text(config)
        command = [sys.executable, "-m", "strongroom", "serve", "--config", "serving.toml"]
        command += ["--dangerous_plaintext_models", str(folder)]
        options = [("grpc.max_receive_message_length", 1 << 28), ("grpc.max_send_message_length", 1 << 28)]
        credentials = grpc.ssl_channel_credentials(
            files["ca_cert.pem"], files["client/key.pem"], files["client/cert.pem"]
        )
        with grpc.secure_channel(f"localhost:{port}", credentials, options) as channel:
            ask = partial(channel.unary_unary(PREDICT), timeout=120)
            first = predict("resnet", "input", np.zeros((1, 224, 224, 3), np.float32)).SerializeToString()
            with process(command, lambda: _answers(ask, first)) as pid:
                yield pid, ask


def _answers(ask: Callable[[bytes], Any], request: bytes) -> bool:
    try:
        ask(request)
    except grpc.RpcError:
        return False
    return True


def resnet_shares(
    raw: bytes,
    ask: Callable[[bytes], Any],
    places: int,
    size: int,
    callers: tuple[int, ...],
    seconds: float,
    rounds: int,
) -> dict[str, dict[str, Any]]:
    """Images per second of the engine alone and of the server, and the median of the server's share in each round.

    The request is built once, as h2load's is. The engine alone has this process's small pages, as any program's; in
    huge ones, which the server asks for, it is faster too: GLIBC_TUNABLES=glibc.malloc.hugetlb=1 gives them to both.
    """
    from strongroom.serving.engines.openvino import OpenVinoMaker

    class Files:
        names = frozenset({"saved_model.pb"})

        def read(self, _name: str) -> bytes:
            return raw

    batch = np.random.default_rng(0).random((size, 224, 224, 3), dtype=np.float32)
    engine = OpenVinoMaker().load(Files(), places)
    run = partial(engine.run, "serving_default", {"input": batch}, ("predict",))
    served = partial(ask, predict("resnet", "input", batch).SerializeToString())
    acts: dict[str, tuple[Callable[[], Any], int]] = {"alone": (run, places)}
    acts |= {f"{number} callers": (served, number) for number in callers}
    seconds *= 1 if size == 1 else 4
    in_turns(acts, seconds, 1)  # both sides' memory settles
    rates = in_turns(acts, seconds, rounds)
    engine.close()
    found: dict[str, dict[str, Any]] = {}
    for name, times in rates.items():
        found[name] = {
            "images_per_s": size * statistics.median(times),
            "rounds": [round(size * one, 2) for one in times],
        }
        if name != "alone":
            pairs = zip(times, rates["alone"], strict=True)
            found[name]["share"] = statistics.median(one / alone for one, alone in pairs)
    return found


def in_turns(acts: dict[str, tuple[Callable[[], Any], int]], seconds: float, rounds: int) -> dict[str, list[float]]:
    """Calls a second of each, in turns, every other round backwards; with each, how many callers at once."""
    rates: dict[str, list[float]] = {name: [] for name in acts}
    for number in range(rounds):
        for name in list(acts)[::-1] if number % 2 else acts:
            act, callers = acts[name]
            act()
            rates[name].append(calls_per_s(act, callers, seconds))
    return rates


def calls_per_s(act: Callable[[], Any], callers: int, seconds: float) -> float:
    """Calls a second of so many callers: of each, from the end of its first call to that of its last one in time."""
    rates: list[float] = []
    end = time.monotonic() + seconds

    def call() -> None:
        times = []
        while (now := time.monotonic()) < end:
            times.append(now)
            act()
        rates.append((len(times) - 2) / (times[-1] - times[1]))

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(rates) < callers or min(rates) <= 0:
        raise SystemExit("the turns are too short for this work: more --seconds")
    return sum(rates)


def tls_and_sealing(seconds: float, rounds: int) -> dict[str, Any]:
    """The same requests with and without TLS, and what sealing costs both sides together."""
    row = np.random.default_rng(1).random((1, FEATURES), dtype=np.float32)
    body = json.dumps({"instances": row.tolist()}).encode()
    config = "[[models]]\nname = 'tabular'\nbase_path = 'tabular'\n"
    targets = []
    with ExitStack() as stack:
        for name, scheme, more in (("plain", "http", ""), ("TLS", "https", "ssl_config_file = 'ssl.cfg'\n")):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            write_tabular(folder)
            (folder / "ssl.cfg").write_bytes(one_way())
            pid, grpc_port, rest_port = stack.enter_context(strongroom(folder, more + config, scheme))
            at = f"{scheme}://127.0.0.1:{grpc_port}{PREDICT}"
            targets.append(Target(name, "grpc", at, framed(predict("tabular", "inputs", row)), GRPC, pid))
            url = f"{scheme}://127.0.0.1:{rest_port}/v1/models/tabular:predict"
            targets.append(Target(name, "rest v1", url, body, JSON, pid))
        rows = best(targets, seconds, rounds)
    sealing = {str(size): sealing_us(size) for size in (100, 602_112)}
    print("sealing and opening of request and answer, both sides, CPU us by request bytes:", sealing)
    return {"rows": [asdict(one) for one in rows], "sealing_cpu_us": sealing}


def one_way() -> bytes:
    made = service_tls(["localhost", "127.0.0.1"], datetime.now(UTC))
    return bytes(next(file.content for file in made if str(file.path) == "ssl.cfg"))


def sealing_us(size: int) -> float:
    key = X25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    call, keys, repeat = SealedCall("RPC", PREDICT, {}, bytes(size)), {key_id(public): key}, 200
    started = time.process_time()
    for _ in range(repeat):
        raw, theirs = seal_call(call, public, bytes(32))
        _, ours = open_call(raw, keys)
        open_reply(seal_reply(SealedReply(0, {}, bytes(100)), ours, bytes(32)), theirs)
    return (time.process_time() - started) / repeat * 1e6


WORKLOAD = """
name = "serve"
command = ["python3", "-m", "strongroom", "serve", "--config", "models/serving.toml"]
product_id = 1
security_version = 1
broker_ca = "ca.pem"
trusted_files = ["ca.pem"]
packages = ["strongroom"]
keys = {model = "serve/key/model"}
mounts = [{path = "models", key = "model", mode = "read"}]
resources = {memory = "4GiB", cpus = 2, epc = "2GiB", threads = 128}
"""


def start(rounds: int) -> dict[str, Any]:
    """From nothing to ready with a sealed ResNet-50: attestation, key, decryption, compilation, first answer."""
    make: Callable[[], bytes] = runpy.run_path(str(RESNET))["make_resnet50"]
    model = make()
    results = []
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        root, port = Path(temporary), free_port()
        settings = {
            "STRONGROOM_OWNER": str(root / "broker/owner"),
            "STRONGROOM_ROOM": str(root / "broker/room"),
            "STRONGROOM_STORAGE": str(root / "storage"),
            "STRONGROOM_PLATFORM": "simulated",
            "STRONGROOM_SIMULATED_MACHINE": str(root / "machine"),
        }

        def run(*arguments: str) -> None:
            command = [sys.executable, "-m", "strongroom", *arguments]
            subprocess.run(command, check=True, cwd=root, env={**os.environ, **settings}, stdout=subprocess.DEVNULL)

        run("platform", "simulate", "machine")
        run("broker", "init", "broker", "--port", str(port), "--allow-simulated", "--simulated-machine", "machine")
        ready = root / "ready"
        command = [
            sys.executable,
            "-m",
            "strongroom",
            "broker",
            "serve",
            str(root / "broker"),
            "--ready-file",
            str(ready),
        ]
        stack.enter_context(process(command, ready.exists, **settings))
        run("key", "create", "serve/key/model")
        ports = free_port(), free_port()
        (root / "plain/models/resnet/1").mkdir(parents=True)
        (root / "plain/models/resnet/1/saved_model.pb").write_bytes(model)
        config = f"port = {ports[0]}\nrest_api_port = {ports[1]}\nattested_tls = ['localhost']\n"
        config += "[[models]]\nname = 'resnet'\nbase_path = 'models/resnet'\nconcurrency = 1\n"
        (root / "plain/models/serving.toml").write_text(config)
        for file in ("models/resnet/1/saved_model.pb", "models/serving.toml"):
            run("seal", f"plain/{file}", f"storage/{file}", "--key", "serve/key/model", "--path", file)
        (root / "workload").mkdir()
        (root / "workload/workload.toml").write_text(WORKLOAD)
        shutil.copy(root / "broker/room/ca.pem", root / "workload/ca.pem")
        run("authorize", "workload/workload.toml", "--accept-simulated")
        command = [sys.executable, "-m", "strongroom", "workload", "run", str(root / "workload/workload.toml")]
        for _ in range(rounds):
            started = time.monotonic()
            with process(command, answers(f"https://127.0.0.1:{ports[1]}/readyz"), **settings) as pid:
                seconds = time.monotonic() - started
                results.append({"ready_s": seconds, "cpu_s": cpu_s(pid), "resident_mb": resident_mb(pid)})
                print(f"ready after {seconds:.1f} s ({cpu_s(pid):.1f} CPU s), resident {resident_mb(pid):.0f} MB")
    return {"model_mb": len(model) / 1e6, "runs": results}


def soak(seconds: float) -> dict[str, Any]:
    """64 connections; resident memory every tenth of the time."""
    row = np.random.default_rng(1).random((1, FEATURES), dtype=np.float32)
    with tempfile.TemporaryDirectory() as temporary:
        write_tabular(Path(temporary))
        with strongroom(Path(temporary), "[[models]]\nname = 'tabular'\nbase_path = 'tabular'\n") as (pid, port, rest):
            targets = targets_of("strongroom", pid, port, rest, row, v1=True)
            memory = [resident_mb(pid)]
            rows: list[Row] = []

            def load(target: Target) -> None:
                rows.append(h2load(target, seconds, 32))

            threads = [threading.Thread(target=load, args=(target,)) for target in (targets[0], targets[2])]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                time.sleep(seconds / 10)
                memory.append(resident_mb(pid))
    print("resident MB:", " ".join(f"{one:.0f}" for one in memory))
    for one in rows:
        show(one)
    return {"seconds": seconds, "resident_mb": memory, "rows": [asdict(one) for one in rows]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="tabular,tls,resnet,start,soak")
    parser.add_argument("--soak", type=float, default=60)
    parser.add_argument("--mlserver", type=Path)
    parser.add_argument("--kserve", type=Path)
    given = parser.parse_args()
    peers = {name: getattr(given, name) for name in ("mlserver", "kserve") if getattr(given, name)}
    results = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    results["machine"] = {"processor": host.processor() or host.machine(), "cores": os.cpu_count()}
    wanted = given.only.split(",")
    if "tabular" in wanted:
        results["tabular"] = tabular(given.seconds, given.rounds, peers)
    if "tls" in wanted:
        results["tls"] = tls_and_sealing(given.seconds, given.rounds)
    if "start" in wanted:
        results["start"] = start(given.rounds)
    if "resnet" in wanted:
        results["resnet"] = resnet(given.seconds, given.rounds)
    if "soak" in wanted:
        results["soak"] = soak(given.soak)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
