"""What every deployment has: namespaces under Pod Security's `restricted`, default deny, the room's ConfigMap."""

from typing import Final

from strongroom.deployment.kubernetes.parts import ROOM, labels, metadata, selector
from strongroom.deployment.kubernetes.site import Site
from strongroom.deployment.kubernetes.text import Object

LEVEL: Final = "restricted"
DNS_NAMESPACE: Final = "kube-system"
PROVISIONING_PORT: Final = 4433
BROKER: Final = "broker"


def namespace(name: str, level: str = LEVEL) -> Object:
    """A namespace that takes pods of one level of Pod Security only: `restricted`, but for the relay's."""
    modes = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "audit", "warn")}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {**labels(name), **modes}},
    }


def room_config(site: Site, name_space: str) -> Object:
    """The broker's address and certificate: public, and authenticated by what is measured, not by the cluster."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(ROOM, name_space),
        "data": {"room.toml": site.broker.room_toml, "ca.pem": site.broker.ca},
    }


def policy(name: str, name_space: str, spec: Object) -> Object:
    """A NetworkPolicy."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(name, name_space),
        "spec": spec,
    }


def deny_everything(name_space: str) -> Object:
    """Nothing in, nothing out."""
    return policy("default-deny", name_space, {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})


def default_deny(name_space: str) -> list[Object]:
    """Nothing in, nothing out but names."""
    dns = {
        "podSelector": {},
        "policyTypes": ["Egress"],
        "egress": [
            {
                "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": DNS_NAMESPACE}}}],
                "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
            }
        ],
    }
    return [deny_everything(name_space), policy("allow-dns", name_space, dns)]


def to_broker(site: Site) -> Object:
    """Every pod of the workloads' namespace may talk to the broker."""
    if site.broker.address is not None:
        place: Object = {"ipBlock": {"cidr": site.broker.address}}
    else:
        place = {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": site.broker_namespace}},
            "podSelector": {"matchLabels": selector(BROKER)},
        }
    ports = [{"protocol": "TCP", "port": port} for port in (site.broker.port, PROVISIONING_PORT)]
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [place], "ports": ports}]}
    return policy("allow-broker", site.namespace, spec)


def from_clients(site: Site, name: str, ports: list[int]) -> Object:
    """The named networks may call a service from outside."""
    blocks = [{"ipBlock": {"cidr": network}} for network in site.clients]
    spec: Object = {"podSelector": {"matchLabels": selector(name)}, "policyTypes": ["Ingress"], "ingress": []}
    if blocks:
        spec["ingress"] = [{"from": blocks, "ports": [{"protocol": "TCP", "port": port} for port in ports]}]
    return policy(f"{name}-clients", site.namespace, spec)


def shared_objects(site: Site) -> list[Object]:
    """Namespace, rules of the network, and the room's ConfigMap of the workloads."""
    return [
        namespace(site.namespace),
        *default_deny(site.namespace),
        to_broker(site),
        room_config(site, site.namespace),
    ]
