"""Tables, keys and readers for the tests of analytics."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")

from strongroom.analytics.datakeys import DataKeys  # noqa: E402
from strongroom.analytics.kms import LocalKms  # noqa: E402
from strongroom.analytics.manifest import Manifest  # noqa: E402
from strongroom.analytics.signing import Signer  # noqa: E402
from strongroom.analytics.table import Reading  # noqa: E402
from strongroom.analytics.versions import VersionsInMemory  # noqa: E402
from strongroom.analytics.writing import Protection, TableWriter, Writing  # noqa: E402

TRIPS = "taxi/key/trips"
FARES = "taxi/key/fares"
OTHER = "bank/key/other"
MASTERS = {TRIPS: b"t" * 32, FARES: b"f" * 16, OTHER: b"o" * 32}

WriteTable = Callable[..., Manifest]
MakeReading = Callable[..., Reading]


@pytest.fixture
def kms() -> LocalKms:
    return LocalKms.holding(MASTERS)


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer.from_seed(b"s" * 32)


@pytest.fixture
def rows() -> Any:
    count = 5000
    numbers = np.arange(count)
    return pa.table(
        {
            "id": numbers,
            "fare": np.round(numbers * 0.37 % 50, 2),
            "vendor": [None if i % 11 == 0 else f"v{i % 3}" for i in range(count)],
            "pickup": pa.array(1_500_000_000_000_000 + numbers * 60_000_000, pa.timestamp("us")),
            "stops": pa.array([[1, 2], None, [0, 1, 2]] * (count // 3) + [[]] * (count % 3)),
            "zone": pa.array([{"id": i % 5, "name": "z"} for i in range(count)]),
        }
    )


@pytest.fixture
def write_table(kms: LocalKms, signer: Signer) -> WriteTable:
    """Write a table and return its manifest."""

    def write(
        folder: Path,
        rows: Any,
        *,
        name: str = "trips",
        key: str = TRIPS,
        column_keys: dict[str, str] | None = None,
        previous: Manifest | None = None,
        append: bool = False,
        files: int = 1,
    ) -> Manifest:
        protection = Protection(key, column_keys or {})
        writer = TableWriter(
            folder,
            name,
            rows.schema,
            protection,
            writing=Writing(kms, signer, VersionsInMemory()),
            previous=previous,
            append=append,
        )
        with writer:
            size = max(-(-rows.num_rows // files), 1)
            for start in range(0, rows.num_rows, size):
                writer.write(rows.slice(start, size))
                writer._flush()
        assert writer.manifest is not None
        return writer.manifest

    return write


@pytest.fixture
def reading(kms: LocalKms, signer: Signer) -> MakeReading:
    """Make a reader; `without` names keys that it has no right to."""

    def make(*without: str, versions: VersionsInMemory | None = None) -> Reading:
        held = {name: key for name, key in MASTERS.items() if name not in without}
        keys = DataKeys(LocalKms.holding(held))
        return Reading(keys, frozenset({signer.public}), versions or VersionsInMemory())

    return make
