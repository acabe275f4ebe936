"""The service as it is deployed: attested, sealed, over TLS, ended by SIGTERM; every step is a command of ours."""

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from strongroom.cli.stage import Stage
from strongroom.cli.trial import free_port
from strongroom.loan import workloads

pytestmark = pytest.mark.slow

TELLTALES = (b"person_income", b"MORTGAGE", b"PAR1", b"Probability", b"champion", b"Non-Default")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A simulated machine, a running broker that trusts it, keys, and a workload that serves."""
    out = tmp_path_factory.mktemp("service")
    stage = Stage(out)
    machine, broker = str(out / "machine"), str(out / "broker")
    stage.run("platform", "simulate", machine)
    port = str(free_port())
    stage.run("broker", "init", broker, "--port", port, "--allow-simulated", "--simulated-machine", machine)
    shutil.copytree(Path(workloads.__file__).parent / "serve", out / "workloads" / "serve")
    # The port and the ready file are this test's; trees are few. Only what is measured here is what is authorized.
    script = out / "workloads" / "serve" / "serve.py"
    call = f"serve(port=0, rounds=20, ready_file=Path({str(out / 'service.ready')!r}))"
    text = script.read_text()
    assert text.count('serve(host="0.0.0.0")') == 1
    script.write_text("from pathlib import Path\n" + text.replace('serve(host="0.0.0.0")', call))
    with stage.serving("broker", "serve", broker, ready_file=out / "broker.ready"):
        stage.environment |= {
            "STRONGROOM_OWNER": f"{broker}/owner",
            "STRONGROOM_ROOM": f"{broker}/room",
            "STRONGROOM_STORAGE": str(out / "storage"),
            "STRONGROOM_PLATFORM": "simulated",
            "STRONGROOM_SIMULATED_MACHINE": machine,
        }
        for key in ("processed", "model", "results"):
            stage.run("key", "create", f"loan/key/{key}")
        yield stage


@contextmanager
def running(stage: Stage) -> Iterator[tuple[httpx.Client, "subprocess.Popen[bytes]"]]:
    stage.run("authorize", stage.workload("serve"), "--accept-simulated", "--replace")
    ready = stage.out / "service.ready"
    ready.unlink(missing_ok=True)
    log = (stage.out / "service.log").open("wb")
    command = [sys.executable, "-m", "strongroom", "workload", "run", stage.workload("serve")]
    with log, subprocess.Popen(command, env=stage.environment, stdout=log, stderr=log) as process:
        try:
            deadline = time.monotonic() + 60
            while not ready.exists():
                assert process.poll() is None, (stage.out / "service.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            url = ready.read_text().strip()
            assert url.startswith("https://")
            with httpx.Client(base_url=url, verify=context, trust_env=False, timeout=120) as http:
                yield http, process
        finally:
            process.terminate()
            process.wait(60)


FIELDS = {"az_file_path": "/loan_app/azure-fileshare", "data_directory": "data"}
MODEL = {"model_directory": "models", "model_name": "XGBoost"}


def test_the_service_in_the_room(stage: Stage, book_csv: bytes, sample_csv: bytes) -> None:
    file = {"file": ("loans.csv", book_csv)}
    sample = {"file": ("sample.csv", sample_csv)}
    predict = {**FIELDS, **MODEL, "sample_directory": "samples"}
    with running(stage) as (http, process):
        assert http.get("/readyz").json() == {"status": "ready", "simulated": True}
        assert http.post("/data_processing", data={**FIELDS, "size": "4000"}, files=file).status_code == 200
        assert http.post("/train", data={**FIELDS, **MODEL, "size": "4000"}).status_code == 200
        first = http.post("/predict", data=predict, files=sample)
        assert first.json()["Message"] == "Model Inference Complete"
        unmounted = http.post("/predict", data={**predict, "model_directory": "elsewhere"}, files=sample)
        assert (unmounted.status_code, unmounted.json()["code"]) == (404, "workload.no_mount")
        assert "elsewhere" not in unmounted.text
        # A training that is killed together with its process leaves the last good version.
        http.post("/train", data={**FIELDS, **MODEL, "size": "4000"}, headers={"Prefer": "respond-async"})
        process.send_signal(signal.SIGKILL)
        process.wait(60)
    storage = stage.out / "storage"
    files = [path for path in storage.rglob("*") if path.is_file()]
    assert {path.relative_to(storage).parts[0] for path in files} == {"data", "models", "samples"}
    for path in files:
        assert not any(word in path.read_bytes() for word in TELLTALES), path
    _tamper(next(path for path in files if path.name.startswith("predictions-")))
    with running(stage) as (http, process):
        second = http.post("/predict", data=predict, files=sample)
        assert second.status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    log = [json.loads(line) for line in (stage.out / "service.log").read_text().splitlines() if line.startswith("{")]
    assert log[-1]["event"] == "service.stopped"
    assert b"person_" not in (stage.out / "service.log").read_bytes()
    _exchange_bundles(storage / "models" / "XGBoost")
    with running(stage) as (http, _):
        answer = http.post("/predict", data=predict, files=sample)
        assert answer.status_code == 500
        assert answer.json()["code"].startswith(("sealed.", "loan.bundle"))


def _tamper(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"\0" * 10)


def _exchange_bundles(folder: Path) -> None:
    """The host puts the catalog where the bundle was."""
    for bundle in folder.glob("*.bundle"):
        shutil.copyfile(folder / "catalog.json", bundle)


def test_changed_service_code_gets_no_keys(stage: Stage) -> None:
    folder: Any = stage.out / "workloads" / "changed"
    shutil.copytree(stage.out / "workloads" / "serve", folder)
    script = folder / "serve.py"
    script.write_text("import sys\n" + script.read_text())
    stage.run("workload", "run", str(folder / "workload.toml"), expect=4)
