"""A Spark session over encrypted tables: `strongroom.analytics.session()`."""

import hashlib
import logging
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from strongroom.analytics.datakeys import DataKeys
from strongroom.analytics.engine import check_table_name
from strongroom.analytics.manifest import MANIFEST_NAME, Manifest
from strongroom.analytics.receipts import DRIVER, Output, Receipt, Worker, sign_receipt, signer_statement
from strongroom.analytics.signing import Signer
from strongroom.analytics.spark.attested import AttestedKms, attest
from strongroom.analytics.spark.driver import Driver
from strongroom.analytics.spark.job import Job, parse_job
from strongroom.analytics.spark.settings import HADOOP, SCRATCH, UNIFORM_KEY
from strongroom.analytics.spark.tables import NewTable, frame, write_frame
from strongroom.analytics.table import Reading, Table, open_table, read_manifest
from strongroom.analytics.versions import VersionsInMemory
from strongroom.analytics.writing import Protection, Writing
from strongroom.errors import WouldOverwrite

_NO_TEE: Final = Worker(DRIVER, "none")


@dataclass(frozen=True, slots=True)
class Rights:
    """What a session may use.

    Args:
        reading: Keys, trusted writers, memory of versions.
        writing: The same for what it writes, and its signer.
        traffic: Secret of Spark's own traffic; None: local mode only.
        job: Application and settings that the owner allows; None: whatever was measured.
        worker: This process as its receipts list it, with evidence about the signer of `writing`.
    """

    reading: Reading
    writing: Writing
    traffic: str | None = field(default=None, repr=False)
    job: Job | None = None
    worker: Worker = _NO_TEE


def attested_rights(trust: Iterable[bytes] = (), signer: Signer | None = None) -> Rights:
    """Attest, and take what the broker releases to this process's workload.

    Args:
        trust: Public keys of writers whose tables are believed, beside this workload's own signer.
        signer: Signs; None: the one that the workload's key with the alias ``signer`` makes, else a new one.

    Raises:
        StrongroomError: As `attest`; or the job is malformed.
    """
    released = attest()
    kms = AttestedKms(attest, released)
    if signer is None:
        signer = Signer.generate() if released.signer is None else Signer.from_seed(released.signer)
    versions = VersionsInMemory()
    reading = Reading(DataKeys(kms), frozenset({signer.public, *trust}), versions)
    job = None if released.job is None else parse_job(released.job)
    worker = released.attester.worker(DRIVER, signer_statement(signer.public))
    return Rights(reading, Writing(kms, signer, versions), released.traffic, job, worker)


