"""Columns of the Azure open dataset "NYC Taxi & Limousine Commission - yellow taxi trip records".

Source: Azure Open Datasets, NYC yellow-taxi page: names, types and numbers of distinct values. Years 2009 to 2018;
coordinates until June 2016, zones after; vendors and payment types by name until 2014, by number after.
"""

from typing import Final

import pyarrow as pa

SCHEMA: Final = pa.schema(
    [
        ("vendorID", pa.string()),
        ("tpepPickupDateTime", pa.timestamp("us")),
        ("tpepDropoffDateTime", pa.timestamp("us")),
        ("passengerCount", pa.int32()),
        ("tripDistance", pa.float64()),
        ("puLocationId", pa.string()),
        ("doLocationId", pa.string()),
        ("startLon", pa.float64()),
        ("startLat", pa.float64()),
        ("endLon", pa.float64()),
        ("endLat", pa.float64()),
        ("rateCodeId", pa.int32()),
        ("storeAndFwdFlag", pa.string()),
        ("paymentType", pa.string()),
        ("fareAmount", pa.float64()),
        ("extra", pa.float64()),
        ("mtaTax", pa.float64()),
        ("improvementSurcharge", pa.string()),
        ("tipAmount", pa.float64()),
        ("tollsAmount", pa.float64()),
        ("totalAmount", pa.float64()),
        ("puYear", pa.int32()),
        ("puMonth", pa.int32()),
    ]
)

FIRST_YEAR: Final = 2009
LAST_YEAR: Final = 2018
ZONES_SINCE: Final = (2016, 7)
"""Year and month from which trips have zones instead of coordinates."""
NUMBERS_SINCE: Final = 2015
"""Year from which vendors and payment types are numbers."""

# The names of the TLC's own monthly files, which changed over the years, without underscores and in lower case.
OTHER_NAMES: Final = {
    "vendorname": "vendorID",
    "trippickupdatetime": "tpepPickupDateTime",
    "pickupdatetime": "tpepPickupDateTime",
    "tripdropoffdatetime": "tpepDropoffDateTime",
    "dropoffdatetime": "tpepDropoffDateTime",
    "pickuplocationid": "puLocationId",
    "dropofflocationid": "doLocationId",
    "pickuplongitude": "startLon",
    "pickuplatitude": "startLat",
    "dropofflongitude": "endLon",
    "dropofflatitude": "endLat",
    "ratecode": "rateCodeId",
    "storeandforward": "storeAndFwdFlag",
    "fareamt": "fareAmount",
    "surcharge": "extra",
    "tipamt": "tipAmount",
    "tollsamt": "tollsAmount",
    "totalamt": "totalAmount",
}
