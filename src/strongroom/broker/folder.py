"""The broker's folder: which file is where, and how private ones are written."""

import os
from dataclasses import dataclass
from pathlib import Path

from strongroom.errors import WouldOverwrite

PRIVATE_FILE_MODE = 0o600
PRIVATE_FOLDER_MODE = 0o700
PUBLIC_FILE_MODE = 0o644


@dataclass(frozen=True, slots=True)
class BrokerFolder:
    """Names of the files of one broker."""

    root: Path

    @property
    def settings(self) -> Path:
        """Settings, TOML."""
        return self.root / "broker.toml"

    @property
    def root_key(self) -> Path:
        """Root key, 32 raw bytes; everything in the database is wrapped under it."""
        return self.root / "root.key"

    @property
    def database(self) -> Path:
        """Keys, grants and audit log, SQLite."""
        return self.root / "broker.db"

    @property
    def ca_certificate(self) -> Path:
        """Certificate of the broker's own certificate authority, PEM."""
        return self.root / "ca.pem"

    @property
    def ca_key(self) -> Path:
        """Private key of that authority, PEM; needed only to renew the server's certificate."""
        return self.root / "ca.key"

    @property
    def server_certificate(self) -> Path:
        """Certificate of the server, PEM."""
        return self.root / "server.pem"

    @property
    def server_key(self) -> Path:
        """Private key of the server, PEM."""
        return self.root / "server.key"

    @property
    def admin_public_key(self) -> Path:
        """Public key of the owner, PEM."""
        return self.root / "admin.pub"

    @property
    def simulated_root(self) -> Path:
        """Root certificate of the simulated platform, DER; used only if `allow_simulated` is set."""
        return self.root / "roots" / "simulated.der"

    @property
    def collateral(self) -> Path:
        """Folder of collateral: `<intel|simulated>/<sgx|tdx>-<fmspc>.json`."""
        return self.root / "collateral"

    @property
    def owner(self) -> Path:
        """What the owner takes to a trusted machine."""
        return self.root / "owner"

    @property
    def room(self) -> Path:
        """What a workload needs to find the broker; no secret is in it."""
        return self.root / "room"


def make_private_folder(path: Path) -> None:
    """Make a folder only its owner may enter."""
    path.mkdir(mode=PRIVATE_FOLDER_MODE)


def write_new(path: Path, content: bytes, mode: int = PRIVATE_FILE_MODE) -> None:
    """Write a new file and its folder entry durably.

    Args:
        path: Where; nothing may be there.
        content: What.
        mode: File mode, 0600 unless the content is public.

    Raises:
        WouldOverwrite: Something is there already.
        OSError: It can't be written; nothing is left.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    except FileExistsError:
        raise WouldOverwrite(f"there is already a file: {path}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except BaseException:
        path.unlink(missing_ok=True)  # a full disk must not leave half a key that stands in the way of a whole one
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
