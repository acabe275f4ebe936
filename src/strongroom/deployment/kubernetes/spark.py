"""Spark on Kubernetes: accounts, rights, network rules; pod templates and settings for `spark-submit` and the operator.

Each pod starts as a workload: the container's script hands Spark's arguments and variables to the workload's measured
command, which attests and then becomes the driver or executor (`strongroom.analytics.spark.pod`).

Source: Apache Spark documentation, "Running Spark on Kubernetes" and "Security"; LocalDirsFeatureStep (the prefix
``spark-local-dir-``); apache/spark-kubernetes-operator, SparkApplication v1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from strongroom.deployment.kubernetes import parts, shared
from strongroom.deployment.kubernetes.enclave import ENCLAVES_FOLDER, EPC, enclave_mounts
from strongroom.deployment.kubernetes.lending import EVIDENCE, QUOTE_HELPER
from strongroom.deployment.kubernetes.nodes import CONFIDENTIAL_TAINT, SGX_TAINT
from strongroom.deployment.kubernetes.simulation import machine_mount, machine_setting, machine_volume
from strongroom.deployment.kubernetes.site import Site, Spark
from strongroom.deployment.kubernetes.text import Object
from strongroom.workload import Workload

DRIVER: Final = "spark-driver"
EXECUTOR: Final = "spark-executor"
DRIVER_PORT: Final = 7078
BLOCK_PORT: Final = 7079
API_PORT: Final = 443
VERSION: Final = "4.3.0"
STORAGE: Final = "spark-storage"
STORAGE_SIZE: Final = "64Gi"
COMMAND: Final = ("/usr/bin/tini", "--", "/opt/entrypoint.sh")
"""The image's own entry point; Spark appends its arguments."""
ENCLAVE_VARIABLE: Final = "STRONGROOM_ENCLAVE"
PRIVATE: Final = "/run/strongroom"
"""Memory of the pod's own for what the attested process writes: the secret of Spark's traffic, sockets, settings."""
SPILL: Final = "/var/spark"
_SPILL_VOLUME: Final = "spark-local-dir-1"
_RUNNER: Final = "org.apache.spark.deploy.PythonRunner"
_HEAP_SHARE: Final = 0.6  # of a pod's memory; the rest is for Python, native memory and threads


def spark_objects(site: Site) -> list[Object]:
    """Accounts, rights, storage and network rules of Spark; the pods themselves come from `spark_templates`."""
    if site.spark is None:
        return []
    place = site.namespace
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "list", "watch", "delete", "patch",
                                                             "deletecollection"]},
        {"apiGroups": [""], "resources": ["services", "configmaps"], "verbs": ["create", "get", "list", "delete",
                                                                              "deletecollection"]},
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["list", "deletecollection"]},
    ]  # fmt: skip
    return [
        {**parts.service_account(DRIVER, place), "automountServiceAccountToken": True},
        parts.service_account(EXECUTOR, place),
        parts.role(DRIVER, place, rules),
        parts.role_binding(DRIVER, place),
        parts.claim(STORAGE, place, STORAGE_SIZE),
        _network(site, DRIVER, [DRIVER_PORT, BLOCK_PORT], EXECUTOR, api=True),
        _network(site, EXECUTOR, [BLOCK_PORT], EXECUTOR, api=False),
    ]


