"""The versions of a model, and which of them is served.

`models/NAME/catalog.json` lists the versions and names the champion; each version is a bundle of its own name that is
never written again. Publishing writes the bundle first and the catalog last, so a process killed at any moment leaves
the last good version served. A bundle whose digest is not the catalog's is refused.
"""

import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any, Final, NoReturn

from strongroom.errors import ConfigurationError, FormatError
from strongroom.loan.bundle import Bundle, read_bundle, serialize_bundle
from strongroom.loan.storage import Storage, alone

NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
DIGEST_PATTERN: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
FILE_PATTERN: Final = re.compile(r"v[0-9]{4,9}-[0-9a-f]{8}\.bundle", re.ASCII)
MAX_CATALOG_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Version:
    """One published model.

    Args:
        number: 1, 2, ...
        file: File name of its bundle, beside the catalog.
        digest: SHA-256 of the bundle, hex.
        created_at: UTC time, ISO 8601.
        note: How it came to be, e.g. ``trained`` or ``continued``.
    """

    number: int
    file: str
    digest: str
    created_at: str
    note: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """All versions of one model.

    Args:
        versions: In order of publication; numbers rise.
        champion: Number of the version that is served; 0 when there is none.
    """

    versions: tuple[Version, ...] = ()
    champion: int = 0

    @property
    def newest(self) -> int:
        """Number of the last published version, 0 when there is none."""
        return self.versions[-1].number if self.versions else 0

    def find(self, number: int | None = None) -> Version:
        """The version with this number, or the champion.

        Raises:
            ConfigurationError: There is none, code ``loan.unknown_version``.
        """
        wanted = self.champion if number is None else number
        for version in self.versions:
            if version.number == wanted:
                return version
        raise ConfigurationError(
            f"the model has no version {wanted}",
            code="loan.unknown_version",
            hint="`strongroom loan versions` lists those it has",
        )


