"""Spark's pods: templates, container files, workloads and manifests say the same."""

import dataclasses
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from strongroom.deployment.gramine_manifest import render_manifest
from strongroom.deployment.gramine_spark import HOSTS_FOLDERS, SparkRuntime
from strongroom.deployment.kubernetes import spark as pods
from strongroom.deployment.kubernetes.nodes import SIZES
from strongroom.deployment.kubernetes.overlays import OVERLAYS
from strongroom.deployment.kubernetes.render import render, spark_files
from strongroom.deployment.kubernetes.rules.quantity import parse_quantity
from strongroom.deployment.kubernetes.site import Site
from strongroom.deployment.kubernetes.text import load
from strongroom.workload import Workload

pytest.importorskip("yaml")

CONTAINERS = Path(__file__).resolve().parents[2] / "deploy" / "containers"
ROLES = ("driver", "executor")


def on_its_nodes(site: Site, overlay: str) -> Site:
    """Confidential virtual machines, for their overlay."""
    if overlay != "aks-cvm":
        return site
    relay = f"registry.example.com/strongroom-relay@sha256:{'a' * 64}"
    nodes = dataclasses.replace(site.nodes, size=SIZES["Standard_DC4es_v6"], relay=relay)
    return dataclasses.replace(site, nodes=nodes)


def template(site: Site, overlay: str, role: str) -> dict[str, Any]:
    (pod,) = load(spark_files(on_its_nodes(site, overlay), overlay)[f"{role}.yaml"])
    return pod


def container(site: Site, overlay: str, role: str) -> dict[str, Any]:
    (only,) = template(site, overlay, role)["spec"]["containers"]
    return dict(only)


def mounts(site: Site, overlay: str, role: str) -> dict[str, dict[str, Any]]:
    return {mount["mountPath"]: mount for mount in container(site, overlay, role)["volumeMounts"]}


def workload(site: Site, role: str) -> Workload:
    assert site.spark is not None
    return {"driver": site.spark.driver, "executor": site.spark.executor}[role]


def manifest(site: Site, role: str) -> dict[str, Any]:
    text = render_manifest(workload(site, role), interpreter="/opt/strongroom/bin/python3", spark=SparkRuntime())
    text = re.sub(r"\{%.*?%\}\n", "", text).replace("{{ gramine.runtimedir() }}", "/gramine")
    return tomllib.loads(text.replace("{{ '/' if path.is_dir() else '' }}", "").replace("{{ path }}", "/python"))


def containerfile(name: str) -> str:
    return (CONTAINERS / f"{name}.Containerfile").read_text()


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("role", ROLES)
def test_the_command_is_the_image_s_entry_point_and_spark_adds_its_arguments(
    site: Site, overlay: str, role: str
) -> None:
    for name in ("spark", "spark-gramine"):
        found = re.findall(r"^ENTRYPOINT (.*)$", containerfile(name), re.MULTILINE)
        assert json.loads(found[-1]) == container(site, overlay, role)["command"]
    assert "args" not in container(site, overlay, role)


@pytest.mark.parametrize("name", ["spark", "spark-gramine"])
def test_the_image_runs_as_the_template_s_user(site: Site, name: str) -> None:
    security = template(site, "aks-sgx", "driver")["spec"]["securityContext"]
    assert f"USER {security['runAsUser']}:{security['runAsGroup']}" in containerfile(name)


@pytest.mark.parametrize("role", ROLES)
def test_in_an_enclave_the_pod_mounts_what_the_manifest_looks_for(site: Site, role: str) -> None:
    pod, inside = mounts(site, "aks-sgx", role), manifest(site, role)
    folder = container(site, "aks-sgx", role)["workingDir"]
    wanted = {mount["path"]: mount for mount in inside["fs"]["mounts"]}
    for name in ("tables", "results"):
        assert wanted[f"/work/{name}"]["uri"] == f"file:{name}"
        assert pod[f"{folder}/{name}"]["subPath"] == name
    assert wanted["/room"]["uri"] == "file:room"
    assert f"{folder}/room" in pod
    assert wanted[pods.PRIVATE] == {
        "path": pods.PRIVATE, "uri": f"file:{pods.PRIVATE}", "type": "encrypted", "key_name": "_sgx_mrenclave"
    }  # fmt: skip
    assert pods.PRIVATE in pod
    # Spark spills where a volume of this name is mounted; inside it is memory of the enclave's own.
    assert pod[pods.SPILL]["name"].startswith("spark-local-dir-")
    assert wanted[pods.SPILL]["type"] == "tmpfs"
    assert set(HOSTS_FOLDERS) <= wanted.keys()
    made = re.findall(r"^RUN mkdir -p (.*)$", containerfile("spark-gramine"), re.MULTILINE)[0].split()
    assert {folder.replace("/var/run/", "/run/") for folder in HOSTS_FOLDERS} == set(made)


@pytest.mark.parametrize("role", ROLES)
def test_in_an_enclave_the_manifest_starts_the_workload_s_command(site: Site, role: str) -> None:
    inside, asked = manifest(site, role), workload(site, role)
    assert inside["loader"]["argv"] == ["/opt/strongroom/bin/python3", *asked.command[1:]]
    assert "insecure__use_cmdline_argv" not in inside["loader"]
    (variable,) = container(site, "aks-sgx", role)["env"]
    assert variable == {"name": "STRONGROOM_ENCLAVE", "value": asked.name}
    text = containerfile("spark-gramine")
    assert f"--output {asked.name}.manifest.sgx" in text
    assert container(site, "aks-sgx", role)["workingDir"] == f"/opt/strongroom/enclaves/{asked.name}"
    assert "--java /usr/lib/jvm/java-17-openjdk-amd64" in text
    assert "JAVA_HOME=/usr/lib/jvm/java-17-openjdk-amd64" in containerfile("spark")


