"""Spark over encrypted tables against stock Spark over plaintext: two standalone clusters, asked in turns.

Ours is a cluster of attested processes: a broker, a simulated machine, a master, workers, executors and a driver that
each attest by themselves; strict crypto factory, AES/GCM between the processes, encrypted spill. The other one is the
PySpark wheel as it comes, on plaintext Parquet, with nothing of that. Cores, memory, codec and the rows are the same.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from strongroom.analytics.spark.jar import find_java, pyspark_folder
from strongroom.attestation.policy import ANY, AppraisalPolicy, EnclaveIdentity
from strongroom.attestation.roots import INTEL_ROOT, TrustRoot
from strongroom.broker.app import create_app
from strongroom.broker.grants import Grant
from strongroom.broker.parts import open_parts
from strongroom.broker.server import serving
from strongroom.broker.settings import load_settings
from strongroom.broker.setup import SimulatedTrust, create_broker
from strongroom.broker.verifier import Trust, verify_with
from strongroom.formats.kbs import ResourcePath
from strongroom.platforms.simulated import SimulatedMachine
from strongroom.workload import load_workload, measure

JOB: Final = Path(__file__).parent / "analytics_spark_job.py"
OUT, TRAFFIC = "taxi/key/out", "taxi/key/spark"
WORKLOAD = """
    name = "taxi-benchmark"
    command = ["strongroom", "analytics", "submit"]
    product_id = 1
    security_version = 1
    trusted_files = ["query.sql"]
    [keys]
