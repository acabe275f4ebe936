"""The room: keys in memory, sealed files opened and created with them, wiped at the end."""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO, Final, Self

from strongroom.errors import ConfigurationError
from strongroom.formats.kbs import ResourcePath
from strongroom.platforms import Platform
from strongroom.room.client import BrokerAddress, BrokerClient
from strongroom.room.file_errors import make_folders
from strongroom.room.files import create_sealed, open_sealed
from strongroom.room.lock import exclusive_lock
from strongroom.workload.definition import Mount, Workload

WRITABLE: Final = "read-write"
LOCK_FILE: Final = ".lock"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who entered: what reports and logs say about this room.

    Args:
        workload: Name of the workload.
        platform: "simulated", "gramine", ...
        simulated: Whether no hardware stands behind it.
    """

    workload: str
    platform: str
    simulated: bool


class Room:
    """What a workload has after it proved itself. Use it as a context manager.

    Paths are relative to the storage folder, exactly as the workload's mounts name them; a sealed file is bound to
    that path. Nothing outside the mounts can be reached.

    Args:
        workload: Says which mount has which key.
        identity: Who entered.
        keys: Alias of each key and its bytes.
        storage: Folder the paths are relative to.
        platform: Makes evidence.
    """

    def __init__(
        self, workload: Workload, identity: Identity, keys: dict[str, bytes], storage: Path, platform: Platform
    ) -> None:
        self.identity = identity
        self._platform = platform
        self._workload = workload
        self._storage = storage
        self._keys = {alias: bytearray(key) for alias, key in keys.items()}

    def key(self, alias: str) -> bytes:
        """The bytes of one key, by its alias in the workload.

        Raises:
            ConfigurationError: The workload has no such key, or the room is closed.
        """
        if alias not in self._keys:
            raise ConfigurationError(f"no key {alias!r} in this room", code="room.key")
        return bytes(self._keys[alias])

    def quote(self, report_data: bytes) -> bytes:
        """A fresh quote about the running code, for somebody else than the broker.

        Args:
            report_data: Exactly 64 bytes that it shall carry: a hash of what the code states, under a name of its own.

        Raises:
            ConfigurationError: `report_data` has another length.
            UnavailableError: The platform doesn't answer.
        """
        return self._platform.quote(report_data)

    def open(self, path: str) -> BinaryIO:
        """Open a sealed file for reading: seekable, decrypted node by node, authenticated before it is returned.

        Args:
            path: Relative path below a mount.

        Raises:
            ConfigurationError: No mount holds the path.
            FormatError: Not a sealed file.
            SealedDataError: WrongKey, WrongPath, Truncated or Tampered.
        """
        mounted = _relative(path)
        return open_sealed(self._storage / mounted, self.key(self._workload.key_for(mounted)), sealed_path=mounted)

    def create(self, path: str, *, overwrite: bool = True, durable: bool = True) -> BinaryIO:
        """Create a sealed file; it appears under its name, whole, when it is closed without an error.

        Args:
            path: Relative path below a mount of mode ``read-write``.
            overwrite: Replace an existing file (whole, at the end) instead of refusing.
            durable: Wait until the file is on the disk.

        Raises:
            ConfigurationError: No writable mount holds the path, or a link leads out of the storage folder
                (``room.link``).
            UnavailableError: The disk is full or fails.
            WouldOverwrite: The file exists.
        """
        mounted = _relative(path)
        mount, target = self._writable(mounted)
        key = self.key(mount.key)
        return create_sealed(target, key, sealed_path=mounted, overwrite=overwrite, durable=durable)

    def lock(self, folder: str) -> AbstractContextManager[None]:
        """Keep other rooms that ask for the same lock waiting, so that none writes over what another just wrote.

        Args:
            folder: Relative path of a folder below a mount of mode ``read-write``; an empty file ``.lock`` stays in it.

        Returns:
            A context manager; see `strongroom.room.lock.exclusive_lock`.

        Raises:
            ConfigurationError: As `create`.
        """
        _, target = self._writable(_relative(f"{folder}/{LOCK_FILE}"))
        return exclusive_lock(target)

    def _writable(self, mounted: str) -> tuple[Mount, Path]:
        mount = self._workload.mount_for(mounted)
        if mount.mode != WRITABLE:
            raise ConfigurationError(
                f"the mount {mount.path!r} is read-only in this workload",
                code="room.read_only",
                hint='give it mode = "read-write" in the workload file and authorize it again',
            )
        target = self._storage / mounted
        _refuse_link_out(target.parent, self._storage)
        make_folders(target.parent)
        return mount, target

    def exists(self, path: str) -> bool:
        """Whether the storage has something under this path (the host can lie; opening it decides)."""
        return (self._storage / _relative(path)).is_file()

    def close(self) -> None:
        """Overwrite the keys held here. Copies inside libraries and file objects can't be reached from Python."""
        for key in self._keys.values():
            key[:] = bytes(len(key))
        self._keys.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Room({self.identity})"


def enter_room(platform: Platform, broker: BrokerAddress, workload: Workload, storage: Path) -> Room:
    """Attest and receive every key the workload names.

    Args:
        platform: Makes the quote.
        broker: Where the keys are.
        workload: The definition whose measurement was authorized.
        storage: Folder of the sealed files.

    Returns:
        The room; close it when the work is done.

    Raises:
        PolicyRejected: This code, platform or key is not in any grant.
        KeyReleaseError: The broker refused and did not say more.
        UnavailableError: The broker or the platform does not answer.
        VerificationError: An envelope was not made for this session.
        FormatError: The broker's answer does not follow the protocol.
    """
    with BrokerClient(broker) as client:
        session = client.attest(platform, workload=workload.name)
        keys = {alias: session.fetch(ResourcePath.parse(path)) for alias, path in workload.keys.items()}
    return Room(workload, Identity(workload.name, platform.name, platform.simulated), keys, storage, platform)


def _refuse_link_out(folder: Path, storage: Path) -> None:
    """Where the host serves the storage, a link it puts there would be followed here, and files of ours replaced.

    A host that exchanges a folder for a link between this look and the writing is not stopped by it.

    Raises:
        ConfigurationError: A link leads out (``room.link``).
    """
    inside, outside = (os.path.realpath(path) for path in (storage, folder))  # Path.resolve fails on a loop of links
    if not Path(outside).is_relative_to(inside):
        raise ConfigurationError(
            f"a link leads out of the storage folder: {folder}", code="room.link", hint="mount it there instead"
        )


def _relative(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or ".." in parts or "\0" in path:
        raise ConfigurationError(
            f"not a path below the storage folder: {path!r}", code="room.path", hint="relative, without '..'"
        )
    return str(PurePosixPath(*parts))
