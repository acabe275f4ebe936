"""What is rendered: the same as Kustomize builds, quoted, restricted, and derived from the workloads."""

import copy
import dataclasses
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.deployment.kubernetes.components import COMPONENTS
from strongroom.deployment.kubernetes.nodes import SIZES
from strongroom.deployment.kubernetes.overlays import OVERLAYS
from strongroom.deployment.kubernetes.patches import Operation, Patch, apply_patches, pointer
from strongroom.deployment.kubernetes.render import kustomize_tree, render, spark_files
from strongroom.deployment.kubernetes.site import Site
from strongroom.deployment.kubernetes.text import dump, load
from strongroom.errors import ConfigurationError, FormatError

yaml = pytest.importorskip("yaml")

Objects = list[dict[str, Any]]
SiteFor = Callable[[str], Site]


def pick(objects: Objects, kind: str, name: str) -> dict[str, Any]:
    return next(item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name)


def container(objects: Objects, name: str) -> dict[str, Any]:
    found: dict[str, Any] = pick(objects, "Deployment", name)["spec"]["template"]["spec"]["containers"][0]
    return found


def by_place(objects: Objects) -> dict[tuple[str, str, str], Any]:
    return {(item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]): item for item in objects}


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("components", [[], *([name] for name in COMPONENTS), ["postgresql", "key-vault"]])
def test_kustomize_builds_the_same_objects(
    site_for: SiteFor, tmp_path: Path, kustomize: list[str], overlay: str, components: list[str]
) -> None:
    site = site_for(overlay)
    files = kustomize_tree(site)
    if any(f"components/{overlay}/{component}/kustomization.yaml" not in files for component in components):
        with pytest.raises(ConfigurationError):
            render(site, overlay, components)
        return
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    top = tmp_path / "overlays" / overlay
    if components:
        top = tmp_path / "top"
        top.mkdir()
        added = ", ".join(f"../components/{overlay}/{component}" for component in components)
        (top / "kustomization.yaml").write_text(f"resources: [../overlays/{overlay}]\ncomponents: [{added}]\n")
    built = subprocess.run([*kustomize, str(top)], capture_output=True, text=True, check=False, timeout=120)
    assert built.returncode == 0, built.stderr
    assert by_place(list(yaml.safe_load_all(built.stdout))) == by_place(render(site, overlay, components))


