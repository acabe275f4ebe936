"""Relative POSIX paths in a workload definition: one spelling for each, none that leaves its folder."""

from typing import Final

from strongroom.errors import ConfigurationError
from strongroom.workload.fields import refuse_field

MAX_SEALED_PATH_BYTES: Final = 771  # Gramine's encrypted files store the path in 772 bytes with a NUL


def check_relative(path: str, where: str) -> str:
    """The path, if it is relative and normalised.

    Args:
        path: What the definition says.
        where: Name of the field, for the message.

    Raises:
        ConfigurationError: Absolute, empty, with an empty, "." or ".." component, with characters that don't print, or
            too long (``workload.path``).
    """
    parts = path.split("/")
    if not path.isprintable() or any(part in {"", ".", ".."} for part in parts):
        raise ConfigurationError(
            f"{where} is {path[:80]!r}: not a relative, normalised path",
            code="workload.path",
            hint="write it relative to the workload file's folder, like data/book.csv, without './', '..' or '//'",
        )
    if len(path.encode("utf-8", "surrogatepass")) > MAX_SEALED_PATH_BYTES:
        refuse_field(where, f"must have at most {MAX_SEALED_PATH_BYTES} bytes")
    return path


def is_within(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies below it, compared component by component."""
    return path == folder or path.startswith(folder + "/")
