"""Shows the loan application's model catalogs as the folders of numbered versions that a model server expects.

Only the champion of a catalog is shown: promoting another version, older or newer, is then a change of version for the
server too.
"""

import io
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from strongroom.errors import ConfigurationError, FormatError, UnavailableError
from strongroom.serving.models.storage import ModelStorage

if TYPE_CHECKING:
    from strongroom.loan.storage import Storage

FOLDER: Final = "models"
CATALOG: Final = "catalog.json"
BUNDLE: Final = "loan.bundle"


class LoanCatalogs:
    """A storage in which ``models/NAME`` with a catalog has one folder, its champion's number, with one bundle.

    Args:
        inner: Where everything is.
    """

    def __init__(self, inner: ModelStorage) -> None:
        self._inner = inner

    def names(self, path: str) -> list[str]:
        """Entries of a folder."""
        model, version = self._catalogued(path)
        if model is None:
            return self._inner.names(path)
        champion = self._champion(model)
        if champion is None:
            return []
        if version is None:
            return [str(champion[0])]
        return [BUNDLE] if version == str(champion[0]) else []

    def open(self, path: str) -> BinaryIO:
        """Open a file; a catalogued bundle by the name the catalog gives it.

        Raises:
            UnavailableError: There is none.
            FormatError: The bundle is not the one that was published.
            SealedDataError: It does not open.
        """
        folder, _, name = path.rpartition("/")
        model, version = self._catalogued(folder)
        if model is None or version is None:
            return self._inner.open(path)
        champion = self._champion(model)
        if champion is None or (version, name) != (str(champion[0]), BUNDLE):
            raise UnavailableError("the catalog has no such version", code="serving.storage")
        return self._published(f"{FOLDER}/{model}/{champion[1]}", champion[2])

    def _published(self, path: str, digest: str) -> BinaryIO:
        import hashlib

        with self._inner.open(path) as file:
            raw = file.read()
        if hashlib.sha256(raw).hexdigest() != digest:
            raise FormatError("the bundle is not the one the catalog names", code="loan.bundle_swapped")
        return io.BytesIO(raw)

    def _catalogued(self, path: str) -> tuple[str | None, str | None]:
        """Model and version of a path below a catalog; (None, None) for any other path."""
        parts = path.split("/")
        if len(parts) not in {2, 3} or parts[0] != FOLDER or CATALOG not in self._inner.names(f"{FOLDER}/{parts[1]}"):
            return None, None
        return parts[1], parts[2] if len(parts) == 3 else None

    def _champion(self, model: str) -> tuple[int, str, str] | None:
        """Number, file and digest of the version the catalog names."""
        from strongroom.loan.catalog import read_catalog  # brings XGBoost and Arrow: only where there is a catalog

        try:
            catalog = read_catalog(cast("Storage", self._inner), model)  # opens only
            version = catalog.find()
        except ConfigurationError:
            return None
        return version.number, version.file, version.digest
