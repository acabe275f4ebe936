"""The broker's database: SQLite in WAL mode, durable at every commit, every secret wrapped under the root key.

A row's payload is wrapped with the row's identity (broker, table, name, version) as associated data, so a row copied
over another one, or brought from another broker, is refused when it is read. Rolling the whole file back to an older
copy is not detected here.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from strongroom.errors import ConfigurationError, UnavailableError, WouldOverwrite
from strongroom.formats.canonical import JsonValue, canonical_json
from strongroom.keys.root import RootKey

SCHEMA_VERSION: Final = 1
_PRAGMAS: Final = (
    "journal_mode = WAL",
    "synchronous = FULL",  # a commit is on the disk when it returns
    "foreign_keys = ON",
    "trusted_schema = OFF",
    "secure_delete = ON",  # a deleted row leaves no bytes in the file
    "busy_timeout = 5000",
)

metadata = sa.MetaData()

settings = sa.Table(
    "settings",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
)
keys = sa.Table(
    "keys",
    metadata,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("created", sa.Text, nullable=False),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
)
grants = sa.Table(
    "grants",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
)
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("record", sa.LargeBinary, nullable=False),
    sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
)
owner_requests = sa.Table(
    "owner_requests",
    metadata,
    sa.Column("jti", sa.Text, primary_key=True),
    sa.Column("expires_s", sa.Integer, nullable=False, index=True),
)


class Store:
    """One open database.

    Args:
        engine: Connected engine; see `create` and `open`.
        root_key: Wraps every payload.
        broker_id: Part of every row's identity.
    """

    def __init__(self, engine: sa.Engine, root_key: RootKey, broker_id: str) -> None:
        self._engine = engine
        self._root_key = root_key
        self._broker_id = broker_id
        self._writer = threading.Lock()

    @classmethod
    def create(cls, path: Path, root_key: RootKey, broker_id: str) -> "Store":
        """Make a new database file.

        Raises:
            WouldOverwrite: The file is there already.
        """
        try:
            path.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            raise WouldOverwrite(f"there is already a database: {path}") from None
        engine = _engine(path)
        with engine.begin() as connection:
            metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")
        return cls(engine, root_key, broker_id)

    @classmethod
    def open(cls, path: Path, root_key: RootKey, broker_id: str) -> "Store":
        """Open an existing database.

        Raises:
            ConfigurationError: No such file, not a database, or made by another version of the schema.
        """
        if not path.is_file():
            raise ConfigurationError(f"no database: {path}", code="broker.database")
        engine = _engine(path)
        try:
            with engine.connect() as connection:
                version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        except sa.exc.DatabaseError:
            engine.dispose()
            raise ConfigurationError(f"not a database: {path}", code="broker.database") from None
        if version != SCHEMA_VERSION:
            engine.dispose()
            raise ConfigurationError(
                f"{path} has schema {version}, this program needs {SCHEMA_VERSION}", code="broker.database"
            )
        return cls(engine, root_key, broker_id)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A write transaction; the only one in this process. Committed, and on the disk, when the block ends.

        Raises:
            UnavailableError: The database can't be written.
        """
        with self._writer, self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A consistent view of the last committed state.

        Raises:
            UnavailableError: The database can't be read.
        """
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql(begin)
                yield connection
                connection.commit()
        except sa.exc.DBAPIError as error:
            # The statement and its parameters stay out of the message: they may hold names from a stranger.
            raise UnavailableError(
                f"the broker's database failed: {type(error.orig).__name__}", code="broker.database"
            ) from None

    def seal_row(self, table: str, identity: Mapping[str, JsonValue], payload: bytes) -> bytes:
        """Wrap a row's payload for exactly this row."""
        return self._root_key.wrap(payload, self._identity(table, identity))

    def open_row(self, table: str, identity: Mapping[str, JsonValue], wrapped: bytes) -> bytes:
        """Unwrap a row's payload.

        Raises:
            FormatError: Not a wrapped payload.
            VerificationError: Another row's payload, another root key, or altered.
        """
        return self._root_key.unwrap(wrapped, self._identity(table, identity))

    def _identity(self, table: str, identity: Mapping[str, JsonValue]) -> bytes:
        return canonical_json({"broker": self._broker_id, "table": table, "row": identity})

    def close(self) -> None:
        """Close every connection; SQLite folds its write-ahead log into the file."""
        self._engine.dispose()


def _engine(path: Path) -> sa.Engine:
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), hide_parameters=True)

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        driver: Any = connection
        driver.isolation_level = None  # we say BEGIN ourselves
        for pragma in _PRAGMAS:
            driver.execute(f"PRAGMA {pragma}")

    return engine
