"""The parts of a running broker and how they are put together from its folder."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from joserfc.jwk import ECKey

from strongroom.broker.audit import AuditLog, StoredAuditLog
from strongroom.broker.database_url import parse_database_url
from strongroom.broker.denials import BoundedDenials
from strongroom.broker.folder import BrokerFolder
from strongroom.broker.grant_store import Grants
from strongroom.broker.keyring import Keyring
from strongroom.broker.limits import Gate, RateLimit
from strongroom.broker.owner_gate import OwnerGate
from strongroom.broker.provisioning import ProvisioningDesk
from strongroom.broker.release import Limits, ReleaseDesk
from strongroom.broker.sessions import Attestations, MemoryAttestations, MemorySessions, Sessions
from strongroom.broker.settings import BrokerSettings, load_settings
from strongroom.broker.setup import TOKEN_KEY
from strongroom.broker.shared_sessions import SharedAttestations, SharedSessions
from strongroom.broker.store import Place, Store
from strongroom.broker.tables import settings
from strongroom.broker.tokens import TokenSigner
from strongroom.broker.verifier import Verifier
from strongroom.errors import ConfigurationError
from strongroom.keys.root import FileRootKey

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Aware wall-clock time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything the routes use."""

    settings: BrokerSettings
    store: Store
    log: StoredAuditLog
    keyring: Keyring
    grants: Grants
    owner: OwnerGate
    rate: RateLimit
    sessions: Sessions
    attestations: Attestations
    signer: TokenSigner
    desk: ReleaseDesk
    provisioning: ProvisioningDesk
    audit: AuditLog
    denials: BoundedDenials
    clock: Clock

    def close(self) -> None:
        """Write down what was only counted and close the database.

        Raises:
            UnavailableError: The log can't be written.
        """
        try:
            self.denials.flush(self.clock())
        finally:
            self.store.close()


def open_parts(
    files: BrokerFolder,
    values: BrokerSettings,
    verifier: Verifier,
    *,
    clock: Clock = utc_now,
    monotonic_s: Callable[[], float] = time.monotonic,
    audit: Callable[[AuditLog], AuditLog] = lambda log: log,
) -> Parts:
    """Open a broker's folder.

    Args:
        files: The folder.
        values: Its settings.
        verifier: Tells genuine quotes from others.
        clock: Aware wall-clock time.
        monotonic_s: Clock that never goes back.
        audit: Puts something around the audit log; tests make it fail.

    Returns:
        The parts.

    Raises:
        ConfigurationError: A file is absent or is not what it should be.
        VerificationError: The root key is not the one the database was made with.
        UnavailableError: The database's server does not answer.
    """
    store = _open_store(files, values)
    try:
        signer = TokenSigner(_token_key(store), values.broker_id)
        owner = OwnerGate(files.admin_public_key, values.broker_id, store)
    except BaseException:
        store.close()
        raise
    log = StoredAuditLog(store)
    denials = BoundedDenials(log, monotonic_s)
    audit_log = audit(denials)
    keyring, grants = Keyring(store, audit_log), Grants(store, audit_log)
    sessions, attestations = _remembering(store, values, clock, monotonic_s)
    gate = Gate(values.max_verifications)
    provisioning = ProvisioningDesk(
        verifier=verifier, gate=gate, grants=grants, keyring=keyring, audit=audit_log, clock=clock
    )
    desk = ReleaseDesk(
        verifier=verifier,
        gate=gate,
        grants=grants,
        keyring=keyring,
        audit=audit_log,
        signer=signer,
        attestations=attestations,
        limits=Limits(values.token_ttl_s, values.max_quote_bytes),
        clock=clock,
    )
    return Parts(
        settings=values,
        store=store,
        log=log,
        keyring=keyring,
        grants=grants,
        owner=owner,
        rate=RateLimit(values.requests_per_s, values.request_burst, monotonic_s),
        sessions=sessions,
        attestations=attestations,
        signer=signer,
        desk=desk,
        provisioning=provisioning,
        audit=audit_log,
        denials=denials,
        clock=clock,
    )


@contextmanager
def stored_log(folder: Path) -> Iterator[StoredAuditLog]:
    """The audit log of a broker's folder, whether or not the broker runs.

    Args:
        folder: The broker's folder.

    Yields:
        The log, for reading.

    Raises:
        ConfigurationError: A file is absent or is not what it should be.
        UnavailableError: The database's server does not answer.
    """
    files = BrokerFolder(folder)
    store = _open_store(files, load_settings(files.settings))
    try:
        yield StoredAuditLog(store)
    finally:
        store.close()


def _open_store(files: BrokerFolder, values: BrokerSettings) -> Store:
    place: Place = parse_database_url(values.database_url) if values.database_url else files.database
    root_key = FileRootKey.load(files.root_key)
    return Store.open(place, root_key, values.broker_id, connections=values.database_connections)


def _remembering(
    store: Store, values: BrokerSettings, clock: Clock, monotonic_s: Callable[[], float]
) -> tuple[Sessions, Attestations]:
    """In memory, unless there may be other replicas that must know the same."""
    if not store.shared:
        sessions = MemorySessions(values.nonce_ttl_s, values.max_sessions, monotonic_s)
        return sessions, MemoryAttestations(values.max_tokens)
    shared = SharedSessions(store, values.nonce_ttl_s, values.max_sessions, lambda: clock().timestamp())
    return shared, SharedAttestations(store, values.max_tokens)


def _token_key(store: Store) -> ECKey:
    with store.reading() as connection:
        wrapped = connection.execute(sa.select(settings.c.wrapped).where(settings.c.name == TOKEN_KEY)).scalar()
    if wrapped is None:
        raise ConfigurationError("the database holds no token signing key", code="broker.database")
    return ECKey.import_key(store.open_row("settings", {"name": TOKEN_KEY}, wrapped))