"""
ATTEST = """
import time
start = time.time()
from strongroom.analytics.spark.attested import attest
released = attest()
released.attester.as_executor("app-1/0", bytes(64))  # for the receipt
print(time.time() - start, len(released.masters))
"""
TICKS_S: Final = os.sysconf("SC_CLK_TCK")
MEMORY: Final = "1500m"


@contextmanager
def room(masters: dict[str, bytes]) -> Iterator[dict[str, str]]:
    """A broker and a simulated machine; the environment of a process that attests there and receives these keys."""
    with tempfile.TemporaryDirectory(prefix="strongroom-analytics-") as name:
        folder, now = Path(name), datetime.now(UTC)
        machine = SimulatedMachine.create(folder / "machine", now)
        trust = SimulatedTrust(machine.root_der, machine.collateral().encode())
        files = create_broker(folder / "broker", now=now, simulated=trust)
        values = load_settings(files.settings)
        verifier = _Verifier(Trust((INTEL_ROOT, TrustRoot("simulated", machine.root_der)), files.collateral))
        parts = open_parts(files, values, verifier, clock=lambda: datetime.now(UTC))
        keys = {**masters, OUT: b"o" * 32, TRAFFIC: b"s" * 32}
        for path, key in keys.items():
            parts.keyring.create(ResourcePath.parse(path), key, now)
        workload = folder / "workload.toml"
        (folder / "query.sql").write_text("SELECT count(*) FROM trips")
        aliases = (f'{path.rsplit("/", 1)[1]} = "{path}"\n' for path in keys)
        workload.write_text(textwrap.dedent(WORKLOAD) + "".join(aliases))
        parts.grants.add(Grant(name="benchmark", policy=_policy(workload), keys=_paths(keys)), now)
        with serving(create_app(parts), files, values) as url:
            (folder / "room").mkdir()
            (folder / "room" / "room.toml").write_text(f'url = "{url}"\n')
            (folder / "room" / "ca.pem").write_bytes(files.ca_certificate.read_bytes())
            yield {
                "PATH": os.environ["PATH"],
                "HOME": os.environ.get("HOME", "/"),
                "STRONGROOM_WORKLOAD": str(workload),
                "STRONGROOM_ROOM": str(folder / "room"),
                "STRONGROOM_PLATFORM": "simulated",
                "STRONGROOM_SIMULATED_MACHINE": str(folder / "machine"),
            }
        parts.close()


def _policy(workload: Path) -> AppraisalPolicy:
    return AppraisalPolicy(
        measurements=(EnclaveIdentity(measure(load_workload(workload)).mr_enclave),),
        tees=frozenset({"sgx"}),
        tcb_statuses=frozenset({"UpToDate"}),
        advisories=(),
        min_tcb_eval_data_number=ANY,
        accept_simulated=True,
    )


def _paths(keys: dict[str, bytes]) -> tuple[ResourcePath, ...]:
    return tuple(map(ResourcePath.parse, keys))


class _Verifier:
    def __init__(self, trust: Trust) -> None:
        self._trust = trust

    def verify(self, quote: bytes, now: datetime) -> Any:
        return verify_with(self._trust, quote, now)


def attestation_s(environment: dict[str, str], rounds: int, processes: int) -> list[float]:
    """Seconds from fresh interpreters side by side to keys in all their hands: imports, quotes, broker, release."""

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen([sys.executable, "-c", ATTEST], env=environment, stdout=subprocess.PIPE, text=True)

    times = []
    for _ in range(rounds):
        started = [start() for _ in range(processes)]
        times.append(max(float(process.communicate()[0].split()[0]) for process in started))
    return times


class Cluster:
    """Master, workers and a driver that answers requests. Use it as a context manager.

    Args:
        kind: "ours" or "plain".
        environment: Of ours, from `room`.
        executors: How many workers, of one core each; each starts one executor.
    """

    def __init__(self, kind: str, environment: dict[str, str], executors: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="strongroom-spark-")
        self._environment, self._started = environment, list[subprocess.Popen[str]]()
        place = Path(self._folder.name)
        port = 17077 if kind == "ours" else 18077
        master = f"spark://127.0.0.1:{port}"
        commands = self._ours(master, port, executors, place)
        if kind == "plain":
            commands = self._plain(master, port, executors, place)
        start = time.perf_counter()
        for number, command in enumerate(commands):
            self._start(command, place / f"{number}.log")
            time.sleep(4 if number == 0 else 0)
        self.driver = subprocess.Popen(
            [sys.executable, str(JOB), kind, master, str(executors)],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(place / "driver.log").open("w"),
            text=True,
        )
        self._started.append(self.driver)
        self._place = place
        self._answer()
        self.ready_s = time.perf_counter() - start

    @staticmethod
    def _ours(master: str, port: int, executors: int, place: Path) -> list[list[str]]:
        program = [sys.executable, "-m", "strongroom", "analytics"]
        worker = [*program, "spark-worker", master, "--cores", "1", "--memory", "2g", "--work"]
        return [
            [*program, "spark-master", "--port", str(port)],
            *([*worker, str(place / f"work-{number}")] for number in range(executors)),
        ]

    def _plain(self, master: str, port: int, executors: int, place: Path) -> list[list[str]]:
        home = pyspark_folder()
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "SPARK_HOME": str(home),
            "SPARK_SCALA_VERSION": "2.13",
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_PYTHON": sys.executable,
        }
        java = [find_java() or "java", "-cp", str(home / "jars" / "*"), "-Xmx512m"]
        worker = [*java, "org.apache.spark.deploy.worker.Worker", "--host", "127.0.0.1", "--webui-port", "0"]
        amount = ["--cores", "1", "--memory", "2g"]
        leader = [*java, "org.apache.spark.deploy.master.Master", "--host", "127.0.0.1"]
        return [
            [*leader, "--port", str(port), "--webui-port", "0"],
            *([*worker, *amount, "--work-dir", str(place / f"work-{n}"), master] for n in range(executors)),
        ]

    def _start(self, command: list[str], log: Path) -> None:
        with log.open("w") as stream:
            self._started.append(
                subprocess.Popen(command, env=self._environment, stdout=stream, stderr=stream, text=True)
            )

    def ask(self, **request: str) -> dict[str, float]:
        """Run one piece of work; wall seconds, processor seconds of all of the cluster's processes."""
        assert self.driver.stdin is not None
        before = self._processor_s()
        self.driver.stdin.write(json.dumps(request) + "\n")
        self.driver.stdin.flush()
        answer = self._answer()
        return {**answer, "cpu": self._processor_s() - before}

    def _answer(self) -> dict[str, Any]:
        assert self.driver.stdout is not None
        line = self.driver.stdout.readline()
        if not line:
            raise SystemExit((self._place / "driver.log").read_text()[-3000:])
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _processor_s(self) -> float:
        children: dict[int, list[int]] = {}
        ticks: dict[int, int] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rsplit(") ", 1)[1].split()
                pid = int(path.parent.name)
                children.setdefault(int(fields[1]), []).append(pid)
                ticks[pid] = int(fields[11]) + int(fields[12])
        total, todo = 0, [process.pid for process in self._started]
        while todo:
            pid = todo.pop()
            total += ticks.get(pid, 0)
            todo += children.get(pid, [])
        return total / TICKS_S

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        if self.driver.stdin is not None:
            self.driver.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.driver.wait(30)
        for process in reversed(self._started):
            process.terminate()
        for process in self._started:
            process.wait()
        with contextlib.suppress(OSError):
            self._folder.cleanup()
