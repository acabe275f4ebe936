"""Finds the trusted files of a workload and digests them; links are refused, so a digest is of the file it names."""

import fnmatch
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

from strongroom.errors import ConfigurationError

MAX_FILES: Final = 50_000
BYTECODE_FOLDER: Final = "__pycache__"  # made from the sources on the way; never measured
ANY_FOLDERS: Final = "**"


def find_trusted(folder: Path, patterns: tuple[str, ...]) -> dict[str, Path]:
    """The regular files that the patterns name.

    A pattern is a file, a folder (every file below it, ``__pycache__`` left out) or a glob: ``*``, ``?`` and ``[..]``
    within one component, ``**`` for any number of folders.

    Args:
        folder: Absolute folder of the workload definition.
        patterns: Relative, normalised.

    Returns:
        Path relative to `folder`, with ``/``, to the file; sorted.

    Raises:
        ConfigurationError: A pattern names nothing, a link, something that is neither file nor folder, or a file that
            another pattern names too (``workload.trusted_files``).
    """
    found: dict[str, Path] = {}
    for pattern in patterns:
        names = set(_matches(folder, tuple(pattern.split("/")), ""))
        if not names:
            refuse(f"trusted_files: {pattern!r} names no file below {folder}")
        twice = names & found.keys()
        if twice:
            refuse(f"trusted_files: {pattern!r} names {min(twice)!r}, which another entry names too")
        found |= {name: folder / name for name in names}
    if len(found) > MAX_FILES:
        refuse(f"trusted_files: {len(found)} files, at most {MAX_FILES}")
    return dict(sorted(found.items()))


def digest_file(path: Path) -> bytes:
    """SHA-256 of a regular file, 32 bytes.

    Raises:
        ConfigurationError: It can't be read, is a link or is not a regular file (``workload.trusted_files``).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                refuse(f"{path} is not a regular file")
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        refuse(f"can't read {path}: {error.strerror}")


def files_below(folder: Path, name: str) -> Iterator[str]:
    """The file `name`, or every file below the folder `name`, as names relative to `folder`.

    Raises:
        ConfigurationError: A link, device, socket or pipe is met (``workload.trusted_files``).
    """
    mode = _mode(folder / name)
    if stat.S_ISDIR(mode):
        for child in _children(folder, name):
            yield from files_below(folder, child)
    elif stat.S_ISREG(mode):
        yield name
    else:
        kind = "a link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
        refuse(f"{folder / name} is {kind}", hint="name what it points to, or put a copy in its place")


def refuse(message: str, *, hint: str | None = None) -> NoReturn:
    """Refuses the files of a workload.

    Raises:
        ConfigurationError: Always (``workload.trusted_files``).
    """
    raise ConfigurationError(message, code="workload.trusted_files", hint=hint)


def _matches(folder: Path, pattern: tuple[str, ...], name: str) -> Iterator[str]:
    """Files below `name`, itself below `folder`, that the rest of a pattern names."""
    if not pattern or pattern == (ANY_FOLDERS,):
        yield from files_below(folder, name)
        return
    first, rest = pattern[0], pattern[1:]
    if first == ANY_FOLDERS:
        yield from _matches(folder, rest, name)
    for child in _children(folder, name):
        if first == ANY_FOLDERS and _is_folder(folder / child):
            yield from _matches(folder, pattern, child)
        elif first != ANY_FOLDERS and fnmatch.fnmatchcase(child.rpartition("/")[2], first):
            if rest and not _is_folder(folder / child):
                continue
            yield from _matches(folder, rest, child)


def _children(folder: Path, name: str) -> list[str]:
    try:
        children = sorted(os.listdir(folder / name))  # noqa: PTH208 - names are wanted, not paths
    except OSError as error:
        refuse(f"can't read {folder / name}: {error.strerror}")
    return [f"{name}/{child}" if name else child for child in children if child != BYTECODE_FOLDER]


def _is_folder(path: Path) -> bool:
    """Whether it is a real folder.

    Raises:
        ConfigurationError: It is a link, which might lead to one (``workload.trusted_files``).
    """
    mode = _mode(path)
    if stat.S_ISLNK(mode):
        refuse(f"{path} is a link", hint="name what it points to, or put a copy in its place")
    return stat.S_ISDIR(mode)


def _mode(path: Path) -> int:
    try:
        return path.lstat().st_mode
    except OSError as error:
        refuse(f"can't read {path}: {error.strerror}")
