"""Boroughs of the TLC's taxi zones, for the join example.

Source: NYC Taxi & Limousine Commission, taxi zone lookup table (LocationID, Borough). Zones 264 and 265 are "Unknown".
"""

from typing import Any, Final

import pyarrow as pa

LAST_ZONE: Final = 265
_NEWARK: Final = frozenset({1})
_UNKNOWN: Final = frozenset({264, 265})
_STATEN_ISLAND: Final = frozenset(
    {5, 6, 23, 44, 84, 99, 109, 110, 115, 118, 156, 172, 176, 187, 204, 206, 214, 221, 245, 251}
)
_BRONX: Final = frozenset(
    {3, 18, 20, 31, 32, 46, 47, 51, 58, 59, 60, 69, 78, 81, 94, 119, 126, 136, 147, 159, 167, 168, 169, 174, 182, 183,
     184, 185, 199, 200, 208, 212, 213, 220, 235, 240, 241, 242, 247, 248, 250, 254, 259}
)  # fmt: skip
_QUEENS: Final = frozenset(
    {2, 7, 8, 9, 10, 15, 16, 19, 27, 28, 30, 38, 53, 56, 57, 64, 70, 73, 82, 83, 86, 92, 93, 95, 96, 98, 101, 102, 117,
     121, 122, 124, 129, 130, 131, 132, 134, 135, 138, 139, 145, 146, 157, 160, 171, 173, 175, 179, 180, 191, 192, 193,
     196, 197, 198, 201, 203, 205, 207, 215, 216, 218, 219, 223, 226, 252, 253, 258, 260}
)  # fmt: skip
_MANHATTAN: Final = frozenset(
    {4, 12, 13, 24, 41, 42, 43, 45, 48, 50, 68, 74, 75, 79, 87, 88, 90, 100, 103, 104, 105, 107, 113, 114, 116, 120,
     125, 127, 128, 137, 140, 141, 142, 143, 144, 148, 151, 152, 153, 158, 161, 162, 163, 164, 166, 170, 186, 194, 202,
     209, 211, 224, 229, 230, 231, 232, 233, 234, 236, 237, 238, 239, 243, 244, 246, 249, 261, 262, 263}
)  # fmt: skip
_BOROUGHS: Final = (
    ("EWR", _NEWARK),
    ("Unknown", _UNKNOWN),
    ("Staten Island", _STATEN_ISLAND),
    ("Bronx", _BRONX),
    ("Queens", _QUEENS),
    ("Manhattan", _MANHATTAN),
)


def zones_table() -> Any:
    """An Arrow table of locationId (as the trips spell it) and borough, 265 rows."""
    ids = range(1, LAST_ZONE + 1)
    return pa.table({"locationId": [str(zone) for zone in ids], "borough": [_borough(zone) for zone in ids]})


def _borough(zone: int) -> str:
    return next((name for name, zones in _BOROUGHS if zone in zones), "Brooklyn")
