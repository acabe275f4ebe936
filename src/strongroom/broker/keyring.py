"""Keys in the store: named by path, numbered by version, wrapped row by row."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from strongroom.broker.audit import AuditLog, Entry
from strongroom.broker.store import Store
from strongroom.broker.tables import keys
from strongroom.errors import ConfigurationError, WouldOverwrite
from strongroom.formats.canonical import JsonValue
from strongroom.formats.kbs import ResourcePath


class UnknownKey(ConfigurationError):
    """The broker holds no key of that name."""

    default_code = "key.unknown"


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """One version of a key, without its value."""

    path: ResourcePath
    version: int
    created: str
    size_bytes: int


class Keyring:
    """Creates, reads and deletes keys; every change is logged in the same transaction.

    Args:
        store: The database.
        audit: The log.
    """

    def __init__(self, store: Store, audit: AuditLog) -> None:
        self._store = store
        self._audit = audit

    def create(self, path: ResourcePath, value: bytes, now: datetime, *, new_version: bool = False) -> int:
        """Store a key.

        Args:
            path: Its name.
            value: The key.
            now: Aware time.
            new_version: Add a version if there is one already, instead of refusing.

        Returns:
            The version, 1 for a new key.

        Raises:
            WouldOverwrite: There is a key of that name.
            UnavailableError: The database can't be written.
        """
        with self._store.writing() as connection:
            newest = connection.execute(sa.select(sa.func.max(keys.c.version)).where(keys.c.path == str(path))).scalar()
            if newest is not None and not new_version:
                raise WouldOverwrite(f"there is already a key {path}", code="key.exists")
            version = (newest or 0) + 1
            self._audit.append_within(connection, Entry("key.create", "allow", path=f"{path}@{version}"), now)
            connection.execute(
                sa.insert(keys).values(
                    path=str(path),
                    version=version,
                    created=now.isoformat(timespec="seconds"),
                    size_bytes=len(value),
                    wrapped=self._store.seal_row("keys", _identity(path, version), value),
                )
            )
        return version

    def read(self, path: ResourcePath, version: int | None = None) -> tuple[int, bytes]:
        """Read a key. The caller decides and logs first.

        Args:
            path: Its name.
            version: Which; the newest if None.

        Returns:
            Version and value.

        Raises:
            UnknownKey: No such key or version.
            VerificationError: The row was altered or swapped, or the root key is another one.
            UnavailableError: The database can't be read.
        """
        query = sa.select(keys.c.version, keys.c.wrapped).where(keys.c.path == str(path))
        if version is not None:
            query = query.where(keys.c.version == version)
        with self._store.reading() as connection:
            row = connection.execute(query.order_by(keys.c.version.desc()).limit(1)).first()
        if row is None:
            raise UnknownKey(f"no key {path}")
        return row.version, self._store.open_row("keys", _identity(path, row.version), row.wrapped)

    def list(self) -> list[KeyInfo]:
        """All versions of all keys, without values.

        Raises:
            UnavailableError: The database can't be read.
        """
        columns = (keys.c.path, keys.c.version, keys.c.created, keys.c.size_bytes)
        with self._store.reading() as connection:
            rows = connection.execute(sa.select(*columns).order_by(keys.c.path, keys.c.version)).all()
        return [KeyInfo(ResourcePath.parse(r.path), r.version, r.created, r.size_bytes) for r in rows]

    def delete(self, path: ResourcePath, now: datetime) -> None:
        """Delete all versions of a key. What was sealed with it can't be opened any more.

        Raises:
            UnknownKey: No such key.
            UnavailableError: The database can't be written.
        """
        with self._store.writing() as connection:
            deleted = connection.execute(sa.delete(keys).where(keys.c.path == str(path)))
            if deleted.rowcount == 0:
                raise UnknownKey(f"no key {path}")
            self._audit.append_within(connection, Entry("key.delete", "allow", path=str(path)), now)


def _identity(path: ResourcePath, version: int) -> dict[str, JsonValue]:
    return {"path": str(path), "version": version}
