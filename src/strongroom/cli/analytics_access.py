"""Where the analytics commands get keys, a signer and a memory from, on an owner's machine and inside the room."""

import base64
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from strongroom.errors import ConfigurationError, KeyReleaseError

if TYPE_CHECKING:
    from strongroom.analytics.kms import Kms
    from strongroom.analytics.receipts import Worker
    from strongroom.analytics.signing import Signer
    from strongroom.analytics.table import Reading
    from strongroom.analytics.versions import Versions
    from strongroom.analytics.writing import Writing

MAX_KEY_BYTES: Final = 32
MAX_DATA_KEY_CHARACTERS: Final = 128
SIGNER_ALIAS: Final = "signer"

Keys = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        metavar="DIR",
        envvar="STRONGROOM_KEYS",
        help="Folder of master keys: the key taxi/key/trips is the file DIR/taxi/key/trips of 16 or 32 raw bytes.",
        show_default=False,
    ),
]
State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        envvar="STRONGROOM_ANALYTICS_STATE",
        help="Folder on this machine that remembers table versions and holds your signing key.",
        show_default=False,
    ),
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust", metavar="HEX", help="Public key of another writer whose tables you believe.", show_default=False
    ),
]


@dataclass(frozen=True, slots=True)
class Access:
    """What a command may use.

    Args:
        kms: The key service.
        signer: Signs what this command writes.
        trusted: Writers whose manifests are believed.
        versions: Remembers the newest version of each table.
        worker: What a receipt says about this process.
        secret: Gets the bytes of a key by its name, for what no key service can do.
    """

    kms: "Kms"
    signer: "Signer"
    trusted: frozenset[bytes]
    versions: "Versions"
    worker: "Worker"
    secret: Callable[[str], bytes]

    def reading(self) -> "Reading":
        """For `open_table`."""
        from strongroom.analytics.datakeys import DataKeys
        from strongroom.analytics.table import Reading

        return Reading(DataKeys(self.kms), self.trusted, self.versions)

    def writing(self) -> "Writing":
        """For `TableWriter`."""
        from strongroom.analytics.writing import Writing

        return Writing(self.kms, self.signer, self.versions)


def find_access(keys: Path | None, owner: Path | None, state: Path | None, trust: list[str] | None) -> Access:
    """Put together what the options and the environment say.

    Args:
        keys: Folder of key files.
        owner: The owner's folder of a broker, whose keys are fetched one by one when they are needed.
        state: Folder for the signer and the memory; else one in the user's home.
        trust: Public keys in hexadecimal.

    Raises:
        ConfigurationError: No or several sources of keys, or one is malformed.
        StrongroomError: The room can't be entered.
    """
    from strongroom.analytics.kms import LocalKms
    from strongroom.analytics.receipts import Worker
    from strongroom.analytics.versions import VersionsFile

    trusted = {public_key(text) for text in trust or []}
    if keys is None and owner is None and "STRONGROOM_WORKLOAD" in os.environ:
        return _room(trusted)
    fetch = _fetcher(keys, owner)
    folder = state or _default_state()
    signer = _own_signer(folder / "signer")
    everybody = frozenset({signer.public, *trusted})
    versions = VersionsFile(folder / "versions.json")
    return Access(LocalKms(fetch), signer, everybody, versions, Worker("query", "none"), fetch)


def _fetcher(keys: Path | None, owner: Path | None) -> Callable[[str], bytes]:
    if (keys is None) == (owner is None):
        raise ConfigurationError(
            "where are the keys? name one place",
            code="analytics.keys",
            hint="--keys DIR for key files, or --owner DIR for a broker's owner",
        )
    return _key_files(keys) if keys is not None else _owner_keys(owner)


def _key_files(folder: Path) -> Callable[[str], bytes]:
    def fetch(name: str) -> bytes:
        try:
            return _read_secret(folder / name)
        except FileNotFoundError:
            raise KeyReleaseError(
                f"no key {name} in {folder}", code="analytics.key_refused", hint=f"its file would be {folder / name}"
            ) from None

    return fetch


