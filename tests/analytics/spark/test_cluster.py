"""A standalone cluster of separate processes, each of which attests by itself to a real broker."""

import base64
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from strongroom.analytics.kms import LocalKms
from strongroom.analytics.signing import Signer
from strongroom.analytics.spark.attested import _traffic_secret
from strongroom.analytics.spark.command import BACKEND
from strongroom.analytics.versions import VersionsInMemory
from strongroom.analytics.writing import Protection, TableWriter, Writing
from strongroom.attestation.policy import ANY, AppraisalPolicy, EnclaveIdentity
from strongroom.attestation.roots import INTEL_ROOT, TrustRoot
from strongroom.broker.app import create_app
from strongroom.broker.audit import StoredAuditLog
from strongroom.broker.grants import Grant
from strongroom.broker.parts import Parts, open_parts
from strongroom.broker.server import serving
from strongroom.broker.settings import load_settings
from strongroom.broker.setup import SimulatedTrust, create_broker
from strongroom.broker.verifier import Trust, verify_with
from strongroom.formats.canonical import parse_json_object
from strongroom.formats.kbs import ResourcePath
from strongroom.platforms.simulated import SimulatedMachine
from strongroom.workload import load_workload, measure

pytestmark = pytest.mark.slow

TRIPS, OUT, SPARK = "taxi/key/trips", "taxi/key/out", "taxi/key/spark"
# Planted, so that they can be looked for in every file that Spark leaves behind.
SECRETS = {
    TRIPS: b"CANARY-trips-CANARY-trips-CANARY",
    OUT: b"CANARY-out-CANARY-out-CANARY-out",
    SPARK: b"CANARY-spark-32b" * 2,
}
WORKLOAD = f"""
    name = "taxi-spark"
    command = ["strongroom", "analytics", "submit", "app.py"]
    product_id = 1
    security_version = 1
    trusted_files = ["app.py"]
    [keys]
    trips = "{TRIPS}"
    out = "{OUT}"
    spark = "{SPARK}"
"""
APP = """
    import sys
    from pyspark.sql import SparkSession
    spark = SparkSession.builder.appName("trips").getOrCreate()
    trips = spark.read.parquet(sys.argv[1])
    print("rows", trips.count(), "sum", trips.agg({"id": "sum"}).collect()[0][0])
    if len(sys.argv) > 3:
        import pathlib, time
        ready = pathlib.Path(sys.argv[3])
        ready.touch()
        while not ready.with_name("go").exists():
            time.sleep(0.1)
        print("again", "sum", trips.agg({"id": "sum"}).collect()[0][0])
    print("executors", spark.sparkContext._jsc.sc().getExecutorMemoryStatus().size() - 1)
    trips.where("id < 100").repartition(2).write.parquet(sys.argv[2])
    spark.stop()
"""
DEADLINE_S = 900.0  # on a machine that does much else


