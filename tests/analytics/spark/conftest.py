"""A Spark session for all tests of a process, and the key rights it has."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import pytest

pa = pytest.importorskip("pyarrow")

from strongroom.analytics.datakeys import DataKeys  # noqa: E402
from strongroom.analytics.kms import LocalKms  # noqa: E402
from strongroom.analytics.signing import Signer  # noqa: E402
from strongroom.analytics.spark.jar import find_java  # noqa: E402
from strongroom.analytics.spark.session import Rights, Session  # noqa: E402
from strongroom.analytics.table import Reading  # noqa: E402
from strongroom.analytics.versions import VersionsInMemory  # noqa: E402
from strongroom.analytics.writing import Writing  # noqa: E402
from strongroom.errors import StrongroomError  # noqa: E402

TRIPS, FARES, OTHER = "taxi/key/trips", "taxi/key/fares", "bank/key/other"
SCRATCH = "taxi/key/scratch"
SPARK_MASTERS = {TRIPS: b"t" * 32, FARES: b"f" * 16, OTHER: b"o" * 32, SCRATCH: b"c" * 32}
QUICK = {
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "spark.sql.shuffle.partitions": "1",
    "spark.driver.host": "127.0.0.1",
}


class SwitchedKms:
    """A key service from which rights can be taken away, and which counts what it is asked."""

    def __init__(self) -> None:
        self.masters = dict(SPARK_MASTERS)
        self.denied: set[str] = set()
        self.failure: StrongroomError | None = None
        self.calls: list[str] = []

    def wrap(self, key_name: str, secret: bytes) -> bytes:
        return self._kms(key_name).wrap(key_name, secret)

    def unwrap(self, key_name: str, wrapped: bytes) -> bytes:
        return self._kms(key_name).unwrap(key_name, wrapped)

    def _kms(self, key_name: str) -> LocalKms:
        self.calls.append(key_name)
        if self.failure is not None:
            raise self.failure
        return LocalKms.holding({name: key for name, key in self.masters.items() if name not in self.denied})


@pytest.fixture(scope="session")
def switched() -> SwitchedKms:
    """The key service of the shared session; a test that takes rights away gives them back."""
    return SwitchedKms()


@pytest.fixture(scope="session")
def rights(switched: SwitchedKms, signer: Signer) -> Rights:
    versions = VersionsInMemory()
    reading = Reading(DataKeys(LocalKms.holding(SPARK_MASTERS)), frozenset({signer.public}), versions)
    return Rights(reading, Writing(switched, signer, versions))


@pytest.fixture(scope="session")
def java() -> None:
    """Skips, saying why, where Spark can't run."""
    if find_spec("pyspark") is None:
        pytest.skip("PySpark is not installed")
    if find_java() is None or find_java("javac") is None:
        pytest.skip("no Java compiler here")


@pytest.fixture
def opened(shared: Session, rights: Rights, switched: SwitchedKms) -> Iterator[Session]:
    """The shared session; what a test changes in it is undone."""
    yield shared
    switched.denied.clear()
    switched.masters = dict(SPARK_MASTERS)
    switched.failure = None
    cast("VersionsInMemory", rights.reading.versions)._seen.clear()
    shared.spark._jvm.org.apache.parquet.crypto.keytools.KeyToolkit.removeCacheEntriesForAllTokens()


@pytest.fixture(scope="session")
def shared(java: None, rights: Rights) -> Iterator[Session]:
    """One local session for all tests of this process."""
    with Session(rights, master="local[1]", settings=QUICK, key=SCRATCH) as session:
        session.spark.sparkContext.setLogLevel("ERROR")
        yield session


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tables"


@pytest.fixture
def spark(opened: Session) -> Any:
    return opened.spark
