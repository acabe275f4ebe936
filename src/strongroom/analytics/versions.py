"""What a reader remembers of a table, so that the storage can't show it an older version again.

The storage is hostile: it can put back yesterday's files and yesterday's manifest, which are genuine. Only a memory
outside the storage notices.
"""

import json
import os
from pathlib import Path
from typing import Final, Protocol

from strongroom.analytics.manifest import DIGEST_SIZE, Manifest
from strongroom.errors import ConfigurationError, VerificationError
from strongroom.formats.canonical import parse_json_object
from strongroom.formats.members import Members
from strongroom.room.new_file import NewFile

MAX_FILE_BYTES: Final = 4 * 1024 * 1024


class Versions(Protocol):
    """Remembers the newest version of each table that was seen."""

    def newest(self, table: str) -> tuple[int, bytes] | None:
        """Version and manifest digest of the newest that was seen, or None."""
        ...

    def remember(self, manifest: Manifest) -> None:
        """Note a version that was checked."""
        ...


def check_version(manifest: Manifest, versions: Versions) -> None:
    """Refuse a version older than the newest seen, or another table under the same version; else remember it.

    Raises:
        VerificationError: An older version, or a different one of the same number.
    """
    seen = versions.newest(manifest.table)
    if seen is not None:
        version, digest = seen
        if manifest.version < version:
            raise VerificationError(
                f"table {manifest.table}: version {manifest.version} is shown, version {version} was seen before",
                code="table.rollback",
                hint="the storage holds an old copy",
            )
        if manifest.version == version and manifest.digest != digest:
            raise VerificationError(
                f"table {manifest.table}: two different tables claim to be version {version}", code="table.fork"
            )
    versions.remember(manifest)


class VersionsInMemory:
    """Remembers as long as the process lives.

    Args:
        pinned: Table name to the lowest version that is accepted.
    """

    def __init__(self, pinned: dict[str, tuple[int, bytes]] | None = None) -> None:
        self._seen = dict(pinned or {})

    def newest(self, table: str) -> tuple[int, bytes] | None:
        """Version and manifest digest of the newest that was seen, or None."""
        return self._seen.get(table)

    def remember(self, manifest: Manifest) -> None:
        """Note a version."""
        self._seen[manifest.table] = (manifest.version, manifest.digest)


class VersionsFile:
    """Remembers in a JSON file, which must stand on a machine that is trusted, not beside the tables.

    Args:
        path: The file; made when the first version is remembered.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def newest(self, table: str) -> tuple[int, bytes] | None:
        """Version and manifest digest of the newest that was seen, or None.

        Raises:
            ConfigurationError: The file can't be read.
            FormatError: It is malformed.
        """
        entries = self._read()
        if table not in entries:
            return None
        members = Members(entries[table], what="remembered version", code="versions.malformed")
        return members.number("version"), members.octets("digest", DIGEST_SIZE)

    def remember(self, manifest: Manifest) -> None:
        """Note a version; written only when it is new.

        Raises:
            ConfigurationError: The file can't be read or written.
            FormatError: It is malformed.
            UnavailableError: The disk fails.
        """
        entry = {"version": manifest.version, "digest": manifest.digest.hex()}
        entries = self._read()
        if entries.get(manifest.table) == entry:
            return
        entries[manifest.table] = entry
        with NewFile(self._path, overwrite=True) as file:
            file.write_at(json.dumps(entries, indent=1, sort_keys=True).encode(), 0)

    def _read(self) -> dict[str, object]:
        try:
            with self._path.open("rb") as file:
                raw = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ConfigurationError(
                f"can't read {self._path}: {os.strerror(error.errno or 0)}", code="versions.unreadable"
            ) from None
        return parse_json_object(raw, max_bytes=MAX_FILE_BYTES)
