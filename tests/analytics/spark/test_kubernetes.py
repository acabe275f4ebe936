"""Spark on Kubernetes, as far as it runs without one: Spark's own `spark-submit` and scheduler, the pods' script,
driver and executors as processes that attest; an API server and a kubelet that do as little as Spark needs.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from strongroom.analytics.kms import LocalKms
from strongroom.analytics.receipts import verify_receipt
from strongroom.analytics.signing import Signer
from strongroom.analytics.spark.attested import _traffic_secret
from strongroom.analytics.spark.jar import pyspark_folder
from strongroom.analytics.spark.properties import parse_properties, serialize_properties
from strongroom.analytics.spark.settings import accepted
from strongroom.analytics.versions import VersionsInMemory
from strongroom.analytics.writing import Protection, TableWriter, Writing
from strongroom.deployment.kubernetes.render import spark_files
from strongroom.deployment.kubernetes.site_file import load_site
from strongroom.deployment.kubernetes.template import write_site
from strongroom.deployment.kubernetes.text import load

pytest.importorskip("yaml")
pa = pytest.importorskip("pyarrow")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "deploy" / "containers" / "spark-entrypoint.sh"
TABLES, RESULTS, SPARK, SIGNER = (f"analytics/key/{name}" for name in ("tables", "results", "spark", "signer"))
SECRETS = {
    TABLES: b"CANARY-tables-CANARY-tables-32b!",
    RESULTS: b"CANARY-results-CANARY-results32!",
    SPARK: b"CANARY-spark-32b" * 2,
    SIGNER: b"CANARY-signer-CANARY-signer-32b!",
}
DEADLINE_S = 900.0
# Starts the command as the pod would, but tells the driver where this API server is.
START = """
    import sys
    from strongroom.analytics.spark import pod
    pod.MASTER = sys.argv.pop(1)
    from strongroom.cli.main import main
    main()
