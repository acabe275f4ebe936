"""The command by which a cluster starts an executor, taken apart: nothing of it is used that is not understood.

Source: Apache Spark 4, org.apache.spark.launcher.AbstractCommandBuilder (buildJavaCommand), JavaModuleOptions,
org.apache.spark.deploy.worker.CommandUtils, org.apache.spark.executor.CoarseGrainedExecutorBackend,
org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from strongroom.errors import Finding, PolicyRejected

BACKEND: Final = "org.apache.spark.executor.CoarseGrainedExecutorBackend"
KUBERNETES_BACKEND: Final = "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend"
MAX_ARGUMENTS: Final = 400
_MEMORY: Final = re.compile(r"-Xm[sx][1-9]\d{0,8}[kmgKMG]?")
_MODULES: Final = re.compile(
    r"--add-opens=[a-z.]+/[A-Za-z0-9.]+=ALL-UNNAMED|--add-modules=jdk\.incubator\.vector|--enable-native-access=ALL-UNNAMED"
    r"|-XX:\+IgnoreUnrecognizedVMOptions|--sun-misc-unsafe-memory-access=allow"
)
_JAVA: Final = re.compile(
    r"-D(jdk\.reflect\.useDirectMethodHandle|io\.netty\.[A-Za-z]+|java\.net\.preferIPv6Addresses)=(true|false)|-Dio\.netty\.allocator\.type=pooled"
    r"|-Dio\.netty\.handler\.ssl\.defaultEndpointVerificationAlgorithm=NONE"  # Spark's traffic is not Netty's TLS
)
_SETTING: Final = re.compile(r"-D(spark\.[A-Za-z0-9._-]{1,200})=(.{0,1000})", re.DOTALL)
_WORD: Final = r"[A-Za-z0-9._-]{1,200}"
_ADDRESS: Final = r"spark://[A-Za-z]{1,40}@[A-Za-z0-9.:_\[\]-]{1,260}"
_VALUES: Final = {
    "--driver-url": re.compile(_ADDRESS),
    "--worker-url": re.compile(_ADDRESS),
    "--executor-id": re.compile(r"\d{1,9}"),
    "--hostname": re.compile(r"[A-Za-z0-9.:_\[\]-]{1,253}"),
    "--bind-address": re.compile(r"[A-Za-z0-9.:_\[\]-]{1,253}"),
    "--cores": re.compile(r"[1-9]\d{0,5}"),
    "--app-id": re.compile(_WORD),
    "--resourceProfileId": re.compile(r"\d{1,9}"),
    "--podName": re.compile(r"[a-z0-9.-]{1,253}"),
}


@dataclass(frozen=True, slots=True)
class ExecutorCommand:
    """What a cluster wants an executor to be.

    Args:
        program: Its main class.
        options: Options of the JVM: memory, module access.
        settings: Settings of Spark.
        arguments: Of the executor's program: where the driver is, its id, cores.
    """

    program: str
    options: tuple[str, ...]
    settings: dict[str, str]
    arguments: tuple[str, ...]


def parse_command(arguments: Sequence[str]) -> ExecutorCommand:
    """Take a command apart.

    Args:
        arguments: Everything behind ``java``. The classpath is left out: an executor uses its own.

    Raises:
        PolicyRejected: Something in it is not one of the few things an executor needs.
    """
    programs = [place for place, part in enumerate(arguments) if part in {BACKEND, KUBERNETES_BACKEND}]
    if len(arguments) > MAX_ARGUMENTS or not programs:
        _refuse("not the command of an executor")
    program = programs[0]
    options: list[str] = []
    settings: dict[str, str] = {}
    rest = iter(arguments[:program])
    for argument in rest:
        if argument == "-cp":
            next(rest, None)
        elif found := _SETTING.fullmatch(argument):
            settings[found[1]] = found[2]
        elif _MEMORY.fullmatch(argument) or _MODULES.fullmatch(argument) or _JAVA.fullmatch(argument):
            options.append(argument)
        else:
            _refuse(f"the option {argument[:100]!r}")
    return ExecutorCommand(arguments[program], tuple(options), settings, _backend_arguments(arguments[program + 1 :]))


def _backend_arguments(arguments: Sequence[str]) -> tuple[str, ...]:
    for name, value in zip(arguments[::2], arguments[1::2], strict=False):
        if name not in _VALUES or not _VALUES[name].fullmatch(value):
            _refuse(f"the argument {name[:100]!r}")
    if len(arguments) % 2:
        _refuse(f"the argument {arguments[-1][:100]!r}")
    return tuple(arguments)


def _refuse(what: str) -> NoReturn:
    """Refuse the command.

    Raises:
        PolicyRejected: Always.
    """
    raise PolicyRejected(
        [Finding("spark.setting", f"the cluster starts this executor with {what}, which is not allowed")],
        code="spark.setting",
    )
