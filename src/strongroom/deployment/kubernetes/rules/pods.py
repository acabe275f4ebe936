"""What pods ask for and point to."""

import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from strongroom.deployment.kubernetes.rules import fields
from strongroom.deployment.kubernetes.rules.cluster import Cluster, Pod, finding, kind_of, mapping, mappings
from strongroom.deployment.kubernetes.rules.quantity import parse_quantity
from strongroom.deployment.kubernetes.text import Object
from strongroom.errors import Finding

_PORT_NAME: Final = re.compile(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?", re.ASCII)
_PINNED: Final = re.compile(r"\S+@sha256:[0-9a-f]{64}", re.ASCII)
OLD_EPC: Final = "kubernetes.azure.com/sgx_epc_mem_in_MiB"
_NATIVE: Final = frozenset({"cpu", "memory", "ephemeral-storage"})


def requests(cluster: Cluster) -> Iterator[Finding]:
    """``resources``, ``quantity``, ``request_over_limit``: processor and memory are asked for and bounded."""
    for pod in cluster.pods:
        for container in pod.containers():
            asked, bound = sides(container)
            for name in ("cpu", "memory"):
                if name not in asked or name not in bound:
                    yield finding("resources", pod.where, f"{container.get('name')} needs request and limit of {name}")
            for name, value in [*asked.items(), *bound.items()]:
                if parse_quantity(value) is None:
                    yield finding("quantity", pod.where, f"{name} {value!r} is no quantity")
            for name in asked.keys() & bound.keys():
                least, most = parse_quantity(asked[name]), parse_quantity(bound[name])
                if least is not None and most is not None and least > most:
                    yield finding("request_over_limit", pod.where, f"{name}: request {least} over limit {most}")


def sides(container: Object) -> tuple[Object, Object]:
    """Requests and limits of a container."""
    resources = mapping(container.get("resources"))
    return mapping(resources.get("requests")), mapping(resources.get("limits"))


def extended(cluster: Cluster) -> Iterator[Finding]:
    """``extended_unequal``, ``extended_no_limit``, ``extended_fraction``, ``epc_name``: protected memory."""
    for pod in cluster.pods:
        for container in pod.containers():
            asked, bound = sides(container)
            for name in sorted((asked.keys() | bound.keys()) - _NATIVE):
                least, most = parse_quantity(asked.get(name)), parse_quantity(bound.get(name))
                if name not in bound:
                    yield finding("extended_no_limit", pod.where, f"{name} has a request and no limit")
                elif name in asked and least != most:
                    yield finding("extended_unequal", pod.where, f"{name}: request and limit must be the same")
                if any(value is not None and value % 1 for value in (least, most)):
                    yield finding("extended_fraction", pod.where, f"{name} is not a whole number")
                if name == OLD_EPC:
                    yield finding("epc_name", pod.where, f"{name} is the name of the preview; use sgx.intel.com/epc")


def probes(cluster: Cluster) -> Iterator[Finding]:
    """``probe_missing``, ``probe_handler``, ``probe_port``: every server says that it is alive and ready."""
    for pod in cluster.pods:
        if kind_of(pod.owner) not in {"Deployment", "StatefulSet", "DaemonSet"}:
            continue
        for container in pod.containers(all_of_them=False):
            for name in fields.PROBES[1:]:
                if not container.get(name):
                    yield finding("probe_missing", pod.where, f"{container.get('name')} has no {name}")
            for name in fields.PROBES:
                yield from _probe(pod, container, name)


def _probe(pod: Pod, container: Object, name: str) -> Iterator[Finding]:
    probe = mapping(container.get(name))
    handlers = fields.HANDLERS & probe.keys()
    if probe and len(handlers) != 1:
        yield finding("probe_handler", pod.where, f"{name} has {len(handlers)} handlers")
    for handler in handlers - {"exec"}:
        port = mapping(probe[handler]).get("port")
        entries = mappings(container.get("ports"))
        known = [key for entry in entries for key in (entry.get("name"), entry.get("containerPort"))]
        if port is None or port not in known:
            yield finding("probe_port", pod.where, f"{name}: the container has no port {port!r}")


def ports(cluster: Cluster) -> Iterator[Finding]:
    """``port_name``, ``port_number``, ``port_duplicate``: ports of containers."""
    for pod in cluster.pods:
        found = [entry for container in pod.containers() for entry in mappings(container.get("ports"))]
        for entry in found:
            if "name" in entry and not _PORT_NAME.fullmatch(str(entry["name"])):
                yield finding("port_name", pod.where, f"port name {entry['name']!r}: at most 15 of a-z, 0-9 and -")
            number = entry.get("containerPort")
            if not isinstance(number, int) or not 0 < number < 65536:
                yield finding("port_number", pod.where, f"port {number!r} is none")
        for name, times in Counter(str(entry.get("name")) for entry in found).items():
            if times > 1:
                yield finding("port_duplicate", pod.where, f"port {name} is there {times} times")


def volumes(cluster: Cluster) -> Iterator[Finding]:
    """``volume_missing``, ``mount_path``, ``volume_unused``: mounts and volumes belong together."""
    for pod in cluster.pods:
        known = {str(volume.get("name")) for volume in mappings(pod.spec.get("volumes"))} | cluster.claim_names(pod)
        used: set[str] = set()
        for container in pod.containers():
            mounts = mappings(container.get("volumeMounts"))
            used |= {str(mount.get("name")) for mount in mounts}
            paths = Counter(str(mount.get("mountPath")) for mount in mounts)
            for path, times in paths.items():
                if times > 1 or not path.startswith("/") or ".." in path.split("/"):
                    yield finding("mount_path", pod.where, f"{path!r} is mounted {times} times, or is no absolute path")
        for name in sorted(used - known):
            yield finding("volume_missing", pod.where, f"there is no volume {name!r}")
        for name in sorted(known - used):
            yield finding("volume_unused", pod.where, f"nothing mounts the volume {name!r}")


def references(cluster: Cluster) -> Iterator[Finding]:
    """``reference``: ConfigMaps, claims and accounts that pods name are there. Secrets are made by their owner."""
    for pod in cluster.pods:
        account = pod.spec.get("serviceAccountName")
        wanted = [("ServiceAccount", account)] if account else []
        for volume in mappings(pod.spec.get("volumes")):
            wanted += [("ConfigMap", mapping(volume["configMap"]).get("name"))] if "configMap" in volume else []
            claim = mapping(volume.get("persistentVolumeClaim")).get("claimName")
            wanted += [("PersistentVolumeClaim", claim)] if claim else []
            provider = mapping(mapping(volume.get("csi")).get("volumeAttributes")).get("secretProviderClass")
            wanted += [("SecretProviderClass", provider)] if provider else []
        for kind, name in wanted:
            if not cluster.has(kind, name, pod.namespace):
                yield finding("reference", pod.where, f"there is no {kind} {name!r} in namespace {pod.namespace}")


def images(cluster: Cluster) -> Iterator[Finding]:
    """``image``: every image is named by its digest, and one was filled in."""
    for pod in cluster.pods:
        for container in pod.containers():
            image = str(container.get("image", ""))
            if not _PINNED.fullmatch(image) or image.endswith("0" * 64):
                yield finding("image", pod.where, f"image {image[:80]!r} is not named by a digest")


def total(pod: Pod, resource: str) -> Decimal:
    """What a pod asks of a resource: the sum of its containers, or more for one that sets up."""

    def of(containers: list[Object]) -> list[Decimal]:
        return [parse_quantity(sides(container)[1].get(resource)) or Decimal(0) for container in containers]

    running = sum(of(mappings(pod.spec.get("containers"))), Decimal(0))
    return max([running, *of(mappings(pod.spec.get("initContainers")))])