def test_the_example_in_the_repository_is_what_is_rendered(site: Site, confidential_site: Site) -> None:
    """To renew it: pytest tests/deployment -k example with STRONGROOM_RENEW=1."""
    folder = Path(__file__).resolve().parents[2] / "deploy" / "kustomize"
    files = {**kustomize_tree(confidential_site), **kustomize_tree(site)}
    if os.environ.get("STRONGROOM_RENEW"):
        shutil.rmtree(folder, ignore_errors=True)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.yaml")}
    assert found == files


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_order_is_stable_and_namespaces_come_first(site_for: SiteFor, overlay: str) -> None:
    first, second = (dump(render(site_for(overlay), overlay)) for _ in range(2))
    assert first == second
    kinds = [item["kind"] for item in load(first)]
    many = kinds.count("Namespace")
    assert many == (3 if overlay == "aks-cvm" else 2)
    assert set(kinds[:many]) == {"Namespace"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_namespace_is_restricted_but_the_relay_s(site_for: SiteFor, overlay: str) -> None:
    objects = render(site_for(overlay), overlay)
    levels = {
        item["metadata"]["name"]: item["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
        for item in objects
        if item["kind"] == "Namespace"
    }
    assert {name for name, level in levels.items() if level != "restricted"} <= {"strongroom-evidence"}
    inside = {item["kind"] for item in objects if item["metadata"].get("namespace") == "strongroom-evidence"}
    assert inside <= {"DaemonSet", "ServiceAccount", "NetworkPolicy"}


class TestConfidentialNodes:
    def test_one_relay_a_node_sees_the_virtual_tpm_and_no_pod_else(self, confidential_site: Site) -> None:
        objects = render(confidential_site, "aks-cvm")
        relay = pick(objects, "DaemonSet", "evidence-relay")["spec"]["template"]["spec"]
        (only,) = relay["containers"]
        assert only["command"] == [
            "strongroom", "platform", "relay", "--socket", "/run/strongroom-evidence/evidence.sock"
        ]  # fmt: skip
        assert [volume["hostPath"] for volume in relay["volumes"] if "hostPath" in volume] == [
            {"path": "/dev/tpmrm0", "type": "CharDevice"},
            {"path": "/run/strongroom-evidence", "type": "DirectoryOrCreate"},
        ]
        assert relay["automountServiceAccountToken"] is False
        for item in objects:
            if item["kind"] in {"Deployment", "StatefulSet"}:
                assert "hostPath" not in str(item)
                assert "'privileged'" not in str(item)

    def test_elsewhere_the_relay_asks_the_kernel(self, confidential_site: Site) -> None:
        nodes = dataclasses.replace(confidential_site.nodes, evidence="configfs-tsm")
        relay = pick(
            render(dataclasses.replace(confidential_site, nodes=nodes), "aks-cvm"), "DaemonSet", "evidence-relay"
        )
        paths = [volume["hostPath"]["path"] for volume in relay["spec"]["template"]["spec"]["volumes"][:2]]
        assert paths == ["/sys/kernel/config", "/run/strongroom-evidence"]

    @pytest.mark.parametrize("name", ["loan-service", "model-server"])
    def test_workloads_see_the_relay_s_socket_and_can_t_replace_it(self, confidential_site: Site, name: str) -> None:
        objects = render(confidential_site, "aks-cvm")
        pod = pick(objects, "Deployment", name)["spec"]["template"]["spec"]
        (mount,) = [mount for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "evidence"]
        assert mount == {"name": "evidence", "mountPath": "/run/strongroom-evidence", "readOnly": True}
        lent = pick(objects, "PersistentVolume", "strongroom-evidence")["spec"]
        assert lent["hostPath"] == {"path": "/run/strongroom-evidence", "type": "Directory"}
        assert lent["accessModes"] == ["ReadOnlyMany"]
        assert lent["claimRef"] == {"namespace": "strongroom", "name": "evidence"}
        relay = pick(objects, "DaemonSet", "evidence-relay")["spec"]["template"]["spec"]
        assert pod["nodeSelector"] == relay["nodeSelector"] == {"agentpool": "confvm"}
        assert pod["tolerations"] == relay["tolerations"]

    def test_kubeflow_s_steps_have_a_claim_of_their_own(self, confidential_site: Site) -> None:
        objects = render(confidential_site, "aks-cvm")
        (claim,) = [item for item in objects if item["kind"] == "PersistentVolumeClaim"
                    and item["metadata"]["namespace"] == "kubeflow"]  # fmt: skip
        assert claim["spec"]["volumeName"] == "kubeflow-evidence"
        assert pick(objects, "PersistentVolume", "kubeflow-evidence")["spec"]["claimRef"]["namespace"] == "kubeflow"

    def test_the_relay_talks_to_the_machine_s_metadata_service_and_nobody_to_it(self, confidential_site: Site) -> None:
        rules = [item["spec"] for item in render(confidential_site, "aks-cvm") if item["kind"] == "NetworkPolicy"
                 and item["metadata"]["namespace"] == "strongroom-evidence"]  # fmt: skip
        assert not any(rule.get("ingress") for rule in rules)
        (egress,) = [rule["egress"] for rule in rules if rule.get("egress")]
        assert egress == [
            {"to": [{"ipBlock": {"cidr": "169.254.169.254/32"}}], "ports": [{"protocol": "TCP", "port": 80}]}
        ]

    def test_the_relay_s_socket_is_where_a_pod_looks_for_it(self) -> None:
        from strongroom.deployment.kubernetes.lending import EVIDENCE
        from strongroom.deployment.kubernetes.relay import SOCKET

        assert SOCKET == "/run/strongroom-evidence/evidence.sock"
        assert EVIDENCE.path == str(Path(SOCKET).parent)


def test_the_quote_helper_relaxes_no_namespace(site: Site) -> None:
    objects = render(site, "aks-sgx", ["quote-helper"])
    label = "pod-security.kubernetes.io/enforce"
    levels = {item["metadata"]["labels"][label] for item in objects if item["kind"] == "Namespace"}
    assert levels == {"restricted"}
    assert not any("hostPath" in volume for item in objects if item["kind"] == "Deployment"
                   for volume in item["spec"]["template"]["spec"]["volumes"])  # fmt: skip
    lent = pick(objects, "PersistentVolume", "strongroom-quote-helper")["spec"]
    assert lent["hostPath"]["path"] == "/var/run/aesmd"
    assert lent["claimRef"] == {"namespace": "strongroom", "name": "quote-helper"}
    for name in ("loan-service", "model-server", "tensorflow-serving"):
        (mount,) = [mount for mount in container(objects, name)["volumeMounts"] if mount["name"] == "quote-helper"]
        assert mount == {"name": "quote-helper", "mountPath": "/var/run/aesmd", "readOnly": True}


class TestPostgresql:
    def test_two_replicas_take_the_place_of_one(self, site: Site) -> None:
        objects = render(site, "aks-sgx", ["postgresql"])
        assert not [item for item in objects if item["kind"] == "StatefulSet"]
        spec = pick(objects, "Deployment", "broker")["spec"]
        assert spec["replicas"] == 2
        assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert pick(objects, "PodDisruptionBudget", "broker")["spec"]["maxUnavailable"] == 1
        assert "volumeClaimTemplates" not in spec
        volumes = {volume["name"]: volume for volume in spec["template"]["spec"]["volumes"]}
        assert volumes["data"]["emptyDir"]["medium"] == "Memory"

    @pytest.mark.parametrize("login", ["password", "certificate"])
    def test_broker_takes_the_url_and_no_secret_is_in_it(self, site: Site, login: str) -> None:
        from strongroom.broker.database_url import parse_database_url

        database = dataclasses.replace(site.broker.database, login=login)  # type: ignore[type-var]  # it has one
        changed = dataclasses.replace(site, broker=dataclasses.replace(site.broker, database=database))
        objects = render(changed, "aks-sgx", ["postgresql"])
        spec = pick(objects, "Deployment", "broker")["spec"]["template"]["spec"]
        (broker,) = spec["containers"]
        environment = {entry["name"]: entry["value"] for entry in broker["env"]}
        address = parse_database_url(environment["STRONGROOM_BROKER_DATABASE_URL"])
        assert (address.ssl_mode, address.host) == ("verify-full", "db.example.com")
        mounted = {mount["mountPath"]: mount["name"] for mount in broker["volumeMounts"]}
        for path in address.files.values():  # every file is in something that is mounted
            assert mounted[str(Path(path).parent)] in {"keys", "database-ca"}
        copied = {item["path"] for volume in spec["volumes"] if volume["name"] == "database-login"
                  for item in volume["secret"]["items"]}  # fmt: skip
        private = {Path(path).name for path in address.files.values() if path.startswith("/run/strongroom/keys/")}
        assert private == copied
        assert pick(objects, "ConfigMap", "broker-database")["data"].keys() == {"ca.pem"}

    def test_network_policy_opens_the_database_only(self, site: Site) -> None:
        objects = render(site, "aks-sgx", ["postgresql"])
        spec = pick(objects, "NetworkPolicy", "broker-database")["spec"]
        assert spec["egress"] == [
            {"to": [{"ipBlock": {"cidr": "10.20.0.4/32"}}], "ports": [{"protocol": "TCP", "port": 5432}]}
        ]

    @pytest.mark.parametrize("components", [["key-vault", "postgresql"], ["postgresql", "key-vault"]])
    def test_root_key_from_the_key_vault_in_any_order(self, site: Site, components: list[str]) -> None:
        spec = pick(render(site, "aks-sgx", components), "Deployment", "broker")["spec"]["template"]["spec"]
        assert next(volume for volume in spec["volumes"] if volume["name"] == "root-key")["csi"]

    def test_needs_a_database(self, site: Site) -> None:
        changed = dataclasses.replace(site, broker=dataclasses.replace(site.broker, database=None))
        with pytest.raises(ConfigurationError) as refusal:
            render(changed, "aks-sgx", ["postgresql"])
        assert "[broker.database]" in str(refusal.value)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_rendered(site_for: SiteFor, overlay: str) -> None:
    objects = render(site_for(overlay), overlay)
    assert not [item for item in objects if item["kind"] == "Secret"]
    assert "PRIVATE KEY" not in dump(objects)


def test_resources_are_the_workload_s(site: Site, site_for: SiteFor) -> None:
    assert site.loan is not None
    needs = site.loan.workload.resources
    resources = container(render(site, "aks-sgx"), "loan-service")["resources"]
    expected = {"cpu": str(needs.cpus), "memory": f"{needs.memory_mib}Mi", "sgx.intel.com/epc": f"{needs.epc_mib}Mi"}
    assert resources == {"requests": expected, "limits": expected}
    for overlay in ("aks-cvm", "simulated"):
        resources = container(render(site_for(overlay), overlay), "loan-service")["resources"]
        assert "sgx.intel.com/epc" not in {**resources["requests"], **resources["limits"]}


def test_under_gramine_mounts_are_where_the_manifest_expects_them(site: Site) -> None:
    from strongroom.deployment.gramine_manifest import render_manifest

    assert site.loan is not None
    loan = container(render(site, "aks-sgx"), "loan-service")
    manifest = render_manifest(site.loan.workload)
    folder = loan["workingDir"]
    assert loan["command"] == ["gramine-sgx", "loan-service"]
    for mount in loan["volumeMounts"]:
        relative = mount["mountPath"].removeprefix(f"{folder}/")
        assert mount["name"] == "scratch" or f'uri = "file:{relative}"' in manifest
    for entry in loan["env"]:
        assert f'loader.env.{entry["name"]} = "{entry["value"]}"' in manifest
    inside = {entry["name"]: entry["value"] for entry in loan["env"]}
    assert f'path = "{inside["STRONGROOM_ROOM"]}"' in manifest
    assert f'path = "{inside["STRONGROOM_WORKLOAD"]}"' in manifest


def test_the_loan_service_is_the_reference_s(site: Site) -> None:
    objects = render(site, "aks-sgx")
    service = pick(objects, "Service", "loan-service")["spec"]
    assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(8080, "https")]
    assert container(objects, "loan-service")["ports"][0]["containerPort"] == 5000
    scaler = pick(objects, "HorizontalPodAutoscaler", "loan-service")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (1, 5)
    assert scaler["metrics"][0]["resource"]["target"]["averageUtilization"] == 50
    claim = pick(objects, "PersistentVolumeClaim", "loan-files")["spec"]
    assert claim["accessModes"] == ["ReadWriteMany"]
    assert claim["resources"]["requests"]["storage"] == "20Gi"


def test_the_broker_has_one_replica_and_its_keys_in_memory_only(site: Site) -> None:
    spec = pick(render(site, "aks-sgx"), "StatefulSet", "broker")["spec"]
    assert spec["replicas"] == 1
    pod = spec["template"]["spec"]
    keys = next(volume for volume in pod["volumes"] if volume["name"] == "keys")
    assert keys["emptyDir"]["medium"] == "Memory"
    mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert {mounts[f"/var/lib/strongroom/broker/{name}"] for name in ("root.key", "server.key")} == {"keys"}
    assert "root.key" not in pod["initContainers"][0]["command"][2].partition("for name in")[2].partition(";")[0]


def test_the_broker_s_files_are_laid_out_as_it_wants_them(tmp_path: Path) -> None:
    from strongroom.deployment.kubernetes.broker import SETUP

    for folder in ("files", "root-key", "keys", "data"):
        (tmp_path / folder).mkdir()
    names = ("broker.toml", "broker.db", "ca.pem", "server.pem", "admin.pub", "server.key", "simulated.der",
             "collateral.amd.vcek-milan.json", "collateral.intel.sgx-00906ed50000.json")  # fmt: skip
    for name in names:
        (tmp_path / "files" / f".{name}").write_text(name)
        (tmp_path / "files" / name).symlink_to(f".{name}")  # as a Secret's volume has them
    (tmp_path / "root-key" / "root.key").write_text("key")
    text = SETUP.replace("/run/strongroom", str(tmp_path)).replace("/var/lib/strongroom/broker", str(tmp_path / "data"))
    for _ in range(2):
        done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False, timeout=30)
        assert done.returncode == 0, done.stderr
    data = tmp_path / "data"
    assert (data / "collateral" / "intel" / "sgx-00906ed50000.json").read_text() == names[-1]
    assert (data / "collateral" / "amd" / "vcek-milan.json").exists()
    assert (data / "roots" / "simulated.der").exists()
    assert not (data / "root.key").exists()
    assert (tmp_path / "keys" / "root.key").stat().st_mode & 0o777 == 0o600
    assert not (data / "broker.db").is_symlink()