@pytest.mark.parametrize("role", ROLES)
def test_protected_memory_holds_both_enclaves_of_a_pod(site: Site, role: str) -> None:
    resources = container(site, "aks-sgx", role)["resources"]
    epc = resources["limits"]["sgx.intel.com/epc"]
    assert resources["requests"]["sgx.intel.com/epc"] == epc
    enclave = parse_quantity(manifest(site, role)["sgx"]["enclave_size"].replace("M", "Mi"))
    asked, most = parse_quantity(epc), parse_quantity(f"{site.nodes.size.epc_gib}Gi")
    assert enclave is not None
    assert asked is not None
    assert most is not None
    assert 2 * enclave <= asked <= most


@pytest.mark.parametrize("role", ROLES)
def test_spark_asks_for_the_memory_and_processors_of_the_workload(site: Site, role: str) -> None:
    settings = defaults(site)
    heap, rest = (int(settings[f"spark.{role}.{name}"].removesuffix("m")) for name in ("memory", "memoryOverhead"))
    resources = workload(site, role).resources
    assert heap + rest == resources.memory_mib
    assert settings[f"spark.{role}.cores"] == str(resources.cpus)
    assert container(site, "aks-cvm", role)["resources"]["limits"]["memory"] == f"{heap + rest}Mi"


def defaults(site: Site) -> dict[str, str]:
    lines = spark_files(site, "aks-sgx")["spark-defaults.conf"].splitlines()
    return dict(line.split(" ", 1) for line in lines)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_in_any_file(site: Site, overlay: str) -> None:
    files = spark_files(on_its_nodes(site, overlay), overlay)
    assert set(files) == {"driver.yaml", "executor.yaml", "spark-defaults.conf", "spark-application.yaml"}
    words = ("spark.authenticate.secret", "assword", "accessToken", "keyStore", "_SPARK_AUTH_SECRET", "PRIVATE KEY")
    assert not [word for word in words for text in files.values() if word in text]


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("role", ROLES)
def test_pods_are_restricted_and_only_the_driver_talks_to_the_api_server(site: Site, overlay: str, role: str) -> None:
    pod = template(site, overlay, role)["spec"]
    assert pod["automountServiceAccountToken"] is (role == "driver")
    security = pod["containers"][0]["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert "hostPath" not in json.dumps(pod)
    assert "privileged" not in json.dumps(pod)


def test_a_simulated_pod_says_so_and_has_its_machine(site: Site) -> None:
    for role in ROLES:
        env = {item["name"]: item["value"] for item in container(site, "simulated", role)["env"]}
        assert env["STRONGROOM_PLATFORM"] == "simulated"
        assert env["STRONGROOM_SIMULATED_MACHINE"] in mounts(site, "simulated", role)


def test_storage_that_pods_name_is_there(site: Site) -> None:
    for overlay in OVERLAYS:
        claims = [
            item["metadata"]["name"]
            for item in render(on_its_nodes(site, overlay), overlay)
            if item["kind"] == "PersistentVolumeClaim"
        ]
        for role in ROLES:
            volumes = template(site, overlay, role)["spec"]["volumes"]
            named = [item["persistentVolumeClaim"]["claimName"] for item in volumes if "persistentVolumeClaim" in item]
            assert "spark-storage" in named
            assert set(named) <= set(claims)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_operator_gets_the_same_pods_and_settings(site: Site, overlay: str) -> None:
    (application,) = load(spark_files(on_its_nodes(site, overlay), overlay)["spark-application.yaml"])
    assert application["apiVersion"] == "spark.apache.org/v1"
    spec = application["spec"]
    for role in ROLES:
        assert spec[f"{role}Spec"]["podTemplateSpec"]["spec"] == template(site, overlay, role)["spec"]
    both = {name: value for name, value in defaults(site).items() if not name.endswith("podTemplateFile")}
    assert spec["sparkConf"] == both
    assert spec["pyFiles"] == "local:///opt/strongroom/workloads/spark-driver/jobs/query.py"
    locked = (CONTAINERS.parents[1] / "requirements" / "images" / "spark.lock").read_text()
    assert f"pyspark=={spec['runtimeVersions']['sparkVersion']}" in locked


def test_the_script_hands_over_arguments_and_variables_as_they_are(tmp_path: Path) -> None:
    for name in ("strongroom", "gramine-sgx"):
        program = tmp_path / name
        program.write_text('#!/bin/sh\necho "$0 $*"; echo "$STRONGROOM_SPARK_CALL"\n')
        program.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "STRONGROOM_WORKLOAD": "/w/workload.toml",
        "SPARK_JAVA_OPT_0": "-Da=two lines\nand $(blanks)",
        "OTHER": "not this",
    }

    def run(**more: str) -> list[str]:
        command = ["sh", str(CONTAINERS / "spark-entrypoint.sh"), "driver", "a b", "", "*"]
        done = subprocess.run(
            command, env=environment | more, capture_output=True, text=True, check=True, timeout=30, cwd=tmp_path
        )
        return done.stdout.splitlines()

    started, call = run()
    assert started == f"{tmp_path}/strongroom workload run /w/workload.toml"
    from strongroom.analytics.spark.pod import parse_call

    parsed = parse_call(call)
    assert parsed.arguments == ("driver", "a b", "", "*")
    assert parsed.variables == {"SPARK_JAVA_OPT_0": environment["SPARK_JAVA_OPT_0"]}
    started, again = run(STRONGROOM_ENCLAVE="spark-driver")
    assert started == f"{tmp_path}/gramine-sgx spark-driver"
    assert again == call
