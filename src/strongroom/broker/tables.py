"""The tables of the broker's database: the same on SQLite and on PostgreSQL, two more where replicas share one."""

from typing import Final

import sqlalchemy as sa

SCHEMA_VERSION: Final = 1

# Bytes decide the order and sameness of names, whatever language the database server was set up for.
_TEXT: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
# 64 bits; SQLite's INTEGER has them and is the only type it numbers rows by.
_NUMBER: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

metadata = sa.MetaData()

settings = sa.Table(
    "settings",
    metadata,
    sa.Column("name", _TEXT, primary_key=True),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
)
keys = sa.Table(
    "keys",
    metadata,
    sa.Column("path", _TEXT, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("created", _TEXT, nullable=False),
    sa.Column("size_bytes", sa.Integer, nullable=False),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
)
grants = sa.Table(
    "grants",
    metadata,
    sa.Column("name", _TEXT, primary_key=True),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
)
audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", _NUMBER, primary_key=True, autoincrement=False),
    sa.Column("record", sa.LargeBinary, nullable=False),
    sa.Column("leaf_hash", sa.LargeBinary, nullable=False),
)
owner_requests = sa.Table(
    "owner_requests",
    metadata,
    sa.Column("jti", _TEXT, primary_key=True),
    sa.Column("expires_s", _NUMBER, nullable=False, index=True),
)

shared_metadata = sa.MetaData()
"""What replicas share and a single broker has in memory. UNLOGGED: a server that crashed comes back with them empty,
never half, as a broker that was restarted does; a commit to them waits for no disk."""

challenges = sa.Table(
    "challenges",
    shared_metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("expires_s", sa.BigInteger, nullable=False, index=True),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    prefixes=["UNLOGGED"],
)
attestations = sa.Table(
    "attestations",
    shared_metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("session_digest", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("expires_s", sa.BigInteger, nullable=False, index=True),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    prefixes=["UNLOGGED"],
)
schema_version = sa.Table(
    "schema_version",
    shared_metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
)
"""PostgreSQL has no place for the version of a schema; SQLite has ``user_version``."""
