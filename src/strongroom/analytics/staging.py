"""Tables carried between a folder and an object store, through fsspec. What travels and what lies there is ciphertext.

Nothing is checked here: whoever opens the table checks every file of it against the manifest. The manifest is carried
last, so what was interrupted is no table.
"""

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from strongroom.analytics.manifest import MANIFEST_NAME
from strongroom.errors import ConfigurationError, MissingFile, StrongroomError, UnavailableError, WouldOverwrite
from strongroom.room.file_errors import file_errors

SCHEMES: Final = ("abfs", "abfss", "s3", "gs")
MAX_FILES: Final = 100_000
_PART: Final = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.parquet|_[A-Za-z0-9][A-Za-z0-9._-]{0,200}\.parquet\.footer"
)
_UNFINISHED: Final = ".unfinished"


def open_store(url: str) -> tuple[Any, str]:
    """The file system of an address and the folder in it.

    The store's own credential is found as its libraries find it (managed identity, workload identity, environment).

    Args:
        url: ``abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER``, ``s3://...`` or ``gs://...``.

    Raises:
        ConfigurationError: Another scheme, or its library is not installed.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        raise ConfigurationError(
            f"not the address of a store: {url[:80]!r}", code="stage.url", hint=f"one of {', '.join(SCHEMES)}://..."
        )
    try:
        from fsspec.core import url_to_fs

        filesystem, folder = url_to_fs(url, **({"anon": False} if scheme.startswith("abfs") else {}))
    except ImportError:
        raise ConfigurationError(
            f"the library for {scheme}:// is not installed",
            code="stage.library",
            hint="abfs: pip install 'strongroom[azure]'; s3: s3fs; gs: gcsfs",
        ) from None
    except ValueError as error:
        raise ConfigurationError(f"the store can't be opened: {error}", code="stage.url") from None
    return filesystem, str(folder).rstrip("/")


def download(filesystem: Any, base: str, folder: Path, *, advance: Callable[[str], None] = lambda _: None) -> int:
    """Carry a table from a store to a folder.

    Args:
        filesystem: Of fsspec.
        base: Folder in it.
        folder: New folder.
        advance: Gets the name of each file that is there.

    Returns:
        Number of files.

    Raises:
        WouldOverwrite: The folder holds a table.
        MissingFile: The store has no table there.
        UnavailableError: The store does not answer, or the disk fails.
    """
    if (folder / MANIFEST_NAME).exists():
        raise WouldOverwrite(f"there is already a table at {folder}", hint="name a new folder")
    names = _ordered({posixpath.basename(str(path)) for path in _call(filesystem.ls, base, detail=False)}, base)
    with file_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        unfinished = folder / (name + _UNFINISHED)
        _call(filesystem.get_file, f"{base}/{name}", str(unfinished))
        with file_errors(folder / name):
            unfinished.replace(folder / name)
        advance(name)
    return len(names)


def upload(
    folder: Path,
    filesystem: Any,
    base: str,
    *,
    overwrite: bool = False,
    advance: Callable[[str], None] = lambda _: None,
) -> int:
    """Carry a table from a folder to a store.

    Args:
        folder: Of the table.
        filesystem: Of fsspec.
        base: Folder in it.
        overwrite: Replace the table that is there; files of an older version that have other names are left.
        advance: Gets the name of each file that is there.

    Returns:
        Number of files.

    Raises:
        WouldOverwrite: There is a table, and `overwrite` is not given.
        MissingFile: The folder holds no table.
        UnavailableError: The store does not answer.
    """
    with file_errors(folder):
        names = _ordered({entry.name for entry in folder.iterdir() if entry.is_file()}, str(folder))
    if not overwrite and _call(filesystem.exists, f"{base}/{MANIFEST_NAME}"):
        raise WouldOverwrite(f"there is already a table at {base}", hint="--force replaces it")
    _call(filesystem.makedirs, base, exist_ok=True)
    for name in names:
        _call(filesystem.put_file, str(folder / name), f"{base}/{name}")
        advance(name)
    return len(names)


def _ordered(names: set[str], where: str) -> list[str]:
    """A table's files, the manifest last; whatever else lies there is left out.

    Raises:
        MissingFile: There is no manifest.
        ConfigurationError: There are more than 100,000 files.
    """
    if MANIFEST_NAME not in names:
        raise MissingFile(f"there is no table at {where[:200]}")
    if len(names) > MAX_FILES:
        raise ConfigurationError(f"more than {MAX_FILES:,} files at {where[:200]}", code="stage.files")
    return [*sorted(name for name in names if _PART.fullmatch(name)), MANIFEST_NAME]


def _call(method: Callable[..., Any], *arguments: str, **options: object) -> Any:
    try:
        return method(*arguments, **options)
    except FileNotFoundError:
        raise MissingFile("the store has no such folder or file") from None
    except StrongroomError:
        raise
    except Exception as error:  # whatever a store's library raises; its text may hold a credential
        raise UnavailableError(f"the store failed: {type(error).__name__}", code="stage.store") from error