def check_name(name: str) -> str:
    """The model name itself.

    Raises:
        ConfigurationError: It is not 1 to 64 letters, digits, `_` or `-`, beginning with a letter or digit.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise ConfigurationError(
            "a model name is 1 to 64 letters, digits, _ and -, beginning with a letter or digit", code="loan.model_name"
        )
    return name


def read_catalog(storage: Storage, model: str) -> Catalog:
    """The model's catalog; an empty one where nothing was published yet.

    Args:
        storage: Where models are.
        model: Model name.

    Raises:
        ConfigurationError: The name is not allowed.
        FormatError: The catalog is malformed, code ``loan.catalog``.
    """
    try:
        with storage.open(_catalog_path(model)) as source:
            raw = source.read(MAX_CATALOG_BYTES + 1)
    except FileNotFoundError:
        return Catalog()
    return _parse_catalog(raw)


def publish(
    storage: Storage, model: str, bundle: Bundle, *, now: datetime, note: str, champion: bool = True
) -> Version:
    """Write a new version, then name it in the catalog.

    Two that publish at once take turns, where the storage can lock. Where it can't (object stores), one of two entries
    written in the same instant can be lost; its bundle is not. Let one process train a model at a time there.

    Args:
        storage: Where models are.
        model: Model name.
        bundle: What to publish; ``name``, ``version`` and ``created_at`` are added to its metadata.
        now: Time of publication, aware.
        note: How it came to be.
        champion: Serve it from now on.

    Raises:
        ConfigurationError: The name is not allowed.
        FormatError: The catalog there is malformed, or the bundle is too large.
    """
    with alone(storage, f"models/{check_name(model)}"):
        return _publish(storage, model, bundle, now=now, note=note, champion=champion)


def _publish(storage: Storage, model: str, bundle: Bundle, *, now: datetime, note: str, champion: bool) -> Version:
    created_at = now.isoformat(timespec="seconds")
    catalog = read_catalog(storage, model)
    while True:
        number = catalog.newest + 1
        metadata = {**bundle.metadata, "name": model, "version": number, "created_at": created_at, "note": note}
        raw = serialize_bundle(replace(bundle, metadata=metadata))
        file = f"v{number:04d}-{secrets.token_hex(4)}.bundle"
        with storage.create(_path(model, file)) as sink:
            sink.write(raw)
        # Somebody else may have published meanwhile: nobody's version is dropped, ours gets the next number.
        catalog = read_catalog(storage, model)
        if catalog.newest < number:
            break
    version = Version(number, file, hashlib.sha256(raw).hexdigest(), created_at, note)
    served = number if champion or not catalog.champion else catalog.champion
    _write_catalog(storage, model, Catalog((*catalog.versions, version), served))
    return version


def promote(storage: Storage, model: str, number: int) -> Version:
    """Serve an existing version from now on.

    Raises:
        ConfigurationError: There is no such version, or the name is not allowed.
        FormatError: The catalog is malformed.
    """
    with alone(storage, f"models/{check_name(model)}"):
        catalog = read_catalog(storage, model)
        version = catalog.find(number)
        _write_catalog(storage, model, replace(catalog, champion=number))
    return version


def known_catalog(storage: Storage, model: str) -> Catalog:
    """The catalog of a model that has a version.

    Raises:
        ConfigurationError: There is no such model, code ``loan.unknown_model``, or its name is not allowed.
        FormatError: The catalog is malformed.
    """
    catalog = read_catalog(storage, model)
    if not catalog.versions:
        raise ConfigurationError(
            f"there is no model {model!r}", code="loan.unknown_model", hint="train it with `strongroom loan train`"
        )
    return catalog


def load_model(storage: Storage, model: str, number: int | None = None) -> Bundle:
    """Load a version, the champion by default.

    Raises:
        ConfigurationError: Unknown model or version, code ``loan.unknown_model`` or ``loan.unknown_version``.
        FormatError: Catalog or bundle is malformed, or the bundle is not the one that was published.
    """
    catalog = known_catalog(storage, model)
    version = catalog.find(number)
    try:
        with storage.open(_path(model, version.file)) as source:
            bundle = read_bundle(source)
    except FileNotFoundError:
        raise FormatError(f"the bundle of version {version.number} is gone", code="loan.bundle") from None
    if bundle.digest != version.digest:
        raise FormatError(f"the bundle is not version {version.number} as published", code="loan.bundle_swapped")
    return bundle


def _path(model: str, file: str) -> str:
    return f"models/{check_name(model)}/{file}"


def _catalog_path(model: str) -> str:
    return _path(model, "catalog.json")


def _write_catalog(storage: Storage, model: str, catalog: Catalog) -> None:
    data = {"champion": catalog.champion, "versions": [asdict(version) for version in catalog.versions]}
    with storage.create(_catalog_path(model)) as sink:
        sink.write(json.dumps(data, indent=1, sort_keys=True).encode())


def _parse_catalog(raw: bytes) -> Catalog:
    try:
        data = json.loads(raw) if len(raw) <= MAX_CATALOG_BYTES else None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or set(data) != {"champion", "versions"} or not isinstance(data["versions"], list):
        _refuse()
    versions = tuple(_parse_version(item) for item in data["versions"])
    numbers = [version.number for version in versions]
    if numbers != sorted(set(numbers)) or type(data["champion"]) is not int or data["champion"] not in numbers:
        _refuse()
    return Catalog(versions, data["champion"])


def _parse_version(item: Any) -> Version:
    if not isinstance(item, dict) or set(item) != {field.name for field in fields(Version)}:
        _refuse()
    number, texts = item["number"], [item[name] for name in ("file", "digest", "created_at", "note")]
    if type(number) is not int or number < 1 or not all(isinstance(text, str) and len(text) < 200 for text in texts):
        _refuse()
    if not FILE_PATTERN.fullmatch(item["file"]) or not DIGEST_PATTERN.fullmatch(item["digest"]):
        _refuse()
    return Version(**item)


def _refuse() -> NoReturn:
    raise FormatError("the model's catalog is malformed", code="loan.catalog")
