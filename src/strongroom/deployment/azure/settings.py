"""Names and sizes of the Azure resources; everything else follows from them."""

import re
from dataclasses import dataclass
from typing import Final

from strongroom.deployment.kubernetes.nodes import SIZES, NodeSize
from strongroom.errors import ConfigurationError

SHARE_GIB: Final = (100, 102_400)
MAX_NODES: Final = 1000
_FORMS: Final = {
    "name": (re.compile(r"[a-z][a-z0-9-]{1,38}[a-z0-9]", re.ASCII), "3 to 40 of a-z, 0-9 and -"),
    "location": (re.compile(r"[a-z0-9]{3,40}", re.ASCII), "a region's short name, like westeurope"),
    "storage_account": (re.compile(r"[a-z0-9]{3,24}", re.ASCII), "3 to 24 of a-z and 0-9"),
    "registry": (re.compile(r"[A-Za-z0-9]{5,50}", re.ASCII), "5 to 50 letters and digits"),
    "key_vault": (
        re.compile(r"[A-Za-z](?!.*--)[A-Za-z0-9-]{1,22}[A-Za-z0-9]", re.ASCII),
        "3 to 24 letters, digits and -",
    ),
    "share": (re.compile(r"[a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9]", re.ASCII), "3 to 63 of a-z, 0-9 and -"),
    "namespace": (re.compile(r"[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?", re.ASCII), "a DNS label"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureSettings:
    """What a caller may choose.

    Args:
        name: Prefix of all names; also the resource group's and the cluster's.
        location: Region.
        storage_account: Storage account, unique in Azure.
        registry: Container registry, unique in Azure.
        key_vault: Key vault, unique in Azure.
        share: File share of the loan service.
        share_gib: Its quota.
        system_size: Machine size of the system nodes.
        node_size: Machine size of the protected nodes.
        least_nodes: Fewest protected nodes.
        most_nodes: Most protected nodes.
        namespace: Kubernetes namespace of the workloads.

    Raises:
        ConfigurationError: A value has not the form that Azure wants (``azure.setting``).
    """

    name: str = "strongroom"
    location: str = "westeurope"
    storage_account: str
    registry: str
    key_vault: str
    share: str = "loan-app-file-share"
    share_gib: int = 1024
    system_size: str = "Standard_D4s_v5"
    node_size: str = "Standard_DC4as_v6"
    least_nodes: int = 1
    most_nodes: int = 5
    namespace: str = "strongroom"

    def __post_init__(self) -> None:
        for field, (form, says) in _FORMS.items():
            if not form.fullmatch(getattr(self, field)):
                raise ConfigurationError(f"{field.replace('_', '-')} must be {says}", code="azure.setting")
        for size in (self.node_size, self.system_size):
            if size not in SIZES:
                raise ConfigurationError(
                    f"no known machine size {size[:60]!r}",
                    code="azure.setting",
                    hint=f"one of {', '.join(sorted(SIZES))}",
                )
        if self.size.tee == "none":
            raise ConfigurationError(f"{self.node_size} protects nothing", code="azure.setting")
        nodes = 1 <= self.least_nodes <= self.most_nodes <= MAX_NODES
        if not nodes or not SHARE_GIB[0] <= self.share_gib <= SHARE_GIB[1]:
            raise ConfigurationError("numbers of nodes, or the share's size, out of range", code="azure.setting")

    @property
    def size(self) -> NodeSize:
        """The protected nodes' machine size."""
        return SIZES[self.node_size]

    @property
    def pool(self) -> str:
        """Name of the pool of protected nodes: AKS labels them ``agentpool=NAME``."""
        return "intelsgx" if self.size.tee == "sgx" else "confvm"
