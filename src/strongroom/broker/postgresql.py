"""The broker's database on a PostgreSQL server, which several replicas share.

The server is not trusted with secrets, and what it says about rows is checked by their wrapping. It is trusted to do
what a database does: keep what was committed, and delete a row once.
"""

from typing import Any, Final

import sqlalchemy as sa

from strongroom.broker.database_url import DatabaseAddress, check_credentials
from strongroom.broker.tables import SCHEMA_VERSION, metadata, schema_version, shared_metadata
from strongroom.errors import ConfigurationError, UnavailableError, WouldOverwrite
from strongroom.outcome import one_line

# Any number that nothing else in the same database locks: "strongrm" in ASCII.
LOCK: Final = int.from_bytes(b"strongrm", "big")
CONNECT_TIMEOUT_S: Final = 5
SILENCE_TIMEOUT_S: Final = 10
"""How long a server may be silent before its connection is given up, and how long one statement may take."""
IDLE_TIMEOUT_S: Final = 5
"""How long a replica may be silent inside a transaction; less than the others wait for their turn."""
RECYCLE_S: Final = 1800
MAX_REASON_CHARS: Final = 200
UNDEFINED_TABLE: Final = "42P01"  # PostgreSQL documentation, appendix A

# One message to the server. A replica that stops in the middle of a transaction loses its locks after a while; a proxy
# between us and the server that shares its connections can't change what is set here. READ COMMITTED: the reading
# after the lock was waited for must see what the one before it committed.
_BOUNDS: Final = (
    f"SET LOCAL statement_timeout = '{SILENCE_TIMEOUT_S}s'; "
    f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_TIMEOUT_S}s'"
)


class Postgresql:
    """A database on a server.

    Args:
        address: Where.
        engine: Connects to it.
    """

    shared: Final = True
    begin_reading: Final = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_BOUNDS}"
    begin_sharing: Final = f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {_BOUNDS}"
    # A commit is on the server's disk when it returns, and writers of all replicas take turns.
    begin_writing: Final = f"{begin_sharing}; SET LOCAL synchronous_commit = on; SELECT pg_advisory_xact_lock({LOCK})"

    def __init__(self, address: DatabaseAddress, engine: sa.Engine) -> None:
        self.name = str(address)
        self.engine = engine

    @classmethod
    def connect(cls, address: DatabaseAddress, connections: int) -> "Postgresql":
        """Connect once, to be able to say why it does not work.

        Args:
            address: Where.
            connections: At most so many at once.

        Raises:
            ConfigurationError: The driver is not installed, or credentials are not private.
            UnavailableError: The server does not answer, or does not let us in.
        """
        check_credentials(address)
        database = cls(address, _engine(address, connections))
        try:
            database.engine.connect().close()
        except sa.exc.DBAPIError as error:
            raise UnavailableError(_why(database.name, error), code="broker.database") from None
        return database

    def make_tables(self, connection: sa.Connection) -> None:
        """Make all tables, in a transaction that holds the lock.

        Raises:
            WouldOverwrite: There is a broker's database already, or a table of such a name.
        """
        names = set(sa.inspect(connection).get_table_names())
        if names & (metadata.tables.keys() | shared_metadata.tables.keys()):
            raise WouldOverwrite(
                f"there are already tables in {self.name}", code="broker.database", hint="make a new, empty database"
            )
        metadata.create_all(connection, checkfirst=False)
        shared_metadata.create_all(connection, checkfirst=False)
        connection.execute(sa.insert(schema_version).values(version=SCHEMA_VERSION))

    def version(self) -> object:
        """Version of the schema; None: no broker's database.

        Raises:
            UnavailableError: The database can't be read.
        """
        try:
            with self.engine.connect() as connection:
                versions = connection.execute(sa.select(schema_version.c.version)).scalars().all()
        except sa.exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == UNDEFINED_TABLE:
                return None
            raise UnavailableError(_why(self.name, error), code="broker.database") from None
        return versions[0] if len(versions) == 1 else None


def _why(name: str, error: sa.exc.DBAPIError) -> str:
    """For the operator, while nothing of a stranger is in the driver's messages yet."""
    return f"the database {name} can't be used: {one_line(str(error.orig))[:MAX_REASON_CHARS]}"


def _engine(address: DatabaseAddress, connections: int) -> sa.Engine:
    try:
        import psycopg
    except ImportError:
        raise ConfigurationError(
            "database_url needs PostgreSQL's driver",
            code="broker.database_url",
            hint="pip install 'strongroom[postgresql]'",
        ) from None
    parameters: dict[str, Any] = {
        "host": address.host,
        "port": address.port,
        "user": address.user,
        "dbname": address.database,
        "sslmode": address.ssl_mode,
        **address.files,
        "gssencmode": "disable",  # it would go before TLS, and then nobody compares the server's certificate
        "client_encoding": "utf8",
        "application_name": "strongroom-broker",
        "connect_timeout": CONNECT_TIMEOUT_S,
        "tcp_user_timeout": SILENCE_TIMEOUT_S * 1000,
        "keepalives_idle": SILENCE_TIMEOUT_S,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "autocommit": True,  # we say BEGIN ourselves
    }
    return sa.create_engine(
        "postgresql+psycopg://",
        module=psycopg,
        creator=lambda: psycopg.connect(**parameters),
        hide_parameters=True,
        use_native_hstore=False,
        pool_pre_ping=True,  # a connection that died while it was idle costs nobody a request
        pool_size=connections,
        max_overflow=0,
        pool_timeout=SILENCE_TIMEOUT_S,
        pool_recycle=RECYCLE_S,
        pool_use_lifo=True,
    )