def test_what_replicas_log_in_with_is_for_them_alone(tmp_path: Path) -> None:
    from strongroom.deployment.kubernetes.broker import SHARED_SETUP

    for folder in ("files", "root-key", "keys", "data", "database/login"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("broker.toml", "ca.pem", "server.pem", "admin.pub", "server.key"):
        (tmp_path / "files" / name).write_text("new")
    (tmp_path / "root-key" / "root.key").write_text("key")
    (tmp_path / "database" / "login" / "pgpass").write_text("*:*:*:broker:secret")
    (tmp_path / "database" / "login" / "pgpass").chmod(0o440)
    text = SHARED_SETUP.replace("/run/strongroom", str(tmp_path))
    text = text.replace("/var/lib/strongroom/broker", str(tmp_path / "data"))
    subprocess.run(["sh", "-c", text], check=True, timeout=30)
    assert (tmp_path / "keys" / "pgpass").stat().st_mode & 0o077 == 0  # or libpq would pass over it
    assert not (tmp_path / "data" / "broker.db").exists()


def test_a_database_that_is_there_is_kept_and_a_new_certificate_is_taken(tmp_path: Path) -> None:
    from strongroom.deployment.kubernetes.broker import SETUP

    for folder in ("files", "root-key", "keys", "data"):
        (tmp_path / folder).mkdir()
    for name in ("broker.toml", "broker.db", "ca.pem", "server.pem", "admin.pub", "server.key"):
        (tmp_path / "files" / name).write_text("new")
    (tmp_path / "root-key" / "root.key").write_text("key")
    (tmp_path / "data" / "broker.db").write_text("grown")
    (tmp_path / "data" / "server.pem").write_text("old")
    text = SETUP.replace("/run/strongroom", str(tmp_path)).replace("/var/lib/strongroom/broker", str(tmp_path / "data"))
    subprocess.run(["sh", "-c", text], check=True, timeout=30)
    assert (tmp_path / "data" / "broker.db").read_text() == "grown"
    assert (tmp_path / "data" / "server.pem").read_text() == "new"


def test_tensorflow_serving_under_gramine_has_its_key_provisioned(site: Site) -> None:
    tensorflow = container(render(site, "aks-sgx"), "tensorflow-serving")
    environment = {entry["name"]: entry["value"] for entry in tensorflow["env"]}
    assert environment == {"SECRET_PROVISION_SERVERS": "broker.strongroom-broker.svc:4433"}
    assert tensorflow["command"] == ["gramine-sgx", "tensorflow-serving"]
    names = {item["metadata"]["name"] for item in render(site, "simulated")}
    assert "tensorflow-serving" not in names  # this site names no opener


@pytest.mark.parametrize("overlay", ["aks-cvm", "simulated"])
def test_tensorflow_serving_elsewhere_finds_its_files_opened(confidential_site: Site, overlay: str) -> None:
    objects = render(confidential_site, overlay)
    pod = pick(objects, "Deployment", "tensorflow-serving")["spec"]["template"]["spec"]
    (opener,), (server,) = pod["initContainers"], pod["containers"]
    assert confidential_site.tensorflow is not None
    assert server["command"] == list(confidential_site.tensorflow.workload.command)
    assert {mount["name"] for mount in server["volumeMounts"]} == {"opened", "scratch"}
    (opened,) = [volume for volume in pod["volumes"] if volume["name"] == "opened"]
    assert opened["emptyDir"]["medium"] == "Memory"
    assert opener["command"][-1].endswith("/tensorflow-opener/workload.toml")
    mounts = {mount["mountPath"]: mount for mount in opener["volumeMounts"]}
    assert mounts["/storage"]["readOnly"] is True
    assert mounts["/work"]["name"] == "opened"
    assert ("/run/strongroom-evidence" in mounts) is (overlay == "aks-cvm")
    for component in ("nginx-ingress", "gateway-tls"):
        behind = render(confidential_site, overlay, [component])
        assert pick(behind, "Service", "tensorflow-serving")["spec"]["type"] == "ClusterIP"


def test_services_behind_an_ingress_are_no_balancers(site: Site) -> None:
    for component in ("nginx-ingress", "gateway-tls"):
        objects = render(site, "aks-sgx", [component])
        for name in ("model-server", "tensorflow-serving"):
            assert pick(objects, "Service", name)["spec"]["type"] == "ClusterIP"
        assert pick(objects, "Service", "loan-service")["spec"]["type"] == "LoadBalancer"


@pytest.mark.parametrize(
    ("overlay", "component"), [("aks-eks", None), ("aks-sgx", "mysql"), ("aks-cvm", "quote-helper")]
)
def test_refuses_what_there_is_not(site: Site, overlay: str, component: str | None) -> None:
    with pytest.raises(ConfigurationError):
        render(site, overlay, [component] if component else [])


@pytest.mark.parametrize(("size", "relay"), [("Standard_DC4as_v6", False), ("Standard_DC4s_v3", True)])
def test_refuses_nodes_on_which_no_workload_could_attest(confidential_site: Site, size: str, relay: bool) -> None:
    image = confidential_site.nodes.relay if relay else None
    nodes = dataclasses.replace(confidential_site.nodes, size=SIZES[size], relay=image)
    changed = dataclasses.replace(confidential_site, nodes=nodes)
    for attempt in (lambda: render(changed, "aks-cvm"), lambda: spark_files(changed, "aks-cvm")):
        with pytest.raises(ConfigurationError) as refusal:
            attempt()
        assert refusal.value.code == "deploy.evidence"
    assert not [name for name in kustomize_tree(changed) if "aks-cvm" in name]


# --- YAML ---

TRICKY = [
    *("n", "y", "no", "on", "true", "null", "~", "=", "<<", "0o17", "0x1F", "1e3", "08", ".5", "1_000"),
    *(
        "12:30:45",
        "2026-11-21",
        "#",
        "&a",
        "*a",
        "!x",
        "%",
        "@",
        "`",
        "",
        " ",
        "\n\x85",
        "a\n\u2028b",
        "a\r\nb",
        "a: b",
        "- a",
        "line\nline",
        "tab\t",
        "ü",
    ),
]


def unquoted(node: Any) -> list[str]:
    """Texts that stand without quotes as values; keys are ours."""
    if isinstance(node, yaml.ScalarNode):
        return [node.value] if node.style is None and node.tag.endswith(":str") else []
    inner = [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else node.value
    return [text for value in inner for text in unquoted(value)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_text_of_every_file_is_quoted(site_for: SiteFor, overlay: str) -> None:
    site = site_for(overlay)
    components = ["quote-helper", "nginx-ingress", "key-vault"] if overlay == "aks-sgx" else ["gateway-tls"]
    files = kustomize_tree(site) | spark_files(site, overlay)
    files["all.yaml"] = dump(render(site, overlay, components))
    for name, text in files.items():
        if name.endswith(".yaml"):
            for document in yaml.compose_all(text, Loader=yaml.SafeLoader):
                assert unquoted(document) == [], name


@pytest.mark.parametrize("text", TRICKY)
def test_a_text_stays_a_text(text: str) -> None:
    for value in ({"a": text}, {text or "k": "v"}):
        written = dump([{"data": value}])
        assert yaml.safe_load(written) == {"data": value}
        assert load(written) == [{"data": value}]


LEAVES = st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs", "Cc"]))


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=5), st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3)
       | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8), max_size=4))  # fmt: skip
