"""Services, autoscalers, disruption budgets and the network's rules."""

import ipaddress
from collections import Counter
from collections.abc import Iterator

from strongroom.deployment.kubernetes.rules import storage
from strongroom.deployment.kubernetes.rules.cluster import (
    Cluster,
    Pod,
    finding,
    fits,
    kind_of,
    listed,
    mapping,
    mappings,
    name_of,
    namespace_of,
    spec_of,
    where,
)
from strongroom.deployment.kubernetes.rules.pods import sides
from strongroom.deployment.kubernetes.text import Object
from strongroom.errors import Finding


def _pods(cluster: Cluster, item: Object, selector: object) -> list[Pod]:
    return [pod for pod in cluster.pods if pod.namespace == namespace_of(item) and fits(selector, pod.labels)]


def selectors(cluster: Cluster) -> Iterator[Finding]:
    """``selector``: a deployment selects its own pods."""
    for item in cluster.of("Deployment", "StatefulSet", "DaemonSet"):
        wanted = mapping(spec_of(item).get("selector")).get("matchLabels")
        own = next((pod for pod in cluster.pods if pod.owner is item), None)
        if not wanted or own is None or not fits(wanted, own.labels):
            yield finding("selector", where(item), "does not select its own pods")


def services(cluster: Cluster) -> Iterator[Finding]:
    """``service_selector``, ``service_port``, ``service_duplicate``, ``service_open``: services reach their pods."""
    for item in cluster.of("Service"):
        spec = spec_of(item)
        pods = _pods(cluster, item, spec.get("selector"))
        if not pods or not spec.get("selector"):
            yield finding("service_selector", where(item), "selects no pod")
        entries = mappings(spec.get("ports"))
        for entry in entries:
            target = entry.get("targetPort", entry.get("port"))
            if pods and not any(target in _container_ports(pod) for pod in pods):
                yield finding("service_port", where(item), f"no pod has the port {target!r}")
        numbers = Counter((str(entry.get("protocol", "TCP")), str(entry.get("port"))) for entry in entries)
        if any(times > 1 for times in numbers.values()):
            yield finding("service_duplicate", where(item), "has a port twice")
        if spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerSourceRanges"):
            yield finding("service_open", where(item), "is open to everybody: name loadBalancerSourceRanges")
        if spec.get("type") == "NodePort":
            yield finding("service_open", where(item), "opens a port of every node")


def _container_ports(pod: Pod) -> list[object]:
    entries = [entry for container in pod.containers() for entry in mappings(container.get("ports"))]
    return [value for entry in entries for value in (entry.get("name"), entry.get("containerPort"))]


def autoscalers(cluster: Cluster) -> Iterator[Finding]:
    """``scale_range``, ``scale_target``, ``scale_request``, ``scale_metric``: autoscalers can work."""
    for item in cluster.of("HorizontalPodAutoscaler"):
        spec = spec_of(item)
        least, most = spec.get("minReplicas", 1), spec.get("maxReplicas")
        if not isinstance(least, int) or not isinstance(most, int) or not 0 < least <= most:
            yield finding("scale_range", where(item), f"minReplicas {least!r}, maxReplicas {most!r}")
        target = mapping(spec.get("scaleTargetRef"))
        pods = [pod for pod in cluster.pods
                if (kind_of(pod.owner), name_of(pod.owner)) == (target.get("kind"), target.get("name"))
                and pod.namespace == namespace_of(item)]  # fmt: skip
        if not pods:
            yield finding("scale_target", where(item), f"there is no {target.get('kind')} {target.get('name')!r}")
        for metric in mappings(spec.get("metrics")):
            yield from _metric(item, metric, pods)


def _metric(item: Object, metric: Object, pods: list[Pod]) -> Iterator[Finding]:
    resource = mapping(metric.get("resource"))
    target = mapping(resource.get("target"))
    fitting = {"Utilization": "averageUtilization", "AverageValue": "averageValue", "Value": "value"}
    if set(target) != {"type", fitting.get(str(target.get("type")), "")}:
        yield finding("scale_metric", where(item), f"a target of type {target.get('type')!r} has another field")
    if target.get("type") == "Utilization":
        for pod in pods:
            name = str(resource.get("name"))
            if any(name not in sides(container)[0] for container in pod.containers(all_of_them=False)):
                yield finding("scale_request", where(item), f"{pod.where} has no request of {resource.get('name')}")


def budgets(cluster: Cluster) -> Iterator[Finding]:
    """``budget_fields``, ``budget_selector``, ``budget_blocks``: a node can be drained."""
    for item in cluster.of("PodDisruptionBudget"):
        spec = spec_of(item)
        if ("minAvailable" in spec) == ("maxUnavailable" in spec):
            yield finding("budget_fields", where(item), "needs minAvailable or maxUnavailable, and not both")
        pods = _pods(cluster, item, mapping(spec.get("selector")).get("matchLabels"))
        if not pods or not spec.get("selector"):
            yield finding("budget_selector", where(item), "selects no pod")
        least, most = spec.get("minAvailable"), [storage.replicas(cluster, pod) for pod in pods]
        if spec.get("maxUnavailable") in [0, "0%"] or (isinstance(least, int) and most and least >= min(most)):
            yield finding("budget_blocks", where(item), "never lets a pod go: nodes can't be drained")


def networks(cluster: Cluster) -> Iterator[Finding]:
    """``cidr``, ``default_deny``: networks are written right, and namespaces let nothing through by default."""
    for item in cluster.of("NetworkPolicy", "Service"):
        for text in _cidrs(item):
            try:
                ipaddress.ip_network(text)
            except ValueError:
                yield finding("cidr", where(item), f"{text!r} is no network")
    closed = {namespace_of(item) for item in cluster.of("NetworkPolicy") if _denies_everything(item)}
    for namespace in sorted({pod.namespace for pod in cluster.pods} - closed):
        yield finding("default_deny", f"namespace {namespace}", "needs a NetworkPolicy that denies everything")


def _cidrs(item: Object) -> Iterator[str]:
    spec = spec_of(item)
    yield from map(str, listed(spec.get("loadBalancerSourceRanges")))
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for rule in mappings(spec.get(direction)):
            for peer in mappings(rule.get(side)):
                block = mapping(peer.get("ipBlock"))
                yield from map(str, [block["cidr"], *listed(block.get("except"))] if "cidr" in block else [])


def _denies_everything(item: Object) -> bool:
    spec = spec_of(item)
    return (
        spec.get("podSelector") == {}
        and set(map(str, listed(spec.get("policyTypes")))) == {"Ingress", "Egress"}
        and not spec.get("ingress")
        and not spec.get("egress")
    )
