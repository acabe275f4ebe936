"""Master and workers of a standalone cluster, inside TEEs: they carry the traffic's secret, so they attest like others.

A worker starts executors with a Java of ours (``executor_home``), and so each of them attests by itself.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from strongroom.analytics.spark.attested import attest
from strongroom.analytics.spark.jar import find_java, pyspark_folder
from strongroom.analytics.spark.jvm import CONF_FOLDER, environment, write_logging
from strongroom.analytics.spark.launch import become
from strongroom.analytics.spark.private_folder import PrivateFolder
from strongroom.analytics.spark.settings import PINNED
from strongroom.analytics.spark.traffic import credentials
from strongroom.errors import ConfigurationError

PYTHON_VARIABLE: Final = "STRONGROOM_PYTHON"
JAVA_VARIABLE: Final = "STRONGROOM_JAVA_HOME"
MASTER: Final = "org.apache.spark.deploy.master.Master"
WORKER: Final = "org.apache.spark.deploy.worker.Worker"
MAX_RETRIES: Final = 3
_EXECUTOR_HOME: Final = Path(__file__).parent / "executor_home"
_SETTINGS_PREFIX: Final = "STRONGROOM_"
_DAEMON: Final = {
    "spark.deploy.maxExecutorRetries": str(MAX_RETRIES),
    "spark.master.ui.port": "0",
    "spark.worker.ui.port": "0",
    "spark.master.rest.enabled": "false",
    "spark.worker.cleanup.enabled": "true",
}


def become_master(host: str, port: int) -> NoReturn:
    """Attest and become the master of a standalone cluster.

    Args:
        host: Name or address to listen at.
        port: TCP port.

    Raises:
        StrongroomError: The broker refuses or does not answer, or there is no Java.
    """
    _become(MASTER, ["--host", host, "--port", str(port)])


def become_worker(master: str, host: str, *, cores: int, memory: str, work: Path) -> NoReturn:
    """Attest and become a worker of a standalone cluster.

    Args:
        master: ``spark://HOST:PORT``.
        host: Name or address to listen at.
        cores: How many cores it offers.
        memory: How much memory it offers, e.g. ``4g``.
        work: Folder for the executors' logs.

    Raises:
        StrongroomError: The broker refuses or does not answer, or there is no Java.
    """
    arguments = ["--host", host, "--cores", str(cores), "--memory", memory, "--work-dir", str(work.absolute()), master]
    _become(WORKER, arguments)


def _become(program: str, arguments: Sequence[str]) -> NoReturn:
    """Attest and become a daemon.

    Raises:
        ConfigurationError: The workload names no secret for Spark's traffic.
    """
    released = attest()
    if released.traffic is None:
        raise ConfigurationError("the workload names no key with the alias spark", code="spark.no_secret")
    folder = PrivateFolder()
    try:
        token_file = folder.write("credentials", credentials(released.traffic))
        write_logging(folder)
        variables = environment(folder, folder.path / "no-keys-here", token_file)
        become(_command(program, arguments, folder), _for_executors(variables), folder, None)
    except BaseException:
        folder.close()
        raise


def _for_executors(variables: Mapping[str, str]) -> dict[str, str]:
    """A daemon's environment with what an executor's launcher needs: this Python, and where broker and workload are."""
    own = {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS_PREFIX)}
    return {
        **own,
        **variables,
        PYTHON_VARIABLE: sys.executable,
        JAVA_VARIABLE: variables["JAVA_HOME"],
        "JAVA_HOME": str(_EXECUTOR_HOME),
        "SPARK_SCALA_VERSION": _scala_version(),
        "SPARK_LOCAL_IP": "127.0.0.1",  # the web pages, which have neither TLS nor a password
    }


def _scala_version() -> str:
    """What Spark's start scripts find out; a worker needs it to make an executor's classpath.

    Raises:
        ConfigurationError: This is no PySpark.
    """
    for jar in (pyspark_folder() / "jars").glob("spark-core_*-*.jar"):
        return jar.name.removeprefix("spark-core_").partition("-")[0]
    raise ConfigurationError("PySpark's jars are missing", code="spark.absent")


def _command(program: str, arguments: Sequence[str], folder: PrivateFolder) -> list[str]:
    settings = {**_DAEMON, **PINNED}
    classpath = os.pathsep.join([str(folder.path / CONF_FOLDER), str(pyspark_folder() / "jars" / "*")])
    return [
        find_java() or "java",
        "-cp",
        classpath,
        "-Xmx512m",
        *(f"-D{name}={value}" for name, value in sorted(settings.items())),
        program,
        *arguments,
    ]
