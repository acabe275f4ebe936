"""Starts the JVM of a driver: a clean environment, settings in a private file, the key server's address beside them."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from strongroom.analytics.spark.gateway import gateway_command, start_gateway
from strongroom.analytics.spark.jar import find_java, jar_path, pyspark_folder
from strongroom.analytics.spark.key_server import SOCKET_VARIABLE
from strongroom.analytics.spark.private_folder import PrivateFolder
from strongroom.analytics.spark.properties import serialize_properties
from strongroom.errors import ConfigurationError, UnavailableError

MIN_JAVA: Final = 17
PROPERTIES_NAME: Final = "spark.properties"
CONF_FOLDER: Final = "conf"
CLUSTER_LOG: Final = "cluster.log"
TOKEN_FILE_VARIABLE: Final = "HADOOP_TOKEN_FILE_LOCATION"  # noqa: S105  # a variable's name
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_KEPT: Final = ("HOME", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_STOP_TIMEOUT_S: Final = 20
_EVENTS_TIMEOUT_MS: Final = 30_000
_LOGGING: Final = """\
status = warn
rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
appender.console.type = Console
appender.console.name = stderr
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{{yy/MM/dd HH:mm:ss}} %p %c{{1}}: %m%n%ex
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
appender.cluster.type = File
appender.cluster.name = cluster
appender.cluster.fileName = {log}
appender.cluster.layout.type = PatternLayout
appender.cluster.layout.pattern = %m%n
logger.pods.name = org.apache.spark.scheduler.cluster.k8s.ExecutorPodsLifecycleManager
logger.pods.level = debug
logger.pods.additivity = false
logger.pods.appenderRef.cluster.ref = cluster
logger.pods.appenderRef.stderr.ref = stderr
logger.pods.appenderRef.stderr.level = warn
logger.client.name = org.apache.spark.deploy.client.StandaloneAppClient$ClientEndpoint
logger.client.level = info
logger.client.additivity = false
logger.client.appenderRef.cluster.ref = cluster
logger.client.appenderRef.stderr.ref = stderr
logger.client.appenderRef.stderr.level = warn
"""


def environment(folder: PrivateFolder, socket: Path, token_file: Path | None = None) -> dict[str, str]:
    """The environment of a JVM of ours; of this process's own it keeps nothing that could bring code or settings.

    Args:
        folder: Private folder; its ``conf`` becomes Spark's configuration folder.
        socket: Of the key server.
        token_file: Hadoop credentials with the secret of Spark's own traffic, for a standalone cluster.

    Raises:
        ConfigurationError: There is no Java or no PySpark.
    """
    java = find_java()
    if java is None:
        raise ConfigurationError(
            f"no Java here; Spark needs Java {MIN_JAVA} or newer",
            code="spark.no_java",
            hint="apt install openjdk-17-jre-headless, or set JAVA_HOME; --engine embedded needs none",
        )
    values = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return values | {
        "PATH": _PATH,
        "LANG": "C.UTF-8",
        "JAVA_HOME": str(Path(java).resolve().parent.parent),
        "SPARK_HOME": str(pyspark_folder()),
        "SPARK_CONF_DIR": str(folder.path / CONF_FOLDER),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "PYTHONSAFEPATH": "1",  # Python's workers start in any folder: none of its files is a library
        SOCKET_VARIABLE: str(socket),
        **({TOKEN_FILE_VARIABLE: str(token_file)} if token_file else {}),
    }


def write_logging(folder: PrivateFolder) -> Path:
    """Write the logging settings, and say where the cluster's messages about executors will stand."""
    log = folder.path / CLUSTER_LOG
    folder.write(f"{CONF_FOLDER}/log4j2.properties", _LOGGING.format(log=log).encode())
    return log


def start_jvm(folder: PrivateFolder, settings: Mapping[str, str], variables: Mapping[str, str]) -> None:
    """Start the JVM; PySpark's next SparkContext, whoever makes it, finds it and its settings.

    Args:
        folder: Private folder.
        settings: Spark's.
        variables: The JVM's whole environment.

    Raises:
        ConfigurationError: There is a Spark JVM in this process already.
        UnavailableError: The JVM doesn't start.
    """
    from pyspark import SparkContext
    from pyspark.java_gateway import launch_gateway

    if SparkContext._gateway is not None:  # noqa: SLF001  # PySpark has no public name for it
        raise ConfigurationError(
            "this process has a Spark JVM already", code="spark.running", hint="close that session first"
        )
    path = folder.write(PROPERTIES_NAME, serialize_properties(settings))
    classpath = [folder.path / CONF_FOLDER, Path(variables["SPARK_HOME"]) / "jars" / "*", jar_path()]
    command = gateway_command(Path(variables["JAVA_HOME"]) / "bin" / "java", classpath, settings, path)
    process, address = start_gateway(command, variables, folder.path)
    with _only({**variables, **address}):
        gateway = launch_gateway()  # type: ignore[no-untyped-call]  # PySpark's; it connects to what runs already
    gateway.proc = process
    SparkContext._ensure_initialized(gateway=gateway)  # noqa: SLF001


@contextmanager
def _only(variables: Mapping[str, str]) -> Iterator[None]:
    """This process's environment replaced for a moment: PySpark asks it for what it is told."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def no_executors() -> bool:
    """Whether Spark runs and no executor takes part."""
    from pyspark import SparkContext

    context: Any = SparkContext._active_spark_context  # noqa: SLF001
    if context is None or context._jsc is None:  # noqa: SLF001
        return False
    with suppress(Exception):  # it may be stopping
        return len(context._jsc.sc().statusTracker().getExecutorInfos()) <= 1  # noqa: SLF001  # the driver counts too
    return False


def stop_context() -> None:
    """Stop Spark under a program that waits for it; what it waits for fails."""
    from pyspark import SparkContext

    context: Any = SparkContext._active_spark_context  # noqa: SLF001
    with suppress(Exception):
        context._jsc.sc().stop()  # noqa: SLF001


def wait_for_events() -> None:
    """Wait until everything that Spark knows of its executors has been told (`strongroom.spark.EvidencePlugin`).

    Raises:
        UnavailableError: Spark doesn't say.
    """
    from pyspark import SparkContext

    context: Any = SparkContext._active_spark_context  # noqa: SLF001
    if context is None or context._jsc is None:  # noqa: SLF001  # it was stopped, and told everything then
        return
    try:
        context._jsc.sc().listenerBus().waitUntilEmpty(_EVENTS_TIMEOUT_MS)  # noqa: SLF001
    except Exception as error:
        raise UnavailableError("Spark doesn't say which executors took part", code="spark.events") from error


def stop_jvm() -> None:
    """Stop Spark and its JVM; a new session may be started then."""
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    gateway: Any = SparkContext._gateway  # noqa: SLF001
    if gateway is None:
        return
    active = SparkSession._instantiatedSession  # noqa: SLF001
    with suppress(Exception):  # the JVM may be gone already; there is nothing left to stop then
        if active is not None:
            active.stop()
        elif SparkContext._active_spark_context is not None:  # noqa: SLF001
            SparkContext._active_spark_context.stop()  # noqa: SLF001
    with suppress(Exception):
        gateway.shutdown()
    gateway.proc.stdin.close()
    try:
        gateway.proc.wait(_STOP_TIMEOUT_S)
    except Exception:  # it hangs: it holds keys, so it must end
        gateway.proc.kill()
        gateway.proc.wait()
    SparkContext._gateway = SparkContext._jvm = None  # noqa: SLF001
