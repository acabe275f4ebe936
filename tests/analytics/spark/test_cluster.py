"""A standalone cluster of separate processes, each of which attests by itself to a real broker."""

import ast
import base64
import json
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
from pathlib import Path
from typing import Any

import pytest

from strongroom.analytics.kms import LocalKms
from strongroom.analytics.signing import Signer
from strongroom.analytics.spark.attested import _traffic_secret
from strongroom.analytics.spark.command import BACKEND
from strongroom.analytics.spark.job import make_job, serialize_job
from strongroom.analytics.spark.settings import PINNED
from strongroom.analytics.versions import VersionsInMemory
from strongroom.analytics.writing import Protection, TableWriter, Writing
from strongroom.cli.policy_file import render_policy
from strongroom.cli.trial import free_port

pytestmark = pytest.mark.slow

TRIPS, OUT, SPARK, JOB = "taxi/key/trips", "taxi/key/out", "taxi/key/spark", "taxi/key/job"
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
    job = "{JOB}"
"""
APP = """
    import pathlib, sys, urllib.request
    from pyspark.sql import SparkSession
    PAGES = ("/environment/", "/executors/", "/jobs/", "/stages/", "/storage/", "/SQL/",
             "/executors/threadDump/?executorId=driver", "/api/v1/applications/{}/environment",
             "/api/v1/applications/{}/allexecutors", "/api/v1/applications/{}/sql")
    spark = SparkSession.builder.appName("trips").getOrCreate()
    trips = spark.read.parquet(sys.argv[1])
    print("rows", trips.count(), "sum", trips.agg({"id": "sum"}).collect()[0][0])
    if len(sys.argv) > 3:
        import time
        ready = pathlib.Path(sys.argv[3])
        ready.touch()
        while not ready.with_name("go").exists():
            time.sleep(0.1)
        print("again", "sum", trips.agg({"id": "sum"}).collect()[0][0])
    for number, page in enumerate(PAGES):
        url = spark.sparkContext.uiWebUrl + page.format(spark.sparkContext.applicationId)
        pathlib.Path(sys.argv[2]).with_name(f"ui-{number}.html").write_bytes(urllib.request.urlopen(url).read())
    pathlib.Path(sys.argv[2]).with_name("settings").write_text(repr(spark.sparkContext.getConf().getAll()))
    print("executors", spark.sparkContext._jsc.sc().getExecutorMemoryStatus().size() - 1)
    trips.where("id < 100").repartition(2).write.parquet(sys.argv[2])
    spark.stop()
"""
DEADLINE_S = 900.0  # on a machine that does much else


@dataclass
class Cluster:
    """A broker, a workload, and Spark daemons started as this workload."""

    folder: Path
    broker: Any
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    master: str = ""

    def workload(self, name: str = "spark.toml") -> Path:
        return self.folder / "workload" / name

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
        port = free_port()
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
        return ["submit", "app.py", *tables, "--master", self.master, *confs, "--receipt", str(self.receipt), *more]

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

    def check_receipt(self) -> dict[str, Any]:
        """What the receipt states, after its evidence was checked under the policy of this workload."""
        policy = self.folder / "policy.toml"
        policy.write_text(render_policy(self.broker.policy(self.workload())))
        machine = self.environment["STRONGROOM_SIMULATED_MACHINE"]
        expected = ["--query", "app.py", "--result", f"out={self.folder / 'out'}"]
        how = ["--policy", str(policy), "--simulated-machine", machine]
        done = self.run("receipt", str(self.receipt), *expected, *how)
        assert done.returncode == 0, done.stderr
        statement: dict[str, Any] = json.loads(done.stdout)
        return statement

    @property
    def receipt(self) -> Path:
        return self.folder / "receipt.json"

    def left_behind(self) -> list[Path]:
        """Every file that Spark's processes wrote outside their private memory."""
        places = [*(self.folder / "work").rglob("*"), *(self.folder / "events").rglob("*")]
        return [path for path in [*places, *self.folder.glob("*.log"), *self.folder.glob("ui-*")] if path.is_file()]

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
        return int(self.broker.attested())

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
def cluster(tmp_path: Path, rows: Any, broker: Any) -> Iterator[Cluster]:
    for name, key in SECRETS.items():
        broker.add_key(name, key)
    workload = tmp_path / "workload"
    workload.mkdir()
    (workload / "app.py").write_text(textwrap.dedent(APP))
    (workload / "spark.toml").write_text(textwrap.dedent(WORKLOAD))
    writing = Writing(LocalKms.holding({TRIPS: SECRETS[TRIPS]}), signer(), VersionsInMemory())
    with TableWriter(tmp_path / "trips", "trips", rows.schema, Protection(TRIPS), writing=writing) as writer:
        writer.write(rows)
    # The owner allows what tells most: an event log and the web pages.
    allowed = {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": f"file://{tmp_path}/events",
        "spark.eventLog.compress": "false",
        "spark.ui.enabled": "true",
        "spark.ui.port": "0",
    }
    (tmp_path / "events").mkdir()
    broker.add_key(JOB, serialize_job(make_job((workload / "app.py").read_bytes(), allowed)))
    broker.authorize(workload / "spark.toml", [*SECRETS, JOB])
    made = Cluster(tmp_path, broker, broker.environment | {"STRONGROOM_WORKLOAD": str(workload / "spark.toml")})
    yield made
    made.close()


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
    pages = {Path(name).stem: raw for name, raw in texts.items() if "/ui-" in name}
    assert len(pages) == 10
    assert b'"spark.network.crypto.cipher", "AES/GCM/NoPadding"' in pages["ui-7"]  # what the page asks for
    assert any(b"SparkListenerEnvironmentUpdate" in raw for name, raw in texts.items() if "/events/" in name)
    settings = dict(ast.literal_eval((cluster.folder / "settings").read_text()))
    assert settings.items() >= PINNED.items()
    for needle in needles():
        assert not [name for name, raw in texts.items() if needle in raw], needle
        assert needle not in cluster.receipt.read_bytes()
    statement = cluster.check_receipt()
    assert [worker["role"] for worker in statement["workers"]] == ["driver", "executor", "executor"]
    names = [worker["name"] for worker in statement["workers"][1:]]
    assert [name.rpartition("/")[2] for name in names] == ["0", "1"]
    assert {worker["workload"] for worker in statement["workers"]} == {"taxi-spark"}
    assert [table["name"] for table in statement["tables"]] == ["trips"]
    assert [(made["form"], made["name"], made["rows"]) for made in statement["outputs"]] == [("sealed", "out", 100)]


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
    for name in ("cmdline", "environ"):
        told = Path(f"/proc/{victim}/{name}").read_bytes()
        assert not [needle for needle in needles() if needle in told]
    os.kill(victim, signal.SIGKILL)
    (cluster.folder / "go").touch()
    stdout, stderr = waiting.communicate(timeout=DEADLINE_S)
    assert waiting.returncode == 0, stderr
    assert b"again sum 12497500" in stdout
    assert cluster.attested() > before
    executors = [worker for worker in cluster.check_receipt()["workers"] if worker["role"] == "executor"]
    assert len(executors) == 2  # the one that is gone, and the one in its place
    assert len({worker["quote"] for worker in executors}) == 2