def _owner_keys(folder: Path | None) -> Callable[[str], bytes]:
    from strongroom.cli.owner import owner_client
    from strongroom.formats.kbs import ResourcePath

    def fetch(name: str) -> bytes:
        with owner_client(folder) as client:
            try:
                return client.export_key(ResourcePath.parse(name))
            except ConfigurationError as error:
                raise KeyReleaseError(f"the broker has no key {name}", code="analytics.key_refused") from error

    return fetch


def _room(trusted: set[bytes]) -> Access:
    """The room's keys by the broker's names; a key with the alias "signer" makes the signer, else a fresh one does.

    Nothing that outlives the room can be kept here: the receipt names the versions that were read.
    """
    from strongroom.analytics.kms import LocalKms
    from strongroom.analytics.receipts import Worker, signer_statement
    from strongroom.analytics.signing import Signer
    from strongroom.analytics.versions import VersionsInMemory
    from strongroom.composition import enter, find_platform, room_settings
    from strongroom.workload import load_workload

    settings = room_settings()
    workload = load_workload(settings.workload)
    with enter() as room:
        masters = {path: room.key(alias) for alias, path in workload.keys.items() if alias != SIGNER_ALIAS}
        signer = Signer.from_seed(room.key(SIGNER_ALIAS)) if SIGNER_ALIAS in workload.keys else Signer.generate()
        platform = room.identity.platform
    quote = find_platform(settings, workload).quote(signer_statement(signer.public))
    worker = Worker("query", platform, workload.name, base64.b64encode(quote).decode())
    everybody = frozenset({signer.public, *trusted})

    def secret(name: str) -> bytes:
        if name not in masters:
            raise KeyReleaseError(f"the room has no key {name}", code="analytics.key_refused")
        return masters[name]

    return Access(LocalKms(secret), signer, everybody, VersionsInMemory(), worker, secret)


def _default_state() -> Path:
    import platformdirs

    return platformdirs.user_state_path("strongroom") / "analytics"


def _own_signer(path: Path) -> "Signer":
    from strongroom.analytics.signing import MIN_SEED_SIZE, Signer
    from strongroom.broker.folder import write_new

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_new(path, os.urandom(MIN_SEED_SIZE))
    return Signer.from_seed(_read_secret(path))


def data_key(path: Path) -> str:
    """A data key that is a text, as BigDL PPML's key management gives it.

    Args:
        path: Its file, which nobody else may read.

    Raises:
        ConfigurationError: There is none, others may read it, or it is no short line of ASCII.
    """
    try:
        text = _read_secret(path, MAX_DATA_KEY_CHARACTERS).decode("ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        text = ""
    if not text or len(text) > MAX_DATA_KEY_CHARACTERS or any(mark.isspace() for mark in text):
        raise ConfigurationError(f"{path} holds no data key: one line of text", code="bigdl.key_file")
    return text


def _read_secret(path: Path, max_bytes: int = MAX_KEY_BYTES) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigurationError(f"can't read {path}: {error.strerror}", code="key.unreadable") from None
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(descriptor).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigurationError(f"others may read {path}", code="key.mode", hint=f"chmod 600 {path}")
        return file.read(max_bytes + 1)


def save_receipt(target: Path, content: bytes, *, overwrite: bool) -> None:
    """Write a receipt and say so.

    Raises:
        WouldOverwrite: There is a file, and `overwrite` is not given.
        StrongroomError: It can't be written.
    """
    from strongroom.cli.owner import say
    from strongroom.room.new_file import NewFile

    with NewFile(target, overwrite=overwrite) as file:
        file.write_at(content, 0)
    say(f"wrote {target}")


def public_key(text: str) -> bytes:
    """A writer's public key as `--trust` takes it.

    Raises:
        ConfigurationError: Not 64 hexadecimal digits.
    """
    from strongroom.analytics.signing import PUBLIC_KEY_SIZE

    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != PUBLIC_KEY_SIZE:
        raise ConfigurationError("--trust takes 64 hexadecimal digits", code="analytics.trust")
    return key
