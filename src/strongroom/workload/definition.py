"""The workload definition: one strict TOML file (docs/reference/workload.md)."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, cast

from strongroom.errors import ConfigurationError, FormatError
from strongroom.formats.kbs import ResourcePath
from strongroom.formats.toml import parse_toml
from strongroom.workload.fields import Table, no_duplicates, refuse_field
from strongroom.workload.paths import check_relative, is_within

MAX_DEFINITION_BYTES: Final = 256 * 1024
MAX_COMMAND_PARTS: Final = 256
MAX_ENTRIES: Final = 256
MAX_MOUNTS: Final = 64
MAX_KEYS: Final = 64
SETTINGS_PREFIX: Final = "STRONGROOM_"

NAME: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_ALIAS: Final = r"[a-z0-9][a-z0-9_-]{0,62}"
_VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]{0,127}"
_PACKAGE: Final = r"[A-Za-z_][A-Za-z0-9_]{0,127}"
_MEMORY: Final = r"[1-9][0-9]{0,6}(MiB|GiB)"
_MEMORY_SAYS: Final = 'a size such as "512MiB" or "4GiB"'
_MEBIBYTES: Final = {"MiB": 1, "GiB": 1024}

Mode = Literal["read", "read-write"]


@dataclass(frozen=True, slots=True)
class Mount:
    """Part of the storage that one key opens.

    Args:
        path: Relative POSIX path of a file or folder, as sealed files store it.
        key: Alias of the key.
        mode: Whether the workload may also create sealed files there.
    """

    path: str
    key: str
    mode: Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the workload needs to run.

    Args:
        memory_mib: Memory, MiB.
        cpus: Processor cores.
        epc_mib: Protected memory of SGX (enclave page cache), MiB.
        threads: Most threads at one time.
    """

    memory_mib: int = 1024
    cpus: int = 1
    epc_mib: int = 256
    threads: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A workload, as its definition file says it.

    Args:
        name: 1 to 63 characters out of ``a-z 0-9 -``, not at an end ``-`` (a DNS label).
        command: Program and arguments.
        product_id: SGX ISVPRODID, u16.
        security_version: SGX ISVSVN, u16.
        trusted_files: Paths, folders or globs of the code and data that are measured, sorted.
        packages: Installed Python packages whose code is measured, sorted.
        environment: The variables the command sees.
        mounts: Sorted by path; none inside another.
        keys: Alias to ``repository/type/tag`` at the broker.
        resources: What it needs to run.
        insecure_host_arguments: Whether whoever starts it may append arguments, which are not measured.
        broker_ca: The one of `trusted_files` that holds the CA certificate of its broker, so that whoever starts the
            workload can't give it another broker and other keys; None: the starter says which broker.
        file: Absolute path of the definition file; not part of what is measured.
    """

    name: str
    command: tuple[str, ...]
    product_id: int
    security_version: int
    trusted_files: tuple[str, ...]
    packages: tuple[str, ...]
    environment: Mapping[str, str]
    mounts: tuple[Mount, ...]
    keys: Mapping[str, str]
    resources: Resources
    insecure_host_arguments: bool
    broker_ca: str | None
    file: Path = field(compare=False)

    @property
    def folder(self) -> Path:
        """Absolute folder of the definition file, which its paths are relative to."""
        return self.file.parent

    def mount_for(self, path: str) -> Mount:
        """The mount that holds a path: the longest one that is the path or a folder above it.

        Args:
            path: Relative, normalised POSIX path.

        Raises:
            ConfigurationError: No mount holds it (``workload.no_mount``), or the path is not normalised
                (``workload.path``).
        """
        check_relative(path, "the path")
        holding = [mount for mount in self.mounts if is_within(path, mount.path)]
        if not holding:
            raise ConfigurationError(
                f"no mount of workload {self.name!r} holds {path!r}",
                code="workload.no_mount",
                hint="add a [[mounts]] entry for it to the workload file and authorize it again",
            )
        return max(holding, key=lambda mount: len(mount.path))

    def key_for(self, path: str) -> str:
        """Alias of the key that opens a path.

        Raises:
            ConfigurationError: No mount holds it (``workload.no_mount``), or the path is not normalised
                (``workload.path``).
        """
        return self.mount_for(path).key


def load_workload(path: Path) -> Workload:
    """Reads a workload definition.

    Args:
        path: The TOML file, at most 256 KiB.

    Returns:
        The workload. Its trusted files are not looked at; `measure` does that.

    Raises:
        ConfigurationError: The file can't be read (``workload.file``), is not TOML (``workload.syntax``), or a field is
            wrong (``workload.field``, ``workload.unknown_key``, ``workload.duplicate``, ``workload.path``,
            ``workload.mounts_overlap``).
    """
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - Path.resolve would follow links, Path.absolute keeps ".."
    return parse_workload(_read(absolute), folder=absolute.parent, name=path.name)


def parse_workload(text: bytes | str, *, folder: Path, name: str = "workload.toml") -> Workload:
    """Reads a workload definition from text.

    Args:
        text: TOML.
        folder: Absolute folder that its paths are relative to.
        name: Name of the file in it.

    Raises:
        ConfigurationError: As `load_workload`.
    """
    return _workload(Table(parse_toml(text, what=name, code="workload.syntax")), folder / name)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_DEFINITION_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"can't read {path}: {error.strerror}",
            code="workload.file",
            hint="`strongroom workload init NAME` writes a template",
        ) from None
    if len(raw) > MAX_DEFINITION_BYTES:
        raise ConfigurationError(f"{path} is longer than {MAX_DEFINITION_BYTES} bytes", code="workload.file")
    return raw


def _workload(document: Table, file: Path) -> Workload:
    keys = _keys(document.table("keys"))
    trusted = document.texts("trusted_files", most=MAX_ENTRIES, default=[])
    packages = document.texts("packages", most=MAX_ENTRIES, default=[])
    workload = Workload(
        name=document.text("name", pattern=NAME, says="1 to 63 of a-z, 0-9 and '-', not '-' first or last"),
        command=_command(document),
        product_id=document.number("product_id", 0, 0xFFFF),
        security_version=document.number("security_version", 0, 0xFFFF),
        trusted_files=no_duplicates([_trusted(item) for item in trusted], "trusted_files"),
        packages=no_duplicates(packages, "packages"),
        environment=_environment(document.table("environment")),
        mounts=_mounts(document.tables("mounts", most=MAX_MOUNTS), keys),
        keys=keys,
        resources=_resources(document.table("resources")),
        insecure_host_arguments=document.flag("insecure_host_arguments", default=False),
        broker_ca=_broker_ca(document, trusted),
        file=file,
    )
    document.finish()
    _check_packages(workload.packages)
    if not workload.trusted_files and not workload.packages:
        refuse_field("trusted_files", "and packages are both empty: no code would be measured")
    return workload


def _command(document: Table) -> tuple[str, ...]:
    command = document.texts("command", most=MAX_COMMAND_PARTS)
    if not command or not command[0]:
        refuse_field("command", "must start with a program", hint='for example ["python3", "train.py"]')
    return tuple(command)


def _broker_ca(document: Table, trusted: list[str]) -> str | None:
    path = document.text("broker_ca", default="")
    if path and path not in trusted:
        refuse_field("broker_ca", "must be one of trusted_files: what is not measured can be exchanged")
    return path or None


def _trusted(item: str) -> str:
    return check_relative(item.removesuffix("/"), "trusted_files")


def _check_packages(packages: tuple[str, ...]) -> None:
    for name in packages:
        Table({"packages": name}).text("packages", pattern=_PACKAGE, says="the name one imports, without dots")


def _environment(table: Table) -> Mapping[str, str]:
    names = table.names(most=MAX_ENTRIES, pattern=_VARIABLE, says="a variable's name")
    for name in names:
        if name.upper().startswith(SETTINGS_PREFIX):
            refuse_field(table.where(name), "is a setting of Strongroom; those are given when the workload starts")
    return MappingProxyType({name: table.text(name) for name in names})


def _keys(table: Table) -> Mapping[str, str]:
    names = table.names(most=MAX_KEYS, pattern=_ALIAS, says="1 to 63 of a-z, 0-9, '_' and '-'")
    return MappingProxyType({name: _resource(table.text(name), table.where(name)) for name in names})


def _resource(text: str, where: str) -> str:
    try:
        return str(ResourcePath.parse(text))
    except FormatError as error:
        refuse_field(where, "is not the name of a key at the broker", hint=error.hint)


def _mounts(tables: list[Table], keys: Mapping[str, str]) -> tuple[Mount, ...]:
    mounts = sorted((_mount(table, keys) for table in tables), key=lambda mount: mount.path.split("/"))
    for above, below in pairwise(mounts):
        if is_within(below.path, above.path):
            raise ConfigurationError(
                f"mounts overlap: {above.path!r} and {below.path!r}",
                code="workload.mounts_overlap",
                hint="Gramine can't mount encrypted files inside encrypted files; put them side by side",
            )
    return tuple(mounts)


def _mount(table: Table, keys: Mapping[str, str]) -> Mount:
    path = check_relative(table.text("path"), table.where("path"))
    key = table.text("key")
    mode = table.text("mode", pattern="read|read-write", says='"read" or "read-write"')
    table.finish()
    if key not in keys:
        refuse_field(table.where("key"), f"is {key[:60]!r}, which [keys] does not have")
    return Mount(path, key, cast("Mode", mode))


def _resources(table: Table) -> Resources:
    resources = Resources(
        memory_mib=_mebibytes(table.text("memory", pattern=_MEMORY, says=_MEMORY_SAYS, default="1GiB")),
        cpus=table.number("cpus", 1, 1024, default=1),
        epc_mib=_mebibytes(table.text("epc", pattern=_MEMORY, says=_MEMORY_SAYS, default="256MiB")),
        threads=table.number("threads", 1, 4096, default=16),
    )
    table.finish()
    return resources


def _mebibytes(text: str) -> int:
    return int(text[:-3]) * _MEBIBYTES[text[-3:]]
