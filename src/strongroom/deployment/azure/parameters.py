"""The parameters of the ARM template: what may be chosen when it is deployed, and within which bounds.

Source: Azure Resource Manager documentation, "Parameters in ARM templates"; lengths: "Naming rules and restrictions for
Azure resources".
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

from strongroom.deployment.azure.settings import MAX_NODES, SHARE_GIB, AzureSettings
from strongroom.deployment.kubernetes.nodes import SIZES


@dataclass(frozen=True, slots=True)
class _Text:
    name: str
    says: str
    least: int
    most: int


_TEXTS: Final = {
    "name": _Text("name", "Prefix of all names; the cluster's name.", 3, 40),
    "location": _Text("location", "Region.", 3, 40),
    "storage_account": _Text("storageAccount", "Storage account, unique in Azure: a-z and 0-9.", 3, 24),
    "registry": _Text("registry", "Container registry, unique in Azure: letters and digits.", 5, 50),
    "key_vault": _Text("keyVault", "Key vault, unique in Azure: letters, digits and -.", 3, 24),
    "share": _Text("share", "File share of the loan service.", 3, 63),
    "namespace": _Text("namespace", "Kubernetes namespace of the workloads.", 1, 50),
}
_SIZES: Final = {
    "system_size": ("systemSize", "Machine size of the system nodes."),
    "node_size": ("nodeSize", "Machine size of the protected nodes."),
}
_NUMBERS: Final = {
    "share_gib": ("shareGib", "Quota of the share, GiB.", *SHARE_GIB),
    "least_nodes": ("leastNodes", "Fewest protected nodes.", 1, MAX_NODES),
    "most_nodes": ("mostNodes", "Most protected nodes.", 1, MAX_NODES),
}


def template_parameters(settings: AzureSettings) -> dict[str, Any]:
    """The section `parameters`, with the settings as defaults.

    Sizes may be changed to others with the same kind of protection only: the pools differ between kinds.
    """
    chosen = asdict(settings)
    made: dict[str, Any] = {}
    for field, text in _TEXTS.items():
        made[text.name] = {**_parameter("string", chosen[field], text.says),
                           "minLength": text.least, "maxLength": text.most}  # fmt: skip
    for field, (name, says) in _SIZES.items():
        tee = SIZES[chosen[field]].tee
        fitting = sorted(size.name for size in SIZES.values() if size.tee == tee)
        made[name] = {**_parameter("string", chosen[field], says), "allowedValues": fitting}
    for field, (name, says, least, most) in _NUMBERS.items():
        made[name] = {**_parameter("int", chosen[field], says), "minValue": least, "maxValue": most}
    return made


def parameter_values(settings: AzureSettings) -> dict[str, str | int]:
    """The settings by the names of their parameters, for ``az deployment group create --parameters``."""
    return {name: parameter["defaultValue"] for name, parameter in template_parameters(settings).items()}


def _parameter(kind: str, default: str | int, says: str) -> dict[str, Any]:
    return {"type": kind, "defaultValue": default, "metadata": {"description": says}}
