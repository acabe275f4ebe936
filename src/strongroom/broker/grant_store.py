"""Grants in the store. A row is wrapped like a key: one that somebody without the root key wrote there is refused."""

from datetime import datetime
from typing import Final

import sqlalchemy as sa

from strongroom.broker.audit import AuditLog, Entry
from strongroom.broker.grants import Grant
from strongroom.broker.store import Store
from strongroom.broker.tables import grants
from strongroom.errors import ConfigurationError, WouldOverwrite
from strongroom.formats.canonical import canonical_json, parse_json_object

MAX_GRANTS: Final = 10_000
MAX_GRANT_BYTES: Final = 128 * 1024


class UnknownGrant(ConfigurationError):
    """There is no grant of that name."""

    default_code = "grant.unknown"


class Grants:
    """Grants in the store; every change is logged in the same transaction.

    Args:
        store: The database.
        audit: The log.
    """

    def __init__(self, store: Store, audit: AuditLog) -> None:
        self._store = store
        self._audit = audit
        self._parsed: dict[str, tuple[bytes, Grant]] = {}

    def add(self, grant: Grant, now: datetime, *, replace: bool = False) -> None:
        """Store a grant.

        Args:
            grant: What is granted.
            now: Aware time.
            replace: Take the place of a grant of the same name, instead of refusing.

        Raises:
            WouldOverwrite: There is a grant of that name.
            ConfigurationError: There are too many grants.
            UnavailableError: The database can't be written.
        """
        wrapped = self._store.seal_row("grants", {"name": grant.name}, canonical_json(grant.to_json()))
        entry = Entry(
            "grant.create",
            "allow",
            name=grant.name,
            path=" ".join(map(str, grant.keys)),
            policy_digest=grant.policy.digest.hex(),
        )
        with self._store.writing() as connection:
            if replace:
                connection.execute(sa.delete(grants).where(grants.c.name == grant.name))
            if connection.execute(sa.select(sa.func.count()).select_from(grants)).scalar_one() >= MAX_GRANTS:
                raise ConfigurationError(f"more than {MAX_GRANTS} grants", code="grant.too_many")
            try:
                connection.execute(sa.insert(grants).values(name=grant.name, wrapped=wrapped))
            except sa.exc.IntegrityError:
                raise WouldOverwrite(
                    f"there is already a grant {grant.name}", code="grant.exists", hint="--replace takes its place"
                ) from None
            self._audit.append_within(connection, entry, now)

    def revoke(self, name: str, now: datetime) -> None:
        """Remove a grant; from now on it accepts nothing.

        Raises:
            UnknownGrant: There is none of that name.
            UnavailableError: The database can't be written.
        """
        with self._store.writing() as connection:
            if connection.execute(sa.delete(grants).where(grants.c.name == name)).rowcount == 0:
                raise UnknownGrant(f"no grant {name!r}")
            self._audit.append_within(connection, Entry("grant.revoke", "allow", name=name), now)

    def all(self) -> list[Grant]:
        """All grants by name, as the database has them now.

        Raises:
            VerificationError: A row was not written by this broker, or was altered.
            UnavailableError: The database can't be read.
        """
        with self._store.reading() as connection:
            rows = connection.execute(sa.select(grants).order_by(grants.c.name)).all()
        parsed = {row.name: (row.wrapped, self._parse(row.name, row.wrapped)) for row in rows}
        self._parsed = parsed
        return [grant for _, grant in parsed.values()]

    def _parse(self, name: str, wrapped: bytes) -> Grant:
        # Unwrapping is the same work every time; the row itself was read afresh.
        known = self._parsed.get(name)
        if known is not None and known[0] == wrapped:
            return known[1]
        payload = self._store.open_row("grants", {"name": name}, wrapped)
        return Grant.from_json(parse_json_object(payload, max_bytes=MAX_GRANT_BYTES))
