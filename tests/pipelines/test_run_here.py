"""The whole pipeline on this machine: a broker, seven attested steps, Kubeflow's own runner. Nothing is faked."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("kfp")

TELLTALES = (b"person_income", b"DEBTCONSOLIDATION", b"MORTGAGE", b"PAR1", b"loan_status", b"SRLOANM1")


def strongroom(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-m", "strongroom", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=500)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    made = strongroom("loan", "sample", "--rows", "2500", "--out", str(folder / "loans.csv"))
    assert made.returncode == 0, made.stderr
    run = strongroom(
        "pipeline", "run", "--local", "--data", str(folder / "loans.csv"), "--data-size", "4000",
        "--out", str(folder / "room"),
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(folder / "room" / "report.html")
    return folder / "room"


@pytest.mark.slow
def test_metrics_picture_and_report_can_be_opened(room: Path) -> None:
    metrics = json.loads((room / "metrics.json").read_text())
    assert 50 < metrics["AUC"] <= 100
    assert 50 < metrics["Accuracy"] <= 100
    assert "<polyline" in (room / "roc.svg").read_text()
    assert (room / "owner" / "report.csv").read_text().startswith(",precision,recall,f1-score,support")
    assert "simulated" in (room / "report.html").read_text().lower()


@pytest.mark.slow
def test_every_artifact_on_the_disk_is_sealed(room: Path) -> None:
    artifacts = [path for path in (room / "run" / "artifacts").rglob("*") if path.is_file() and path.suffix != ".json"]
    assert {path.name for path in artifacts} == {
        "credit_risk_dataset", "x_train_data", "y_train_data", "x_test_data", "y_test_data", "x_train_processed",
        "x_test_processed", "preprocessor", "xgb_model", "daal4py_model", "prediction_data", "report",
    }  # fmt: skip
    for path in [*artifacts, *(room / "sources").iterdir(), room / "run" / "pipeline.log"]:
        raw = path.read_bytes()
        assert not [word for word in TELLTALES if word in raw], path


@pytest.mark.slow
def test_each_step_received_its_own_keys_and_no_others(room: Path) -> None:
    log = strongroom("broker", "log", str(room / "broker"), "--json")
    released: dict[str, set[str]] = {}
    for line in log.stdout.splitlines():
        record = json.loads(line)
        if record["event"] == "release" and record["decision"] == "allow":
            released.setdefault(record["name"], set()).add(record["path"])
    assert len(released) == 7
    assert released["plot-roc-curve"] == {"pipeline/key/prediction-data"}
    assert released["train-xgboost-model"] == {
        "pipeline/key/x-train-processed", "pipeline/key/y-train-data", "pipeline/key/xgb-model",
    }  # fmt: skip
    holders = {name for name, paths in released.items() if "pipeline/key/source" in paths}
    assert holders == {"load-data"}


@pytest.mark.slow
def test_the_log_of_the_run_names_no_key_value(room: Path) -> None:
    text = (room / "run" / "pipeline.log").read_text(errors="replace")
    assert not re.search(r"\b[0-9a-f]{32}\b(?!-)", text.replace("-", ""))
