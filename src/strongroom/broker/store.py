"""The broker's database, every secret in it wrapped under the root key.

A row's payload is wrapped with the row's identity (broker, table, name, version) as associated data, so a row copied
over another one, or brought from another broker, is refused when it is read. Rolling the whole database back to an
older copy is not detected here. Tables: `strongroom.broker.tables`; where they are: `sqlite`, `postgresql`.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from strongroom.broker.database_url import DEFAULT_CONNECTIONS, DatabaseAddress
from strongroom.broker.sqlite import Sqlite
from strongroom.broker.tables import SCHEMA_VERSION
from strongroom.errors import ConfigurationError, UnavailableError
from strongroom.formats.canonical import JsonValue, canonical_json
from strongroom.keys.root import RootKey


class Database(Protocol):
    """One kind of database.

    Attributes:
        name: For messages.
        shared: Other replicas may use it at the same time.
        engine: Connects, and leaves BEGIN to us.
        begin_reading: Begins a consistent view.
        begin_sharing: Begins a write transaction beside others.
        begin_writing: Waits until no other writing transaction runs anywhere, and begins one.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def shared(self) -> bool: ...  # noqa: D102
    @property
    def engine(self) -> sa.Engine: ...  # noqa: D102
    @property
    def begin_reading(self) -> str: ...  # noqa: D102
    @property
    def begin_sharing(self) -> str: ...  # noqa: D102
    @property
    def begin_writing(self) -> str: ...  # noqa: D102

    def make_tables(self, connection: sa.Connection) -> None:
        """Make all tables and note their version."""
        ...

    def version(self) -> object:
        """Version of the schema; None: it has none."""
        ...


Place = Path | DatabaseAddress
"""A SQLite file, or a database on a PostgreSQL server."""


class Store:
    """One open database; see `create` and `open`.

    Args:
        database: Where the tables are.
        root_key: Wraps every payload.
        broker_id: Part of every row's identity.
    """

    def __init__(self, database: Database, root_key: RootKey, broker_id: str) -> None:
        self._database = database
        self._root_key = root_key
        self._broker_id = broker_id
        # Writers of a file take turns here; those of a server take turns there, with those of other replicas.
        self._turn: AbstractContextManager[object] = nullcontext() if database.shared else threading.Lock()

    @property
    def shared(self) -> bool:
        """Whether other replicas may use the same database."""
        return self._database.shared

    @classmethod
    def create(
        cls,
        place: Place,
        root_key: RootKey,
        broker_id: str,
        fill: Callable[["Store", sa.Connection], None] = lambda _store, _connection: None,
    ) -> "Store":
        """Make a new database.

        Args:
            place: Where.
            root_key: Wraps every payload.
            broker_id: Part of every row's identity.
            fill: Writes the first rows, in the transaction that makes the tables.

        Raises:
            WouldOverwrite: There is one already.
            ConfigurationError: The driver is not installed, or credentials are not private.
            UnavailableError: The database can't be written.
        """
        if isinstance(place, Path):
            database: Database = Sqlite.create(place)
        else:
            database = _server(place, 1)
        store = cls(database, root_key, broker_id)
        try:
            with store.writing() as connection:
                database.make_tables(connection)
                fill(store, connection)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def open(
        cls, place: Place, root_key: RootKey, broker_id: str, *, connections: int = DEFAULT_CONNECTIONS
    ) -> "Store":
        """Open an existing database.

        Args:
            place: Where.
            root_key: Wraps every payload.
            broker_id: Part of every row's identity.
            connections: At most so many to a server.

        Raises:
            ConfigurationError: Not there, not a broker's database, or made by another version of the schema; the driver
                is not installed, or credentials are not private.
            UnavailableError: The server does not answer.
        """
        database: Database = Sqlite.open(place) if isinstance(place, Path) else _server(place, connections)
        try:
            _check_version(database)
        except BaseException:
            database.engine.dispose()
            raise
        return cls(database, root_key, broker_id)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A write transaction; the only such one, also across replicas. On the disk when the block ends.

        Raises:
            UnavailableError: The database can't be written.
        """
        with self._turn, self._transaction(self._database.begin_writing) as connection:
            yield connection

    @contextmanager
    def sharing(self) -> Iterator[sa.Connection]:
        """A write transaction that needs no place in the order of the others. Committed when the block ends.

        Raises:
            UnavailableError: The database can't be written.
        """
        with self._turn, self._transaction(self._database.begin_sharing) as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A consistent view of the last committed state.

        Raises:
            UnavailableError: The database can't be read.
        """
        with self._transaction(self._database.begin_reading) as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sa.Connection]:
        try:
            with self._database.engine.connect() as connection:
                connection.exec_driver_sql(begin)
                yield connection
                connection.commit()
        except sa.exc.DBAPIError as error:
            # The statement and its parameters stay out of the message: they may hold names from a stranger.
            raise UnavailableError(
                f"the broker's database failed: {type(error.orig).__name__}", code="broker.database"
            ) from None
        except sa.exc.TimeoutError:
            raise UnavailableError("no connection to the broker's database is free", code="broker.database") from None

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
        self._database.engine.dispose()


def _server(address: DatabaseAddress, connections: int) -> Database:
    from strongroom.broker.postgresql import Postgresql  # its driver is not always installed

    return Postgresql.connect(address, connections)


def _check_version(database: Database) -> None:
    version = database.version()
    if version is None:
        raise ConfigurationError(f"{database.name} is not a broker's database", code="broker.database")
    if version != SCHEMA_VERSION:
        raise ConfigurationError(
            f"{database.name} has schema {version}, this program needs {SCHEMA_VERSION}", code="broker.database"
        )