class Session:
    """Spark with encrypted tables. Use it as a context manager.

    Args:
        rights: Keys and trust.
        master: ``local[*]``, ``spark://HOST:PORT`` or ``k8s://https://HOST:PORT``.
        settings: The application's own settings of Spark.
        given: The cluster's, checked by `strongroom.analytics.spark.settings.accepted`.
        key: Master key of Parquet files that are no table (saved models, intermediate results); None: such files
            can't be written.
        scratch: Name that binds those files; a later session of the same name can read them. None: this session only.

    Raises:
        ConfigurationError: There is no Java or PySpark, or another session is open in this process.
        UnavailableError: The JVM doesn't start.
    """

    def __init__(
        self,
        rights: Rights,
        *,
        master: str = "local[*]",
        settings: Mapping[str, str] | None = None,
        given: Mapping[str, str] | None = None,
        key: str | None = None,
        scratch: str | None = None,
    ) -> None:
        own = {
            "spark.app.name": "strongroom",
            HADOOP + SCRATCH: scratch or f"session-{secrets.token_hex(16)}",
            **({HADOOP + UNIFORM_KEY: key} if key else {}),
            **(rights.job.settings if rights.job else {}),
            **(settings or {}),
        }
        self._rights = rights
        self._tables: dict[str, Table] = {}
        self._read: dict[bytes, Manifest] = {}
        self._written: list[Manifest] = []
        self._started = datetime.now(UTC)
        self.driver = Driver(
            rights.writing.kms,
            master=master,
            own=own,
            given=given,
            secret=rights.traffic,
            signer=rights.writing.signer.public,
        )
        self._spark: Any = None

    @property
    def spark(self) -> Any:
        """The SparkSession, an ordinary one."""
        if self._spark is None:
            from pyspark.sql import SparkSession

            # PySpark logs whole statements when they fail; their errors are raised anyway.
            logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
            logging.getLogger("DataFrameQueryContextLogger").setLevel(logging.CRITICAL)
            self._spark = SparkSession.builder.getOrCreate()
        return self._spark

    def adopt(self, spark: Any) -> None:
        """Take a SparkSession that the application made; SQL finds the declared tables in it.

        Args:
            spark: SparkSession of this process.
        """
        self._spark = spark
        for name, table in self._tables.items():
            frame(spark.read, table).createOrReplaceTempView(name)

    @property
    def tables(self) -> Mapping[str, Table]:
        """The checked tables, by name."""
        return self._tables

    def declare(self, name: str, folder: str | Path) -> Table:
        """Check a table.

        Args:
            name: Name that the table must have.
            folder: Its folder.

        Raises:
            StrongroomError: As `open_table`.
        """
        opened = open_table(Path(folder), check_table_name(name), self._rights.reading)
        self._tables[name] = opened
        self._read[opened.manifest.digest] = opened.manifest  # two tables may follow each other under one name
        return opened

    def table(self, name: str, folder: str | Path) -> Any:
        """Check a table and open it.

        Args:
            name: Name that the table must have; SQL finds it under this name from now on.
            folder: Its folder.

        Returns:
            A DataFrame.

        Raises:
            StrongroomError: As `open_table`; before a row is read.
        """
        rows = frame(self.spark.read, self.declare(name, folder))
        rows.createOrReplaceTempView(name)
        return rows

    def write(
        self,
        rows: Any,
        name: str,
        folder: str | Path,
        *,
        key: str,
        column_keys: Mapping[str, str] | None = None,
        replace: bool = False,
        append: bool = False,
    ) -> Manifest:
        """Write a DataFrame as an encrypted table.

        Args:
            rows: DataFrame.
            name: Name of the table.
            folder: Its folder.
            key: Master key of the table.
            column_keys: Column to the master key of its own.
            replace: Replace a table that is there.
            append: Add to a table that is there.

        Returns:
            The manifest.

        Raises:
            WouldOverwrite: A table is there, and neither `replace` nor `append` is given.
            StrongroomError: As `write_frame`; the folder holds then what it held before.
        """
        place, reading = Path(folder), self._rights.reading
        previous = extends = None
        if append:
            extends = open_table(place, name, reading)
        elif (place / MANIFEST_NAME).exists():
            if not replace:
                raise WouldOverwrite(f"there is already a table at {place}", hint="replace=True or append=True")
            previous = read_manifest(place, name, reading)
        target = NewTable(check_table_name(name), place, Protection(key, column_keys or {}), previous, extends)
        written = write_frame(rows, target, self._rights.writing)
        self._written.append(written)
        return written

    def workers(self) -> tuple[Worker, ...]:
        """The processes that took part so far: the driver, every executor of a cluster.

        Raises:
            VerificationError: An executor took part and handed in no evidence.
            UnavailableError: Spark doesn't say which took part.
        """
        return self.driver.workers(self._rights.worker)

    @property
    def job(self) -> bytes:
        """What the executors' evidence is about, 32 bytes; empty without executors."""
        return self.driver.participants.job if self.driver.participants else b""

    def receipt(self, application: bytes) -> bytes:
        """A signed statement: the application, every table checked and every table written so far, the processes.

        Args:
            application: The application's file.

        Raises:
            VerificationError: An executor took part and handed in no evidence.
            UnavailableError: Spark doesn't say which took part.
        """
        import pyspark

        stated = Receipt(
            query=hashlib.sha256(application).digest(),
            tables=tuple(self._read.values()),
            engine=("spark", str(pyspark.__version__)),
            workers=self.workers(),
            outputs=tuple(Output("sealed", made.digest, made.rows, made.table) for made in self._written),
            started=self._started,
            finished=datetime.now(UTC),
            job=self.job,
        )
        return sign_receipt(stated, self._rights.writing.signer)

    def close(self) -> None:
        """Stop Spark; its JVM and the key server end, and what they had in memory."""
        self._spark = None
        self.driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def session(
    *,
    tables: Mapping[str, str | Path] | None = None,
    trust: Iterable[bytes] = (),
    rights: Rights | None = None,
    master: str = "local[*]",
    settings: Mapping[str, str] | None = None,
    key: str | None = None,
    scratch: str | None = None,
) -> Session:
    """Start Spark inside a room: attest, take the keys, check the tables.

    Args:
        tables: Name and folder of tables to open; SQL finds them under their names.
        trust: Public keys of other writers whose tables are believed.
        rights: Keys and trust, for use outside a room; None: attest.
        master: Where the executors are.
        settings: Settings of Spark.
        key: Master key of Parquet files that are no table.
        scratch: Name that binds those files; see `Session`.

    Returns:
        The session; `.spark` is the SparkSession.

    Raises:
        StrongroomError: The broker refuses, a table is not what its writer made, or Spark doesn't start.
    """
    allowed = rights or attested_rights(trust)
    opened = Session(allowed, master=master, settings=settings, key=key, scratch=scratch)
    try:
        for table, folder in (tables or {}).items():
            opened.table(table, folder)
    except BaseException:
        opened.close()
        raise
    return opened
