"""Distributions as tables of 65,536 values, so that a random 16-bit number is a draw.

Quantiles and shares were measured on real trips of 2018 and 2019 (five samples of 10,000 trips each, TLC trip records).
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

STEPS: Final = 65536


def by_quantile(points: Sequence[tuple[float, float]], decimals: int) -> Any:
    """Values by quantile, linear between the given points.

    Args:
        points: Pairs of share (0 to 1, ascending) and value.
        decimals: Decimals to round to.
    """
    shares, values = zip(*points, strict=True)
    return np.round(np.interp((np.arange(STEPS) + 0.5) / STEPS, shares, values), decimals)


def by_share(values: Sequence[float | int], percent: Sequence[float], dtype: str) -> Any:
    """Each value as often as its percentage says; what is left to 100 goes to the first."""
    counts = np.round(np.asarray(percent) * STEPS / 100).astype(int)
    counts[0] += STEPS - counts.sum()
    return np.repeat(np.asarray(values, dtype), counts)


HOUR: Final = by_share(
    range(24),
    [3.2, 2.3, 1.4, 1.1, 0.9, 0.9, 2.1, 3.5, 4.4, 4.7, 4.6, 5.1,
     5.3, 5.1, 5.7, 5.4, 5.1, 5.7, 6.5, 6.4, 5.5, 5.7, 5.3, 4.4],
    "int64",
)  # fmt: skip
PASSENGERS: Final = by_share([1, 2, 3, 4, 5, 6, 0], [70.5, 15, 4.3, 2, 4.3, 2.6, 1.3], "int32")
RATE_CODE: Final = by_share([1, 2, 5, 3, 4, 99], [96.55, 2.4, 0.5, 0.2, 0.1, 0.05], "int32")
DISTANCE_MILES: Final = by_quantile(
    [(0, 0), (0.007, 0), (0.01, 0.15), (0.05, 0.47), (0.25, 0.96), (0.5, 1.6), (0.75, 3.0), (0.9, 8.1), (0.95, 11.2),
     (0.99, 19), (0.9995, 32), (1, 80)],
    2,
)  # fmt: skip
DURATION_S: Final = by_quantile(
    [(0, 0), (0.002, 1), (0.01, 70), (0.05, 170), (0.25, 390), (0.5, 660), (0.75, 1090), (0.95, 2200), (0.99, 3600),
     (0.998, 6600), (0.99801, 86_300), (1, 86_399)],
    0,
).astype("int64")  # fmt: skip
FARE: Final = by_quantile(
    [(0, 2.5), (0.008, 2.5), (0.01, 3.5), (0.05, 4), (0.25, 6.5), (0.5, 9.5), (0.75, 14.5), (0.9, 28), (0.95, 38),
     (0.965, 52), (0.99, 52), (0.9995, 120), (1, 400)],
    1,
)  # fmt: skip
EXTRA: Final = by_share([0.0, 0.5, 1.0, -0.5, 4.5], [45.8, 37, 17, 0.1, 0.1], "float64")
MTA_TAX: Final = by_share([0.5, 0.0, -0.5], [99.4, 0.5, 0.1], "float64")
TIP_SHARE: Final = by_quantile(
    [(0, 0), (0.04, 0), (0.06, 0.05), (0.2, 0.15), (0.35, 0.2), (0.7, 0.22), (0.9, 0.28), (0.99, 0.4), (1, 2)], 4
)
TOLLS: Final = by_share([0.0, 5.76, 5.54, 10.5, 12.5, 2.64], [94.3, 4.9, 0.3, 0.25, 0.15, 0.1], "float64")
LONGITUDE: Final = by_quantile(
    [(0, 0), (0.016, 0), (0.0161, -74.03), (0.05, -74.01), (0.25, -73.992), (0.5, -73.982), (0.75, -73.967),
     (0.95, -73.87), (1, -73.7)],
    6,
)  # fmt: skip
LATITUDE: Final = by_quantile(
    [(0, 0), (0.016, 0), (0.0161, 40.55), (0.05, 40.71), (0.25, 40.736), (0.5, 40.753), (0.75, 40.768), (0.95, 40.79),
     (1, 40.95)],
    6,
)  # fmt: skip

# Codes into the names below.
STORE_FLAG_NAMES: Final = ("N", "Y")
STORE_FLAG: Final = by_share([0, 1], [99.6, 0.4], "int8")
VENDOR_NAMES: Final = ("VTS", "CMT", "DDS")
VENDOR: Final = by_share([0, 1, 2], [48, 45, 7], "int8")
VENDOR_NUMBERS: Final = ("2", "1", "4")
VENDOR_NUMBER: Final = by_share([0, 1, 2], [59.9, 40, 0.1], "int8")
PAYMENT_NAMES: Final = ("CSH", "CRD", "Cas", "Cre", "CASH", "Credit", "No ", "Dis", "NOC")
PAYMENT: Final = by_share(range(9), [45, 39, 6, 4, 3, 2, 0.5, 0.3, 0.2], "int8")
PAYMENT_IS_CARD: Final = np.array([name.startswith(("CRD", "Cre")) for name in PAYMENT_NAMES])
PAYMENT_NUMBERS: Final = ("1", "2", "3", "4")
PAYMENT_NUMBER: Final = by_share(range(4), [70.3, 29, 0.5, 0.2], "int8")
PAYMENT_NUMBER_IS_CARD: Final = np.array([True, False, False, False])
ZONE_NAMES: Final = tuple(str(zone) for zone in (237, 161, 236, 230, 162, 48, *(
    zone for zone in range(1, 266) if zone not in {237, 161, 236, 230, 162, 48})))  # fmt: skip
_ZONE_SHARES: Final = [4.3, 4.1, 4.0, 3.7, 3.6, 3.4, *(float(1.9 * 0.976**i + 0.01) for i in range(259))]
ZONE: Final = by_share(
    range(265),
    [share if i < 6 else 76.9 * share / sum(_ZONE_SHARES[6:]) for i, share in enumerate(_ZONE_SHARES)],
    "int16",
)
"""Zones: six take 3.4 to 4.3 percent each, the rest falls off geometrically."""
