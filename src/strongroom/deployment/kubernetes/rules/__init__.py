"""What is wrong with a set of manifests, found without a cluster.

Schemas find misspelt fields; these rules find what only the API server, the scheduler or an attacker would.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from strongroom.deployment.kubernetes.rules import evidence, pods, replicas, security, shape, storage, traffic
from strongroom.deployment.kubernetes.rules.cluster import Cluster
from strongroom.deployment.kubernetes.text import Object
from strongroom.errors import Finding

Rule = Callable[[Cluster], Iterator[Finding]]

RULES: Final[tuple[Rule, ...]] = (
    shape.known_fields,
    shape.identity,
    shape.labels,
    shape.texts,
    shape.no_secrets,
    pods.requests,
    pods.extended,
    pods.probes,
    pods.ports,
    pods.volumes,
    pods.references,
    pods.images,
    security.levels,
    security.restricted,
    security.node_folders,
    security.accounts,
    security.identities,
    traffic.selectors,
    traffic.services,
    traffic.autoscalers,
    traffic.budgets,
    traffic.networks,
    storage.claims,
    storage.shared_volumes,
    storage.capacity,
    replicas.broker_replicas,
    evidence.ways,
    evidence.relays,
)


def validate(objects: Sequence[Object], *, epc_mib: int = 0, nodes: int = 0) -> list[Finding]:
    """Every finding of every rule.

    Args:
        objects: A whole set, with everything its parts point to.
        epc_mib: Protected memory of one node, MiB; 0: nodes without SGX.
        nodes: Most nodes that have it.
    """
    cluster = Cluster(objects, epc_mib, nodes)
    return [finding for rule in RULES for finding in rule(cluster)]