def _network(site: Site, name: str, ports: list[int], caller: str, *, api: bool) -> Object:
    def peers(*names: str) -> list[Object]:
        return [{"podSelector": {"matchLabels": parts.selector(peer)}} for peer in names]

    inside = [{"protocol": "TCP", "port": port} for port in (DRIVER_PORT, BLOCK_PORT)]
    egress: list[Object] = [{"to": peers(DRIVER, EXECUTOR), "ports": inside}]
    if api:
        egress.append({"to": [{"ipBlock": {"cidr": site.cluster}}], "ports": [{"protocol": "TCP", "port": API_PORT}]})
    ingress = [
        {"from": peers(*sorted({caller, DRIVER})), "ports": [{"protocol": "TCP", "port": port} for port in ports]}
    ]
    spec = {
        "podSelector": {"matchLabels": parts.selector(name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
        "egress": egress,
    }
    return shared.policy(name, site.namespace, spec)


@dataclass(frozen=True, slots=True)
class _Pod:
    """What differs between overlays.

    Args:
        settings: Environment.
        mounts: Where the container sees storage, room and more.
        volumes: Beside those that every pod of Spark has.
        container: Further fields of the container.
        spec: Further fields of the pod.
        resources: Requests and limits alike, beside processor and memory.
    """

    settings: list[Object]
    mounts: list[Object]
    volumes: tuple[Object, ...] = ()
    container: tuple[tuple[str, Any], ...] = ()
    spec: tuple[tuple[str, Any], ...] = ()
    resources: tuple[tuple[str, str], ...] = ()


def spark_templates(site: Site, overlay: str, components: Sequence[str] = ()) -> dict[str, Object]:
    """Pod templates of driver and executors, by file name.

    Args:
        site: The site.
        overlay: Where the pods run.
        components: What is added; `quote-helper` changes them.
    """
    if site.spark is None:
        return {}
    workloads = {DRIVER: site.spark.driver, EXECUTOR: site.spark.executor}
    helper = QUOTE_HELPER.name in components
    return {
        f"{name.removeprefix('spark-')}.yaml": _template(site, name, workload, _pod(site, workload, overlay, helper))
        for name, workload in workloads.items()
    }


def _pod(site: Site, workload: Workload, overlay: str, helper: bool) -> _Pod:
    settings = parts.room_settings(workload)
    mounts = [parts.room_mount(), {"name": "storage", "mountPath": parts.STORAGE_FOLDER}]
    selected = (("nodeSelector", dict(site.nodes.selector)),)
    if overlay == "aks-cvm":
        return _Pod(
            settings,
            [*mounts, EVIDENCE.mount()],
            volumes=(EVIDENCE.volume(),),
            spec=(*selected, ("tolerations", [dict(CONFIDENTIAL_TAINT)])),
        )
    if overlay == "aks-sgx":
        folder = f"{ENCLAVES_FOLDER}/{workload.name}"
        return _Pod(
            [{"name": ENCLAVE_VARIABLE, "value": workload.name}],
            [*enclave_mounts(workload), *([QUOTE_HELPER.mount()] if helper else [])],
            volumes=(QUOTE_HELPER.volume(),) if helper else (),
            container=(("workingDir", folder),),
            spec=(*selected, ("tolerations", [dict(SGX_TAINT)])),
            resources=((EPC, f"{workload.resources.epc_mib}Mi"),),
        )
    return _Pod(machine_setting(settings), [*mounts, machine_mount()], volumes=(machine_volume(),))


def _template(site: Site, name: str, workload: Workload, pod: _Pod) -> Object:
    """Spark adds its arguments and variables, memory and processors; it keeps everything else."""
    resources = parts.resources(workload)
    container = {
        "name": name,
        "image": site.spark.image if site.spark else "",
        "command": list(COMMAND),
        "env": pod.settings,
        "securityContext": parts.container_security(),
        "resources": {side: {**amounts, **dict(pod.resources)} for side, amounts in resources.items()},
        "volumeMounts": [
            *pod.mounts,
            parts.scratch_mount(),
            {"name": "private", "mountPath": PRIVATE},
            {"name": _SPILL_VOLUME, "mountPath": SPILL},
        ],
        **dict(pod.container),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": site.namespace,
            "labels": parts.labels(name),
            "annotations": parts.described(workload),
        },
        "spec": {
            "serviceAccountName": name,
            "automountServiceAccountToken": name == DRIVER,
            "enableServiceLinks": False,
            "securityContext": parts.pod_security(),
            "containers": [container],
            "volumes": [
                parts.room_volume(),
                {"name": "storage", "persistentVolumeClaim": {"claimName": STORAGE}},
                parts.scratch_volume(),
                {"name": "private", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
                _spill(workload),
                *pod.volumes,
            ],
            **dict(pod.spec),
        },
    }


def _spill(workload: Workload) -> Object:
    limit = f"{workload.resources.memory_mib}Mi"
    return {"name": _SPILL_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": limit}}


def spark_settings(site: Site, spark: Spark) -> dict[str, str]:
    """Settings that a cluster may give; no secret is in any of them, and the pods refuse others.

    What encrypts and authenticates is not among them: the pods say that themselves.
    """
    return {
        "spark.kubernetes.namespace": site.namespace,
        "spark.kubernetes.container.image": spark.image,
        "spark.kubernetes.driver.podTemplateContainerName": DRIVER,
        "spark.kubernetes.executor.podTemplateContainerName": EXECUTOR,
        "spark.kubernetes.authenticate.driver.serviceAccountName": DRIVER,
        "spark.kubernetes.authenticate.executor.serviceAccountName": EXECUTOR,
        "spark.kubernetes.executor.disableConfigMap": "true",
        # A refused executor's exit status and log say why.
        "spark.kubernetes.executor.deleteOnTermination": "false",
        "spark.executor.instances": str(spark.executors),
        "spark.driver.port": str(DRIVER_PORT),
        "spark.driver.blockManager.port": str(BLOCK_PORT),
        "spark.blockManager.port": str(BLOCK_PORT),
        **_amounts("driver", spark.driver),
        **_amounts("executor", spark.executor),
    }


def _amounts(role: str, workload: Workload) -> dict[str, str]:
    """Spark asks for the sum of both kinds of memory: what the workload says."""
    memory, cpus = workload.resources.memory_mib, str(workload.resources.cpus)
    heap = int(memory * _HEAP_SHARE)
    return {
        f"spark.{role}.memory": f"{heap}m",
        f"spark.{role}.memoryOverhead": f"{memory - heap}m",
        f"spark.{role}.cores": cpus,
        f"spark.kubernetes.{role}.limit.cores": cpus,
    }


def spark_defaults(site: Site, spark: Spark) -> dict[str, str]:
    """Settings for ``spark-submit --properties-file``."""
    templates = {f"spark.kubernetes.{role}.podTemplateFile": f"{role}.yaml" for role in ("driver", "executor")}
    return {**spark_settings(site, spark), **templates}


def application_path(spark: Spark) -> str:
    """Where the driver's application stands in the image: the first ``.py`` of its command."""
    named = [part for part in spark.driver.command if part.endswith(".py")]
    return f"{parts.WORKLOADS_FOLDER}/{spark.driver.name}/{named[0] if named else 'jobs/query.py'}"


def spark_application(site: Site, spark: Spark, templates: dict[str, Object]) -> Object:
    """The same for the Apache Spark operator: one object instead of a command."""
    specs = {
        f"{name.removesuffix('.yaml')}Spec": {
            "podTemplateSpec": {
                "metadata": {key: pod["metadata"][key] for key in ("labels", "annotations")},
                "spec": pod["spec"],
            }
        }
        for name, pod in templates.items()
    }
    return {
        "apiVersion": "spark.apache.org/v1",
        "kind": "SparkApplication",
        "metadata": parts.metadata(spark.driver.name, site.namespace),
        "spec": {
            "mainClass": _RUNNER,
            "pyFiles": f"local://{application_path(spark)}",
            "sparkConf": spark_settings(site, spark),
            **specs,
            "runtimeVersions": {"sparkVersion": VERSION, "scalaVersion": "2.13"},
        },
    }
