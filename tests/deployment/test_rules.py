"""Each rule finds the mistake it is for in a set of manifests that has no other."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.deployment.kubernetes.components import COMPONENTS
from strongroom.deployment.kubernetes.overlays import OVERLAYS
from strongroom.deployment.kubernetes.render import render, spark_run
from strongroom.deployment.kubernetes.rules import RULES, validate
from strongroom.deployment.kubernetes.rules.quantity import parse_quantity
from strongroom.deployment.kubernetes.site import Site
from strongroom.errors import ConfigurationError

Objects = list[dict[str, Any]]
EPC = "sgx.intel.com/epc"


class Rendered(list[dict[str, Any]]):
    def __repr__(self) -> str:
        return "what is rendered"


@pytest.fixture(scope="module")
def sgx(site: Site) -> Objects:
    return Rendered([*render(site, "aks-sgx", ["quote-helper"]), *spark_run(site, "aks-sgx", ["quote-helper"])])


@pytest.fixture(scope="module")
def confidential(confidential_site: Site) -> Objects:
    return Rendered([*render(confidential_site, "aks-cvm"), *spark_run(confidential_site, "aks-cvm")])


@pytest.fixture(scope="module")
def shared(site: Site) -> Objects:
    """With replicas of the broker on PostgreSQL, and the quote helper."""
    return Rendered(render(site, "aks-sgx", ["postgresql", "quote-helper"]))


def check(objects: Objects) -> set[str]:
    return {finding.code.removeprefix("deploy.") for finding in validate(objects, epc_mib=16 * 1024, nodes=5)}


def pick(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    return next(item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name)


def pod(objects: Objects, name: str = "loan-service") -> dict[str, Any]:
    found: dict[str, Any] = pick(objects, "Deployment", name)["spec"]["template"]["spec"]
    return found


def container(objects: Objects, name: str = "loan-service") -> dict[str, Any]:
    found: dict[str, Any] = pod(objects, name)["containers"][0]
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_rendered_has_no_finding(site_for: Callable[[str], Site], overlay: str) -> None:
    site = site_for(overlay)
    always = ["quote-helper"] if overlay == "aks-sgx" else []
    for component in COMPONENTS:
        if component == "quote-helper" and overlay != "aks-sgx":
            with pytest.raises(ConfigurationError):
                render(site, overlay, [component])
            continue
        components = sorted({*always, component})
        objects = [*render(site, overlay, components), *spark_run(site, overlay, components)]
        assert check(objects) == set(), component


def test_enclaves_without_the_quote_helper_have_no_evidence(site: Site) -> None:
    found = validate([*render(site, "aks-sgx"), *spark_run(site, "aks-sgx")], epc_mib=16 * 1024, nodes=5)
    assert {finding.code for finding in found} == {"deploy.no_evidence"}
    assert len(found) == 5  # three services, Spark's driver and executor


def set_resources(side: str, name: str, value: Any) -> Callable[[Objects], None]:
    def change(objects: Objects) -> None:
        container(objects)["resources"][side][name] = value

    return change


def drop(path: str) -> Callable[[Objects], None]:
    def change(objects: Objects) -> None:
        *folders, last = path.split(".")
        target: Any = container(objects) if folders[:1] == ["container"] else pod(objects)
        for part in folders[1:]:
            target = target[part]
        del target[last]

    return change


def put(where: str, path: str, value: Any) -> Callable[[Objects], None]:
    """Set a value in an object, `Kind/name`, or in the loan service's pod or container."""

    def change(objects: Objects) -> None:
        target: Any
        if where == "container":
            target = container(objects)
        elif where == "pod":
            target = pod(objects)
        else:
            target = pick(objects, *where.split("/"))
        *folders, last = path.split(".")
        for part in folders:
            target = target[int(part)] if part.isdigit() else target[part]
        if isinstance(target, list):
            target[int(last)] = value
        else:
            target[last] = value

    return change


