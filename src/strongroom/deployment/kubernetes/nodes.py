"""Azure's machine sizes with protected memory: how much, and until when.

Source: Microsoft Learn, "DCsv3 and DCdsv3 series" (EPC and memory); "DCsv3 and DCdsv3 series retirement"; "DCasv6",
"DCesv6 sizes".
"""

from dataclasses import dataclass
from datetime import date
from typing import Final

RETIREMENT: Final = date(2029, 10, 31)
SGX_TAINT: Final = {"key": "sgx", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
CONFIDENTIAL_TAINT: Final = {"key": "confidential", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
"""Pools of protected nodes carry one of them, and our pods tolerate it: on a confidential virtual machine every pod is
as trusted as ours."""
CLOSED_TO_NEW_SUBSCRIPTIONS: Final = date(2026, 11, 1)


@dataclass(frozen=True, slots=True)
class NodeSize:
    """A machine size.

    Args:
        name: Azure's name.
        epc_gib: Protected memory of SGX; 0: none, the whole machine is the trust domain or nothing is.
        memory_gib: Memory.
        tee: ``sgx``, ``snp``, ``tdx`` or ``none``.
        retires: Day on which Azure takes the size away, if announced.
    """

    name: str
    epc_gib: int
    memory_gib: int
    tee: str
    retires: date | None = None


_SGX: Final = {
    1: (4, 8),
    2: (8, 16),
    4: (16, 32),
    8: (32, 64),
    16: (64, 128),
    24: (128, 192),
    32: (192, 256),
    48: (256, 384),
}
_CONFIDENTIAL: Final = (2, 4, 8, 16, 32, 48, 64, 96)

SIZES: Final[dict[str, NodeSize]] = {
    size.name: size
    for size in (
        *(
            NodeSize(f"Standard_DC{cores}{disk}s_v3", epc, memory, "sgx", RETIREMENT)
            for cores, (epc, memory) in _SGX.items()
            for disk in ("", "d")
        ),
        *(NodeSize(f"Standard_DC{cores}as_v6", 0, 4 * cores, "snp") for cores in _CONFIDENTIAL),
        *(NodeSize(f"Standard_DC{cores}as_v5", 0, 4 * cores, "snp") for cores in _CONFIDENTIAL),
        *(NodeSize(f"Standard_DC{cores}es_v6", 0, 4 * cores, "tdx") for cores in _CONFIDENTIAL[:-1]),
        *(NodeSize(f"Standard_D{cores}s_v5", 0, 4 * cores, "none") for cores in (2, 4, 8, 16)),
    )
}


def retirement_warning(size: NodeSize) -> str | None:
    """One line about a size that Azure takes away; None for others."""
    if size.retires is None:
        return None
    return (
        f"{size.name} retires on {size.retires}; since {CLOSED_TO_NEW_SUBSCRIPTIONS} no new subscription gets DCsv3 "
        "sizes: new ones take confidential virtual machines (DCas_v6, DCes_v6)"
    )
