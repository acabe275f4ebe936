"""Operating system errors on files as errors of ours, with the file's name and never its content."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from strongroom.errors import ConfigurationError, MissingFile, UnavailableError, WouldOverwrite


@contextmanager
def file_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an `OSError` of the block into an error of ours.

    Args:
        path: The file that the block works on, for the message.

    Yields:
        Nothing.

    Raises:
        ConfigurationError: If the path is wrong: a folder, not permitted.
        MissingFile: If there is no such file or folder.
        UnavailableError: If the machine fails: disk full, input or output error.
        WouldOverwrite: If the file exists and may not be replaced.
    """
    name = os.fspath(path)
    try:
        yield
    except FileExistsError:
        raise WouldOverwrite(
            f"{name} exists already", hint="choose another name, or say that it may be replaced (--force)"
        ) from None
    except (FileNotFoundError, NotADirectoryError):
        raise MissingFile(f"no such file or folder: {name}") from None
    except IsADirectoryError:
        raise ConfigurationError(f"{name} is a folder, not a file", code="file.is_folder") from None
    except PermissionError:
        raise ConfigurationError(f"not permitted: {name}", code="file.permission") from None
    except OSError as error:
        if error.errno in {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}:
            raise ConfigurationError(f"{name}: {error.strerror}", code="file.path") from None
        raise UnavailableError(f"{name}: {error.strerror}", code="file.io") from None