def append(where: str, path: str, value: Any) -> Callable[[Objects], None]:
    def change(objects: Objects) -> None:
        target: Any = (
            {"container": container, "pod": pod}[where](objects)
            if "/" not in where
            else pick(objects, *where.split("/"))
        )
        for part in path.split("."):
            target = target[int(part)] if part.isdigit() else target[part]
        target.append(value)

    return change


def remove(kind: str, name: str) -> Callable[[Objects], None]:
    def change(objects: Objects) -> None:
        objects.remove(pick(objects, kind, name))

    return change


def both(*changes: Callable[[Objects], None]) -> Callable[[Objects], None]:
    def change(objects: Objects) -> None:
        for one in changes:
            one(objects)

    return change


def repeat(kind: str, name: str) -> Callable[[Objects], None]:
    def change(objects: Objects) -> None:
        objects.append(copy.deepcopy(pick(objects, kind, name)))

    return change


SCALER = "HorizontalPodAutoscaler/loan-service"
BUDGET = "PodDisruptionBudget/loan-service"
SERVICE = "Service/loan-service"
CLAIM = "PersistentVolumeClaim/loan-files"
METRIC = "spec.metrics.0.resource.target"
SECURITY = "securityContext"

# name of the mistake -> (the code that must be found, the mistake)
MISTAKES: dict[str, tuple[str, Callable[[Objects], None]]] = {
    "misspelt field of a container": ("unknown_field", put("container", "imagePullPolice", "Always")),
    "misspelt field of a pod": ("unknown_field", put("pod", "tolerationz", [])),
    "misspelt field of a service": ("unknown_field", put(SERVICE, "spec.port", [])),
    "misspelt field of a probe": ("unknown_field", put("container", "livenessProbe.period", 3)),
    "misspelt top field": ("unknown_field", put("Deployment/loan-service", "specs", {})),
    "name in capitals": ("name", put(BUDGET, "metadata.name", "Loan")),
    "container without a name": ("name", put("container", "name", "Loan Service")),
    "no namespace": ("namespace", put(BUDGET, "metadata", {"name": "loan-service"})),
    "namespace on a volume": ("namespace", put("PersistentVolume/strongroom-loan-files", "metadata.namespace", "x")),
    "the same object twice": ("duplicate", repeat("PodDisruptionBudget", "loan-service")),
    "label with a blank": ("label", put(BUDGET, "metadata.labels", {"a": "b c"})),
    "label with a number": ("label", put(BUDGET, "metadata.labels", {"a": 1})),
    "variable that YAML read as a number": ("not_text", append("container", "env", {"name": "A", "value": 1})),
    "ConfigMap with a truth value": ("not_text", put("ConfigMap/strongroom-room", "data", {"n": True})),
    "annotation that is no text": ("not_text", put(SERVICE, "metadata.annotations", {"a": False})),
    "secret in a variable": ("secret", append("container", "env", {"name": "DB_PASSWORD", "value": "hunter2"})),
    "private key in a ConfigMap": (
        "secret",
        put("ConfigMap/strongroom-room", "data", {"key": "-----BEGIN PRIVATE KEY-----"}),
    ),
    "secret in a Secret": ("secret", put("ConfigMap/strongroom-room", "kind", "Secret")),
    "no memory limit": ("resources", drop("container.resources.limits.memory")),
    "no processor request": ("resources", drop("container.resources.requests.cpu")),
    "memory in kilo-something": ("quantity", set_resources("limits", "memory", "4 GB")),
    "more requested than allowed": ("request_over_limit", set_resources("requests", "memory", "64Gi")),
    "EPC request below its limit": ("extended_unequal", set_resources("requests", EPC, "1Mi")),
    "EPC requested without limit": (
        "extended_no_limit",
        lambda objects: container(objects)["resources"]["limits"].pop(EPC),
    ),
    "a fraction of EPC": (
        "extended_fraction",
        both(set_resources("limits", EPC, "1500m"), set_resources("requests", EPC, "1500m")),
    ),
    "EPC by its old name": (
        "epc_name",
        both(
            set_resources("limits", "kubernetes.azure.com/sgx_epc_mem_in_MiB", 10),
            set_resources("requests", "kubernetes.azure.com/sgx_epc_mem_in_MiB", 10),
        ),
    ),
    "no readiness probe": ("probe_missing", drop("container.readinessProbe")),
    "no liveness probe": ("probe_missing", drop("container.livenessProbe")),
    "probe with two handlers": ("probe_handler", put("container", "livenessProbe.tcpSocket", {"port": "https"})),
    "probe without handler": ("probe_handler", put("container", "livenessProbe", {"periodSeconds": 1})),
    "probe of the reference's port 80": ("probe_port", put("container", "livenessProbe.httpGet.port", 80)),
    "port name too long": ("port_name", put("container", "ports.0.name", "https-of-the-loan-service")),
    "port out of range": ("port_number", put("container", "ports.0.containerPort", 70_000)),
    "port name twice": ("port_duplicate", append("container", "ports", {"name": "https", "containerPort": 6000})),
    "mount without volume": ("volume_missing", append("container", "volumeMounts", {"name": "x", "mountPath": "/x"})),
    "volume that nobody mounts": ("volume_unused", append("pod", "volumes", {"name": "x", "emptyDir": {}})),
    "two volumes at one path": (
        "mount_path",
        append("container", "volumeMounts", {"name": "scratch", "mountPath": "/tmp"}),
    ),
    "claim that is not there": ("reference", remove("PersistentVolumeClaim", "loan-files")),
    "ConfigMap that is not there": ("reference", remove("ConfigMap", "strongroom-room")),
    "account that is not there": ("reference", remove("ServiceAccount", "loan-service")),
    "image by tag": ("image", put("container", "image", "registry.example.com/loan:latest")),
    "image that was not filled in": ("image", put("container", "image", "r.example.com/loan@sha256:" + "0" * 64)),
    "namespace that takes everything": ("pod_security_level", put("Namespace/strongroom", "metadata.labels", {})),
    "privileged": ("pod_security", put("container", f"{SECURITY}.privileged", True)),
    "capabilities kept": ("pod_security", put("container", f"{SECURITY}.capabilities", {})),
    "capability added": ("pod_security", put("container", f"{SECURITY}.capabilities.add", ["SYS_ADMIN"])),
    "escalation allowed": ("pod_security", put("container", f"{SECURITY}.allowPrivilegeEscalation", True)),
    "runs as root": ("pod_security", put("pod", f"{SECURITY}.runAsUser", 0)),
    "may run as root": ("pod_security", put("pod", f"{SECURITY}.runAsNonRoot", False)),
    "no seccomp profile": ("pod_security", put("pod", f"{SECURITY}.seccompProfile", {"type": "Unconfined"})),
    "the node's network": ("pod_security", put("pod", "hostNetwork", True)),
    "a folder of the node": (
        "pod_security",
        both(
            append("pod", "volumes", {"name": "x", "hostPath": {"path": "/dev/sgx"}}),
            append("container", "volumeMounts", {"name": "x", "mountPath": "/x"}),
        ),
    ),
    "a port of the node": ("pod_security", put("container", "ports.0.hostPort", 5000)),
    "writable root": ("writable_root", put("container", f"{SECURITY}.readOnlyRootFilesystem", False)),
    "default account": ("account", put("pod", "serviceAccountName", "default")),
    "token mounted by accident": ("account", drop("pod.automountServiceAccountToken")),
    "identity without client": ("identity", put("ServiceAccount/loan-service", "metadata.annotations", {})),
    "selector of other pods": (
        "selector",
        put("Deployment/loan-service", "spec.selector.matchLabels", {"app.kubernetes.io/name": "loan"}),
    ),
    "service of other pods": ("service_selector", put(SERVICE, "spec.selector", {"app": "loan-app"})),
    "service port that no container has": ("service_port", put(SERVICE, "spec.ports.0.targetPort", 80)),
    "service port twice": ("service_duplicate", append(SERVICE, "spec.ports", {"port": 8080, "targetPort": "https"})),
    "balancer for everybody": ("service_open", put(SERVICE, "spec.loadBalancerSourceRanges", [])),
    "port on every node": ("service_open", put(SERVICE, "spec.type", "NodePort")),
    "fewest over most replicas": ("scale_range", put(SCALER, "spec.minReplicas", 9)),
    "autoscaler of nothing": ("scale_target", put(SCALER, "spec.scaleTargetRef.name", "loan")),
    "autoscaler without a request": ("scale_request", drop("container.resources.requests.cpu")),
    "target of another type": ("scale_metric", put(SCALER, METRIC, {"type": "Utilization", "averageValue": "50m"})),
    "budget with both fields": ("budget_fields", put(BUDGET, "spec.minAvailable", 1)),
    "budget of no pod": ("budget_selector", put(BUDGET, "spec.selector.matchLabels", {"app": "loan-app"})),
    "budget that blocks a drain": ("budget_blocks", put(BUDGET, "spec.maxUnavailable", 0)),
    "network that is none": (
        "cidr",
        put("NetworkPolicy/loan-service-clients", "spec.ingress.0.from.0.ipBlock.cidr", "203.0.113.7/24"),
    ),
    "balancer's network that is none": ("cidr", put(SERVICE, "spec.loadBalancerSourceRanges", ["10.0.0.0/33"])),
    "no default deny": ("default_deny", remove("NetworkPolicy", "default-deny")),
    "default deny of ingress only": (
        "default_deny",
        put("NetworkPolicy/default-deny", "spec.policyTypes", ["Ingress"]),
    ),
    "access mode misspelt": ("access_mode", put(CLAIM, "spec.accessModes", ["ReadWriteAll"])),
    "claim without size": ("claim_size", put(CLAIM, "spec.resources", {})),
    "claim larger than its volume": ("claim_volume", put(CLAIM, "spec.resources.requests.storage", "1Ti")),
    "claim of another class": ("claim_volume", put(CLAIM, "spec.storageClassName", "managed-csi")),
    "share mounted twice": (
        "volume_handle",
        put("PersistentVolume/strongroom-loan-files", "spec.csi.volumeHandle", ""),
    ),
    "more EPC than a node has": (
        "epc_node",
        both(set_resources("limits", EPC, "20Gi"), set_resources("requests", EPC, "20Gi")),
    ),
    "more EPC than all nodes have": ("epc_cluster", put(SCALER, "spec.maxReplicas", 100)),
}


