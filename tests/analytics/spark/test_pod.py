"""What Kubernetes says to a pod, taken apart: what is used, and what is refused."""

import base64
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.analytics.spark.command import KUBERNETES_BACKEND, parse_command
from strongroom.analytics.spark.pod import (
    Call,
    DriverCall,
    check_asked,
    cluster_settings,
    driver_call,
    executor_command,
    parse_call,
)
from strongroom.analytics.spark.settings import accepted
from strongroom.errors import ConfigurationError, PolicyRejected

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
VARIABLES = {
    "SPARK_DRIVER_URL": "spark://CoarseGrainedScheduler@10.0.0.7:7078",
    "SPARK_EXECUTOR_ID": "3",
    "SPARK_EXECUTOR_CORES": "2",
    "SPARK_EXECUTOR_MEMORY": "2457m",
    "SPARK_APPLICATION_ID": "spark-0123456789abcdef",
    "SPARK_EXECUTOR_POD_IP": "10.0.0.8",
    "SPARK_EXECUTOR_POD_NAME": "monthly-0123-exec-3",
    "SPARK_RESOURCE_PROFILE_ID": "0",
    "SPARK_JAVA_OPT_10": "-Dspark.driver.port=7078",
    "SPARK_JAVA_OPT_9": "-Dspark.authenticate=true",
    "SPARK_JAVA_OPT_11": "-Dspark.authenticate.secret.file=/dev/shm/the-driver-s-own",
    "SPARK_CLASSPATH": "/tmp/evil.jar",
}
RUNNER, QUERY = "org.apache.spark.deploy.PythonRunner", "/opt/strongroom/workloads/spark-driver/jobs/query.py"
DRIVER = ("driver", "--properties-file", "/opt/spark/conf/spark.properties", "--class", RUNNER, f"local://{QUERY}")


def written(arguments: Sequence[str], variables: dict[str, str]) -> str:
    """As the container's script writes it."""
    lists = (arguments, [f"{name}={value}" for name, value in variables.items()])
    return ".".join(base64.b64encode("".join(f"{item}\0" for item in items).encode()).decode() for items in lists)


@given(st.lists(TEXT, max_size=4), st.dictionaries(TEXT.filter(lambda name: "=" not in name), TEXT, max_size=4))
def test_parses_what_the_script_wrote(arguments: list[str], variables: dict[str, str]) -> None:
    assert parse_call(written(arguments, variables)) == Call(tuple(arguments), variables)


@given(st.text(max_size=80))
def test_any_text_is_a_call_or_an_error_of_ours(text: str) -> None:
    try:
        parse_call(text)
    except ConfigurationError as error:
        assert error.code == "spark.pod"


@pytest.mark.parametrize("text", ["", "!.", "YQ==.", "x" * 200_000 + ".", "/w==."])
def test_refuses_a_malformed_call(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_call(text)


def test_an_executor_s_command_is_what_spark_says_in_variables() -> None:
    command = parse_command(executor_command(Call(("executor",), VARIABLES)))
    assert command.program == KUBERNETES_BACKEND
    assert command.options == ("-Xms2457m", "-Xmx2457m")
    # The driver's own path of the secret says nothing here; a class path is not taken over.
    assert command.settings == {"spark.authenticate": "true", "spark.driver.port": "7078"}
    assert dict(zip(command.arguments[::2], command.arguments[1::2], strict=True)) == {
        "--driver-url": "spark://CoarseGrainedScheduler@10.0.0.7:7078",
        "--executor-id": "3",
        "--cores": "2",
        "--app-id": "spark-0123456789abcdef",
        "--hostname": "10.0.0.8",
        "--resourceProfileId": "0",
        "--podName": "monthly-0123-exec-3",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SPARK_JAVA_OPT_1", "-javaagent:/tmp/evil.jar"),
        ("SPARK_JAVA_OPT_1", "-XX:OnOutOfMemoryError=sh"),
        ("SPARK_JAVA_OPT_1", "-agentlib:jdwp=transport=dt_socket,server=y,address=*:5005"),
        ("SPARK_JAVA_OPT_1", "-Djava.security.manager=x"),
        ("SPARK_JAVA_OPT_1", "org.apache.spark.executor.CoarseGrainedExecutorBackend"),
        ("SPARK_JAVA_OPT_1", "-Dspark.authenticate"),
        ("SPARK_EXECUTOR_MEMORY", "1g -XX:+X"),
        ("SPARK_DRIVER_URL", "http://10.0.0.7"),
        ("SPARK_EXECUTOR_ID", "EXECID"),
        ("SPARK_EXECUTOR_POD_NAME", "a b"),
        ("SPARK_APPLICATION_ID", "--user-class-path"),
    ],
)
def test_an_executor_refuses_what_it_does_not_know(name: str, value: str) -> None:
    if value == "--user-class-path":
        value = "../x"
    with pytest.raises(PolicyRejected):
        parse_command(executor_command(Call(("executor",), VARIABLES | {name: value})))


