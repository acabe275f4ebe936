"""Trips like the real ones: schema, eras, dirt and distributions of the Azure open dataset; any number of rows."""

import calendar
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa

from strongroom.analytics.taxi import distributions as d
from strongroom.analytics.taxi.schema import FIRST_YEAR, LAST_YEAR, NUMBERS_SINCE, SCHEMA, ZONES_SINCE

MONTHS: Final = tuple((year, month) for year in range(FIRST_YEAR, LAST_YEAR + 1) for month in range(1, 13))
BATCH_ROWS: Final = 256 * 1024
_SECOND: Final = 1_000_000
_STRANGE_YEARS: Final = (2001, 2002, 2003, 2008, 2020, 2029, 2037, 2041, 2053, 2058, 2066, 2084, 2088)
_STRANGE_EVERY: Final = 40_000
_NEGATIVE: Final = 66  # of 65,536: 0.1 percent
_SAME_RANK: Final = 52_429  # of 65,536: 80 percent


def rows_by_month(rows: int) -> list[tuple[int, int, int]]:
    """Year, month and number of rows of each month; all months alike."""
    edges = [rows * i // len(MONTHS) for i in range(len(MONTHS) + 1)]
    return [(*month, edges[i + 1] - edges[i]) for i, month in enumerate(MONTHS)]


def generate_month(year: int, month: int, rows: int, seed: int) -> Iterator[Any]:
    """Trips of one month.

    Args:
        year: 2009 to 2018.
        month: 1 to 12.
        rows: How many.
        seed: The same seed gives the same trips.

    Yields:
        Arrow tables of at most 262,144 rows.
    """
    generator = np.random.default_rng([seed, year, month])
    for start in range(0, rows, BATCH_ROWS):
        yield _Batch(generator, year, month, min(BATCH_ROWS, rows - start)).table()


class _Batch:
    def __init__(self, generator: np.random.Generator, year: int, month: int, rows: int) -> None:
        self._generator, self._year, self._month, self._rows = generator, year, month, rows

    def _draw(self) -> Any:
        """Random 16-bit numbers, one for each row."""
        return np.frombuffer(self._generator.bytes(2 * self._rows), np.uint16)

    def table(self) -> Any:
        rank = self._draw()
        pickup, duration = self._pickup(), d.DURATION_S[self._related(rank)]
        columns: dict[str, Any] = {
            "tpepPickupDateTime": pa.array(pickup, pa.timestamp("us")),
            "tpepDropoffDateTime": pa.array(pickup + duration * _SECOND, pa.timestamp("us")),
            "passengerCount": pa.array(d.PASSENGERS[self._draw()]),
            "tripDistance": pa.array(d.DISTANCE_MILES[rank]),
            "rateCodeId": pa.array(d.RATE_CODE[self._draw()]),
            "storeAndFwdFlag": _named(d.STORE_FLAG[self._draw()], d.STORE_FLAG_NAMES),
        }
        columns |= self._places() | self._money(rank) | self._calendar(pickup)
        return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)

    def _related(self, rank: Any) -> Any:
        """Ranks that mostly equal others: long trips take long and cost much, and each distribution stays as it is."""
        return np.where(self._draw() < _SAME_RANK, rank, self._draw())

    def _pickup(self) -> Any:
        """Microseconds since 1970; a trip in 40,000 has a clock that is years off."""
        start_s = calendar.timegm((self._year, self._month, 1, 0, 0, 0))
        days = calendar.monthrange(self._year, self._month)[1]
        day = (self._draw().astype(np.int64) * days) >> 16
        second = (self._draw().astype(np.int64) * 3600) >> 16
        times = start_s + day * 86400 + d.HOUR[self._draw()] * 3600 + second
        strange = self._generator.integers(0, _STRANGE_EVERY, max(self._rows // _STRANGE_EVERY, 1))
        for index in strange[strange < self._rows]:
            years = int(self._generator.choice(_STRANGE_YEARS)) - self._year
            times[index] += years * 31_556_952
        return times * _SECOND

    def _calendar(self, pickup: Any) -> dict[str, Any]:
        months = pickup.view("datetime64[us]").astype("datetime64[M]").astype(np.int64)
        return {
            "puYear": pa.array((months // 12 + 1970).astype(np.int32)),
            "puMonth": pa.array((months % 12 + 1).astype(np.int32)),
        }

    def _places(self) -> dict[str, Any]:
        numbers, nothing = pa.nulls(self._rows, pa.float64()), pa.nulls(self._rows, pa.string())
        if (self._year, self._month) >= ZONES_SINCE:
            zones = {name: _named(d.ZONE[self._draw()], d.ZONE_NAMES) for name in ("puLocationId", "doLocationId")}
            return zones | dict.fromkeys(("startLon", "startLat", "endLon", "endLat"), numbers)
        places: dict[str, Any] = dict.fromkeys(("puLocationId", "doLocationId"), nothing)
        for end in ("start", "end"):
            rank = self._draw()
            missing = rank < 1049  # 1.6 percent have no coordinates: both are zero
            places[f"{end}Lon"] = pa.array(self._spread(d.LONGITUDE[rank], missing))
            places[f"{end}Lat"] = pa.array(self._spread(d.LATITUDE[self._draw() | 0x0800], missing))
        return places

    def _spread(self, degrees: Any, missing: Any) -> Any:
        """Some hundred metres around, rounded to the six decimals of the meters."""
        return np.where(missing, 0.0, np.round(degrees + self._draw() * 4e-8, 6))

    def _money(self, rank: Any) -> dict[str, Any]:
        sign = np.where(self._draw() < _NEGATIVE, -1.0, 1.0)
        fare = np.round(d.FARE[self._related(rank)] * 2) / 2 * sign
        extra, tax, tolls = d.EXTRA[self._draw()], d.MTA_TAX[self._draw()], d.TOLLS[self._draw()]
        numbered = self._year >= NUMBERS_SINCE
        payment = (d.PAYMENT_NUMBER if numbered else d.PAYMENT)[self._draw()]
        card = (d.PAYMENT_NUMBER_IS_CARD if numbered else d.PAYMENT_IS_CARD)[payment]
        tip = np.where(card, np.round(np.abs(fare) * d.TIP_SHARE[self._draw()], 2), 0.0)
        surcharge = 0.3 if numbered else 0.0
        vendor = (d.VENDOR_NUMBER if numbered else d.VENDOR)[self._draw()]
        return {
            "vendorID": _named(vendor, d.VENDOR_NUMBERS if numbered else d.VENDOR_NAMES),
            "paymentType": _named(payment, d.PAYMENT_NUMBERS if numbered else d.PAYMENT_NAMES),
            "fareAmount": pa.array(fare),
            "extra": pa.array(extra),
            "mtaTax": pa.array(tax),
            "improvementSurcharge": pa.repeat("0.3", self._rows) if numbered else pa.nulls(self._rows, pa.string()),
            "tipAmount": pa.array(tip),
            "tollsAmount": pa.array(tolls),
            "totalAmount": pa.array(np.round(fare + extra + tax + tolls + tip + surcharge, 2)),
        }


def _named(codes: Any, names: tuple[str, ...]) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names)).cast(pa.string())
