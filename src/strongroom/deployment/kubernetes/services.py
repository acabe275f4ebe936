"""The workloads that serve: the loan service, the model server, TensorFlow Serving under Gramine."""

from typing import Final

from strongroom.deployment.kubernetes import parts, shared
from strongroom.deployment.kubernetes.site import Service, Share, Site
from strongroom.deployment.kubernetes.text import Object

LOAN: Final = "loan-service"
MODELS: Final = "model-server"
TENSORFLOW: Final = "tensorflow-serving"
LOAN_PORT: Final = 5000
LOAN_OUTSIDE_PORT: Final = 8080
GRPC_PORT: Final = 8500
REST_PORT: Final = 8501
CPU_PERCENT: Final = 50
SHARE: Final = "loan-files"
# Source: "Use Azure Files with AKS", mount options; sealed files are written by one user and read by the same.
MOUNT_OPTIONS: Final = (
    "dir_mode=0750",
    "file_mode=0640",
    f"uid={parts.USER}",
    f"gid={parts.USER}",
    "mfsymlinks",
    "nobrl",
)


def loan_objects(site: Site) -> list[Object]:
    """The loan service: files on a share, one to several replicas by load, a load balancer."""
    if site.loan is None or site.share is None:
        return []
    ports = [{"name": "https", "containerPort": LOAN_PORT, "protocol": "TCP"}]
    outside = [{"name": "https", "port": LOAN_OUTSIDE_PORT, "targetPort": "https", "protocol": "TCP"}]
    return [
        *_volume(site, site.share),
        *_served(site, LOAN, site.loan, ports, parts.https_probes("https"), SHARE, client_id=site.share.client_id),
        _load_balancer(site, LOAN, outside),
        _autoscaler(site, LOAN, site.loan),
        shared.from_clients(site, LOAN, [LOAN_PORT]),
    ]


def model_objects(site: Site) -> list[Object]:
    """The model server: gRPC and REST, TLS ends inside."""
    if site.models is None:
        return []
    return _model_server(site, MODELS, site.models, parts.https_probes("rest"))


def tensorflow_objects(site: Site) -> list[Object]:
    """TensorFlow Serving, unmodified: Gramine decrypts its model with the key that our broker provisions.

    It runs under Gramine only: nothing else can open its model for it.
    """
    if site.tensorflow is None:
        return []
    return _model_server(site, TENSORFLOW, site.tensorflow, parts.tcp_probes("grpc"))


def _model_server(site: Site, name: str, service: Service, probes: dict[str, Object]) -> list[Object]:
    numbers = {"grpc": GRPC_PORT, "rest": REST_PORT}
    ports = [{"name": port, "containerPort": number, "protocol": "TCP"} for port, number in numbers.items()]
    outside = [
        {"name": port, "port": number, "targetPort": port, "protocol": "TCP"} for port, number in numbers.items()
    ]
    return [
        parts.claim(f"{name}-models", site.namespace, "16Gi"),
        *_served(site, name, service, ports, probes, f"{name}-models"),
        _load_balancer(site, name, outside),
        _autoscaler(site, name, service),
        shared.from_clients(site, name, list(numbers.values())),
    ]


def _served(
    site: Site, name: str, service: Service, ports: list[Object], probes: dict[str, Object], claim: str, *,
    client_id: str | None = None,
) -> list[Object]:  # fmt: skip
    workload = service.workload
    identity = {f"{parts.IDENTITY}/use": "true"} if client_id else {}
    container = {
        "name": name,
        "image": service.image,
        "command": parts.start_command(workload),
        "env": parts.room_settings(workload),
        "ports": ports,
        "securityContext": parts.container_security(),
        "resources": parts.resources(workload),
        **probes,
        "lifecycle": parts.draining(),
        "volumeMounts": [
            parts.room_mount(),
            {"name": "storage", "mountPath": parts.STORAGE_FOLDER},
            parts.scratch_mount(),
        ],
    }
    pod = {
        "serviceAccountName": name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": parts.pod_security(),
        "terminationGracePeriodSeconds": parts.DRAIN_S + 15,
        "topologySpreadConstraints": parts.spread(name),
        "containers": [container],
        "volumes": [
            parts.room_volume(),
            {"name": "storage", "persistentVolumeClaim": {"claimName": claim}},
            parts.scratch_volume(),
        ],
    }
    return [
        parts.service_account(name, site.namespace, client_id),
        parts.deployment(name, site.namespace, pod, parts.described(workload), identity),
        parts.disruption_budget(name, site.namespace),
    ]


def _load_balancer(site: Site, name: str, ports: list[Object]) -> Object:
    """TLS ends inside the room, so the balancer is a plain one; only the named networks reach it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": parts.metadata(name, site.namespace),
        "spec": {
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "loadBalancerSourceRanges": list(site.clients),
            "selector": parts.selector(name),
            "ports": ports,
        },
    }


def _autoscaler(site: Site, name: str, service: Service) -> Object:
    target = {"type": "Utilization", "averageUtilization": CPU_PERCENT}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": parts.metadata(name, site.namespace),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": service.least,
            "maxReplicas": service.most,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


def _volume(site: Site, share: Share) -> list[Object]:
    """The share and the claim on it. No account key: the pod's own account mounts it (driver 1.35)."""
    size = f"{share.size_gib}Gi"
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": parts.metadata(f"{site.namespace}-{SHARE}"),
        "spec": {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "azurefile-csi",
            "mountOptions": list(MOUNT_OPTIONS),
            "csi": {
                "driver": "file.csi.azure.com",
                "volumeHandle": f"{share.account}_{share.name}",
                "volumeAttributes": {
                    "resourceGroup": share.resource_group,
                    "storageAccount": share.account,
                    "shareName": share.name,
                    "mountWithWorkloadIdentityToken": "true",
                    "clientID": share.client_id,
                },
            },
        },
    }
    return [volume, parts.claim(SHARE, site.namespace, size, f"{site.namespace}-{SHARE}")]
