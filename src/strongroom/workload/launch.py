"""Starts a workload's command with the environment its definition declares, and nothing of the caller's."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from strongroom.errors import ConfigurationError
from strongroom.workload.definition import Workload

_THIS_INTERPRETER: Final = ("python", "python3")


def launch(workload: Workload, settings: Mapping[str, str], arguments: Sequence[str] = ()) -> NoReturn:
    """Replaces this process by the workload's command, so that signals and exit status are the command's own.

    The command runs in the folder of its definition.

    Args:
        workload: What to start.
        settings: ``STRONGROOM_*`` variables: where the broker and the storage are; never a secret.
        arguments: Appended to the command.

    Raises:
        ConfigurationError: Arguments are given and the definition doesn't allow them (``workload.arguments``), or the
            program can't be started (``workload.program``).
    """
    if arguments and not workload.insecure_host_arguments:
        raise ConfigurationError(
            f"workload {workload.name!r} takes no further arguments: they would not be measured",
            code="workload.arguments",
            hint="write them into `command`, or set insecure_host_arguments = true and authorize the workload again",
        )
    program = find_program(workload)
    environment = {**workload.environment, **settings}
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.chdir(workload.folder)
        os.execve(program, [program, *workload.command[1:], *arguments], environment)  # noqa: S606 - no shell is wanted
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "impossible argument"
        raise ConfigurationError(f"can't start {program}: {reason}", code="workload.program") from error


def find_program(workload: Workload) -> str:
    """Absolute path of the program that the command names.

    ``python`` and ``python3`` are the interpreter that runs Strongroom, a name with ``/`` is relative to the
    definition's folder, another name is looked for in the declared ``PATH`` or the system's default one.

    Raises:
        ConfigurationError: There is no such program (``workload.program``).
    """
    name = workload.command[0]
    if name in _THIS_INTERPRETER and "PATH" not in workload.environment:
        return sys.executable
    search = workload.environment.get("PATH", os.defpath)
    found = shutil.which(str(workload.folder / name) if "/" in name else name, path=search)
    if found is None:
        raise ConfigurationError(
            f"no program {name!r}",
            code="workload.program",
            hint=f"looked in {workload.folder}" if "/" in name else f"looked in {search}",
        )
    return str(Path(found))
