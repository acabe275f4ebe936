"""Spark's driver and executors, and the account of Kubeflow's steps."""

from typing import Final

from strongroom.deployment.kubernetes import parts, shared
from strongroom.deployment.kubernetes.site import Pipeline, Site, Spark
from strongroom.deployment.kubernetes.text import Object
from strongroom.workload import Workload

DRIVER: Final = "spark-driver"
EXECUTOR: Final = "spark-executor"
DRIVER_PORT: Final = 7078
BLOCK_PORT: Final = 7079
API_PORT: Final = 443
PIPELINE: Final = "strongroom-pipeline"
SPARK_SECRET: Final = "/run/strongroom/spark.secret"  # noqa: S105 -- a path; the file is made inside the room


def spark_objects(site: Site) -> list[Object]:
    """Accounts, rights and network rules of Spark; the pods themselves come from `spark_templates`."""
    if site.spark is None:
        return []
    place = site.namespace
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "list", "watch", "delete", "patch"]},
        {"apiGroups": [""], "resources": ["services", "configmaps"], "verbs": ["create", "get", "list", "delete"]},
        {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["list"]},
    ]
    return [
        {**parts.service_account(DRIVER, place), "automountServiceAccountToken": True},
        parts.service_account(EXECUTOR, place),
        _role(DRIVER, place, rules),
        _binding(DRIVER, place),
        _spark_network(site, DRIVER, [DRIVER_PORT, BLOCK_PORT], EXECUTOR, api=True),
        _spark_network(site, EXECUTOR, [BLOCK_PORT], EXECUTOR, api=False),
    ]


def _spark_network(site: Site, name: str, ports: list[int], caller: str, *, api: bool) -> Object:
    def peers(*names: str) -> list[Object]:
        return [{"podSelector": {"matchLabels": parts.selector(peer)}} for peer in names]

    inside = [{"protocol": "TCP", "port": port} for port in (DRIVER_PORT, BLOCK_PORT)]
    egress: list[Object] = [{"to": peers(DRIVER, EXECUTOR), "ports": inside}]
    if api:
        egress.append({"to": [{"ipBlock": {"cidr": site.cluster}}], "ports": [{"protocol": "TCP", "port": API_PORT}]})
    callers = peers(caller) if caller == name else peers(caller, name)
    ingress = [{"from": [*callers, *peers(DRIVER)], "ports": [{"protocol": "TCP", "port": port} for port in ports]}]
    spec = {
        "podSelector": {"matchLabels": parts.selector(name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
        "egress": egress,
    }
    return shared.policy(name, site.namespace, spec)


def spark_templates(site: Site) -> dict[str, Object]:
    """Pod templates for ``spark.kubernetes.{driver,executor}.podTemplateFile``, by file name."""
    if site.spark is None:
        return {}
    spark = site.spark
    return {
        "driver.yaml": _template(site, DRIVER, spark.driver, spark.image),
        "executor.yaml": _template(site, EXECUTOR, spark.executor, spark.image),
    }


def _template(site: Site, name: str, workload: Workload, image: str) -> Object:
    """Spark adds memory, processors and its own arguments; it keeps everything else."""
    container = {
        "name": name,
        "image": image,
        "env": parts.room_settings(workload),
        "securityContext": parts.container_security(),
        "resources": parts.resources(workload),
        "volumeMounts": [
            parts.room_mount(),
            parts.scratch_mount(),
            {"name": "secrets", "mountPath": "/run/strongroom"},
            {"name": "spill", "mountPath": "/var/spark"},
        ],
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
                parts.scratch_volume(),
                {"name": "secrets", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                {"name": "spill", "emptyDir": {"medium": "Memory", "sizeLimit": f"{workload.resources.memory_mib}Mi"}},
            ],
        },
    }


def spark_defaults(site: Site, spark: Spark) -> dict[str, str]:
    """Settings for ``spark-submit``: encrypted and authenticated between pods, no secret in any of them.

    Source: Apache Spark documentation, "Security" and "Running Spark on Kubernetes". The authentication secret is a
    file that each pod makes inside the room from a key of the broker: in a setting it would stand in the pod's spec.
    """
    return {
        "spark.kubernetes.namespace": site.namespace,
        "spark.kubernetes.container.image": spark.image,
        "spark.kubernetes.driver.podTemplateFile": "driver.yaml",
        "spark.kubernetes.driver.podTemplateContainerName": DRIVER,
        "spark.kubernetes.executor.podTemplateFile": "executor.yaml",
        "spark.kubernetes.executor.podTemplateContainerName": EXECUTOR,
        "spark.kubernetes.authenticate.driver.serviceAccountName": DRIVER,
        "spark.kubernetes.authenticate.executor.serviceAccountName": EXECUTOR,
        "spark.executor.instances": str(spark.executors),
        "spark.driver.port": str(DRIVER_PORT),
        "spark.driver.blockManager.port": str(BLOCK_PORT),
        "spark.blockManager.port": str(BLOCK_PORT),
        "spark.authenticate": "true",
        "spark.authenticate.secret.file": SPARK_SECRET,
        "spark.network.crypto.enabled": "true",
        "spark.network.crypto.cipher": "AES/GCM/NoPadding",
        "spark.network.crypto.authEngineVersion": "2",
        "spark.network.crypto.saslFallback": "false",
        "spark.io.encryption.enabled": "true",
        "spark.io.encryption.keySizeBits": "256",
        "spark.local.dir": "/var/spark",
        "spark.ui.enabled": "false",
    }


def pipeline_objects(site: Site) -> list[Object]:
    """Account, rights and room of Kubeflow's steps, in Kubeflow's namespace, which is not ours to make."""
    if site.pipeline is None:
        return []
    place = site.pipeline.namespace
    # Source: Kubeflow Pipelines manifests, role `pipeline-runner`: the part that a step's launcher uses.
    rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]},
    ]
    return [_pipeline_account(site.pipeline), _role(PIPELINE, place, rules), _binding(PIPELINE, place),
            shared.room_config(site, place)]  # fmt: skip


def _pipeline_account(pipeline: Pipeline) -> Object:
    account = parts.service_account(PIPELINE, pipeline.namespace, pipeline.client_id)
    return {**account, "automountServiceAccountToken": True}


def _role(name: str, place: str, rules: list[Object]) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": parts.metadata(name, place),
        "rules": rules,
    }


def _binding(name: str, place: str) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": parts.metadata(name, place),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": place}],
    }
