"""What a cluster starts instead of Java: attests, then becomes an executor; or ends, and says why.

A standalone worker runs it as ``python -I -m strongroom.analytics.spark.executor`` through ``executor_home/bin/java``;
a pod on Kubernetes runs it as ``strongroom analytics spark-executor``.
"""

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

from strongroom.analytics.spark.attested import AttestedKms, attest
from strongroom.analytics.spark.command import KUBERNETES_BACKEND, ExecutorCommand, parse_command
from strongroom.analytics.spark.evidence import GIVE_EVIDENCE
from strongroom.analytics.spark.gateway import GUARDED
from strongroom.analytics.spark.jar import find_java, jar_path, pyspark_folder
from strongroom.analytics.spark.job import parse_job
from strongroom.analytics.spark.jvm import CONF_FOLDER, environment, write_logging
from strongroom.analytics.spark.key_server import KeyServer
from strongroom.analytics.spark.launch import become
from strongroom.analytics.spark.pod import CALL_VARIABLE, LOCAL_DIRS, executor_command, parse_call
from strongroom.analytics.spark.private_folder import PrivateFolder
from strongroom.analytics.spark.refusals import status_of
from strongroom.analytics.spark.settings import PINNED, accepted
from strongroom.analytics.spark.traffic import SECRET_FILE_SETTING, as_read_from_file, credentials
from strongroom.errors import ConfigurationError, StrongroomError
from strongroom.outcome import print_error

MAX_PAUSE_S: Final = 30
_NUMBER: Final = "--executor-id"
# Folders for encrypted blocks, and who Spark says it is.
_TAKEN_OVER = {
    "SPARK_EXECUTOR_DIRS": re.compile(r"/[^\0\n]{1,4000}"),
    LOCAL_DIRS: re.compile(r"/[^\0\n]{1,4000}"),
    "SPARK_USER": re.compile(r"[a-z_][a-z0-9_-]{0,31}"),
}


def main(arguments: Sequence[str]) -> NoReturn:
    """Attest and become the executor of a standalone worker.

    Args:
        arguments: Everything behind ``java`` in the worker's command.

    Raises:
        SystemExit: This executor may not take part; the status says why (`strongroom.analytics.spark.refusals`).
    """
    try:
        start(arguments, os.environ)
    except StrongroomError as error:
        _end(error, arguments)


def main_in_pod() -> NoReturn:
    """Attest and become the executor that Kubernetes started this pod for.

    Raises:
        SystemExit: This executor may not take part; the status says why (`strongroom.analytics.spark.refusals`).
    """
    arguments: list[str] = []
    try:
        call = parse_call(os.environ.get(CALL_VARIABLE, ""))
        arguments = executor_command(call)
        start(arguments, call.variables)
    except StrongroomError as error:
        _end(error, arguments)


def _end(error: StrongroomError, arguments: Sequence[str]) -> NoReturn:
    print_error(error)
    sys.stderr.flush()
    time.sleep(_pause_s(arguments))
    raise SystemExit(status_of(error)) from None


def _pause_s(arguments: Sequence[str]) -> int:
    """A cluster starts another executor at once, for as long as the job lives: each waits longer than the one before.

    Returns:
        Seconds: the executor's number, at most 30.
    """
    following = arguments[arguments.index(_NUMBER) + 1 :][:1] if _NUMBER in arguments else []
    return min(int(following[0]), MAX_PAUSE_S) if following and re.fullmatch(r"\d{1,9}", following[0]) else 0


def start(arguments: Sequence[str], variables: Mapping[str, str]) -> NoReturn:
    """Attest and become the executor.

    Args:
        arguments: Everything behind ``java`` in the cluster's command.
        variables: The cluster's variables; few are looked at.

    Raises:
        PolicyRejected: The broker does not accept what runs here, or the cluster set what is not allowed.
        ConfigurationError: The workload names no secret for Spark's traffic, or there is no Java.
        StrongroomError: The broker refuses or does not answer.
    """
    command = parse_command(arguments)
    released = attest()
    if released.traffic is None:
        raise ConfigurationError("the executor's workload names no key with the alias spark", code="spark.no_secret")
    allowed = {} if released.job is None else parse_job(released.job).settings
    settings = {**accepted(command.settings, allowed), **PINNED}
    folder = PrivateFolder()
    try:
        kms = AttestedKms(attest, released)
        server = KeyServer(kms, folder.path, {GIVE_EVIDENCE: released.attester.as_executor})
        secret = released.traffic
        if command.program == KUBERNETES_BACKEND:
            settings[SECRET_FILE_SETTING] = str(folder.write("secret", secret.encode("ascii")))
            secret = as_read_from_file(secret)
        # An executor asks for the driver's settings before it knows its master, and looks into no other file then.
        token_file = folder.write("credentials", credentials(secret))
        write_logging(folder)
        become(
            _java_command(command, settings, folder),
            environment(folder, server.path, token_file) | _taken_over(variables),
            folder,
            server,
        )
    except BaseException:
        folder.close()
        raise


def _java_command(command: ExecutorCommand, settings: dict[str, str], folder: PrivateFolder) -> list[str]:
    classpath = [folder.path / CONF_FOLDER, pyspark_folder() / "jars" / "*", jar_path()]
    return [
        find_java() or "java",
        "-cp",
        os.pathsep.join(map(str, classpath)),
        *GUARDED,
        *command.options,
        *(f"-D{name}={value}" for name, value in sorted(settings.items())),
        command.program,
        *command.arguments,
    ]


def _taken_over(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: variables[name] for name, known in _TAKEN_OVER.items() if known.fullmatch(variables.get(name, ""))}


if __name__ == "__main__":
    main(sys.argv[1:])