"""


@dataclass
class Node:
    """An API server's memory, and a kubelet that starts containers as processes."""

    folder: Path
    environment: dict[str, str]
    templates: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    """Paths in a container, and where they are here."""
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    posted: list[str] = field(default_factory=list)

    def put(self, path: str, item: dict[str, Any], event: str = "ADDED") -> dict[str, Any]:
        with self.changed:
            new = path not in self.objects
            item.setdefault("metadata", {}).setdefault("uid", f"uid-{len(self.objects)}")
            item["metadata"].setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
            if item.get("kind") == "Pod":
                ready = {"type": "Ready", "status": "True"}
                item.setdefault("status", {"phase": "Pending"}).setdefault("conditions", [ready])
            self.objects[path] = item
            self.events.append((event, json.loads(json.dumps(item))))
            item["metadata"]["resourceVersion"] = str(len(self.events))
            self.changed.notify_all()
        if new and item.get("kind") == "Pod" and item["metadata"]["labels"]["spark-role"] == "executor":
            self.start(path, "executor")
        return item

    def start(self, path: str, role: str, arguments: list[str] | None = None) -> Path:
        """Start a pod's container; its log."""
        pod = self.objects[path]
        (container,) = [item for item in pod["spec"]["containers"] if "image" in item]
        template = self.templates[f"{role}.yaml"]["spec"]["containers"][0]["env"]
        variables = dict(self.environment)
        for item in [*template, *container["env"]]:
            where = item.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            values = {"status.podIP": "127.0.0.1", "metadata.name": pod["metadata"]["name"]}
            variables[item["name"]] = values[where] if where else self.here(item.get("value", ""))
        variables["SPARK_LOCAL_DIRS"] = str(self.folder / "spill") if role == "executor" else ""
        log = self.folder / f"{pod['metadata']['name']}.log"
        with log.open("wb") as stream:
            self.processes[path] = subprocess.Popen(
                ["sh", str(SCRIPT), *(arguments or container["args"])], env=variables, stdout=stream, stderr=stream
            )
        self._status(path, {"phase": "Running", "podIP": "127.0.0.1"})
        threading.Thread(target=self._wait, args=(path, container["name"]), daemon=True).start()
        return log

    def here(self, text: str) -> str:
        for inside, outside in self.places.items():
            text = text.replace(inside, outside)
        return text

    def _wait(self, path: str, name: str) -> None:
        status = self.processes[path].wait()
        state = {"terminated": {"exitCode": status, "reason": "Completed" if status == 0 else "Error"}}
        entry = {"name": name, "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        phase = "Succeeded" if status == 0 else "Failed"
        self._status(path, {"phase": phase, "containerStatuses": [entry]})

    def _status(self, path: str, status: dict[str, Any]) -> None:
        if path in self.objects:
            self.put(path, {**self.objects[path], "status": status}, "MODIFIED")

    def delete(self, path: str) -> None:
        with self.changed:
            if (item := self.objects.pop(path, None)) is not None:
                self.events.append(("DELETED", item))
                self.changed.notify_all()
        if path in self.processes:
            self.processes[path].terminate()

    def listed(self, path: str, selector: str) -> list[dict[str, Any]]:
        wanted = [pair.partition("=")[::2] for pair in selector.split(",") if pair]
        found = [item for name, item in self.objects.items() if name.rpartition("/")[0] == path]
        return [item for item in found if all(_labels(item).get(name) == value for name, value in wanted)]

    def newer(self, seen: int) -> list[tuple[str, dict[str, Any]]]:
        """Events after so many; waits for the next one."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.events) > seen, timeout=5)
            return self.events[seen:]

    def close(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            process.wait(60)


def _labels(item: dict[str, Any]) -> dict[str, str]:
    return dict(item["metadata"].get("labels") or {})


def api(node: Node) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *values: object) -> None:  # the library's name
            pass

        def _path(self) -> tuple[str, dict[str, str]]:
            parts = urlsplit(self.path)
            return parts.path, {name: values[-1] for name, values in parse_qs(parts.query).items()}

        def _body(self) -> str:
            return self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def do_POST(self) -> None:
            path, _ = self._path()
            text = self._body()
            node.posted.append(text)
            item = json.loads(text)
            self._answer(201, node.put(f"{path}/{item['metadata']['name']}", item))

        def do_PATCH(self) -> None:
            path, _ = self._path()
            text = self._body()
            node.posted.append(text)
            (item,) = load(text) if not text.startswith("{") else [json.loads(text)]
            self._answer(200, node.put(path, {**node.objects.get(path, {}), **item}, "MODIFIED"))

        def do_DELETE(self) -> None:
            path, query = self._path()
            self._body()
            items = node.listed(path, query.get("labelSelector", ""))
            for name in [path, *(f"{path}/{item['metadata']['name']}" for item in items)]:
                node.delete(name)
            self._answer(200, {"kind": "Status", "apiVersion": "v1", "status": "Success"})

        def do_GET(self) -> None:
            path, query = self._path()
            if query.get("watch") == "true":
                self._watch(path, query)
            elif path in node.objects:
                self._answer(200, node.objects[path])
            elif path.rpartition("/")[2] in {"pods", "configmaps", "services", "persistentvolumeclaims"}:
                items = node.listed(path, query.get("labelSelector", ""))
                meta = {"resourceVersion": str(len(node.events))}
                self._answer(200, {"kind": "List", "apiVersion": "v1", "metadata": meta, "items": items})
            else:
                self._answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404})

        def _watch(self, path: str, query: dict[str, str]) -> None:
            if "Upgrade" in self.headers:  # no web sockets: the client asks again without
                self._answer(200, {})
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            seen = int(query.get("resourceVersion", "0") or 0)
            while True:
                new = node.newer(seen)
                seen += len(new)
                for kind, item in new:
                    raw = json.dumps({"type": kind, "object": item}).encode() + b"\n"
                    try:
                        self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
                    except OSError:
                        return

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@dataclass
class Site:
    """A rendered site, a broker that knows its workloads, a table, and a node."""

    node: Node
    broker: Any
    url: str
    conf: Path
    workloads: Path
    storage: Path

    def submit(self) -> tuple[str, dict[str, str]]:
        """Run `spark-submit` in cluster mode; the driver pod's path, and the cluster's settings for it."""
        command = [
            "bash", str(pyspark_folder() / "bin" / "spark-submit"), "--master", f"k8s://{self.url}",
            "--deploy-mode", "cluster", "--properties-file", "spark-defaults.conf",
            "--conf", "spark.kubernetes.submission.waitAppCompletion=false",
            "local:///opt/strongroom/workloads/spark-driver/jobs/query.py",
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=self.conf, env=self.node.environment, capture_output=True, text=True, check=False, timeout=900
        )
        assert done.returncode == 0, done.stderr
        (driver,) = [path for path, item in self.node.objects.items() if _labels(item).get("spark-role") == "driver"]
        (properties,) = [
            item["data"]["spark.properties"]
            for item in self.node.objects.values()
            if "spark.properties" in (item.get("data") or {})
        ]
        return driver, parse_properties(properties.encode())

    def start_driver(self, path: str, given: dict[str, str]) -> Path:
        """Start the driver's pod; what needs a cluster's names or a service account's files is as it is here."""
        here = {"spark.driver.host": "127.0.0.1", "spark.executor.instances": "1"}
        absent = {"spark.kubernetes.submitInDriver", "spark.kubernetes.executor.podTemplateFile"}
        settings = {name: value for name, value in given.items() if name not in absent} | here
        file = self.node.folder / "spark.properties"
        file.write_bytes(serialize_properties(settings))
        (container,) = self.node.objects[path]["spec"]["containers"]
        arguments = [str(file) if part.endswith("/spark.properties") else part for part in container["args"]]
        return self.node.start(path, "driver", arguments)

    def ended(self, path: str) -> int:
        return self.node.processes[path].wait(DEADLINE_S)


@pytest.fixture
def site(tmp_path: Path, broker: Any) -> Iterator[Site]:
    made = write_site(tmp_path / "site")
    made.write_text(made.read_text().replace("0" * 64, "a" * 64).replace('"../broker/room"', f'"{tmp_path}/room"'))
    rendered = spark_files(load_site(made), "simulated")
    conf = tmp_path / "conf"
    conf.mkdir()
    for name, text in rendered.items():
        (conf / name).write_text(text)
    workloads, storage = tmp_path / "site" / "workloads", tmp_path / "storage"
    node = Node(tmp_path, _variables(broker))
    node.templates = {name: load(rendered[name])[0] for name in ("driver.yaml", "executor.yaml")}
    node.places = {
        "/opt/strongroom/workloads": str(workloads), "/etc/strongroom/room": str(tmp_path / "room"),
        "/run/simulated-machine": str(tmp_path / "machine"), "/storage": str(storage),
    }  # fmt: skip
    for name in ("spill", "storage"):
        (tmp_path / name).mkdir()
    server = api(node)
    url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("spark-driver", "spark-executor"):  # not this source tree: it may be worked on
        definition = workloads / name / "workload.toml"
        definition.write_text(definition.read_text().replace('packages = ["strongroom", "pyspark"]', "packages = []"))
    _redirect(workloads / "spark-driver", f"k8s://{url}")
    for name, key in SECRETS.items():
        broker.add_key(name, key)
    for name in ("spark-driver", "spark-executor"):
        broker.authorize(workloads / name / "workload.toml", SECRETS)
    _write_trips(storage / "tables" / "trips")
    yield Site(node, broker, url, conf, workloads, storage)
    node.close()
    server.shutdown()
    server.server_close()


def _variables(broker: Any) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**{name: broker.environment[name] for name in ("HOME",)}, "PATH": path}


