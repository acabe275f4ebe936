"""Runs an unmodified PySpark application: checked first, then as the main program of this process."""

import os
import sys
import traceback
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from strongroom.analytics.spark.attested import WORKLOAD_VARIABLE, in_room
from strongroom.analytics.spark.job import Job, check_application
from strongroom.errors import ConfigurationError, StrongroomError, VerificationError
from strongroom.room.file_errors import file_errors
from strongroom.workload import load_workload
from strongroom.workload.files import find_trusted

MAX_APPLICATION_BYTES: Final = 16 * 1024 * 1024


def read_application(path: Path) -> bytes:
    """Read an application.

    Raises:
        ConfigurationError: It can't be read, or is longer than 16 MiB.
    """
    with file_errors(path), path.open("rb") as file:
        source = file.read(MAX_APPLICATION_BYTES + 1)
    if len(source) > MAX_APPLICATION_BYTES:
        raise ConfigurationError(f"{path} is longer than 16 MiB", code="spark.application")
    return source


def check_allowed(path: Path, source: bytes, job: Job | None) -> None:
    """Refuse an application that nobody vouches for. Outside a room whoever starts it does.

    Args:
        path: Where it was read.
        source: The application.
        job: What the owner stored at the broker; None: it must be part of what was measured.

    Raises:
        VerificationError: It is not the job's, or not measured.
        ConfigurationError: The workload file is wrong.
    """
    if job is not None:
        check_application(job, source)
    elif in_room():
        workload = load_workload(Path(os.environ[WORKLOAD_VARIABLE]))
        trusted = find_trusted(workload.folder, workload.trusted_files).values()
        if os.path.realpath(path) not in {os.path.realpath(file) for file in trusted}:
            raise VerificationError(
                f"{path} is not among the workload's trusted files",
                code="job.unmeasured",
                hint='add it to trusted_files; or store a job at the broker and name it: [keys] job = "..."',
            )


def run_application(path: Path, source: bytes, arguments: Sequence[str]) -> int:
    """Run an application as the main program.

    Args:
        path: What it calls itself.
        source: Its bytes, as they were checked.
        arguments: Of its command line.

    Returns:
        Its exit status; its traceback is printed.

    Raises:
        StrongroomError: It ended with one.
    """
    module = types.ModuleType("__main__")
    module.__file__ = str(path)
    try:
        with _as_main(module, [str(path), *arguments]):
            exec(compile(source, str(path), "exec"), vars(module))  # noqa: S102  # it is what was measured
    except SystemExit as end:
        return _status(end)
    except StrongroomError:
        raise
    except Exception as error:
        _print(error)
        return 1
    return 0


@contextmanager
def _as_main(module: types.ModuleType, arguments: list[str]) -> Iterator[None]:
    before = sys.modules["__main__"], sys.argv, sys.path[:]
    sys.modules["__main__"], sys.argv = module, arguments
    # Last, so that a file beside it can't take the place of a library.
    sys.path.append(str(Path(arguments[0]).absolute().parent))
    try:
        yield
    finally:
        sys.modules["__main__"], sys.argv, sys.path[:] = before


def _status(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)  # noqa: T201  # as Python does
    return 1


def _print(error: Exception) -> None:
    """Print the traceback from the application's own code on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)