DATABASE = "spec.template.spec.containers.0.env.3"
LENT = "PersistentVolume/strongroom-quote-helper"
SHARED_MISTAKES: dict[str, tuple[str, Callable[[Objects], None]]] = {
    "two replicas without a database": (
        "broker_replicas",
        put("Deployment/broker", DATABASE, {"name": "X", "value": "x"}),
    ),
    "database's password in the URL": (
        "broker_database",
        put("Deployment/broker", DATABASE + ".value", "postgresql://u:p@localhost/d"),
    ),
    "database that could be anybody": (
        "broker_database",
        put("Deployment/broker", DATABASE + ".value", "postgresql://u@db.example.com/d?sslmode=require"),
    ),
    "database out of reach": ("broker_network", remove("NetworkPolicy", "broker-database")),
    "database in another network": (
        "broker_network",
        put("Deployment/broker", DATABASE + ".value", "postgresql://u@10.9.9.9/d?sslrootcert=/ca.pem"),
    ),
    "database at another port": (
        "broker_network",
        put("NetworkPolicy/broker-database", "spec.egress.0.ports.0.port", 6432),
    ),
    "another folder of the node": ("node_folder", put(LENT, "spec.hostPath.path", "/var/run")),
    "folder of the node to write to": (
        "node_folder",
        both(
            put(LENT, "spec.accessModes", ["ReadWriteMany"]),
            put("PersistentVolumeClaim/quote-helper", "spec.accessModes", ["ReadWriteMany"]),
        ),
    ),
    "folder of the node for everybody": ("node_folder", put(LENT, "spec.claimRef", {})),
}