def test_what_is_written_is_read_back(value: dict[str, Any]) -> None:
    try:
        written = dump([value])
        assert load(written) == [value]
    except FormatError:
        # YAML has no spelling for some control characters in keys.
        assert any(not character.isprintable() for character in repr(value) + "".join(map(str, value)))


@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 2", "a: &x [1]\nb: *x", "- 1", "1", "a: [", "!!python/object/apply:os.system ['id']", "a: !!binary x",
     "? [a]\n: 1", "\0", "a:\n  <<: 1"],
)  # fmt: skip
def test_refuses_what_is_no_set_of_objects(text: str) -> None:
    with pytest.raises(FormatError):
        load(text)


def test_refuses_a_bomb() -> None:
    bomb = "a: &a [x]\n" + "\n".join(f"k{n}: &k{n} [*{'a' if n == 0 else f'k{n - 1}'}]" for n in range(50))
    with pytest.raises(FormatError):
        load(bomb)
    with pytest.raises(FormatError):
        load("[" * 100_000)
    with pytest.raises(FormatError):
        load("a: " + "x" * (9 << 20))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_objects_or_refused(text: str) -> None:
    try:
        load(text)
    except FormatError:
        return


# --- JSON Patch ---


def objects() -> Objects:
    return [{"kind": "A", "metadata": {"name": "x"}, "spec": {"list": [1, 2], "a/b": {"c~d": 1}}}]