@pytest.mark.parametrize("missing", ["SPARK_DRIVER_URL", "SPARK_EXECUTOR_MEMORY", "SPARK_EXECUTOR_POD_NAME"])
def test_an_executor_needs_every_variable(missing: str) -> None:
    with pytest.raises(ConfigurationError, match=missing):
        executor_command(Call(("executor",), {name: value for name, value in VARIABLES.items() if name != missing}))


def test_a_driver_s_call() -> None:
    asked = driver_call(Call((*DRIVER, "--rounds", "20"), {"SPARK_DRIVER_BIND_ADDRESS": "10.0.0.7"}))
    assert str(asked.application) == QUERY
    assert asked.arguments == ("--rounds", "20")
    assert cluster_settings({"spark.master": "local", "spark.authenticate.secret.file": "/x", "a": "b"}, asked) == {
        "a": "b",
        "spark.driver.bindAddress": "10.0.0.7",
        "spark.submit.deployMode": "client",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("executor",),
        DRIVER[:-1],
        (*DRIVER[:4], "org.apache.spark.examples.SparkPi", DRIVER[5]),
        (*DRIVER[:5], "https://evil.example/query.py"),
        (*DRIVER[:5], "spark-internal"),
        ("driver", "--proxy-user", "root", *DRIVER[1:]),
    ],
)
def test_a_driver_refuses_to_be_something_else(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError):
        driver_call(Call(arguments, {}))


def asked_for(name: str, *arguments: str) -> DriverCall:
    return driver_call(Call((*DRIVER[:5], f"local:///opt/jobs/{name}", *arguments), {}))


def test_another_application_and_added_arguments_are_refused() -> None:
    ours = Path("jobs/query.py")
    check_asked(asked_for("query.py"), ours, arguments_allowed=False)
    check_asked(asked_for("query.py", "--x"), ours, arguments_allowed=True)
    for wrong in (asked_for("other.py"), asked_for("query.py", "--x")):
        with pytest.raises(PolicyRejected):
            check_asked(wrong, ours, arguments_allowed=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # Its content would be sent to the API server.
        ("spark.kubernetes.authenticate.oauthTokenFile", "/run/strongroom/secret"),
        ("spark.kubernetes.authenticate.driver.mounted.oauthTokenFile", "/run/strongroom/secret"),
        ("spark.kubernetes.authenticate.caCertFile", "/x"),
        ("spark.kubernetes.executor.podTemplateFile", "/run/strongroom/secret"),
        ("spark.kubernetes.driver.master", "https://evil.example"),
        # Its class would be loaded.
        ("spark.kubernetes.allocation.pods.allocator", "evil.Allocator"),
        ("spark.kubernetes.driver.pod.featureSteps", "evil.Step"),
        ("spark.kubernetes.executor.scheduler.class", "evil.Scheduler"),
        ("spark.submit.pyFiles", "local:///tmp/evil.py"),
        ("spark.jars", "local:///tmp/evil.jar"),
        ("spark.executorEnv.JAVA_TOOL_OPTIONS", "-javaagent:/x"),
        ("spark.kubernetes.driverEnv.PYTHONPATH", "/tmp"),
        ("spark.local.dir", "/mnt/host"),
        ("spark.kubernetes.resource.type", "java"),
        ("spark.eventLog.enabled", "true"),
        ("spark.ui.enabled", "true"),
        ("spark.hadoop.parquet.crypto.factory.class", "evil.Factory"),
        ("spark.network.crypto.enabled", "false"),
    ],
)
def test_a_cluster_sets_no_code_no_files_and_no_weaker_protection(name: str, value: str) -> None:
    with pytest.raises(PolicyRejected) as refusal:
        accepted({name: value}, {}, kubernetes=True)
    assert name in refusal.value.findings[0].detail


def test_what_the_apache_operator_adds_is_known() -> None:
    """Source: apache/spark-kubernetes-operator, SparkAppSubmissionWorker (buildDriverConf)."""
    added = {
        "spark.master": "k8s://https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT",
        "spark.app.id": "spark-driver-0",
        "spark.kubernetes.namespace": "strongroom",
        "spark.authenticate": "true",
        "spark.io.encryption.enabled": "true",
        "spark.kubernetes.driver.annotateExitException": "true",
        "spark.kubernetes.executor.useDriverPodIP": "true",
        "spark.kubernetes.executor.deleteOnTermination": "false",
        "spark.kubernetes.driver.label.spark.operator/name": "spark-kubernetes-operator",
        "spark.kubernetes.driver.service.label.spark.operator/name": "spark-kubernetes-operator",
        "spark.kubernetes.executor.label.spark.operator/name": "spark-kubernetes-operator",
        "spark.app.name": "spark-driver",
        "spark.kubernetes.executor.podTemplateFile": "/opt/spark/pod-template/pod-spec-template.yml",
    }
    asked = driver_call(Call(DRIVER, {"SPARK_LOCAL_DIRS": "/var/spark"}))
    assert "spark.master" not in accepted(cluster_settings(added, asked), {}, kubernetes=True)


@pytest.mark.parametrize("variables", [{}, {"STRONGROOM_SPARK_CALL": "x"}])
def test_an_executor_outside_a_pod_says_what_it_misses(variables: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "strongroom", "analytics", "spark-executor"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)} | variables
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "what Kubernetes says to this pod is not understood" in done.stderr
