"""precheck, apply, status and delete against a kubectl that records what it is asked."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from strongroom.cli.deploy import app
from strongroom.deployment.kubernetes.copying import copy_files
from strongroom.deployment.kubernetes.kubectl import Kubectl, apply, delete, status
from strongroom.deployment.kubernetes.precheck import precheck
from strongroom.deployment.kubernetes.render import render, spark_run
from strongroom.deployment.kubernetes.rules import validate
from strongroom.deployment.kubernetes.site import Site
from strongroom.deployment.kubernetes.text import load
from strongroom.errors import ConfigurationError, FormatError, PolicyRejected, UnavailableError
from strongroom.room.files import create_sealed

PROGRAM = """#!{python}
import json, pathlib, sys
folder = pathlib.Path({folder!r})
arguments = [a for a in sys.argv[1:]]
asks = folder / "asks"
number = len(list(folder.glob("ask-*")))
text = sys.stdin.read() if "-" in arguments else ""
(folder / f"ask-{{number:03}}").write_text(json.dumps([arguments, text]))
answers = json.loads((folder / "answers.json").read_text())
for words, status, out in answers:
    if all(word in arguments for word in words):
        (sys.stdout if status == 0 else sys.stderr).write(out)
        raise SystemExit(status)
print("done")
"""


class Cluster:
    """A kubectl on the path whose answers a test chooses; the first one whose words all occur counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kubectl = Kubectl(program=str(folder / "kubectl"))
        (folder / "kubectl").write_text(PROGRAM.format(python=sys.executable, folder=str(folder)))
        (folder / "kubectl").chmod(0o755)
        self.answer()

    def answer(self, *answers: tuple[list[str], int, str]) -> None:
        (self.folder / "answers.json").write_text(json.dumps(answers))

    @property
    def asked(self) -> list[tuple[list[str], str]]:
        return [tuple(json.loads(path.read_text())) for path in sorted(self.folder.glob("ask-*"))]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    folder = tmp_path / "kubectl"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return Cluster(folder)


def test_namespaces_go_first_then_the_server_checks_then_all_is_brought(cluster: Cluster, site: Site) -> None:
    objects = render(site, "aks-sgx")
    apply(cluster.kubectl, objects)
    first, checked, brought = cluster.asked
    assert {item["kind"] for item in load(first[1])} == {"Namespace"}
    assert "--dry-run=server" not in first[0]
    assert "--dry-run=server" in checked[0]
    assert "--dry-run=server" not in brought[0]
    assert load(brought[1]) == objects
    assert all(arguments[:2] == ["apply", "--server-side"] for arguments, _ in cluster.asked)


def test_nothing_is_brought_when_the_server_would_refuse_a_part(cluster: Cluster, site: Site) -> None:
    cluster.answer((["--dry-run=server"], 1, "Deployment.apps is invalid: spec.template: Required"))
    with pytest.raises(UnavailableError, match="is invalid"):
        apply(cluster.kubectl, render(site, "aks-sgx"))
    assert len(cluster.asked) == 2


def test_a_complaint_is_kubectl_s_own_not_its_libraries_log(cluster: Cluster) -> None:
    log = 'E1121 20:41:33.791073    8740 memcache.go:265] "Unhandled Error" err="..."\n'
    cluster.answer((["get"], 1, f"{log}{log}The connection to the server localhost:8080 was refused\n"))
    with pytest.raises(UnavailableError, match=r"^kubectl: The connection to the server") as refusal:
        cluster.kubectl.run("get", "nodes")
    assert "memcache" not in refusal.value.message


def test_a_trial_run_changes_nothing(cluster: Cluster, site: Site) -> None:
    apply(cluster.kubectl, render(site, "aks-sgx"), dry_run=True)
    applied = [arguments for arguments, _ in cluster.asked if arguments[0] == "apply"]
    assert applied
    assert all("--dry-run=server" in arguments for arguments in applied)


