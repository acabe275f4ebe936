"""Where the first step may read loan data from. The list is measured with the step; the URL comes from outside.

`sealed:NAME` is a file the owner sealed, opened with the step's own key. Data in the clear is read from `https://` and
`file://` only where the list says so, and can be pinned to one content. No redirect, proxy, port, query or escape.
"""

import hashlib
import hmac
import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, NoReturn, Protocol
from urllib.parse import urlsplit

from strongroom.errors import ConfigurationError, UnavailableError, VerificationError
from strongroom.formats.toml import parse_toml
from strongroom.workload.fields import Table

SEALED: Final = "sealed:"
SEALED_FOLDER: Final = "source"
MAX_URL: Final = 1024
MAX_SOURCES: Final = 64
MAX_LIST_BYTES: Final = 64 * 1024
MAX_SOURCE_BYTES: Final = 1 << 30
BLOCK_BYTES: Final = 1 << 20
TIMEOUT_S: Final = 30.0

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)
_PATH: Final = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class SealedFiles(Protocol):
    """The room, as far as it is needed here."""

    def open(self, path: str, /) -> BinaryIO:
        """Open a sealed file for reading."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of the list.

    Args:
        url: A file, or with ``/`` at its end a folder and everything below it.
        sha256: Hex; the one content that is accepted, or None for any.
    """

    url: str
    sha256: str | None = None

    def allows(self, url: str) -> bool:
        """Whether a checked URL is this entry's."""
        return url.startswith(self.url) if self.url.endswith("/") else url == self.url


def load_sources(path: Path) -> tuple[Source, ...]:
    """Read the list from a TOML file, at most 64 KiB.

    Raises:
        ConfigurationError: It can't be read, or is not such a list, code ``pipeline.sources``.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_LIST_BYTES + 1)
    except OSError:
        raw = None
    if raw is None or len(raw) > MAX_LIST_BYTES:
        raise ConfigurationError(f"{path.name} is not a list of sources", code="pipeline.sources")
    return parse_sources(raw)


def parse_sources(text: bytes | str) -> tuple[Source, ...]:
    """Read the list from TOML.

    Raises:
        ConfigurationError: It is not such a list, code ``pipeline.sources``, ``pipeline.url`` or ``workload.*``.
    """
    document = Table(parse_toml(text, what="the list of sources", code="pipeline.sources"))
    entries = document.tables("source", most=MAX_SOURCES)
    document.finish()
    return tuple(_source(entry) for entry in entries)


def _source(entry: Table) -> Source:
    url, digest = entry.text("url", limit=MAX_URL), entry.text("sha256", default="")
    entry.finish()
    return parse_source(f"{url}={digest}" if digest else url)


def parse_source(text: str) -> Source:
    """Read ``URL`` or ``URL=SHA256``.

    Raises:
        ConfigurationError: It is neither, code ``pipeline.url`` or ``pipeline.sources``.
    """
    url, pinned, digest = text.partition("=")
    check_url(url)
    if pinned and (url.endswith("/") or not _DIGEST.fullmatch(digest)):
        raise ConfigurationError("a file is pinned by 64 digits 0-9 a-f; a folder can't be", code="pipeline.sources")
    return Source(url, digest or None)


def check_url(url: str) -> str:
    """The URL, if it is ``https://HOST/PATH`` or ``file:///PATH`` in its one plain spelling.

    Raises:
        ConfigurationError: Anything else, code ``pipeline.url``.
    """
    try:
        parts = urlsplit(url) if len(url) <= MAX_URL and url.isascii() and url.isprintable() else urlsplit("")
    except ValueError:
        parts = urlsplit("")
    host_fits = bool(_HOST.fullmatch(parts.netloc)) if parts.scheme == "https" else parts.netloc == ""
    plain = parts.scheme in {"https", "file"} and f"{parts.scheme}://{parts.netloc}{parts.path}" == url
    if not (plain and host_fits and parts.path and _PATH.fullmatch(parts.path)):
        raise ConfigurationError(
            "data_url is sealed:NAME, https://HOST/PATH or file:///PATH, without port, query or escapes",
            code="pipeline.url",
        )
    return url


@contextmanager
def open_source(data_url: str, allowed: tuple[Source, ...], room: SealedFiles) -> Iterator[BinaryIO]:
    """Open the data that a URL names.

    Args:
        data_url: Given by whoever starts the pipeline: not trusted.
        allowed: The measured list.
        room: Opens ``sealed:`` files.

    Yields:
        A seekable file.

    Raises:
        ConfigurationError: The URL is not one, or not allowed, code ``pipeline.url`` or ``pipeline.source``.
        UnavailableError: It can't be fetched or read.
        VerificationError: Not the pinned content, code ``pipeline.source_digest``.
        SealedDataError: The sealed file does not open.
    """
    with _open_sealed(data_url, room) if data_url.startswith(SEALED) else _open_clear(data_url, allowed) as file:
        yield file


def _open_sealed(data_url: str, room: SealedFiles) -> BinaryIO:
    return room.open(f"{SEALED_FOLDER}/{sealed_name(data_url)}")


def sealed_name(data_url: str) -> str:
    """File name of a ``sealed:`` URL.

    Raises:
        ConfigurationError: It is not a plain file name, code ``pipeline.url``.
    """
    name = data_url.removeprefix(SEALED)
    if not _NAME.fullmatch(name):
        raise ConfigurationError("sealed: is followed by a plain file name", code="pipeline.url")
    return name


def _open_clear(data_url: str, allowed: tuple[Source, ...]) -> BinaryIO:
    url = check_url(data_url)
    source = next((entry for entry in allowed if entry.allows(url)), None)
    if source is None or url.endswith("/"):
        raise ConfigurationError(
            "this data_url is not in the step's list of sources",
            code="pipeline.source",
            hint="seal the data and name it sealed:NAME, or add the URL to sources.toml and authorize the step again",
        )
    content = _fetch(url) if url.startswith("https:") else _read(url.removeprefix("file://"))
    if source.sha256 and not hmac.compare_digest(hashlib.sha256(content).hexdigest(), source.sha256):
        raise VerificationError("the data is not the pinned one", code="pipeline.source_digest")
    return io.BytesIO(content)


def _fetch(url: str) -> bytes:
    import httpx

    content = bytearray()
    try:
        with (
            httpx.Client(follow_redirects=False, trust_env=False, timeout=TIMEOUT_S) as client,
            client.stream("GET", url, headers={"accept-encoding": "identity"}) as answer,
        ):
            if answer.status_code != 200:
                _unavailable(f"the source answered with status {answer.status_code}")
            for block in answer.iter_raw(BLOCK_BYTES):
                content += block
                if len(content) > MAX_SOURCE_BYTES:
                    _unavailable(f"the source has more than {MAX_SOURCE_BYTES} bytes")
    except httpx.HTTPError as error:
        _unavailable(f"the source can't be fetched: {type(error).__name__}")
    return bytes(content)


def _read(path: str) -> bytes:
    """Read a file without following any link on the way: a link could lead out of the allowed folder."""
    folder = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        *folders, name = path.lstrip("/").split("/")
        for part in folders:
            deeper = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = deeper
        with os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_SOURCE_BYTES:
                _unavailable("the source is not a file of a size that can be read")
            return file.read(MAX_SOURCE_BYTES)
    except OSError as error:
        _unavailable(f"the source can't be read: {error.strerror}")
    finally:
        os.close(folder)


def _unavailable(message: str) -> NoReturn:
    raise UnavailableError(message, code="pipeline.source")