@dataclass
class Cluster:
    """A broker, a simulated machine, a workload, and Spark daemons started as this workload."""

    folder: Path
    parts: Parts
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    master: str = ""

    def workload(self, name: str = "spark.toml") -> Path:
        return self.folder / "workload" / name

    def authorize(self) -> None:
        policy = AppraisalPolicy(
            measurements=(EnclaveIdentity(measure(load_workload(self.workload())).mr_enclave),),
            tees=frozenset({"sgx"}),
            tcb_statuses=frozenset({"UpToDate"}),
            advisories=(),
            min_tcb_eval_data_number=ANY,
            accept_simulated=True,
        )
        paths = tuple(map(ResourcePath.parse, SECRETS))
        self.parts.grants.add(Grant(name="taxi-spark", policy=policy, keys=paths), datetime.now(UTC), replace=True)

    def run(self, *arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        place = folder or self.folder / "workload"
        return subprocess.run(
            [sys.executable, "-m", "strongroom", "analytics", *arguments],
            env=self.environment | {"STRONGROOM_WORKLOAD": str(place / "spark.toml")},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            cwd=place,
        )

    def start(self, name: str, *arguments: str, workload: Path | None = None) -> Path:
        log = self.folder / f"{name}.log"
        variables = self.environment | {"STRONGROOM_WORKLOAD": str(workload or self.workload())}
        with log.open("wb") as stream:
            command = [sys.executable, "-m", "strongroom", "analytics", *arguments]
            self.processes.append(subprocess.Popen(command, env=variables, stdout=stream, stderr=stream))
        return log

    def start_master(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        self.start("master", "spark-master", "--port", str(port))
        self.master = f"spark://127.0.0.1:{port}"
        wait_until(lambda: _listens(port))

    def start_worker(self, name: str, workload: Path | None = None) -> Path:
        work = self.folder / "work" / name
        arguments = ("spark-worker", self.master, "--cores", "1", "--memory", "600m", "--work", str(work))
        self.start(name, *arguments, workload=workload)
        return work

    def submit(self, *more: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = self._submit_command(*more, "--", str(self.folder / "trips"), str(self.folder / "out"))
        return self.run(*command, folder=folder)

    def _submit_command(self, *more: str) -> list[str]:
        trips, out = str(self.folder / "trips"), str(self.folder / "out")
        settings = {
            "spark.executor.memory": "512m",
            "spark.driver.host": "127.0.0.1",
            "spark.sql.shuffle.partitions": "2",
        }
        confs = [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
        tables = ["--table", f"trips={trips}", "--into", f"out={out}", "--key", OUT, "--trust", signer().public.hex()]
        return ["submit", "app.py", *tables, "--master", self.master, *confs, *more]

    def submit_in_background(self, ready: Path) -> subprocess.Popen[bytes]:
        """An application that says when it has executors, then waits to be told to go on."""
        command = self._submit_command("--", str(self.folder / "trips"), str(self.folder / "out"), str(ready))
        process = subprocess.Popen(
            [sys.executable, "-m", "strongroom", "analytics", *command],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder / "workload",
        )
        self.processes.append(process)
        return process

    def copy_of_authorized(self) -> Path:
        """The workload's folder as it was authorized."""
        folder = self.folder / "authorized"
        folder.mkdir()
        (folder / "app.py").write_text(textwrap.dedent(APP))
        (folder / "spark.toml").write_text(self.workload().read_text())
        return folder

    def left_behind(self) -> list[Path]:
        """Every file that Spark's processes wrote outside their private memory."""
        return [path for path in [*(self.folder / "work").rglob("*"), *self.folder.glob("*.log")] if path.is_file()]

    def executors(self) -> list[int]:
        """Process ids of this cluster's executors."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if (
                    words[0].endswith(b"/java")
                    and BACKEND.encode() in words
                    and self.driver_address() in b" ".join(words)
                ):
                    found.append(int(path.parent.name))
        return found

    def driver_address(self) -> bytes:
        """Of the newest executor's command, as its worker logged it."""
        logs = sorted((self.folder / "work").rglob("stderr"), key=lambda path: path.stat().st_mtime)
        return logs[-1].read_bytes().split(b'"--driver-url" "')[1].split(b'"')[0]

    def attested(self) -> int:
        """How often somebody attested successfully, by the broker's own log."""
        records = cast("StoredAuditLog", self.parts.audit).read()
        entries = [parse_json_object(record.record, max_bytes=1 << 20) for record in records]
        return sum(entry["event"] == "attest" and entry["decision"] == "allow" for entry in entries)

    def close(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.communicate(timeout=60)


def signer() -> Signer:
    return Signer.from_seed(b"s" * 32)


def wait_until(done: Callable[[], Any], timeout_s: float = DEADLINE_S) -> Any:
    """Wait for other processes; they have no other way to tell."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if found := done():
            return found
        time.sleep(0.2)
    pytest.fail("waited too long")


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def cluster(tmp_path: Path, rows: Any, java: None) -> Iterator[Cluster]:
    machine_folder, now = tmp_path / "machine", datetime.now(UTC)
    machine = SimulatedMachine.create(machine_folder, now)
    trust = SimulatedTrust(machine.root_der, machine.collateral().encode())
    files = create_broker(tmp_path / "broker", now=now, simulated=trust)
    values = load_settings(files.settings)
    verifier = _InProcess(Trust((INTEL_ROOT, TrustRoot("simulated", machine.root_der)), files.collateral))
    parts = open_parts(files, values, verifier, clock=lambda: datetime.now(UTC))
    for name, key in SECRETS.items():
        parts.keyring.create(ResourcePath.parse(name), key, now)
    workload = tmp_path / "workload"
    workload.mkdir()
    (workload / "app.py").write_text(textwrap.dedent(APP))
    (workload / "spark.toml").write_text(textwrap.dedent(WORKLOAD))
    writing = Writing(LocalKms.holding({TRIPS: SECRETS[TRIPS]}), signer(), VersionsInMemory())
    with TableWriter(tmp_path / "trips", "trips", rows.schema, Protection(TRIPS), writing=writing) as writer:
        writer.write(rows)
    with serving(create_app(parts), files, values) as url:
        room = tmp_path / "room"
        room.mkdir()
        (room / "room.toml").write_text(f'url = "{url}"\n')
        (room / "ca.pem").write_bytes(files.ca_certificate.read_bytes())
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "STRONGROOM_WORKLOAD": str(workload / "spark.toml"),
            "STRONGROOM_ROOM": str(room),
            "STRONGROOM_PLATFORM": "simulated",
            "STRONGROOM_SIMULATED_MACHINE": str(machine_folder),
        }
        made = Cluster(tmp_path, parts, environment)
        made.authorize()
        yield made
        made.close()
    parts.close()


class _InProcess:
    def __init__(self, trust: Trust) -> None:
        self._trust = trust

    def verify(self, quote: bytes, now: datetime) -> Any:
        return verify_with(self._trust, quote, now)


def needles() -> list[bytes]:
    """The planted keys and what is derived from them, in every form that text takes."""
    raw = [*SECRETS.values(), _traffic_secret(SECRETS[SPARK]).encode()]
    return [form for secret in raw for form in (secret, secret.hex().encode(), base64.b64encode(secret))]


def test_driver_and_executors_attest_and_no_secret_is_left_anywhere(cluster: Cluster) -> None:
    cluster.start_master()
    for name in ("worker-1", "worker-2"):
        cluster.start_worker(name)
    done = cluster.submit()
    assert done.returncode == 0, done.stderr
    assert "rows 5000 sum 12497500" in done.stdout
    assert (cluster.folder / "out" / "_strongroom_manifest.json").exists()
    texts = {"stdout": done.stdout.encode(), "stderr": done.stderr.encode()}
    texts |= {str(path): path.read_bytes() for path in cluster.left_behind()}
    assert sum(name.endswith("/stderr") for name in texts) == 2  # the executors' logs are among them
    assert cluster.attested() >= 6  # master, two workers, driver, two executors
    for needle in needles():
        assert not [name for name, raw in texts.items() if needle in raw], needle


def test_an_executor_whose_code_was_changed_is_refused_and_the_job_says_so(cluster: Cluster) -> None:
    cluster.start_master()
    cluster.start_worker("worker-1")
    wait_until(lambda: cluster.attested() == 2)
    authorized = cluster.copy_of_authorized()
    (cluster.folder / "workload" / "app.py").write_text("print('other code')\n")
    # The driver runs the authorized code, from a folder of its own.
    done = cluster.submit(folder=authorized)
    assert done.returncode == 4, done.stderr
    assert "did not take part: measurement.mr_enclave" in done.stderr
    assert "worker-" in done.stderr
    logs = [path.read_bytes() for path in (cluster.folder / "work").rglob("stderr")]
    assert any(b"measurement.mr_enclave" in log for log in logs)  # the last one may have been stopped with the job
    assert not any(b"Using incubator modules" in log for log in logs)  # what a JVM says first: none was started
    assert "rows" not in done.stdout


def test_a_killed_executor_is_replaced_by_one_that_attests(cluster: Cluster) -> None:
    cluster.start_master()
    cluster.start_worker("worker-1")
    ready = cluster.folder / "ready"
    waiting = cluster.submit_in_background(ready)
    wait_until(ready.exists)
    before = cluster.attested()
    [victim] = cluster.executors()
    os.kill(victim, signal.SIGKILL)
    (cluster.folder / "go").touch()
    stdout, stderr = waiting.communicate(timeout=DEADLINE_S)
    assert waiting.returncode == 0, stderr
    assert b"again sum 12497500" in stdout
    assert cluster.attested() > before
