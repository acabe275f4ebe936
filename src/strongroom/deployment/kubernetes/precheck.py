"""What a cluster must have before anything is brought to it."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from strongroom.deployment.kubernetes.broker import FILES, ROOT_KEY
from strongroom.deployment.kubernetes.database import LOGIN
from strongroom.deployment.kubernetes.enclave import EPC
from strongroom.deployment.kubernetes.kubectl import Kubectl
from strongroom.deployment.kubernetes.nodes import retirement_warning
from strongroom.deployment.kubernetes.overlays import namespaces
from strongroom.deployment.kubernetes.rules.quantity import parse_quantity
from strongroom.deployment.kubernetes.simulation import MACHINE
from strongroom.deployment.kubernetes.site import Site
from strongroom.errors import UnavailableError

LEAST_VERSION: Final = (1, 30)  # a container's preStop may sleep
MIB: Final = 1 << 20
SIZE_LABEL: Final = "node.kubernetes.io/instance-type"
"""Source: Kubernetes documentation, "Well-Known Labels": the machine size, by the cloud's name."""
SECURITY_LABEL: Final = "kubernetes.azure.com/security-type"
CONFIDENTIAL: Final = "ConfidentialVM"
"""Source: AKS, "Use labels in an AKS cluster", reserved labels; "Use Confidential Virtual Machines in AKS"."""
DEFINED_BY: Final = {
    "key-vault": ("crd", "secretproviderclasses.secrets-store.csi.x-k8s.io"),
    "gateway-tls": ("crd", "tlsroutes.gateway.networking.k8s.io"),
    "nginx-ingress": ("ingressclass", "nginx"),
}
"""What a component stands on."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Args:
        name: What.
        ok: Whether it is as it must be.
        detail: What was found.
    """

    name: str
    ok: bool
    detail: str


def precheck(kubectl: Kubectl, site: Site, overlay: str, components: Sequence[str]) -> list[Check]:
    """Look at a cluster; nothing is changed.

    Args:
        kubectl: For the cluster.
        site: What is to be brought there.
        overlay: Its overlay.
        components: Its components.

    Raises:
        ConfigurationError: kubectl is not installed.
    """
    return list(_checks(kubectl, site, overlay, components))


def _checks(kubectl: Kubectl, site: Site, overlay: str, components: Sequence[str]) -> Iterator[Check]:
    yield _try("server version", lambda: _version(kubectl))
    if overlay != "simulated":
        yield _try("nodes", lambda: _nodes(kubectl, site, with_epc=overlay == "aks-sgx"))
        if overlay == "aks-cvm":
            yield _try("confidential nodes", lambda: _confidential(kubectl, site))
        yield _try("storage class azurefile-csi", partial(_there, kubectl, "storageclass", "azurefile-csi"))
        warning = retirement_warning(site.nodes.size)
        yield Check("node size", warning is None, warning or site.nodes.size.name)
    yield _try("metrics API (autoscaling)", lambda: _raw(kubectl, "/apis/metrics.k8s.io/v1beta1"))
    for kind, name, namespace in _needed(site, overlay, components):
        yield _try(f"{kind} {name}", partial(_there, kubectl, kind, name, namespace))


def _needed(site: Site, overlay: str, components: Sequence[str]) -> Iterator[tuple[str, str, str | None]]:
    """Kind, name and namespace of what somebody else must have made."""
    if overlay == "simulated":
        for place in namespaces(site):
            yield "secret", MACHINE, place
    if site.broker.image is not None:
        yield "secret", FILES, site.broker_namespace
        if "key-vault" not in components:
            yield "secret", ROOT_KEY, site.broker_namespace
        if "postgresql" in components:
            yield "secret", LOGIN, site.broker_namespace
    if site.pipeline is not None:
        yield "namespace", site.pipeline.namespace, None
    for component in components:
        if component in DEFINED_BY:
            yield *DEFINED_BY[component], None


def _try(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except UnavailableError as error:
        return Check(name, False, error.message)


def _version(kubectl: Kubectl) -> str:
    found = kubectl.read("version").get("serverVersion") or {}
    numbers = tuple(int(re.sub(r"\D", "", str(found.get(part, "0"))) or "0") for part in ("major", "minor"))
    said = f"{numbers[0]}.{numbers[1]}"
    if numbers < LEAST_VERSION:
        raise UnavailableError(f"{said}, needs {LEAST_VERSION[0]}.{LEAST_VERSION[1]}", code="deploy.version")
    return said


def _nodes(kubectl: Kubectl, site: Site, *, with_epc: bool) -> str:
    wanted = _selector(site)
    nodes = kubectl.read("get", "nodes", "--selector", wanted).get("items") or []
    if not nodes:
        raise UnavailableError(f"no node with {wanted}", code="deploy.nodes")
    if not with_epc:
        return f"{len(nodes)} with {wanted}"
    offered = [_epc_mib(node) for node in nodes]
    if not all(offered):
        raise UnavailableError(f"{offered.count(0)} of {len(nodes)} nodes offer no {EPC}", code="deploy.nodes")
    return f"{len(nodes)} with {wanted}, {min(offered)} MiB of {EPC} each at least"


def _confidential(kubectl: Kubectl, site: Site) -> str:
    """Nodes must be what the site says; whether they give evidence, the relay's readiness says (`status`).

    Raises:
        UnavailableError: They are not.
    """
    nodes = kubectl.read("get", "nodes", "--selector", _selector(site)).get("items") or []
    wanted = {SIZE_LABEL: site.nodes.size.name, SECURITY_LABEL: CONFIDENTIAL}
    others = [node for node in nodes if not wanted.items() <= _labels(node).items()]
    if others or not nodes:
        raise UnavailableError(
            f"{len(others)} of {len(nodes)} nodes are no {site.nodes.size.name} with {SECURITY_LABEL}={CONFIDENTIAL}",
            code="deploy.nodes",
        )
    return f"{len(nodes)} {site.nodes.size.name}"


def _labels(node: dict[str, Any]) -> dict[str, Any]:
    return dict((node.get("metadata") or {}).get("labels") or {})


def _selector(site: Site) -> str:
    return ",".join(f"{label}={value}" for label, value in sorted(site.nodes.selector.items()))


def _epc_mib(node: dict[str, Any]) -> int:
    amount = parse_quantity(((node.get("status") or {}).get("allocatable") or {}).get(EPC))
    return int(amount or 0) // MIB


def _there(kubectl: Kubectl, kind: str, name: str, namespace: str | None = None) -> str:
    place = ["--namespace", namespace] if namespace else []
    return kubectl.run("get", kind, name, *place, "--output", "name").strip()


def _raw(kubectl: Kubectl, path: str) -> str:
    kubectl.run("get", "--raw", path)
    return "answers"
