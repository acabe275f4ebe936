"""The broker's replicas and their database."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Final

from strongroom.broker.database_url import on_this_machine, parse_database_url
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
    namespace_of,
    spec_of,
)
from strongroom.errors import ConfigurationError, Finding

URL_VARIABLE: Final = "STRONGROOM_BROKER_DATABASE_URL"
SERVE: Final = ("strongroom", "broker", "serve")


def broker_replicas(cluster: Cluster) -> Iterator[Finding]:
    """``broker_replicas``, ``broker_database``, ``broker_network``: one replica, or an authenticated database."""
    for pod in cluster.pods:
        for container in pod.containers(all_of_them=False):
            if tuple(listed(container.get("command"))[:3]) == SERVE:
                yield from _broker(cluster, pod, _url(mappings(container.get("env"))))


def _url(environment: list[dict[str, object]]) -> object:
    return next((entry.get("value") for entry in environment if entry.get("name") == URL_VARIABLE), None)


def _broker(cluster: Cluster, pod: Pod, url: object) -> Iterator[Finding]:
    if url is None:
        # A deployment may run two pods for a while; a stateful set never does.
        if storage.replicas(cluster, pod) > 1 or kind_of(pod.owner) != "StatefulSet":
            yield finding("broker_replicas", pod.where, "on SQLite there is one replica, in a StatefulSet")
        return
    try:
        address = parse_database_url(str(url))
    except ConfigurationError as error:
        yield finding("broker_database", pod.where, error.message)
        return
    if not on_this_machine(address.host) and not _may_reach(cluster, pod, address.host, address.port):
        yield finding(
            "broker_network", pod.where, f"no NetworkPolicy lets it reach port {address.port} of its database"
        )


def _may_reach(cluster: Cluster, pod: Pod, host: str, port: int) -> bool:
    for item in cluster.of("NetworkPolicy"):
        chosen = mapping(spec_of(item).get("podSelector")).get("matchLabels")
        if namespace_of(item) != pod.namespace or not fits(chosen, pod.labels):
            continue
        for rule in mappings(spec_of(item).get("egress")):
            ports = [entry.get("port") for entry in mappings(rule.get("ports"))]
            if port in ports and any(_is_at(peer, host) for peer in mappings(rule.get("to"))):
                return True
    return False


def _is_at(peer: dict[str, object], host: str) -> bool:
    """Whether a peer may be the host; of a name, only that it may be somewhere is known."""
    try:
        address = ip_address(host)
    except ValueError:
        return True
    try:
        return address in ip_network(str(mapping(peer.get("ipBlock")).get("cidr")))
    except ValueError:
        return False
