"""Times `/predict` of the loan service: HTTPS on loopback, sealed files, one caller on a kept connection.

    python benchmarks/loan_service.py credit_risk_dataset.csv [--rounds N] [--json FILE]

The service runs in a process of its own, with everything but the broker: its key is made up here.
"""

import argparse
import datetime as dt
import http.client
import json
import os
import secrets
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

ROOT = "/loan_app/azure-fileshare"
MODEL = {"model_directory": "models", "model_name": "XGBoost"}
FIELDS = {"az_file_path": ROOT, "data_directory": "data", **MODEL}
SIZES = {10: 500, 1_000: 200, 100_000: 15, 1_000_000: 3}
BOUNDARY = "------------------------d74496d66958873e"


class SealedFolder:
    """A folder of sealed files under one key, as a room has it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = secrets.token_bytes(16)

    def open(self, path: str, /) -> BinaryIO:
        """As `Storage.open`."""
        from strongroom.room.files import open_sealed

        return open_sealed(self._folder / path, self._key, sealed_path=path)

    def create(self, path: str, /, *, durable: bool = True) -> BinaryIO:
        """As `Storage.create`."""
        from strongroom.room.files import create_sealed

        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return create_sealed(target, self._key, sealed_path=path, overwrite=True, durable=durable)


def serve(folder: Path, rounds: int | None) -> None:
    """The service's process: until its standard input ends."""
    import structlog

    from strongroom.loan.presets import TrainSettings
    from strongroom.loan.service.parts import LoanService
    from strongroom.loan.service.server import serving
    from strongroom.loan.service.settings import Root, ServiceSettings
    from strongroom.loan.service.tls import attested_material
    from strongroom.platforms.simulated import SimulatedMachine

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

    platform = SimulatedMachine.build(dt.datetime.now(dt.UTC)).platform(mr_enclave=bytes(32), isv_prod_id=1, isv_svn=1)
    storage = SealedFolder(folder)
    root = Root(storage, create_quickly=lambda path: storage.create(path, durable=False))
    service = LoanService(ServiceSettings({ROOT: root}, training=TrainSettings(rounds=rounds)))
    with serving(service, attested_material(platform)) as url:
        print(url, flush=True)
        sys.stdin.read()
    service.close()


class Caller:
    """One kept connection."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._connection = http.client.HTTPSConnection(
            address.hostname or "", address.port, context=context, timeout=600
        )

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes, Any]:
        """One request; status, body and headers."""
        if body:
            headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
        self._connection.request(method, path, body or None, headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read(), answer.headers

    def post(self, path: str, body: bytes, **headers: str) -> tuple[bytes, Any]:
        """One form; the process ends when it is refused."""
        status, answer, answered = self.call("POST", path, body, **headers)
        if status not in {200, 202}:
            raise SystemExit(answer.decode())
        return answer, answered


def form(fields: dict[str, str], raw: bytes | None = None) -> bytes:
    parts = [f'Content-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode() for k, v in fields.items()]
    if raw is not None:
        parts.append(b'Content-Disposition: form-data; name="file"; filename="rows.csv"\r\n\r\n' + raw + b"\r\n")
    edge = f"--{BOUNDARY}".encode()
    return b"".join(edge + b"\r\n" + part for part in parts) + edge + b"--\r\n"


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far: what the machine's other work does not change."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(call: Callable[[], Any], repeats: int, pid: int) -> dict[str, float]:
    call()
    times = []
    cpu = cpu_seconds(pid)
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append((time.perf_counter() - start) * 1000)
    times.sort()
    return {
        "best_ms": round(times[0], 2),
        "p50_ms": round(statistics.median(times), 2),
        "p99_ms": round(times[int(len(times) * 0.99)], 2),
        "service_cpu_ms": round((cpu_seconds(pid) - cpu) * 1000 / repeats, 2),
    }


def seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return round(time.perf_counter() - start, 3)


def run(caller: Caller, book: bytes, pid: int) -> dict[str, Any]:
    figures: dict[str, Any] = {"cpus": len(os.sched_getaffinity(0)), "load_before": os.getloadavg()[0]}
    header, *lines = book.splitlines(keepends=True)

    def sample(rows: int) -> bytes:
        chosen = (lines * -(-rows // len(lines)))[:rows]
        return form({**FIELDS, "sample_directory": "samples"}, header + b"".join(chosen))

    data = form({"az_file_path": ROOT, "data_directory": "data", "size": "1"}, book)
    figures["data_processing_s"] = seconds(lambda: caller.post("/data_processing", data))
    figures["train_s"] = seconds(lambda: caller.post("/train", form({**FIELDS, "size": "1"})))
    for rows, repeats in SIZES.items():
        body = sample(rows)
        figures[f"predict_{rows}"] = measure(lambda body=body: caller.post("/predict", body), repeats, pid)  # type: ignore[misc]
    figures["ping"] = measure(lambda: caller.call("GET", "/ping"), 500, pid)
    other = form({**FIELDS, "model_name": "other", "size": "1"})
    _, headers = caller.post("/train", other, Prefer="respond-async")
    small = sample(10)
    figures["predict_10_while_training"] = measure(lambda: caller.post("/predict", small), 200, pid)
    figures["ping_while_training"] = measure(lambda: caller.call("GET", "/ping"), 200, pid)
    state = json.loads(caller.call("GET", headers["Location"])[1])["state"]
    caller.call("DELETE", headers["Location"])
    return {**figures, "state_after_that": state, "load_after": os.getloadavg()[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("book", type=Path)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.rounds)
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, str(arguments.book), "--serve", folder]
        command += ["--rounds", str(arguments.rounds)] if arguments.rounds else []
        server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if server.stdout is None or server.stdin is None:
            raise SystemExit("no pipes")
        figures = run(Caller(server.stdout.readline().decode().strip()), arguments.book.read_bytes(), server.pid)
        server.stdin.close()
        server.wait()
    text = json.dumps(figures, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
