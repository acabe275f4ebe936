"""Pod Security's level `restricted`, everywhere but in the namespace of the evidence relay, which has nothing else.

Source: Kubernetes documentation, "Pod Security Standards".
"""

from collections.abc import Iterator
from typing import Final

from strongroom.deployment.kubernetes.lending import EVIDENCE, FOLDERS
from strongroom.deployment.kubernetes.relay import COMMAND, DEVICES
from strongroom.deployment.kubernetes.rules import fields
from strongroom.deployment.kubernetes.rules.cluster import (
    Cluster,
    Pod,
    finding,
    kind_of,
    listed,
    mapping,
    mappings,
    metadata_of,
    name_of,
    spec_of,
    where,
)
from strongroom.deployment.kubernetes.text import Object
from strongroom.errors import Finding

ENFORCE: Final = "pod-security.kubernetes.io/enforce"
RESTRICTED: Final = "restricted"
LENT: Final = tuple(folder.path for folder in FOLDERS)
"""Folders of the node that a volume may lend: the sockets of those that hand out evidence."""
RELAY: Final = COMMAND[:3]
RELAYS_FOLDERS: Final = {EVIDENCE.path, *(path for path, _ in DEVICES.values())}


def levels(cluster: Cluster) -> Iterator[Finding]:
    """``pod_security_level``: every namespace takes restricted pods only, but for one with the relay alone."""
    for item in cluster.of("Namespace"):
        inside = [pod for pod in cluster.pods if pod.namespace == name_of(item)]
        if inside and all(map(is_relay, inside)):
            continue
        if mapping(metadata_of(item).get("labels")).get(ENFORCE) != RESTRICTED:
            yield finding("pod_security_level", where(item), f"needs the label {ENFORCE}: {RESTRICTED}")


def is_relay(pod: Pod) -> bool:
    """Whether this is the evidence relay."""
    commands = [tuple(map(str, listed(container.get("command"))[:3])) for container in pod.containers()]
    return kind_of(pod.owner) == "DaemonSet" and commands == [RELAY]


def restricted(cluster: Cluster) -> Iterator[Finding]:
    """``pod_security``, ``relay``: what the server would refuse in a restricted namespace; what the relay may not."""
    for pod in cluster.pods:
        if is_relay(pod):
            yield from _relay(pod)
            continue
        yield from _pod(pod)
        for container in pod.containers():
            yield from _container(pod, container)


def _relay(pod: Pod) -> Iterator[Finding]:
    """It is privileged for one device: nothing of the node beside it, no token, no network of the node."""
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(name):
            yield finding("relay", pod.where, f"{name} is not allowed")
    if pod.spec.get("automountServiceAccountToken") is not False:
        yield finding("relay", pod.where, "has a token of the API server")
    for volume in mappings(pod.spec.get("volumes")):
        path = str(mapping(volume.get("hostPath")).get("path"))
        if "hostPath" in volume and path not in RELAYS_FOLDERS:
            yield finding("relay", pod.where, f"has {path!r} of the node")
    for container in pod.containers():
        if mapping(container.get("securityContext")).get("readOnlyRootFilesystem") is not True:
            yield finding("writable_root", pod.where, "readOnlyRootFilesystem must be true")
        if any("hostPort" in port for port in mappings(container.get("ports"))):
            yield finding("relay", pod.where, "hostPort is not allowed")


def _pod(pod: Pod) -> Iterator[Finding]:
    context = mapping(pod.spec.get("securityContext"))
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(name):
            yield finding("pod_security", pod.where, f"{name} is not allowed")
    if mapping(context.get("seccompProfile")).get("type") not in ["RuntimeDefault", "Localhost"]:
        yield finding("pod_security", pod.where, "seccompProfile must be RuntimeDefault")
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        yield finding("pod_security", pod.where, "runAsNonRoot must be true, and the user not 0")
    for volume in mappings(pod.spec.get("volumes")):
        kinds = set(volume) - {"name"}
        if not kinds <= fields.VOLUMES:
            yield finding("pod_security", pod.where, f"volume {volume.get('name')}: {', '.join(sorted(kinds))}")


def _container(pod: Pod, container: Object) -> Iterator[Finding]:
    context = mapping(container.get("securityContext"))
    capabilities = mapping(context.get("capabilities"))
    name = container.get("name")
    if context.get("privileged"):
        yield finding("pod_security", pod.where, f"{name} is privileged")
    if context.get("allowPrivilegeEscalation") is not False:
        yield finding("pod_security", pod.where, f"{name}: allowPrivilegeEscalation must be false")
    if "ALL" not in listed(capabilities.get("drop")) or set(map(str, listed(capabilities.get("add")))) - {
        "NET_BIND_SERVICE"
    }:
        yield finding("pod_security", pod.where, f"{name} must drop all capabilities")
    if context.get("runAsNonRoot") is False or context.get("runAsUser") == 0:
        yield finding("pod_security", pod.where, f"{name} must not run as root")
    if context.get("readOnlyRootFilesystem") is not True:
        yield finding("writable_root", pod.where, f"{name}: readOnlyRootFilesystem must be true")
    if any("hostPort" in port for port in mappings(container.get("ports"))):
        yield finding("pod_security", pod.where, f"{name}: hostPort is not allowed")


def node_folders(cluster: Cluster) -> Iterator[Finding]:
    """``node_folder``: a claim is no way around `restricted`, but for a socket that hands out evidence, read-only."""
    for item in cluster.of("PersistentVolume"):
        spec = spec_of(item)
        if "local" not in spec and "hostPath" not in spec:
            continue
        lent = mapping(spec.get("hostPath")).get("path") in LENT
        if not lent or listed(spec.get("accessModes")) != ["ReadOnlyMany"] or not mapping(spec.get("claimRef")):
            yield finding("node_folder", where(item), "is a folder of the node; Pod Security does not see it")


def accounts(cluster: Cluster) -> Iterator[Finding]:
    """``account``: pods have an account of their own, and tokens only where they are used."""
    for pod in cluster.pods:
        if pod.spec.get("serviceAccountName") in [None, "", "default"]:
            yield finding("account", pod.where, "needs a service account of its own")
        if "automountServiceAccountToken" not in pod.spec:
            yield finding("account", pod.where, "must say automountServiceAccountToken")


def identities(cluster: Cluster) -> Iterator[Finding]:
    """``identity``: a pod that uses a workload identity has an account that names one."""
    for pod in cluster.pods:
        if pod.labels.get("azure.workload.identity/use") != "true":
            continue
        named = [
            mapping(metadata_of(item).get("annotations")).get("azure.workload.identity/client-id")
            for item in cluster.of("ServiceAccount")
            if name_of(item) == pod.spec.get("serviceAccountName")
        ]
        if not any(named):
            yield finding("identity", pod.where, "its service account names no client-id")
