"""A Spark session for all tests of a process, the key rights it has, and a broker for processes that attest."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
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
from strongroom.attestation.policy import ANY, AppraisalPolicy, EnclaveIdentity  # noqa: E402
from strongroom.attestation.roots import INTEL_ROOT, TrustRoot  # noqa: E402
from strongroom.broker.app import create_app  # noqa: E402
from strongroom.broker.grants import Grant  # noqa: E402
from strongroom.broker.parts import Parts, open_parts, stored_log  # noqa: E402
from strongroom.broker.server import serving  # noqa: E402
from strongroom.broker.settings import load_settings  # noqa: E402
from strongroom.broker.setup import SimulatedTrust, create_broker  # noqa: E402
from strongroom.broker.verifier import Trust, verify_with  # noqa: E402
from strongroom.errors import StrongroomError  # noqa: E402
from strongroom.formats.canonical import parse_json_object  # noqa: E402
from strongroom.formats.kbs import ResourcePath  # noqa: E402
from strongroom.platforms.simulated import SimulatedMachine  # noqa: E402
from strongroom.workload import load_workload, measure  # noqa: E402

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
    first = shared.spark
    _use(shared, first.newSession())  # settings, views and functions of its own
    yield shared
    shared.spark.catalog.clearCache()
    _use(shared, first)
    # Else the next application of this process would be given tables of this test, whose files are gone.
    shared._tables.clear()
    shared._read.clear()
    shared._written.clear()
    switched.denied.clear()
    switched.masters = dict(SPARK_MASTERS)
    switched.failure = None
    switched.calls.clear()
    cast("VersionsInMemory", rights.reading.versions)._seen.clear()
    first.sparkContext.setLogLevel("ERROR")
    first._jvm.org.apache.parquet.crypto.keytools.KeyToolkit.removeCacheEntriesForAllTokens()


def _use(shared: Session, spark: Any) -> None:
    """Make a SparkSession the one that applications of this process are given."""
    from pyspark.sql import SparkSession

    shared._spark = SparkSession._instantiatedSession = SparkSession._activeSession = spark
    known = SparkSession._get_j_spark_session_class(spark._jvm)
    known.setDefaultSession(spark._jsparkSession)
    known.setActiveSession(spark._jsparkSession)


@pytest.fixture(scope="session")
def shared(java: None, rights: Rights, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One local session for all tests of this process."""
    places = {
        "spark.local.dir": str(tmp_path_factory.mktemp("spark-local")),
        "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("spark-warehouse")),
    }
    with Session(rights, master="local[1]", settings=QUICK | places, key=SCRATCH) as session:
        session.spark.sparkContext.setLogLevel("ERROR")
        yield session


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tables"


@pytest.fixture
def spark(opened: Session) -> Any:
    return opened.spark


@dataclass(frozen=True)
class Broker:
    """A real broker on loopback that trusts one simulated machine."""

    parts: Parts
    folder: Path
    environment: dict[str, str]
    """What a workload of that machine is told."""

    def add_key(self, name: str, key: bytes) -> None:
        self.parts.keyring.create(ResourcePath.parse(name), key, datetime.now(UTC))

    def authorize(self, definition: Path, keys: Iterable[str]) -> None:
        name, policy = load_workload(definition).name, self.policy(definition)
        grant = Grant(name=name, policy=policy, keys=tuple(map(ResourcePath.parse, keys)))
        self.parts.grants.add(grant, datetime.now(UTC), replace=True)

    def policy(self, definition: Path) -> AppraisalPolicy:
        return AppraisalPolicy(
            measurements=(EnclaveIdentity(measure(load_workload(definition)).mr_enclave),),
            tees=frozenset({"sgx"}),
            tcb_statuses=frozenset({"UpToDate"}),
            advisories=(),
            min_tcb_eval_data_number=ANY,
            accept_simulated=True,
        )

    def attested(self) -> int:
        """How often somebody attested successfully, by the broker's own log."""
        with stored_log(self.folder) as log:
            entries = [parse_json_object(record.record, max_bytes=1 << 20) for record in log.read()]
        return sum(entry["event"] == "attest" and entry["decision"] == "allow" for entry in entries)


@pytest.fixture
def broker(tmp_path: Path, java: None) -> Iterator[Broker]:
    now = datetime.now(UTC)
    machine = SimulatedMachine.create(tmp_path / "machine", now)
    trust = SimulatedTrust(machine.root_der, machine.collateral().encode())
    files = create_broker(tmp_path / "broker", now=now, simulated=trust)
    values = load_settings(files.settings)
    verifier = _InProcess(Trust((INTEL_ROOT, TrustRoot("simulated", machine.root_der)), files.collateral))
    parts = open_parts(files, values, verifier, clock=lambda: datetime.now(UTC))
    with serving(create_app(parts), files, values) as url:
        room = tmp_path / "room"
        room.mkdir()
        (room / "room.toml").write_text(f'url = "{url}"\n')
        (room / "ca.pem").write_bytes(files.ca_certificate.read_bytes())
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "STRONGROOM_ROOM": str(room),
            "STRONGROOM_PLATFORM": "simulated",
            "STRONGROOM_SIMULATED_MACHINE": str(tmp_path / "machine"),
        }
        yield Broker(parts, tmp_path / "broker", environment)
    parts.close()


class _InProcess:
    def __init__(self, trust: Trust) -> None:
        self._trust = trust

    def verify(self, quote: bytes, now: datetime) -> Any:
        return verify_with(self._trust, quote, now)