def test_delete_keeps_what_is_stored(cluster: Cluster, site: Site) -> None:
    objects = render(site, "aks-sgx")
    delete(cluster.kubectl, objects)
    delete(cluster.kubectl, objects, data_too=True)
    (_, kept), (_, everything) = cluster.asked
    assert not {item["kind"] for item in load(kept)} & {"Namespace", "PersistentVolume", "PersistentVolumeClaim"}
    assert len(load(everything)) == len(objects)
    assert load(everything)[-1]["kind"] == "Namespace"


def test_delete_leaves_no_namespace_that_takes_privileged_pods(cluster: Cluster, confidential_site: Site) -> None:
    delete(cluster.kubectl, render(confidential_site, "aks-cvm"))
    ((_, gone),) = cluster.asked
    namespaces = [item["metadata"]["name"] for item in load(gone) if item["kind"] == "Namespace"]
    assert namespaces == ["strongroom-evidence"]


class TestCopy:
    @pytest.fixture
    def sealed(self, tmp_path: Path) -> Path:
        folder = tmp_path / "sealed"
        (folder / "1").mkdir(parents=True)
        for name in ("a", "1/model.ubj"):
            with create_sealed(folder / name, b"0123456789abcdef", sealed_path=name) as file:
                file.write(b"x")
        return folder

    def objects(self, site: Site) -> list[dict[str, Any]]:
        return [*render(site, "aks-sgx"), *spark_run(site, "aks-sgx")]

    def test_brings_every_file_and_leaves_no_pod_behind(self, cluster: Cluster, site: Site, sealed: Path) -> None:
        copied = copy_files(cluster.kubectl, self.objects(site), sealed, "model-server-models", "models/loan")
        assert copied == ["models/loan/1/model.ubj", "models/loan/a"]
        verbs = [arguments[0] for arguments, _ in cluster.asked]
        assert verbs == ["apply", "wait", "exec", "exec", "cp", "cp", "delete"]
        assert cluster.asked[4][0][-1] == "strongroom-copy:/storage/models/loan/1/model.ubj"

    @pytest.mark.parametrize(
        ("claim", "account"),
        [("loan-files", "loan-service"), ("model-server-models", "model-server"), ("spark-storage", "spark-driver")],
    )
    def test_the_pod_is_restricted_and_has_the_account_that_may_mount(
        self, cluster: Cluster, site: Site, sealed: Path, claim: str, account: str
    ) -> None:
        copy_files(cluster.kubectl, self.objects(site), sealed / "a", claim, "a")
        (pod,) = load(cluster.asked[0][1])
        assert pod["spec"]["serviceAccountName"] == account
        assert ("azure.workload.identity/use" in pod["metadata"]["labels"]) is (claim == "loan-files")
        assert validate([*self.objects(site), pod]) == validate(self.objects(site))

    def test_a_failed_copy_leaves_no_pod_behind(self, cluster: Cluster, site: Site, sealed: Path) -> None:
        cluster.answer((["wait"], 1, "timed out waiting for the condition"))
        with pytest.raises(UnavailableError, match="timed out"):
            copy_files(cluster.kubectl, self.objects(site), sealed, "loan-files", "data")
        assert cluster.asked[-1][0][:3] == ["delete", "pod", "strongroom-copy"]

    def test_what_is_not_sealed_stays_here(self, cluster: Cluster, site: Site, sealed: Path) -> None:
        for text in (b"in the clear", b"PAR1 in the clear PAR1"):
            (sealed / "secret.csv").write_bytes(text)
            with pytest.raises(FormatError):
                copy_files(cluster.kubectl, self.objects(site), sealed, "loan-files", "data")
        assert cluster.asked == []
        (sealed / "secret.csv").write_bytes(b"PARE" + bytes(20) + b"PARE")
        assert copy_files(cluster.kubectl, self.objects(site), sealed / "secret.csv", "spark-storage", "tables/a")

    @pytest.mark.parametrize("target", ["../a", "/a", "", "a/../../b", "a\nb"])
    def test_refuses_paths_that_lead_elsewhere(self, cluster: Cluster, site: Site, sealed: Path, target: str) -> None:
        with pytest.raises(ConfigurationError):
            copy_files(cluster.kubectl, self.objects(site), sealed, "loan-files", target)

    @pytest.mark.parametrize("claim", ["quote-helper", "evidence", "data", "other"])
    def test_refuses_claims_that_are_no_workload_s_storage(
        self, cluster: Cluster, site: Site, sealed: Path, claim: str
    ) -> None:
        with pytest.raises(ConfigurationError):
            copy_files(cluster.kubectl, self.objects(site), sealed, claim, "a")
        assert cluster.asked == []


