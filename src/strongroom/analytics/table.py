"""Opening an encrypted table: every check comes before the first row."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from strongroom.analytics.datakeys import DataKeys
from strongroom.analytics.footers import find_footer
from strongroom.analytics.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, Part, open_manifest
from strongroom.analytics.parquet.columns import Footer
from strongroom.analytics.parquet.decrypted import DecryptedFile
from strongroom.analytics.parquet.footer import Tail, read_tail
from strongroom.analytics.parquet.reader import PlainReader
from strongroom.analytics.versions import Versions, check_version
from strongroom.errors import (
    ConfigurationError,
    FormatError,
    KeyReleaseError,
    StrongroomError,
    VerificationError,
)
from strongroom.room.file_errors import file_errors


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader believes and remembers.

    Args:
        data_keys: Unwraps data keys.
        trusted: Public keys of the writers whose manifests are believed.
        versions: Remembers the newest version of each table.
    """

    data_keys: DataKeys
    trusted: frozenset[bytes]
    versions: Versions


@dataclass(frozen=True, slots=True)
class OpenPart:
    """One file whose tail is the one that the manifest names.

    Args:
        path: Where it is.
        part: What the manifest says.
        tail: Its tail.
        footer: Its decrypted footer.
    """

    path: Path
    part: Part
    tail: Tail
    footer: Footer

    def open(self) -> PlainReader:
        """Its plaintext form, decrypted as it is read.

        Raises:
            ConfigurationError: The file is gone or can't be read.
        """
        with file_errors(self.path):
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

        def read_into(offset: int, buffer: memoryview) -> int:
            with file_errors(self.path):
                return os.preadv(descriptor, [buffer], offset)

        view = DecryptedFile(read_into, self.tail.file_aad, self.footer.chunks, self.footer.plain, self.tail.start)
        return PlainReader(view, lambda: os.close(descriptor), name=str(self.path))


@dataclass(frozen=True, slots=True)
class Table:
    """A checked table.

    Args:
        folder: Where it is.
        manifest: What it consists of.
        parts: Its files, every tail checked.
        refused: Why a top-level column can't be read, by its name.
    """

    folder: Path
    manifest: Manifest
    parts: tuple[OpenPart, ...]
    refused: dict[str, KeyReleaseError]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that can be read."""
        return tuple(column.name for column in self.manifest.columns if column.name not in self.refused)


def read_manifest(folder: Path, name: str, reading: Reading) -> Manifest:
    """Read and check the manifest of a table; its files are not looked at.

    Args:
        folder: The table's folder.
        name: Name that the table must have.
        reading: Keys, trust, memory.

    Raises:
        VerificationError: No manifest, another table's, an older one, or a signer who is not trusted.
        FormatError: Not a manifest.
        KeyReleaseError: There is no right to the table's key.
        WrongKey: Another key, or altered.
        ConfigurationError: The folder can't be read.
        UnavailableError: The disk or the key service doesn't answer.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"no table at {folder}: not a folder", code="table.absent")
    path = folder / MANIFEST_NAME
    if not path.is_file() or path.is_symlink():
        raise VerificationError(f"the folder {folder} has no table manifest", code="table.no_manifest")
    with file_errors(path), path.open("rb") as file:
        raw = file.read(MAX_MANIFEST_BYTES + 1)
    manifest = open_manifest(raw, reading.data_keys.kms, reading.trusted)
    if manifest.table != name:
        raise VerificationError(
            f"the folder {folder} holds the table {manifest.table!r}, not {name!r}",
            code="table.other",
            hint=f"if that is what you want, call it so: {manifest.table}={folder}",
        )
    check_version(manifest, reading.versions)
    return manifest


def open_table(folder: Path, name: str, reading: Reading) -> Table:
    """Check a table and open its footers.

    Args:
        folder: The table's folder.
        name: Name that the table must have.
        reading: Keys, trust, memory.

    Raises:
        VerificationError: A file was added, removed, swapped or altered, or the manifest is not the right one.
        FormatError: A file or the manifest doesn't follow its format, or the files' schemas differ.
        SealedDataError: A key doesn't fit, or something was altered.
        KeyReleaseError: There is no right to the table's key.
        ConfigurationError: The folder can't be read.
        UnavailableError: The disk or the key service doesn't answer.
    """
    manifest = read_manifest(folder, name, reading)
    _refuse_strangers(folder, manifest)
    parts = tuple(_open_part(folder / part.name, part, reading.data_keys) for part in manifest.parts)
    _refuse_drift(manifest, parts)
    refused = {path.split(".")[0]: why for part in parts for path, why in part.footer.refused.items()}
    return Table(folder, manifest, parts, refused)


def _refuse_strangers(folder: Path, manifest: Manifest) -> None:
    """Engines take every file of a folder for data, so none may be there that the manifest doesn't name.

    Raises:
        VerificationError: A file is gone, or one is there that the manifest doesn't name.
    """
    with file_errors(folder):
        present = {entry.name for entry in os.scandir(folder) if entry.name[0] not in "._"}
    named = {part.name for part in manifest.parts}
    if absent := named - present:
        raise VerificationError(
            f"table {manifest.table}: {len(absent)} of {len(named)} files are gone, first {min(absent)}",
            code="table.part_missing",
        )
    if strangers := present - named:
        raise VerificationError(
            f"table {manifest.table}: the folder holds {min(strangers)[:100]!r}, which its writer did not put there",
            code="table.part_added",
        )


def _open_part(path: Path, part: Part, data_keys: DataKeys) -> OpenPart:
    try:
        tail = _checked_tail(path, part)
        return OpenPart(path, part, tail, find_footer(path, tail, part.prepared, data_keys))
    except StrongroomError as error:
        _name_file(error, path)
        raise


def _name_file(error: StrongroomError, path: Path) -> None:
    """Say which file it was: the checks below know bytes only."""
    if path.name not in error.message:
        error.message = f"{path.name}: {error.message}"
        error.args = (error.message,)


def _checked_tail(path: Path, part: Part) -> Tail:
    with file_errors(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            tail = read_tail(lambda offset, count: os.pread(descriptor, count, offset), size)
        finally:
            os.close(descriptor)
    if size != part.size or tail.digest != part.tail:
        raise VerificationError(f"{path.name} is not the file that the manifest names", code="table.part_swapped")
    return tail


def _refuse_drift(manifest: Manifest, parts: tuple[OpenPart, ...]) -> None:
    for part in parts:
        if part.footer.schema != parts[0].footer.schema:
            raise FormatError(
                f"table {manifest.table}: the columns of {part.path.name} differ from those of {parts[0].path.name}",
                code="table.schema_drift",
                hint="import the data again with one schema",
            )
        if part.footer.rows != part.part.rows:
            raise VerificationError(f"{part.path.name} does not have the rows of the manifest", code="table.rows")


def readers(table: Table) -> Iterator[PlainReader]:
    """The table's files in plaintext form, one after the other; each is closed when the next is asked for."""
    for part in table.parts:
        with part.open() as reader:
            yield reader
