"""A storage root in an object store, through fsspec: what travels and what lies there is sealed.

A file is sealed into a temporary file, which holds ciphertext only, and uploaded whole when it is complete; the store
shows the earlier one until then (an Azure block blob appears with its block list). Sealed files are bound to their
path below the root, so the store can't exchange them.
"""

import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

from strongroom.errors import ConfigurationError, MissingFile, StrongroomError, UnavailableError
from strongroom.room.files import create_sealed, open_sealed

SCHEMES: Final = ("abfs", "abfss")


class RemoteStorage:
    """Files of an object store, as the loan application's storage.

    Args:
        filesystem: Of fsspec; safe to use from several threads.
        base: Container and folder, as the file system names them.
        key: Wrap key of every file, 16 bytes.
        staging: Folder for temporary ciphertext; None: the system's folder for temporary files.
    """

    def __init__(self, filesystem: Any, base: str, key: bytes, staging: Path | None = None) -> None:
        self._filesystem = filesystem
        self._base = base.rstrip("/")
        self._key = key
        self._folder = tempfile.TemporaryDirectory(prefix="strongroom-remote-", dir=staging)

    def open(self, path: str, /) -> BinaryIO:
        """Download and open a file.

        Args:
            path: Below the root.

        Raises:
            MissingFile: There is none.
            UnavailableError: The store does not answer.
            SealedDataError: It is damaged or another file.
        """
        with self._staged() as local:
            self._call(self._filesystem.get_file, f"{self._base}/{path}", str(local))
            return open_sealed(local, self._key, sealed_path=path)

    def create(self, path: str, /) -> AbstractContextManager[BinaryIO]:
        """Create or replace a file; it appears when the block ends without an exception.

        Args:
            path: Below the root.
        """
        return self._create(path)

    @contextmanager
    def _create(self, path: str) -> Iterator[BinaryIO]:
        with self._staged() as local:
            with create_sealed(local, self._key, sealed_path=path, durable=False) as sink:
                yield sink
            self._call(self._filesystem.put_file, str(local), f"{self._base}/{path}")

    @contextmanager
    def _staged(self) -> Iterator[Path]:
        local = Path(self._folder.name) / secrets.token_hex(16)
        try:
            yield local
        finally:
            local.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder of temporary files."""
        self._folder.cleanup()

    def _call(self, method: Callable[..., Any], *arguments: str) -> None:
        try:
            method(*arguments)
        except FileNotFoundError:
            raise MissingFile("the storage has no such file") from None
        except StrongroomError:
            raise
        except Exception as error:  # whatever a store's library raises
            raise UnavailableError(
                f"the remote storage failed: {type(error).__name__}", code="storage.remote"
            ) from error


def open_remote(url: str, key: bytes) -> RemoteStorage:
    """The storage behind ``abfs://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER``.

    The store's own credential is found as Azure's libraries find it (managed identity, workload identity, environment).

    Args:
        url: Container, account and folder.
        key: Wrap key of every file, 16 bytes.

    Raises:
        ConfigurationError: Another scheme, or the libraries of the extra ``azure`` are not installed.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        raise ConfigurationError(f"not an address of a storage root: {url[:80]}", code="loan.roots", hint="abfs://...")
    try:
        from fsspec.core import url_to_fs

        filesystem, base = url_to_fs(url, anon=False)
    except ImportError:
        raise ConfigurationError(
            "the libraries for abfs:// are not installed",
            code="loan.roots",
            hint="pip install 'strongroom[loan,azure]'",
        ) from None
    except ValueError as error:
        raise ConfigurationError(f"the storage root can't be opened: {error}", code="loan.roots") from None
    return RemoteStorage(filesystem, base, key)