def _redirect(workload: Path, master: str) -> None:
    definition = workload / "workload.toml"
    (workload / "start.py").write_text(textwrap.dedent(START))
    text = definition.read_text()
    text = text.replace('"-m", "strongroom",', f'"start.py", "{master}",')
    text = text.replace('"--pod"', '"--pod", "--receipt", "receipt.json"')
    definition.write_text(
        text.replace('"jobs/query.py", "workload.toml"', '"jobs/query.py", "start.py", "workload.toml"')
    )


def _write_trips(folder: Path) -> None:
    rows = pa.table({"puYear": [2018] * 3 + [2019] * 2, "puMonth": [1, 1, 2, 1, 1], "fareAmount": [1.0, 2, 3, 4, 5]})
    writing = Writing(
        LocalKms.holding({TABLES: SECRETS[TABLES]}), Signer.from_seed(SECRETS[SIGNER]), VersionsInMemory()
    )
    folder.parent.mkdir(parents=True)
    with TableWriter(folder, "trips", rows.schema, Protection(TABLES), writing=writing) as writer:
        writer.write(rows)


def wait_until(done: Any, timeout_s: float = DEADLINE_S) -> None:
    end = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def test_a_job_runs_as_spark_submits_it_and_no_secret_reaches_the_cluster(site: Site) -> None:
    driver, given = site.submit()
    accepted(_kept(given), {}, kubernetes=True)  # the pods know every setting that Spark's own submission makes
    log = site.start_driver(driver, given)
    assert site.ended(driver) == 0, log.read_text()
    assert (site.storage / "results" / "monthly" / "_strongroom_manifest.json").exists(), log.read_text()
    assert site.broker.attested() >= 2
    executors = [path for path in site.node.processes if path != driver]
    assert executors
    stated = verify_receipt(
        (site.storage / "receipt.json").read_bytes(), trusted=frozenset({Signer.from_seed(SECRETS[SIGNER]).public})
    )
    roles = [worker["role"] for worker in stated["workers"]]
    assert roles == ["driver", *["executor"] * (len(roles) - 1)]
    assert 1 < len(roles) <= 1 + len(executors)  # on a busy machine a pod may come too late to take part
    assert [worker["workload"] for worker in stated["workers"]][:2] == ["spark-driver", "spark-executor"]
    assert [made["name"] for made in stated["outputs"]] == ["monthly"]
    told = [*site.node.posted, *(path.read_text() for path in site.node.folder.glob("*.log"))]
    for secret in [*SECRETS.values(), _traffic_secret(SECRETS[SPARK]).encode()]:
        for form in (secret.decode(), secret.hex(), base64.b64encode(secret).decode()):
            assert not [text for text in told if form in text]
    assert not [text for text in told if "_SPARK_AUTH_SECRET" in text]
    pods = [json.loads(text) for text in site.node.posted if '"kind":"Pod"' in text]
    posted = next(pod for pod in pods if _labels(pod).get("spark-role") == "executor")
    options = [item["value"] for item in posted["spec"]["containers"][0]["env"] if "JAVA_OPT" in item["name"]]
    assert any(re.match(r"-Dspark.authenticate.secret.file=/(run/strongroom|dev/shm)/", option) for option in options)


