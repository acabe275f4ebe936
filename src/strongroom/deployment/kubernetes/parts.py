"""Pieces that several objects are made of: labels, the restricted security context, resources, volumes, probes."""

from collections.abc import Mapping
from typing import Any, Final

from strongroom.deployment.kubernetes.text import Object
from strongroom.workload import Workload

PART_OF: Final = "strongroom"
USER: Final = 10001
ROOM: Final = "strongroom-room"
ROOM_FOLDER: Final = "/etc/strongroom/room"
WORKLOADS_FOLDER: Final = "/opt/strongroom/workloads"
STORAGE_FOLDER: Final = "/storage"
SCRATCH_FOLDER: Final = "/tmp"  # noqa: S108 -- a tmpfs of the pod's own
IDENTITY: Final = "azure.workload.identity"
DRAIN_S: Final = 30
SCRATCH_MIB: Final = 64


def labels(name: str) -> dict[str, str]:
    """The labels that select and describe one thing."""
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/part-of": PART_OF}


def selector(name: str) -> dict[str, str]:
    """The label that selects one thing's pods."""
    return {"app.kubernetes.io/name": name}


def metadata(name: str, namespace: str | None = None, *, annotations: Mapping[str, str] | None = None) -> Object:
    """Name, namespace and labels of an object."""
    place = {"namespace": namespace} if namespace else {}
    notes = {"annotations": dict(annotations)} if annotations else {}
    return {"name": name, **place, "labels": labels(name), **notes}


def described(workload: Workload) -> Object:
    """Annotations that say what a pod is, for people: the keys it may ask for."""
    return {"strongroom/workload": workload.name, "strongroom/keys": " ".join(sorted(set(workload.keys.values())))}


def pod_security() -> Object:
    """Security context of a pod: what Pod Security's level `restricted` asks for."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Object:
    """Security context of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def resources(workload: Workload) -> Object:
    """What a workload needs, as requests and the same limits. The overlay adds protected memory."""
    needs = {"cpu": str(workload.resources.cpus), "memory": f"{workload.resources.memory_mib}Mi"}
    return {"requests": dict(needs), "limits": dict(needs)}


def room_settings(workload: Workload) -> list[Object]:
    """Environment of a container that enters the room."""
    values = {
        "STRONGROOM_WORKLOAD": workload_file(workload),
        "STRONGROOM_ROOM": ROOM_FOLDER,
        "STRONGROOM_STORAGE": STORAGE_FOLDER,
        "STRONGROOM_PLATFORM": "auto",
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def workload_file(workload: Workload) -> str:
    """Where a workload's definition is in its image."""
    return f"{WORKLOADS_FOLDER}/{workload.name}/workload.toml"


def start_command(workload: Workload) -> list[str]:
    """How a container starts its workload where the whole machine is protected, or simulated."""
    return ["strongroom", "workload", "run", workload_file(workload)]


def room_volume() -> Object:
    """The broker's address and certificate."""
    return {"name": "room", "configMap": {"name": ROOM}}


def room_mount() -> Object:
    """Where containers see `room_volume`."""
    return {"name": "room", "mountPath": ROOM_FOLDER, "readOnly": True}


def scratch_volume(mib: int = SCRATCH_MIB) -> Object:
    """Memory for temporary files; the root file system is read-only."""
    return {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": f"{mib}Mi"}}


def scratch_mount() -> Object:
    """Where containers see `scratch_volume`."""
    return {"name": "scratch", "mountPath": SCRATCH_FOLDER}


def https_probes(port: str) -> dict[str, Object]:
    """Start-up, readiness and liveness over HTTPS; an enclave may take minutes to start."""
    alive = {"httpGet": {"path": "/healthz", "port": port, "scheme": "HTTPS"}}
    ready = {"httpGet": {"path": "/readyz", "port": port, "scheme": "HTTPS"}}
    return {
        "startupProbe": {**alive, "periodSeconds": 5, "failureThreshold": 60},
        "readinessProbe": {**ready, "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 3},
        "livenessProbe": {**alive, "periodSeconds": 10, "timeoutSeconds": 3, "failureThreshold": 6},
    }


def tcp_probes(port: str) -> dict[str, Object]:
    """The same for a server that has no health page: whether it accepts connections."""
    accepts = {"tcpSocket": {"port": port}}
    return {
        "startupProbe": {**accepts, "periodSeconds": 5, "failureThreshold": 60},
        "readinessProbe": {**accepts, "periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**accepts, "periodSeconds": 10, "failureThreshold": 6},
    }


def draining() -> Object:
    """Time for the load balancer to look away before SIGTERM, and then for the work under way."""
    return {"preStop": {"sleep": {"seconds": 5}}}


def service_account(name: str, namespace: str, client_id: str | None = None) -> Object:
    """A service account; with a managed identity, tokens are exchanged for Azure's, and no secret is stored."""
    annotations = {f"{IDENTITY}/client-id": client_id} if client_id else None
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(name, namespace, annotations=annotations),
        "automountServiceAccountToken": False,
    }


def deployment(name: str, namespace: str, pod: Object, annotations: Object, more: Mapping[str, str]) -> Object:
    """A deployment that never runs fewer replicas than asked for while it changes; how many, its autoscaler says.

    Args:
        name: Of the deployment.
        namespace: Of the deployment.
        pod: Specification of its pods.
        annotations: Of its pods.
        more: Further labels of its pods.
    """
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name, namespace),
        "spec": {
            "selector": {"matchLabels": selector(name)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": {**labels(name), **more}, "annotations": annotations}, "spec": pod},
        },
    }


def disruption_budget(name: str, namespace: str) -> Object:
    """At most one pod is drained at a time; enclaves can't be moved alive."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(name, namespace),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(name)}},
    }


def spread(name: str) -> list[Any]:
    """Replicas go to different nodes where that is possible."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": selector(name)},
        }
    ]


def role(name: str, namespace: str, rules: list[Object]) -> Object:
    """Rights of an account."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": metadata(name, namespace),
        "rules": rules,
    }


def role_binding(name: str, namespace: str) -> Object:
    """Gives an account the rights of the same name."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata(name, namespace),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    }


def claim(name: str, namespace: str, size: str, volume: str | None = None) -> Object:
    """Storage that several pods write to: Azure Files.

    Args:
        name: Of the claim.
        namespace: Of the claim.
        size: As Kubernetes writes it.
        volume: The volume it gets; None: a new one.
    """
    bound = {"volumeName": volume} if volume else {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(name, namespace),
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "azurefile-csi",
            "resources": {"requests": {"storage": size}},
            **bound,
        },
    }
