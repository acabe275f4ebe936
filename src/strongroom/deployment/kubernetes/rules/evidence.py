"""Every pod that enters the room has a way to evidence, on every node that it may run on."""

from collections.abc import Iterator
from typing import Final

from strongroom.deployment.kubernetes.lending import EVIDENCE, QUOTE_HELPER, Folder
from strongroom.deployment.kubernetes.parts import ROOM
from strongroom.deployment.kubernetes.rules.cluster import Cluster, Pod, finding, listed, mapping, mappings
from strongroom.deployment.kubernetes.rules.pods import total
from strongroom.deployment.kubernetes.rules.security import is_relay
from strongroom.deployment.kubernetes.rules.storage import EPC
from strongroom.errors import Finding

PLATFORM: Final = "STRONGROOM_PLATFORM"


def ways(cluster: Cluster) -> Iterator[Finding]:
    """``no_evidence``: an enclave needs the quoting service's socket, a pod on a confidential node the relay's."""
    for pod in cluster.pods:
        if not _enters_the_room(pod) or _simulated(pod):
            continue
        folder = QUOTE_HELPER if total(pod, EPC) else EVIDENCE
        if not _sees(pod, folder):
            yield finding("no_evidence", pod.where, f"mounts no claim {folder.name!r} at {folder.path}")


def relays(cluster: Cluster) -> Iterator[Finding]:
    """``relay_missing``, ``relay_nodes``: a relay runs wherever a pod may look for one."""
    found = [pod for pod in cluster.pods if is_relay(pod)]
    for pod in cluster.pods:
        if not _sees(pod, EVIDENCE):
            continue
        if not found:
            yield finding("relay_missing", pod.where, "there is no evidence relay")
        elif not any(_wherever(relay, pod) for relay in found):
            yield finding("relay_nodes", pod.where, "may run on nodes without the evidence relay")


def _enters_the_room(pod: Pod) -> bool:
    return any(mapping(volume.get("configMap")).get("name") == ROOM for volume in mappings(pod.spec.get("volumes")))


def _simulated(pod: Pod) -> bool:
    said = {"name": PLATFORM, "value": "simulated"}
    return any(said in mappings(container.get("env")) for container in pod.containers())


def _sees(pod: Pod, folder: Folder) -> bool:
    volumes = mappings(pod.spec.get("volumes"))
    names = {
        str(volume.get("name"))
        for volume in volumes
        if mapping(volume.get("persistentVolumeClaim")).get("claimName") == folder.name
    }
    return any(
        str(mount.get("name")) in names and mount.get("mountPath") == folder.path
        for container in pod.containers()
        for mount in mappings(container.get("volumeMounts"))
    )


def _wherever(relay: Pod, pod: Pod) -> bool:
    """Whether the relay runs on every node that the pod may run on."""
    asked, tolerated = mapping(relay.spec.get("nodeSelector")), listed(relay.spec.get("tolerations"))
    chosen = mapping(pod.spec.get("nodeSelector"))
    return asked.items() <= chosen.items() and all(
        toleration in tolerated for toleration in listed(pod.spec.get("tolerations"))
    )