@pytest.mark.parametrize("mistake", SHARED_MISTAKES)
def test_finds_in_replicas(shared: Objects, mistake: str) -> None:
    code, change = SHARED_MISTAKES[mistake]
    objects = copy.deepcopy(list(shared))
    assert check(objects) == set()
    change(objects)
    assert check(objects) == {code}


RELAY = "DaemonSet/evidence-relay"
RELAYS_POD = "spec.template.spec"
CONFIDENTIAL_MISTAKES: dict[str, tuple[str, Callable[[Objects], None]]] = {
    "pod without the socket": ("no_evidence", lambda objects: pod(objects)["volumes"].pop(3)),
    "socket in another place": ("no_evidence", put("container", "volumeMounts.3.mountPath", "/run/evidence")),
    "no relay": ("relay_missing", remove("DaemonSet", "evidence-relay")),
    "relay on other nodes": ("relay_nodes", put(RELAY, f"{RELAYS_POD}.nodeSelector", {"agentpool": "other"})),
    "relay that does not tolerate the nodes": ("relay_nodes", put(RELAY, f"{RELAYS_POD}.tolerations", [])),
    "relay on the node's network": ("relay", put(RELAY, f"{RELAYS_POD}.hostNetwork", True)),
    "relay sees the node's processes": ("relay", put(RELAY, f"{RELAYS_POD}.hostPID", True)),
    "relay with a token": ("relay", put(RELAY, f"{RELAYS_POD}.automountServiceAccountToken", True)),
    "relay with another folder of the node": (
        "relay",
        put(RELAY, f"{RELAYS_POD}.volumes.0.hostPath.path", "/etc/kubernetes"),
    ),
    "relay with a port of the node": (
        "relay",
        put(RELAY, f"{RELAYS_POD}.containers.0.ports", [{"name": "a", "containerPort": 1, "hostPort": 1}]),
    ),
    "relay that may write to its image": (
        "writable_root",
        put(RELAY, f"{RELAYS_POD}.containers.0.securityContext.readOnlyRootFilesystem", False),
    ),
    "relay without a probe": ("probe_missing", put(RELAY, f"{RELAYS_POD}.containers.0.livenessProbe", None)),
    "relay that selects other pods": ("selector", put(RELAY, "spec.selector.matchLabels", {"a": "b"})),
    "another pod in the relay's namespace": (
        "pod_security_level",
        put("Deployment/loan-service", "metadata.namespace", "strongroom-evidence"),
    ),
    "another program as the relay": (
        "pod_security_level",
        put(RELAY, f"{RELAYS_POD}.containers.0.command", ["strongroom", "broker", "serve", "/x"]),
    ),
    "the workloads' namespace relaxed": (
        "pod_security_level",
        put("Namespace/strongroom", "metadata.labels", {"pod-security.kubernetes.io/enforce": "privileged"}),
    ),
    "socket's folder to write to": (
        "node_folder",
        both(
            put("PersistentVolume/strongroom-evidence", "spec.accessModes", ["ReadWriteMany"]),
            put("PersistentVolumeClaim/evidence", "spec.accessModes", ["ReadWriteMany"]),
        ),
    ),
    "the virtual TPM lent to pods": (
        "node_folder",
        put("PersistentVolume/strongroom-evidence", "spec.hostPath.path", "/dev/tpmrm0"),
    ),
    "Spark's executor without the socket": (
        "no_evidence",
        put("SparkApplication/spark-driver", "spec.executorSpec.podTemplateSpec.spec.volumes.5.name", "x"),
    ),
    "opener without the socket": (
        "no_evidence",
        lambda objects: pod(objects, "tensorflow-serving")["initContainers"][0]["volumeMounts"].pop(),
    ),
    "Spark's driver as root": (
        "pod_security",
        put("SparkApplication/spark-driver", "spec.driverSpec.podTemplateSpec.spec.securityContext.runAsUser", 0),
    ),
}