@pytest.mark.parametrize(
    ("operation", "spec"),
    [
        (Operation("add", "/spec/list/0", 0), {"list": [0, 1, 2], "a/b": {"c~d": 1}}),
        (Operation("add", "/spec/list/-", 3), {"list": [1, 2, 3], "a/b": {"c~d": 1}}),
        (Operation("replace", "/spec/list/1", 9), {"list": [1, 9], "a/b": {"c~d": 1}}),
        (Operation("remove", "/spec/list/0"), {"list": [2], "a/b": {"c~d": 1}}),
        (Operation("replace", pointer("spec", "a/b", "c~d"), 2), {"list": [1, 2], "a/b": {"c~d": 2}}),
        (Operation("remove", pointer("spec", "a/b")), {"list": [1, 2]}),
    ],
)
def test_patches(operation: Operation, spec: dict[str, Any]) -> None:
    before = objects()
    assert apply_patches(before, [Patch("A", "x", (operation,))])[0]["spec"] == spec
    assert before == objects()


@pytest.mark.parametrize(
    "operation",
    [
        Operation("replace", "/spec/none", 1),
        Operation("remove", "/spec/none"),
        Operation("add", "/spec/none/deeper", 1),
        Operation("replace", "/spec/list/7", 1),
        Operation("replace", "/spec/list/x", 1),
        Operation("remove", "/spec/list/0/1"),
    ],
)
def test_a_patch_that_does_not_fit_is_an_error(operation: Operation) -> None:
    with pytest.raises(ConfigurationError):
        apply_patches(objects(), [Patch("A", "x", (operation,))])


def test_a_patch_of_no_object_or_of_several_is_an_error() -> None:
    with pytest.raises(ConfigurationError):
        apply_patches(objects(), [Patch("A", "y")])
    with pytest.raises(ConfigurationError):
        apply_patches([*objects(), *copy.deepcopy(objects())], [Patch("A", "x")])
    assert apply_patches(objects(), [Patch("A", "x")]) == []
