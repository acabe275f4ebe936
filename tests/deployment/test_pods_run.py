"""What is rendered runs: the pods' own commands as processes, from the guides' commands to a prediction."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.cli.trial import free_port
from strongroom.deployment.kubernetes.render import render
from strongroom.deployment.kubernetes.site import Site
from strongroom.deployment.kubernetes.site_file import load_site

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
POLICY = """tees = ["sgx"]
tcb_statuses = ["UpToDate"]
advisories = {{}}
min_tcb_eval_data_number = "any"
accept_simulated = true

[[measurements]]
mr_enclave = "{}"
"""


class Trial:
    """The guides' commands in one folder, and the cluster that they lead to.

    Args:
        folder: New.
        node_double: The module of that name.
    """

    def __init__(self, folder: Path, node_double: Any) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in ("broker", "provisioning", "loan", "grpc", "rest")}
        self.run("strongroom platform simulate machine")
        self.run(
            "strongroom broker init broker --host broker.strongroom-broker.svc --listen 0.0.0.0 "
            f"--port {self.ports['broker']} --allow-simulated --simulated-machine machine"
        )
        page = (ROOT / "docs" / "deployment.md").read_text()
        (line,) = re.findall(r"^ {4}(sed .*)$", page, re.MULTILINE)
        self.run(line)
        room = folder / "broker" / "room" / "room.toml"  # the cluster's names are not known here
        room.write_text(room.read_text().replace("broker.strongroom-broker.svc", "localhost"))
        self.run("strongroom deploy init site")
        site, definition = folder / "site" / "site.toml", folder / "site/workloads/loan-service/workload.toml"
        site.write_text(
            site.read_text().replace("0" * 64, "a" * 64).replace("[broker]", f"[broker]\nport = {self.ports['broker']}")
        )
        definition.write_text(definition.read_text().replace('"5000"', f'"{self.ports["loan"]}"'))
        server = folder / "site/workloads/model-server/workload.toml"
        ports = f'"--port", "{self.ports["grpc"]}", "--rest_api_port", "{self.ports["rest"]}", '
        server.write_text(server.read_text().replace('"--model_name"', f'{ports}"--model_name"'))
        self.run("strongroom deploy validate site/site.toml --overlay simulated")
        self.site: Site = load_site(site)
        image = {"/opt/strongroom/workloads": folder / "site" / "workloads"}
        self.node = node_double.NodeDouble(folder / "node", render(self.site, "simulated"), image)
        said = self.run(
            "strongroom deploy secrets site/site.toml --broker broker --overlay simulated --machine machine"
        )
        for line in said.splitlines():
            self.node.kubectl(line, folder)

    def run(self, line: str) -> str:
        program, *words = shlex.split(line)
        environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(self.folder),
                       "STRONGROOM_OWNER": str(self.folder / "broker" / "owner")}  # fmt: skip
        found = shutil.which(program, path=environment["PATH"])
        if found is None:
            pytest.skip(f"{program} is not installed")
        done = subprocess.run([found, *words], cwd=self.folder, env=environment, capture_output=True,
                              text=True, check=False, timeout=120)  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        return done.stdout

    def start_broker(self) -> Any:
        pod = self.node.pod("StatefulSet", "broker")
        settings = {"STRONGROOM_BROKER_PROVISIONING_PORT": str(self.ports["provisioning"])}
        process = pod.start(settings)
        pod.wait_for("readinessProbe", process, self.ports["broker"])
        return pod, process


@pytest.fixture
def trial(tmp_path: Path, node_double: Any) -> Iterator[Trial]:
    made = Trial(tmp_path, node_double)
    yield made
    made.node.close()


@pytest.mark.slow
def test_from_the_guides_commands_to_a_prediction_from_an_attested_pod(trial: Trial) -> None:
    broker, brokers = trial.start_broker()
    guide = (ROOT / "docs" / "guides" / "deploy-loan.md").read_text()
    for line in re.findall(r"^\$ (strongroom .*)$", guide, re.MULTILINE):
        trial.run(line)
    loan = trial.node.pod("Deployment", "loan-service")
    share = trial.node.folder / "claims" / "strongroom" / "loan-files"
    (share / "data").mkdir(exist_ok=True)
    (share / "data" / "loans.csv").write_bytes((trial.folder / "sealed.csv").read_bytes())
    process = loan.start()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        loan.wait_for(probe, process, trial.ports["loan"])

    (line,) = re.findall(r"^ {4}(strongroom verify .*)$", guide, re.MULTILINE)
    measured = json.loads(trial.run("strongroom workload measure site/workloads/loan-service/workload.toml --json"))
    (trial.folder / "policy.toml").write_text(POLICY.format(measured["mr_enclave"]))
    trial.run(
        line.replace("loans.example.com:8080", f"localhost:{trial.ports['loan']}") + " --simulated-machine machine"
    )
    calls = re.findall(r"^ {4}(curl .*)$", guide, re.MULTILINE)
    assert [call.split()[5].rpartition("/")[2] for call in calls] == ["data_processing", "train", "predict"]
    said = ""
    for call in calls:
        said = trial.run(
            call.replace("ADDRESS:8080", f"127.0.0.1:{trial.ports['loan']}") + " --fail-with-body --silent"
        )
    assert "True" in said or "False" in said or "prob" in said.lower(), said
    stored = [path for path in share.rglob("*") if path.is_file()]
    assert stored
    assert not [path for path in stored if b"DEBTCONSOLIDATION" in path.read_bytes() or b"PAR1" in path.read_bytes()]
    assert loan.drain(process) == 0
    assert broker.drain(brokers) == 0


@pytest.mark.slow
def test_from_the_guides_commands_to_a_prediction_of_the_model_server(trial: Trial) -> None:
    xgboost, numpy = pytest.importorskip("xgboost"), pytest.importorskip("numpy")
    trial.start_broker()
    guide = (ROOT / "docs" / "guides" / "deploy-serving.md").read_text()
    for line in re.findall(r"^\$ (strongroom .*)$", guide, re.MULTILINE):
        trial.run(line + (" --overlay simulated" if " deploy " in line else ""))
    rows = numpy.arange(40.0).reshape(20, 2)
    data = xgboost.DMatrix(rows, rows[:, 0] > 20)
    xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 3).save_model(trial.folder / "model.ubj")
    trial.run("strongroom seal model.ubj model.sealed --key serving/key/model --path models/loan/1/model.ubj")
    server = trial.node.pod("Deployment", "model-server")
    claim = trial.node.folder / "claims" / "strongroom" / "model-server-models"
    for source, target in (("ssl.cfg.sealed", "config/ssl.cfg"), ("model.sealed", "models/loan/1/model.ubj")):
        (claim / target).parent.mkdir(parents=True)
        (claim / target).write_bytes((trial.folder / source).read_bytes())
    process = server.start()
    server.wait_for("readinessProbe", process, trial.ports["rest"])
    (trial.folder / "request.json").write_text(json.dumps({"instances": rows[:2].tolist()}))
    status, predicted = (
        trial.run(call.replace("ADDRESS:8501", f"127.0.0.1:{trial.ports['rest']}") + " --fail-with-body --silent")
        for call in re.findall(r"^ {4}(curl .*)$", guide, re.MULTILINE)
    )
    assert json.loads(status)["model_version_status"][0]["state"] == "AVAILABLE"
    assert len(json.loads(predicted)["predictions"]) == 2
    assert server.drain(process) == 0


@pytest.mark.slow
def test_tensorflow_serving_s_files_are_opened_before_it_starts(trial: Trial) -> None:
    trial.start_broker()
    pod = trial.node.pod("Deployment", "tensorflow-serving")
    opened, claim = pod.volumes["opened"], trial.node.folder / "claims" / "strongroom" / "tensorflow-serving-models"
    definition = trial.folder / "site" / "workloads" / "tensorflow-opener" / "workload.toml"
    definition.write_text(definition.read_text().replace('"/work"', f'"{opened}"'))  # the folder is the pod's there
    trial.run("strongroom key create serving/key/resnet")
    trial.run(f"strongroom authorize {definition} --accept-simulated")
    for name in ("config/ssl.cfg", "models/resnet/1/saved_model.pb"):
        (trial.folder / "plain").write_text(name)
        (claim / name).parent.mkdir(parents=True)
        trial.run(f"strongroom seal plain {claim / name} --key serving/key/resnet --path {name}")
        assert name.encode() not in (claim / name).read_bytes()
    assert pod.start(command=["true"]).wait(30) == 0
    for name in ("config/ssl.cfg", "models/resnet/1/saved_model.pb"):
        assert (opened / name).read_text() == name
        assert (opened / name).stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_the_broker_keeps_its_grants_when_its_pod_is_moved(trial: Trial) -> None:
    pod, process = trial.start_broker()
    trial.run("strongroom key create loan/key/book")
    assert pod.drain(process) == 0
    again, process = trial.start_broker()
    assert "loan/key/book" in trial.run("strongroom key list")
    secret = trial.folder / "broker" / "root.key"
    volume = again.volumes["data"] / "broker"
    assert (volume / "broker.db").is_file()
    assert (volume / "root.key").samefile(again.volumes["keys"] / "root.key")  # a mount: on the volume it is not
    assert not [path for path in volume.rglob("*") if path.name not in {"root.key"} and path.is_file()
                and secret.read_bytes() in path.read_bytes()]  # fmt: skip