@pytest.mark.parametrize("mistake", CONFIDENTIAL_MISTAKES)
def test_finds_on_confidential_nodes(confidential: Objects, mistake: str) -> None:
    code, change = CONFIDENTIAL_MISTAKES[mistake]
    objects = copy.deepcopy(list(confidential))
    assert check(objects) == set()
    change(objects)
    assert code in check(objects)


def test_finds_an_enclave_without_the_quote_helper(sgx: Objects) -> None:
    objects = copy.deepcopy(list(sgx))
    pod(objects)["volumes"] = [item for item in pod(objects)["volumes"] if item["name"] != "quote-helper"]
    assert "no_evidence" in check(objects)


def test_finds_executors_that_have_no_place(sgx: Objects) -> None:
    objects = copy.deepcopy(list(sgx))
    put("SparkApplication/spark-driver", "spec.sparkConf", {"spark.executor.instances": "9"})(objects)
    assert check(objects) == {"epc_cluster"}


def test_finds_pods_that_fit_in_sum_and_not_on_nodes(sgx: Objects) -> None:
    """Five nodes of 16 GiB have room for five pods of 9 GiB, not for six, though six are only 54 GiB of 80."""
    objects = [copy.deepcopy(item) for item in sgx if item["metadata"]["name"] == "loan-service"]
    for side in ("requests", "limits"):
        set_resources(side, EPC, "9Gi")(objects)
    codes = []
    for most in (5, 6):
        put(SCALER, "spec.maxReplicas", most)(objects)
        codes.append("epc_cluster" in check(objects))
    assert codes == [False, True]