def test_status_counts_replicas(cluster: Cluster, site: Site) -> None:
    state = {
        "spec": {"replicas": 2},
        "status": {"readyReplicas": 1, "conditions": [{"status": "False", "message": "insufficient EPC"}]},
    }
    cluster.answer((["get"], 0, json.dumps(state)))
    states = status(cluster.kubectl, render(site, "aks-sgx"))
    assert {item.name for item in states} == {
        "strongroom/loan-service", "strongroom/model-server", "strongroom/tensorflow-serving",
        "strongroom-broker/broker",
    }  # fmt: skip
    assert all((item.wanted, item.ready, item.why) == (2, 1, "insufficient EPC") for item in states)


NODE: dict[str, Any] = {"status": {"allocatable": {"sgx.intel.com/epc": "16Gi"}}}


def good(node: dict[str, Any] = NODE, minor: str = "34+") -> list[tuple[list[str], int, str]]:
    return [
        (["version"], 0, json.dumps({"serverVersion": {"major": "1", "minor": minor}})),
        (["get", "nodes"], 0, json.dumps({"items": [node, node]})),
    ]


def failed(cluster: Cluster, site: Site, *components: str) -> set[str]:
    return {check.name for check in precheck(cluster.kubectl, site, "aks-sgx", components) if not check.ok}


def test_a_cluster_that_has_everything_but_a_lasting_size(cluster: Cluster, site: Site) -> None:
    cluster.answer(*good())
    assert failed(cluster, site, "nginx-ingress", "gateway-tls", "key-vault") == {"node size"}


@pytest.mark.parametrize(
    ("answers", "name"),
    [
        (good(minor="28"), "server version"),
        (good({"status": {"allocatable": {}}}), "nodes"),
        ([(["get", "nodes"], 0, '{"items": []}'), *good()], "nodes"),
        ([(["get", "nodes"], 0, "not json"), *good()], "nodes"),
        ([(["storageclass"], 1, "not found"), *good()], "storage class azurefile-csi"),
        ([(["--raw"], 1, "no such API"), *good()], "metrics API (autoscaling)"),
        ([(["strongroom-broker-root-key"], 1, "not found"), *good()], "secret strongroom-broker-root-key"),
        ([(["strongroom-broker-database"], 1, "not found"), *good()], "secret strongroom-broker-database"),
        ([(["namespace"], 1, "not found"), *good()], "namespace kubeflow"),
        ([(["crd"], 1, "not found"), *good()], "crd tlsroutes.gateway.networking.k8s.io"),
    ],
)
def test_what_is_missing_is_said(cluster: Cluster, site: Site, answers: Any, name: str) -> None:
    cluster.answer(*answers)
    assert name in failed(cluster, site, "gateway-tls", "postgresql")


CONFIDENTIAL = {
    "node.kubernetes.io/instance-type": "Standard_DC4as_v6",
    "kubernetes.azure.com/security-type": "ConfidentialVM",
}


@pytest.mark.parametrize("changed", [None, *CONFIDENTIAL])
def test_confidential_nodes_must_be_what_the_site_says(
    cluster: Cluster, confidential_site: Site, changed: str | None
) -> None:
    labels = CONFIDENTIAL if changed is None else {**CONFIDENTIAL, changed: "Standard"}
    cluster.answer(*good({"metadata": {"labels": labels}}))
    found = {check.name: check.ok for check in precheck(cluster.kubectl, confidential_site, "aks-cvm", ())}
    assert found["confidential nodes"] is (changed is None)
    assert found["node size"] is True


def test_confidential_nodes_that_are_not_there(cluster: Cluster, confidential_site: Site) -> None:
    cluster.answer((["get", "nodes"], 0, '{"items": []}'), *good())
    found = {check.name: check.ok for check in precheck(cluster.kubectl, confidential_site, "aks-cvm", ())}
    assert found["confidential nodes"] is found["nodes"] is False


