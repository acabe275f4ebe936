"""The broker's database in a file: SQLite in WAL mode, durable at every commit. For one replica."""

from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from strongroom.broker.tables import SCHEMA_VERSION, metadata
from strongroom.errors import ConfigurationError, WouldOverwrite

_PRAGMAS: Final = (
    "journal_mode = WAL",
    "synchronous = FULL",  # a commit is on the disk when it returns
    "foreign_keys = ON",
    "trusted_schema = OFF",
    "secure_delete = ON",  # a deleted row leaves no bytes in the file
    "busy_timeout = 5000",
)


class Sqlite:
    """A database file.

    Args:
        path: The file; it must be there.
    """

    shared: Final = False
    begin_reading: Final = "BEGIN"
    begin_sharing: Final = "BEGIN IMMEDIATE"
    begin_writing: Final = "BEGIN IMMEDIATE"

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.engine = _engine(path)

    @classmethod
    def create(cls, path: Path) -> "Sqlite":
        """A new file that only we may read.

        Raises:
            WouldOverwrite: The file is there already.
        """
        try:
            path.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            raise WouldOverwrite(f"there is already a database: {path}") from None
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "Sqlite":
        """An existing file.

        Raises:
            ConfigurationError: There is none.
        """
        if not path.is_file():
            raise ConfigurationError(f"no database: {path}", code="broker.database")
        return cls(path)

    def make_tables(self, connection: sa.Connection) -> None:
        """Make all tables, in a transaction."""
        metadata.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def version(self) -> object:
        """Version of the schema.

        Raises:
            ConfigurationError: Not a database.
        """
        try:
            with self.engine.connect() as connection:
                return connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        except sa.exc.DatabaseError:
            raise ConfigurationError(f"not a database: {self.name}", code="broker.database") from None


def _engine(path: Path) -> sa.Engine:
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), hide_parameters=True)

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        driver: Any = connection
        driver.isolation_level = None  # we say BEGIN ourselves
        for pragma in _PRAGMAS:
            driver.execute(f"PRAGMA {pragma}")

    return engine
