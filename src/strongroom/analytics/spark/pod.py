"""What Spark on Kubernetes says to a pod of ours, and what of it is used.

Spark starts a container with ``driver`` or ``executor`` as arguments, and says the rest in variables. The container's
script (deploy/containers/spark-entrypoint.sh) hands both over in one variable, because an enclave takes only those from
its host that its manifest names. The cluster makes up all of it, so it is taken apart strictly.

Source: Apache Spark 4, resource-managers/kubernetes: entrypoint.sh, BasicExecutorFeatureStep, DriverCommandFeatureStep,
PodTemplateConfigMapStep, KubernetesExecutorBackend.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, NoReturn

from strongroom.analytics.spark.command import KUBERNETES_BACKEND
from strongroom.errors import ConfigurationError, Finding, PolicyRejected

CALL_VARIABLE: Final = "STRONGROOM_SPARK_CALL"
MASTER: Final = "k8s://https://kubernetes.default.svc"
"""Where a driver finds the API server, whatever the cluster's settings say."""
MAX_CALL_CHARS: Final = 128 * 1024
LOCAL_DIRS: Final = "SPARK_LOCAL_DIRS"
_OPTION: Final = re.compile(r"SPARK_JAVA_OPT_(\d{1,4})")
_RUNNER: Final = "org.apache.spark.deploy.PythonRunner"
_RESOURCE: Final = re.compile(r"local://(/[^\0\n]{1,1000})")
# Program arguments of an executor, and the variables they come in.
_ARGUMENTS: Final = {
    "--driver-url": "SPARK_DRIVER_URL",
    "--executor-id": "SPARK_EXECUTOR_ID",
    "--cores": "SPARK_EXECUTOR_CORES",
    "--app-id": "SPARK_APPLICATION_ID",
    "--hostname": "SPARK_EXECUTOR_POD_IP",
    "--resourceProfileId": "SPARK_RESOURCE_PROFILE_ID",
    "--podName": "SPARK_EXECUTOR_POD_NAME",
}
# Where the secret of Spark's traffic is read. Each process says that itself, about a file that it wrote.
_SECRET_FILES: Final = frozenset(f"spark.authenticate.secret{role}.file" for role in ("", ".driver", ".executor"))
# This process is the driver that was submitted.
_HERE: Final = {"spark.submit.deployMode": "client"}
# Only `spark-submit` reads these, outside; or the driver replaces them.
_FOR_SUBMIT: Final = frozenset({"spark.master", "spark.kubernetes.driver.podTemplateFile"})


@dataclass(frozen=True, slots=True)
class Call:
    """What the cluster says.

    Args:
        arguments: Of the container.
        variables: The container's variables whose names begin with ``SPARK_``.
    """

    arguments: tuple[str, ...]
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DriverCall:
    """What a driver is asked to do.

    Args:
        application: Path of the application in the image.
        properties: File with the cluster's settings.
        arguments: For the application.
        bind_address: Address of the pod; empty: Spark finds it.
        local_dirs: Where encrypted blocks spill to; empty: Spark's default.
    """

    application: PurePosixPath
    properties: Path
    arguments: tuple[str, ...]
    bind_address: str
    local_dirs: str


def parse_call(text: str) -> Call:
    """Take the script's variable apart: two lists in base64, a dot between; each item ends with a zero byte.

    Raises:
        ConfigurationError: It is something else.
    """
    arguments, separator, variables = text.partition(".")
    if len(text) > MAX_CALL_CHARS or not separator:
        _malformed("it is missing, or too long")
    pairs = [item.partition("=") for item in _items(variables)]
    return Call(tuple(_items(arguments)), {name: value for name, _, value in pairs})


def _items(text: str) -> list[str]:
    try:
        raw = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        _malformed("it is not base64 of text")
    *items, rest = raw.split("\0")
    if rest:
        _malformed("an item does not end")
    return items


def executor_command(call: Call) -> list[str]:
    """The command of an executor as a standalone worker would write it, without ``java``.

    Raises:
        ConfigurationError: This pod is not started as an executor, or a variable is missing.
    """
    if call.arguments != ("executor",):
        _malformed("this is not the start of an executor")
    numbered = {int(found[1]): value for name, value in call.variables.items() if (found := _OPTION.fullmatch(name))}
    options = [value for _, value in sorted(numbered.items()) if not _names_secret_file(value)]
    memory = _variable(call, "SPARK_EXECUTOR_MEMORY")
    program = [part for name, variable in _ARGUMENTS.items() for part in (name, _variable(call, variable))]
    return [*options, f"-Xms{memory}", f"-Xmx{memory}", KUBERNETES_BACKEND, *program]


def _names_secret_file(option: str) -> bool:
    return option.removeprefix("-D").partition("=")[0] in _SECRET_FILES


def driver_call(call: Call) -> DriverCall:
    """What a driver is asked to do.

    Raises:
        ConfigurationError: This pod is not started as a driver of a Python application.
    """
    match call.arguments:
        case ("driver", "--properties-file", properties, "--class", runner, resource, *arguments):
            found = _RESOURCE.fullmatch(resource)
            if found is None or runner != _RUNNER:
                _malformed("a driver runs a Python application of its image, local:///...")
        case _:
            _malformed("this is not the start of a driver")
    variables = call.variables
    return DriverCall(
        PurePosixPath(found[1]),
        Path(properties),
        tuple(arguments),
        variables.get("SPARK_DRIVER_BIND_ADDRESS", ""),
        variables.get(LOCAL_DIRS, ""),
    )


def check_asked(asked: DriverCall, application: Path, *, arguments_allowed: bool) -> None:
    """Refuse to run something else than what was measured, instead of running that silently.

    Args:
        asked: What the cluster asks for.
        application: The workload's own.
        arguments_allowed: Whether the workload lets its starter add arguments.

    Raises:
        PolicyRejected: It asks for another application, or adds arguments.
    """
    if asked.application.name != application.name:
        _refuse("job.application", f"the cluster asks for {asked.application.name[:100]!r}, not {application.name!r}")
    if asked.arguments and not arguments_allowed:
        _refuse("job.arguments", "the cluster adds arguments, and the workload has no insecure_host_arguments = true")


def cluster_settings(given: Mapping[str, str], asked: DriverCall) -> dict[str, str]:
    """Settings of the cluster that a driver looks at.

    Args:
        given: Of the properties file.
        asked: Where the pod is.

    Returns:
        Those that are not for others to read, the pod's address, where blocks spill to.
    """
    kept = {name: value for name, value in given.items() if name not in _SECRET_FILES | _FOR_SUBMIT}
    places = {"spark.driver.bindAddress": asked.bind_address, "spark.local.dir": asked.local_dirs}
    return kept | {name: value for name, value in places.items() if value} | _HERE


def _variable(call: Call, name: str) -> str:
    if name not in call.variables:
        _malformed(f"{name} is missing")
    return call.variables[name]


def _refuse(code: str, text: str) -> NoReturn:
    """Refuse.

    Raises:
        PolicyRejected: Always.
    """
    raise PolicyRejected([Finding(code, text)], code=code)


def _malformed(why: str) -> NoReturn:
    """Refuse.

    Raises:
        ConfigurationError: Always.
    """
    raise ConfigurationError(
        f"what Kubernetes says to this pod is not understood: {why}",
        code="spark.pod",
        hint="the container's command is spark-entrypoint.sh, its arguments are Spark's",
    )
