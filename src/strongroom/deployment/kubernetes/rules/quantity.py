"""Kubernetes quantities.

Source: Kubernetes API reference, "Quantity".
"""

import re
from decimal import Decimal
from typing import Final

_FORM: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi)?", re.ASCII)
_UNIT: Final = {
    None: Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9),
    "T": Decimal(10**12), "P": Decimal(10**15), "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30),
    "Ti": Decimal(2**40), "Pi": Decimal(2**50),
}  # fmt: skip


def parse_quantity(value: object) -> Decimal | None:
    """The number that a quantity stands for; None for what is none.

    Args:
        value: Text, or a whole number.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return Decimal(value)
    found = _FORM.fullmatch(value) if isinstance(value, str) else None
    return Decimal(found[1]) * _UNIT[found[2]] if found else None
