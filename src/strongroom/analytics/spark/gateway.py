"""Starts the JVM that PySpark talks to: no shell script, and no second JVM that only puts a command together.

Source: Apache Spark 4, bin/spark-class, org.apache.spark.launcher.SparkSubmitCommandBuilder and JavaModuleOptions,
org.apache.spark.api.python.PythonGatewayServer, python/pyspark/java_gateway.py.
"""

import shlex
import struct
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from strongroom.errors import UnavailableError

SUBMIT: Final = "org.apache.spark.deploy.SparkSubmit"
START_TIMEOUT_S: Final = 300.0
_STDERR: Final = 2
_PAUSE_S: Final = 0.01
_INFO: Final = "gateway"
_LENGTHS: Final = struct.Struct(">ii")  # port, length of the secret
_OPENED: Final = (
    *(f"java.base/java.{name}" for name in ("lang", "lang.invoke", "lang.reflect", "io", "net", "nio", "util")),
    *("java.base/java.util.concurrent", "java.base/java.util.concurrent.atomic", "java.base/jdk.internal.ref"),
    *("java.base/sun.nio.ch", "java.base/sun.nio.cs", "java.base/sun.security.action", "java.base/sun.util.calendar"),
    "java.security.jgss/sun.security.krb5",
)
OPTIONS: Final = (
    *("-XX:+IgnoreUnrecognizedVMOptions", "--add-modules=jdk.incubator.vector", "--enable-native-access=ALL-UNNAMED"),
    *(f"--add-opens={name}=ALL-UNNAMED" for name in _OPENED),
    "-Djdk.reflect.useDirectMethodHandle=false",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dio.netty.allocator.type=pooled",
    "--sun-misc-unsafe-memory-access=allow",
)
"""What a JVM of Spark needs on Java 17 and newer."""
GUARDED: Final = ("-XX:+SuppressFatalErrorMessage", "-XX:+DisableAttachMechanism", "-XX:-UsePerfData")
"""A JVM that crashes writes no memory to a disk, and one that runs lets nobody look into it."""


def gateway_command(java: Path, classpath: Sequence[Path], settings: Mapping[str, str], properties: Path) -> list[str]:
    """The command of a driver's JVM.

    Args:
        java: The program.
        classpath: Folders and jars.
        settings: Spark's; memory and options of the JVM are taken from them.
        properties: File with all settings.
    """
    return [
        str(java),
        "-cp",
        ":".join(map(str, classpath)),
        f"-Xmx{settings.get('spark.driver.memory', '1g')}",
        *OPTIONS,
        *GUARDED,
        *shlex.split(settings.get("spark.driver.extraJavaOptions", "")),
        SUBMIT,
        "--properties-file",
        str(properties),
        "pyspark-shell",
    ]


def start_gateway(
    command: Sequence[str], variables: Mapping[str, str], folder: Path
) -> tuple[subprocess.Popen[bytes], dict[str, str]]:
    """Start the JVM and wait until it can be talked to.

    Args:
        command: From `gateway_command`.
        variables: The JVM's whole environment.
        folder: Private folder, for its port and password.

    Returns:
        The process, and the variables by which `pyspark.java_gateway.launch_gateway` finds it.

    Raises:
        UnavailableError: It ends, or doesn't answer in time; it has ended then.
    """
    info = folder / _INFO
    own = {"SPARK_CONNECT_MODE": "0", "_PYSPARK_DRIVER_CONN_INFO_PATH": str(info)}
    process = subprocess.Popen(
        command,
        env={**variables, **own},
        stdin=subprocess.PIPE,  # the JVM ends when this end is closed, however this process ends
        stdout=_STDERR,
        process_group=0,  # Ctrl-C is for the application
    )
    try:
        port, secret = _wait(process, info)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process, {"PYSPARK_GATEWAY_PORT": str(port), "PYSPARK_GATEWAY_SECRET": secret}


def _wait(process: "subprocess.Popen[Any]", info: Path) -> tuple[int, str]:
    end = time.monotonic() + START_TIMEOUT_S
    while not info.exists():
        if process.poll() is not None or time.monotonic() > end:
            raise UnavailableError("the JVM does not start", code="spark.jvm", hint="its own words stand above")
        time.sleep(_PAUSE_S)
    raw = info.read_bytes()
    info.unlink()
    port, length = _LENGTHS.unpack_from(raw)
    return port, raw[_LENGTHS.size : _LENGTHS.size + length].decode()
