"""Operating system errors on files as errors of ours, with the file's name and never its content."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom.errors import ConfigurationError, MissingFile, StrongroomError, UnavailableError, WouldOverwrite

WRONG_PATH = frozenset({errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})


def file_error(error: OSError, path: str | os.PathLike[str]) -> StrongroomError:
    """An operating system error as an error of ours.

    Args:
        error: What the system said.
        path: The file it was about.

    Returns:
        `MissingFile` where there is none, `WouldOverwrite` where there is one, `ConfigurationError` where the path is
        wrong otherwise (a folder, not permitted), `UnavailableError` where the machine fails (disk full, input or
        output error).
    """
    name = os.fspath(path)
    if isinstance(error, FileExistsError):
        hint = "choose another name, or say that it may be replaced (--force)"
        return WouldOverwrite(f"{name} exists already", hint=hint)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return MissingFile(f"no such file or folder: {name}")
    if isinstance(error, IsADirectoryError):
        return ConfigurationError(f"{name} is a folder, not a file", code="file.is_folder")
    if isinstance(error, PermissionError):
        return ConfigurationError(f"not permitted: {name}", code="file.permission")
    if error.errno in WRONG_PATH:
        return ConfigurationError(f"{name}: {error.strerror}", code="file.path")
    return UnavailableError(f"{name}: {error.strerror}", code="file.io")


@contextmanager
def file_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an `OSError` of the block into an error of ours, as `file_error` does.

    Args:
        path: The file that the block works on, for the message.

    Yields:
        Nothing.

    Raises:
        StrongroomError: If the block raised an `OSError`.
    """
    try:
        yield
    except StrongroomError:
        raise  # a MissingFile is an OSError too
    except OSError as error:
        ours: StrongroomError = file_error(error, path)
        raise ours from None


def make_folders(folder: Path, *, mode: int = 0o777) -> None:
    """Make a folder and those above it, where they are not there yet.

    Args:
        folder: The folder.
        mode: Its mode, before the umask.

    Raises:
        ConfigurationError: Something else is in its place (``file.not_folder``), or it is not permitted.
        UnavailableError: The disk is full or fails.
    """
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigurationError(f"a file stands where a folder must be: {folder}", code="file.not_folder") from None
    except OSError as error:
        ours: StrongroomError = file_error(error, folder)
        raise ours from None
