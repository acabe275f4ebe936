"""Claims, volumes, and protected memory against the nodes that have it."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from strongroom.deployment.kubernetes.rules import fields
from strongroom.deployment.kubernetes.rules.cluster import (
    Cluster,
    Pod,
    finding,
    kind_of,
    listed,
    mapping,
    mappings,
    name_of,
    namespace_of,
    spec_of,
    where,
)
from strongroom.deployment.kubernetes.rules.pods import total
from strongroom.deployment.kubernetes.rules.quantity import parse_quantity
from strongroom.deployment.kubernetes.text import Object
from strongroom.errors import Finding

EPC: Final = "sgx.intel.com/epc"
MIB: Final = 1 << 20


def claims(cluster: Cluster) -> Iterator[Finding]:
    """``access_mode``, ``claim_size``, ``claim_volume``: claims and volumes can be bound."""
    volumes = {name_of(item): item for item in cluster.of("PersistentVolume")}
    for item in cluster.of("PersistentVolumeClaim", "PersistentVolume", "StatefulSet"):
        specs = (
            [spec_of(item)]
            if kind_of(item) != "StatefulSet"
            else map(spec_of, mappings(spec_of(item).get("volumeClaimTemplates")))
        )
        for spec in specs:
            modes = listed(spec.get("accessModes"))
            if not modes or not {str(mode) for mode in modes} <= fields.ACCESS_MODES:
                yield finding("access_mode", where(item), f"access modes {modes}")
            if _size(spec) is None:
                yield finding("claim_size", where(item), "says no size")
    for item in cluster.of("PersistentVolumeClaim"):
        wanted = spec_of(item).get("volumeName")
        if wanted and not _bindable(item, volumes.get(str(wanted))):
            yield finding("claim_volume", where(item), f"can't be bound to the volume {wanted!r}")


def _size(spec: Object) -> Decimal | None:
    asked = mapping(mapping(spec.get("resources")).get("requests")).get("storage")
    return parse_quantity(asked if asked is not None else mapping(spec.get("capacity")).get("storage"))


def _bindable(claim: Object, volume: Object | None) -> bool:
    if volume is None:
        return False
    asked, offered = spec_of(claim), spec_of(volume)
    least, most = _size(asked), _size(offered)
    return (
        asked.get("storageClassName") == offered.get("storageClassName")
        and set(map(str, listed(asked.get("accessModes")))) <= set(map(str, listed(offered.get("accessModes"))))
        and least is not None
        and most is not None
        and least <= most
    )


def shared_volumes(cluster: Cluster) -> Iterator[Finding]:
    """``volume_handle``: no two volumes are the same share."""
    seen: set[str] = set()
    for item in cluster.of("PersistentVolume"):
        if "hostPath" in spec_of(item):  # another rule's
            continue
        handle = str(mapping(spec_of(item).get("csi")).get("volumeHandle", ""))
        if not handle or handle in seen:
            yield finding("volume_handle", where(item), "needs a volumeHandle of its own")
        seen.add(handle)


def capacity(cluster: Cluster) -> Iterator[Finding]:
    """``epc_node``, ``epc_cluster``, ``epc_none``: protected memory is a hard limit; what does not fit never starts."""
    asking = [(pod, total(pod, EPC) / MIB) for pod in cluster.pods if total(pod, EPC)]
    if asking and not cluster.epc_mib:
        yield finding("epc_none", asking[0][0].where, "asks for protected memory that these nodes don't have")
        return
    wanted: list[Decimal] = []
    for pod, epc in asking:
        if epc > cluster.epc_mib:
            yield finding("epc_node", pod.where, f"asks for {epc} MiB of {cluster.epc_mib} MiB that a node has")
        wanted += [epc] * replicas(cluster, pod)
    if not _fit(wanted, cluster.nodes, Decimal(cluster.epc_mib)):
        yield finding(
            "epc_cluster",
            "all replicas",
            f"{len(wanted)} pods ask for {sum(wanted)} MiB: not to be placed on {cluster.nodes} nodes with "
            f"{cluster.epc_mib} MiB each",
        )


def _fit(wanted: list[Decimal], nodes: int, each: Decimal) -> bool:
    """Whether the pods find places, the largest first, each on the first node with room: a pod can't be divided."""
    if sum(wanted) > each * nodes:
        return False
    left = [each] * nodes
    for epc in sorted(wanted, reverse=True):
        place = next((number for number, room in enumerate(left) if room >= epc), None)
        if place is None:
            return False
        left[place] -= epc
    return True


def replicas(cluster: Cluster, pod: Pod) -> int:
    """The most replicas that a pod can have: its autoscaler's, or its owner's."""
    if pod.copies is not None:
        return pod.copies
    if kind_of(pod.owner) == "DaemonSet":
        return max(cluster.nodes, 1)
    for item in cluster.of("HorizontalPodAutoscaler"):
        target = mapping(spec_of(item).get("scaleTargetRef"))
        if target.get("name") == name_of(pod.owner) and namespace_of(item) == pod.namespace:
            most = spec_of(item).get("maxReplicas")
            return most if isinstance(most, int) else 1
    found = spec_of(pod.owner).get("replicas", 1)
    return found if isinstance(found, int) else 1