def test_finds_two_replicas_on_sqlite(sgx: Objects) -> None:
    objects = copy.deepcopy(list(sgx))
    put("StatefulSet/broker", "spec.replicas", 2)(objects)
    assert check(objects) == {"broker_replicas"}
    put("StatefulSet/broker", "spec.replicas", 1)(objects)
    put("StatefulSet/broker", "kind", "Deployment")(objects)
    assert "broker_replicas" in check(objects)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_finds(sgx: Objects, mistake: str) -> None:
    code, change = MISTAKES[mistake]
    objects = copy.deepcopy(list(sgx))
    change(objects)
    assert code in check(objects)


def test_every_code_has_a_mistake_that_shows_it() -> None:
    import re

    import strongroom.deployment.kubernetes.rules as package

    source = "".join(path.read_text() for path in Path(package.__file__).parent.glob("*.py"))
    codes = set(re.findall(r'finding\(\s*"([a-z_]+)"', source))
    shown = {code for code, _ in [*MISTAKES.values(), *SHARED_MISTAKES.values(), *CONFIDENTIAL_MISTAKES.values()]}
    assert codes - {"epc_none"} == shown
    assert len(codes) >= 27
    assert len(RULES) == len(set(RULES))


def test_protected_memory_on_nodes_without_it(sgx: Objects) -> None:
    assert [finding.code for finding in validate(sgx)] == ["deploy.epc_none"]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        found += places(part, (*path, key))
    return found


JUNK = st.none() | st.booleans() | st.integers(-5, 70_000) | st.text(max_size=8) | st.lists(
    st.integers() | st.dictionaries(st.text(max_size=3), st.integers(), max_size=1), max_size=2
) | st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.none(), max_size=2)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(number=st.integers(0, 10**6), junk=JUNK)
def test_no_rule_falls_over_whatever_stands_anywhere(sgx: Objects, number: int, junk: Any) -> None:
    everywhere = [(index, path) for index, item in enumerate(sgx) for path in places(item)]
    index, (*folders, last) = everywhere[number % len(everywhere)]
    objects = [copy.deepcopy(item) if place == index else item for place, item in enumerate(sgx)]
    target: Any = objects[index]
    for part in folders:
        target = target[part]
    target[last] = junk
    validate(objects, epc_mib=16 * 1024, nodes=5)


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", 1), ("500m", 0.5), ("4Gi", 4 * 2**30), ("1k", 1000), (3, 3), ("1.5", 1.5), ("0", 0)],
)
def test_quantities(text: object, number: float) -> None:
    found = parse_quantity(text)
    assert found is not None
    assert float(found) == number


@pytest.mark.parametrize("text", ["", "-1", "1 Gi", "Gi", "1GB", "1e3", "0x1", "٣", None, True, 1.5, [], "9" * 30])
def test_no_quantities(text: object) -> None:
    assert parse_quantity(text) is None