def test_status_counts_the_nodes_with_a_relay(cluster: Cluster, confidential_site: Site) -> None:
    cluster.answer(
        (["daemonset"], 0, '{"status": {"desiredNumberScheduled": 3, "numberReady": 2}}'), (["get"], 0, "{}")
    )
    states = {state.name: state for state in status(cluster.kubectl, render(confidential_site, "aks-cvm"))}
    relay = states["strongroom-evidence/evidence-relay"]
    assert (relay.wanted, relay.ready) == (3, 2)


def test_precheck_reads_no_secret_s_value(cluster: Cluster, site: Site) -> None:
    cluster.answer(*good())
    precheck(cluster.kubectl, site, "aks-sgx", [])
    for arguments, _ in cluster.asked:
        if "secret" in arguments:
            assert arguments[-2:] == ["--output", "name"]


def test_without_kubectl(site: Site) -> None:
    with pytest.raises(ConfigurationError, match="not installed"):
        apply(Kubectl(program="/nowhere/kubectl"), render(site, "aks-sgx"))


def test_the_context_is_the_caller_s(cluster: Cluster) -> None:
    Kubectl("there", cluster.kubectl.program).run("get", "pods")
    assert cluster.asked[0][0] == ["--context", "there", "get", "pods"]


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def test_commands_render_validate_and_write(fresh_site: Path, tmp_path: Path) -> None:
    done = run("render", str(fresh_site), "--overlay", "simulated")
    assert done.exit_code == 0, done.output
    assert isinstance(run("render", str(fresh_site), "--overlay", "aks-cvm").exception, ConfigurationError)
    assert load(done.stdout)
    out = tmp_path / "site.yaml"
    assert run("render", str(fresh_site), "--out", str(out)).exit_code == 0
    assert run("validate", str(fresh_site), "--manifests", str(out)).exit_code == 0
    assert run("render", str(fresh_site), "--out", str(out)).exit_code == 1
    assert run("render", str(fresh_site), "--tree", str(tmp_path / "tree")).exit_code == 0
    assert (tmp_path / "tree" / "overlays" / "aks-sgx" / "kustomization.yaml").exists()
    assert run("render", str(fresh_site), "--spark", str(tmp_path / "spark")).exit_code == 0
    assert (tmp_path / "spark" / "executor.yaml").exists()


def test_a_mistake_is_refused_before_the_cluster_is_asked(fresh_site: Path, cluster: Cluster) -> None:
    head, tail = fresh_site.read_text().split("[loan]")
    fresh_site.write_text(head + "[loan]" + tail.replace("most = 5  ", "most = 500  "))
    done = run("apply", str(fresh_site))
    assert isinstance(done.exception, PolicyRejected)
    assert "deploy.epc_cluster" in str(done.exception)
    assert cluster.asked == []


def test_commands_for_a_cluster(fresh_site: Path, cluster: Cluster) -> None:
    assert run("apply", str(fresh_site), "--dry-run").exit_code == 0
    assert isinstance(run("delete", str(fresh_site)).exception, ConfigurationError)
    assert run("delete", str(fresh_site), "--yes").exit_code == 0
    assert cluster.asked[-1][0][0] == "delete"
    cluster.answer((["get"], 0, '{"spec": {"replicas": 1}, "status": {"readyReplicas": 1}}'))
    done = run("status", str(fresh_site), "--json")
    assert done.exit_code == 0, done.exception
    assert json.loads(done.stdout)[0]["ready"] == 1
    cluster.answer((["get"], 0, '{"spec": {"replicas": 1}, "status": {}}'))
    assert isinstance(run("status", str(fresh_site)).exception, UnavailableError)
    cluster.answer(*good())
    done = run("precheck", str(fresh_site))
    assert isinstance(done.exception, UnavailableError)
    assert "FAIL node size" in done.stdout
    assert "ok   nodes" in done.stdout


def test_init(tmp_path: Path) -> None:
    assert run("init", str(tmp_path / "site")).exit_code == 0
    assert (tmp_path / "site" / "workloads" / "loan-service" / "workload.toml").exists()
    assert isinstance(run("init", str(tmp_path / "site")).exception, ConfigurationError)
