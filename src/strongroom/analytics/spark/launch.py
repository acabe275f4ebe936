"""Becomes a JVM and leaves a keeper behind: the process that serves its keys, and wipes them when it ends.

The JVM takes the place of the process that attested, so that the cluster's signals and exit status are the JVM's own.
The keeper is a child made before; it waits at a pipe whose other end only the JVM holds.
"""

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from strongroom.analytics.spark.key_server import KeyServer
from strongroom.analytics.spark.private_folder import PrivateFolder
from strongroom.errors import ConfigurationError

_STANDARD_STREAMS: Final = (0, 1, 2)


def become(
    command: Sequence[str], environment: Mapping[str, str], folder: PrivateFolder, server: KeyServer | None
) -> NoReturn:
    """Replace this process by a JVM.

    Args:
        command: Program and arguments.
        environment: Its whole environment.
        folder: Private folder; wiped when the JVM has ended.
        server: Serves keys until then; None: nothing is served.

    Raises:
        ConfigurationError: The program can't be started.
    """
    lifeline, held = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork() == 0:
        os.close(held)
        _keep(lifeline, folder, server)
    os.close(lifeline)
    os.set_inheritable(held, True)
    try:
        os.execve(command[0], list(command), dict(environment))  # noqa: S606  # no shell is wanted
    except OSError as error:
        raise ConfigurationError(f"can't start {command[0]}: {error.strerror}", code="spark.no_java") from None


def _keep(lifeline: int, folder: PrivateFolder, server: KeyServer | None) -> NoReturn:
    """Serve and wait for the JVM's end; in the child, which does nothing else any more."""
    try:
        os.setsid()  # a signal to the JVM's group must not end its keys before it
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in _STANDARD_STREAMS:
            os.dup2(nothing, stream)
        if server is not None:
            threading.Thread(target=server.serve, daemon=True).start()
        while os.read(lifeline, 1):
            pass
    finally:
        folder.close()
        os._exit(0)
