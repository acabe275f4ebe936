"""A site: what differs from one cluster to the next. Everything else comes from the workload definitions.

Where it is read from: `strongroom.deployment.kubernetes.site_file`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from strongroom.deployment.kubernetes.nodes import NodeSize
from strongroom.workload import Workload


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes that protect memory.

    Args:
        size: Machine size.
        most: Most nodes of the autoscaler.
        selector: Labels of the nodes.
        relay: Image, by digest, of the relay that hands the node's evidence to pods; None: there is none.
        evidence: Where the relay gets it: ``vtpm``, or ``configfs-tsm``.
    """

    size: NodeSize
    most: int
    selector: Mapping[str, str]
    relay: str | None = None
    evidence: str = "vtpm"


@dataclass(frozen=True, slots=True)
class Share:
    """A share on Azure Files.

    Args:
        account: Storage account.
        name: Share.
        resource_group: Resource group of the account.
        size_gib: Size asked for.
        client_id: Managed identity of the loan service's account, which mounts it; no account key is used.
    """

    account: str
    name: str
    resource_group: str
    size_gib: int
    client_id: str


@dataclass(frozen=True, slots=True)
class Service:
    """A workload that serves.

    Args:
        workload: Its definition.
        image: By digest.
        least: Fewest replicas.
        most: Most replicas.
        host: DNS name that clients use, for ingress.
        opener: Workload that opens its files where no enclave does; TensorFlow Serving's only.
        opener_image: By digest.
    """

    workload: Workload
    image: str
    least: int
    most: int
    host: str
    opener: Workload | None = None
    opener_image: str | None = None


@dataclass(frozen=True, slots=True)
class Database:
    """The PostgreSQL database that replicas of the broker share.

    Args:
        url: ``postgresql://USER@HOST[:PORT]/DATABASE``; how its server is recognised is the component's business.
        port: Of its server.
        network: Of its server, CIDR.
        ca: CA certificate of its server, PEM.
        login: ``password`` or ``certificate``.
    """

    url: str
    port: int
    network: str
    ca: str
    login: str


@dataclass(frozen=True, slots=True)
class Broker:
    """The key broker.

    Args:
        image: By digest; None: it runs elsewhere.
        address: Where it runs elsewhere, a network in CIDR notation; None: here.
        port: TCP port.
        room_toml: What workloads read to find it.
        ca: Its CA certificate, PEM.
        key_vault: Name of the key vault with the root key, for the component of that name.
        tenant: Directory of the key vault.
        client_id: Managed identity that may read it.
        database: For the component ``postgresql``; None: SQLite.
    """

    image: str | None
    address: str | None
    port: int
    room_toml: str
    ca: str
    key_vault: str | None
    tenant: str | None
    client_id: str | None
    database: Database | None


@dataclass(frozen=True, slots=True)
class Spark:
    """Driver and executors of Spark, each a workload.

    Args:
        driver: Definition.
        executor: Definition.
        image: By digest.
        executors: How many.
    """

    driver: Workload
    executor: Workload
    image: str
    executors: int


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Where Kubeflow Pipelines runs its steps.

    Args:
        namespace: Kubeflow profile.
        client_id: Managed identity of the steps; None: none.
    """

    namespace: str
    client_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A cluster and what runs on it.

    Args:
        namespace: Namespace of the workloads; the broker's is this with ``-broker``.
        clients: Networks that may call the services from outside, CIDR.
        cluster: Network of the API server, CIDR, which Spark's driver calls.
        nodes: The nodes that protect memory.
        broker: The key broker.
        share: The loan service's files; None with no loan service.
        loan: The loan service.
        models: The model server.
        tensorflow: TensorFlow Serving, unmodified: under Gramine, or beside its opener.
        spark: Spark.
        pipeline: Kubeflow Pipelines.
        components: What is always added to the overlay.
    """

    namespace: str
    clients: tuple[str, ...]
    cluster: str
    nodes: Nodes
    broker: Broker
    share: Share | None
    loan: Service | None
    models: Service | None
    tensorflow: Service | None
    spark: Spark | None
    pipeline: Pipeline | None
    components: tuple[str, ...] = ()

    @property
    def evidence_namespace(self) -> str:
        """Namespace of the relay, and of nothing else."""
        return f"{self.namespace}-evidence"

    @property
    def broker_namespace(self) -> str:
        """Namespace of the broker."""
        return f"{self.namespace}-broker"
