"""The path inside a sealed file, normalised as Gramine does before it compares.

Gramine binds a file to the host path of the mount's URI (`uri = "file:models/x"` binds to `models/x`), normalised. A
path stored in another spelling, such as `./models/x`, never opens there.

Source: Gramine `common/src/path_utils.c`; gramine issue 923.
"""

from typing import Final

from strongroom.errors import ConfigurationError

MAX_PATH_BYTES: Final = 771
"""Longest stored path: the field has 772 bytes and ends with a NUL."""


def normalise_path(path: str) -> str:
    """The path without empty and `.` components, and with `name/..` folded.

    A relative path stays relative and keeps its leading `..`; `/..` is `/`. An empty result is `.`.

    Args:
        path: A path with `/` as separator, absolute or relative.

    Returns:
        The normalised path; normalising it again changes nothing.
    """
    absolute = path.startswith("/")
    kept: list[str] = []
    for part in path.split("/"):
        if part in {"", "."}:
            continue
        if part == ".." and kept and kept[-1] != "..":
            kept.pop()
        elif part != ".." or not absolute:
            kept.append(part)
    joined = "/".join(kept)
    return f"/{joined}" if absolute else joined or "."


def encode_path(path: str) -> bytes:
    """Bytes of a path as they are stored: UTF-8, bytes that are not UTF-8 as `os.fsdecode` shows them.

    Args:
        path: The path, at most 771 bytes once encoded.

    Returns:
        The bytes, without the NUL at the end.

    Raises:
        ConfigurationError: If the path is empty, too long, or has a NUL or a character that can't be encoded.
    """
    try:
        raw = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ConfigurationError("the path can't be written as UTF-8", code="sealed.path") from None
    if not raw or b"\0" in raw:
        raise ConfigurationError("a sealed file's path must not be empty or have a NUL in it", code="sealed.path")
    if len(raw) > MAX_PATH_BYTES:
        raise ConfigurationError(
            f"a sealed file's path has at most {MAX_PATH_BYTES} bytes, this one {len(raw)}",
            code="sealed.path",
            hint="choose a shorter one with --path",
        )
    return raw


def file_path(path: str) -> str:
    """Normalised path of a file to bind to.

    Args:
        path: The path as typed.

    Returns:
        The normalised path.

    Raises:
        ConfigurationError: If it names a folder (`.`, `/`, `a/..`), is too long, or can't be encoded.
    """
    normal = normalise_path(path)
    if not path or normal in {".", "/"} or normal.endswith("/..") or normal == "..":
        raise ConfigurationError(f"not the path of a file: {path!r}", code="sealed.path")
    encode_path(normal)
    return normal