def test_an_executor_whose_evidence_the_driver_refuses_gets_no_task(cluster: Cluster) -> None:
    """It attested well, and knows the secret; what it hands in is about another job."""
    refusing = """
        from strongroom.analytics.spark import evidence
        evidence.executor_statement = lambda job, signer, name: bytes(64)
    """
    application = cluster.folder / "workload" / "app.py"
    application.write_text(textwrap.dedent(refusing) + application.read_text())
    definition = cluster.workload()
    definition.write_text(definition.read_text().replace(JOB, "taxi/key/refusing"))
    cluster.broker.add_key("taxi/key/refusing", serialize_job(make_job(application.read_bytes(), {})))
    cluster.broker.authorize(definition, [*SECRETS, "taxi/key/refusing"])
    cluster.start_master()
    cluster.start_worker("worker-1")
    done = cluster.submit()
    assert done.returncode == 4, done.stderr
    assert "did not take part: its evidence is about another executor or another job" in done.stderr
    assert "rows" not in done.stdout
    assert not cluster.receipt.exists()


def test_another_application_than_the_owner_s_is_refused(cluster: Cluster) -> None:
    (cluster.folder / "other.py").write_text("print('anything')\n")
    done = cluster.run("submit", str(cluster.folder / "other.py"))
    assert done.returncode == 3, done.stderr
    assert "this is not the application that its owner stored at the broker" in done.stderr
    assert "anything" not in done.stdout


@pytest.mark.parametrize(
    "setting",
    [
        "spark.jars=/tmp/evil.jar",
        "spark.driver.extraJavaOptions=-javaagent:/tmp/evil.jar",
        "spark.eventLog.dir=file:///elsewhere",
        "spark.network.crypto.enabled=false",
        "spark.authenticate.secret=mine",
    ],
)
def test_a_setting_that_the_owner_did_not_allow_is_refused(cluster: Cluster, setting: str) -> None:
    done = cluster.run("submit", "app.py", "--conf", setting)
    assert done.returncode == 4, done.stderr
    assert setting.partition("=")[0] in done.stderr
    assert done.stdout == ""


def test_a_worker_with_another_secret_is_not_let_in(cluster: Cluster) -> None:
    """It attests well, under a workload of another owner; what it lacks is this cluster's secret."""
    cluster.start_master()
    cluster.broker.add_key("other/key/spark", b"another owner's secret, 32 bytes")
    stranger = cluster.folder / "stranger"
    stranger.mkdir()
    (stranger / "app.py").write_text("")
    (stranger / "spark.toml").write_text(
        textwrap.dedent(WORKLOAD).replace('"taxi-spark"', '"stranger"').replace(SPARK, "other/key/spark")
    )
    cluster.broker.authorize(stranger / "spark.toml", [TRIPS, OUT, JOB, "other/key/spark"])
    cluster.start_worker("worker-1", workload=stranger / "spark.toml")
    log = cluster.folder / "worker-1.log"
    wait_until(lambda: b"Failed to connect to master" in log.read_bytes())
    assert cluster.attested() == 2