def _kept(given: dict[str, str]) -> dict[str, str]:
    from pathlib import PurePosixPath

    from strongroom.analytics.spark.pod import DriverCall, cluster_settings

    return cluster_settings(given, DriverCall(PurePosixPath("/a"), Path("b"), (), "10.0.0.7", "/var/spark"))


def test_a_setting_that_the_cluster_added_ends_the_driver(site: Site) -> None:
    driver, given = site.submit()
    log = site.start_driver(driver, given | {"spark.driver.extraJavaOptions": "-javaagent:/tmp/evil.jar"})
    assert site.ended(driver) == 4
    assert "spark.driver.extraJavaOptions" in log.read_text()
    assert len(site.node.processes) == 1


def test_a_refused_executor_s_pod_ends_and_the_driver_says_why(site: Site) -> None:
    driver, given = site.submit()
    shutil.copytree(site.workloads / "spark-executor", site.workloads.parent / "other")
    definition = site.workloads / "spark-executor" / "workload.toml"
    definition.write_text(definition.read_text() + "# another executor\n")
    log = site.start_driver(driver, given)
    assert site.ended(driver) == 4, log.read_text()
    assert "did not take part: measurement.mr_enclave" in log.read_text()
    logs = [path.read_text() for path in site.node.folder.glob("*exec*.log")]
    assert any("measurement.mr_enclave" in text for text in logs)
    assert not any("Using incubator modules" in text for text in logs)  # what a JVM says first
