"""Makes a new broker: its folder, keys, certificates and empty database."""

import ipaddress
import json
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from joserfc.jwk import ECKey
from sqlalchemy.exc import SQLAlchemyError

from strongroom.attestation.roots import TrustRoot
from strongroom.broker.audit import Entry, StoredAuditLog
from strongroom.broker.certificates import Issued, issue_server, make_authority
from strongroom.broker.collateral import collateral_name, install_collateral
from strongroom.broker.database_url import parse_database_url
from strongroom.broker.folder import PUBLIC_FILE_MODE, BrokerFolder, make_private_folder, write_new
from strongroom.broker.owner import OwnerKey
from strongroom.broker.store import Place, Store
from strongroom.broker.tables import settings
from strongroom.errors import ConfigurationError, UnavailableError, WouldOverwrite
from strongroom.keys.root import FileRootKey, RootKey

LOOPBACK: Final = "127.0.0.1"
LOOPBACK_HOSTS: Final = ("localhost", LOOPBACK, "::1")
DEFAULT_PORT: Final = 8443
TOKEN_KEY: Final = "token-signing-key"  # noqa: S105 -- name of a row, not a secret


@dataclass(frozen=True, slots=True)
class SimulatedTrust:
    """What a broker needs to trust a simulated platform.

    Args:
        root_der: Its root certificate.
        collateral: Its collateral, JSON text.
    """

    root_der: bytes
    collateral: bytes


def create_broker(
    folder: Path,
    *,
    now: datetime,
    hosts: Sequence[str] = (),
    listen: str = LOOPBACK,
    port: int = DEFAULT_PORT,
    simulated: SimulatedTrust | None = None,
    database_url: str | None = None,
) -> BrokerFolder:
    """Make a broker in a new folder.

    Args:
        folder: Where; absent, or an empty folder.
        now: Aware time.
        hosts: Names and addresses clients will use, beside localhost; the first one goes into the clients' settings.
        listen: IP address it will listen on.
        port: TCP port it will listen on.
        simulated: Trust this simulated platform. Never where data matters.
        database_url: Empty PostgreSQL database, for several replicas; None: SQLite in the folder.

    Returns:
        The folder.

    Raises:
        WouldOverwrite: There is something in the folder, or a broker's tables in the database.
        ConfigurationError: A host or address is not one, the simulated platform's root is not a root, or the database's
            URL is not as it must be.
        FormatError: The simulated platform's collateral is not collateral.
        UnavailableError: The disk is full or fails, or the database's server does not answer; nothing is left in the
            folder.
    """
    files = BrokerFolder(folder)
    place: Place = parse_database_url(database_url) if database_url else files.database
    if not _is_address(listen):
        raise ConfigurationError(f"not an IP address: {listen}", code="broker.host")
    if simulated is not None:
        TrustRoot("simulated", simulated.root_der)
        collateral_name(simulated.collateral)
    authority = make_authority("Strongroom broker CA", now)
    server = issue_server(authority, (*hosts, *LOOPBACK_HOSTS), now)
    url = _url(hosts[0] if hosts else "localhost", port)
    with _whole_or_nothing(files):
        broker_id = secrets.token_hex(16)
        _write_identity(files, authority, server)
        values: dict[str, str | int] = {"broker_id": broker_id, "host": listen, "port": port}
        _write_settings(files, values | ({"database_url": database_url} if database_url else {}), simulated)
        _write_clients(files, broker_id, url, authority.certificate)
        _make_database(place, FileRootKey.load(files.root_key), broker_id, now)
    return files


@contextmanager
def _whole_or_nothing(files: BrokerFolder) -> Iterator[None]:
    """A folder for the block to fill; empty again if the block fails, so that it can be tried again.

    Raises:
        UnavailableError: The disk is full or fails.
    """
    _make_folders(files)
    try:
        yield
    except BaseException as error:
        for path in files.root.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()
        if isinstance(error, OSError | SQLAlchemyError):
            reason = error.strerror if isinstance(error, OSError) else "the database can't be made"
            raise UnavailableError(f"cannot write {files.root}: {reason}", code="broker.folder") from None
        raise


def _make_folders(files: BrokerFolder) -> None:
    try:
        files.root.parent.mkdir(parents=True, exist_ok=True)
        if files.root.is_dir() and not any(files.root.iterdir()):
            files.root.chmod(0o700)
        else:
            make_private_folder(files.root)
        for folder in (files.owner, files.room, files.simulated_root.parent, files.collateral):
            make_private_folder(folder)
    except (FileExistsError, NotADirectoryError):
        raise WouldOverwrite(f"there is already something at {files.root}", hint="choose a new folder") from None
    except OSError as error:
        raise ConfigurationError(f"cannot make {files.root}: {error.strerror}", code="broker.folder") from None


def _write_identity(files: BrokerFolder, authority: Issued, server: Issued) -> None:
    FileRootKey.create(files.root_key)
    write_new(files.ca_certificate, authority.certificate, PUBLIC_FILE_MODE)
    write_new(files.ca_key, authority.private_key)
    write_new(files.server_certificate, server.certificate, PUBLIC_FILE_MODE)
    write_new(files.server_key, server.private_key)
    owner_key = OwnerKey.generate()
    write_new(files.admin_public_key, owner_key.public_pem(), PUBLIC_FILE_MODE)
    write_new(files.owner / "admin.key", owner_key.private_pem())


def _write_settings(files: BrokerFolder, values: dict[str, str | int], simulated: SimulatedTrust | None) -> None:
    # A JSON string or integer is the same in TOML.
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    if simulated is not None:
        lines += [
            "# A SIMULATED platform is believed here: it protects nothing. For trials only.",
            "allow_simulated = true",
        ]
        write_new(files.simulated_root, simulated.root_der, PUBLIC_FILE_MODE)
        install_collateral(files.collateral, "simulated", simulated.collateral)
    write_new(files.settings, ("\n".join(lines) + "\n").encode())


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _write_clients(files: BrokerFolder, broker_id: str, url: str, ca_certificate: bytes) -> None:
    for folder in (files.owner, files.room):
        write_new(folder / "ca.pem", ca_certificate, PUBLIC_FILE_MODE)
    write_new(files.owner / "owner.toml", f'url = "{url}"\nbroker_id = "{broker_id}"\n'.encode())
    write_new(files.room / "room.toml", f'url = "{url}"\n'.encode(), PUBLIC_FILE_MODE)


def _url(host: str, port: int) -> str:
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _make_database(place: Place, root_key: RootKey, broker_id: str, now: datetime) -> None:
    key = ECKey.generate_key("P-256", auto_kid=False).as_pem(private=True)

    def fill(store: Store, connection: sa.Connection) -> None:
        wrapped = store.seal_row("settings", {"name": TOKEN_KEY}, key)
        connection.execute(settings.insert().values(name=TOKEN_KEY, wrapped=wrapped))
        StoredAuditLog(store).append_within(connection, Entry("broker.init", "allow"), now)

    Store.create(place, root_key, broker_id, fill).close()
