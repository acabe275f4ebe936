"""Which settings a cluster may give, and how settings are written for Spark."""

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.analytics.spark.settings import DEFAULTS, FREE, PINNED, accepted, combined, properties
from strongroom.errors import PolicyRejected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("spark.executor.memory", "4g"),
        ("spark.executor.cores", "2"),
        ("spark.driver.host", "10.0.0.7"),
        ("spark.driver.port", "7078"),
        ("spark.sql.shuffle.partitions", "64"),
        ("spark.app.name", "taxi trips"),
        ("spark.network.timeout", "300s"),
        ("spark.authenticate", "true"),
    ],
)
def test_takes_amounts_addresses_and_times(name: str, value: str) -> None:
    assert accepted({name: value}, {}) == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("spark.authenticate", "false"),
        ("spark.network.crypto.enabled", "false"),
        ("spark.network.crypto.saslFallback", "true"),
        ("spark.io.encryption.enabled", "false"),
        (
            "spark.hadoop.parquet.crypto.factory.class",
            "org.apache.parquet.crypto.keytools.PropertiesDrivenCryptoFactory",
        ),
        ("spark.hadoop.parquet.encryption.kms.client.class", "Evil"),
        ("spark.hadoop.parquet.encryption.kms.instance.url", "https://evil"),
        ("spark.hadoop.strongroom.files", "/x\tdigest"),
        ("spark.hadoop.strongroom.scratch", "known"),
        ("spark.jars", "http://evil/evil.jar"),
        ("spark.jars.packages", "evil:evil:1"),
        ("spark.submit.pyFiles", "/tmp/evil.py"),
        ("spark.files", "/tmp/evil"),
        ("spark.archives", "/tmp/evil.zip"),
        ("spark.driver.extraClassPath", "/tmp/evil.jar"),
        ("spark.executor.extraClassPath", "/tmp/evil.jar"),
        ("spark.driver.extraJavaOptions", "-javaagent:/tmp/evil.jar"),
        ("spark.executor.extraJavaOptions", "-Dlog4j2.configurationFile=http://evil"),
        ("spark.executor.defaultJavaOptions", "-XX:OnError=evil"),
        ("spark.executorEnv.LD_PRELOAD", "/tmp/evil.so"),
        ("spark.executorEnv.JAVA_HOME", "/tmp/evil"),
        ("spark.pyspark.python", "/tmp/evil"),
        ("spark.plugins", "Evil"),
        ("spark.extraListeners", "Evil"),
        ("spark.sql.extensions", "Evil"),
        ("spark.sql.queryExecutionListeners", "Evil"),
        ("spark.sql.catalog.spark_catalog", "Evil"),
        ("spark.sql.runSQLOnFiles", "true"),
        ("spark.eventLog.enabled", "true"),
        ("spark.eventLog.dir", "/tmp"),
        ("spark.ui.enabled", "true"),
        ("spark.driver.memory", "1g -javaagent:x"),
        ("spark.driver.host", "evil$(x)"),
        ("spark.executor.memory", "1g\nspark.plugins=Evil"),
        ("spark.local.dir", "/mnt/host"),
        ("spark.authenticate.secret", "guess"),
        ("spark.authenticate.secret.file", "/mnt/host/secret"),
        ("spark.python.worker.memory", "1m"),
        ("spark.made.up.later", "true"),
        ("", ""),
    ],
)
def test_refuses_what_the_owner_did_not_allow(name: str, value: str) -> None:
    with pytest.raises(PolicyRejected) as refusal:
        accepted({"spark.executor.memory": "1g", name: value}, {})
    assert [finding.code for finding in refusal.value.findings] == ["spark.setting"]
    assert value == "" or len(value) < 5 or value not in str(refusal.value)  # what it says may be secret


def test_names_every_refused_setting() -> None:
    with pytest.raises(PolicyRejected) as refusal:
        accepted({"spark.plugins": "a", "spark.jars": "b"}, {})
    assert len(refusal.value.findings) == 2


def test_takes_what_the_owner_allowed_with_that_value_only() -> None:
    allowed = {"spark.eventLog.enabled": "true"}
    assert accepted({"spark.eventLog.enabled": "true"}, allowed)
    with pytest.raises(PolicyRejected):
        accepted({"spark.eventLog.enabled": "maybe"}, allowed)


def test_nothing_overrides_a_pinned_setting() -> None:
    hostile = dict.fromkeys(PINNED, "no")
    assert combined(own=hostile, given=hostile).items() >= PINNED.items()


def test_free_settings_are_neither_pinned_nor_patterns_for_them() -> None:
    import re

    risky = {*PINNED, *(set(DEFAULTS) - {"spark.driver.memory", "spark.executor.memory"})}
    assert not [(name, pattern) for name in risky for pattern, _ in FREE if re.fullmatch(pattern, name)]


@given(st.dictionaries(st.text(min_size=1, max_size=20), st.text(max_size=40), max_size=4))
def test_properties_keep_one_line_for_each_setting(settings: dict[str, str]) -> None:
    lines = properties(settings).decode().splitlines()
    assert len(lines) == len(settings)
    assert {_read(line) for line in lines} == set(settings.items())


def _read(line: str) -> tuple[str, str]:
    name, _, value = line.partition("=")
    return _plain(name), _plain(value)


def _plain(text: str) -> str:
    units = bytearray()
    i = 0
    while i < len(text):
        if text[i] == "\\":
            units += bytes.fromhex(text[i + 2 : i + 6])
            i += 6
        else:
            units += text[i].encode("utf-16-be")
            i += 1
    return units.decode("utf-16-be", "surrogatepass")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("jshell") is None, reason="no jshell here")
def test_java_reads_the_properties_as_they_were() -> None:
    settings = {"a b": "c=d:e#f!\\ \n\t\u20ac\U0001f512", "spark.x": " leading and trailing "}
    text = properties(settings).decode().replace("\\", "\\\\").replace("\n", "\\n")
    program = (
        f'var p = new java.util.Properties(); p.load(new java.io.StringReader("{text}"));\n'
        "var utf8 = java.nio.charset.StandardCharsets.UTF_8; var hex = java.util.HexFormat.of();\n"
        'p.forEach((k, v) -> System.out.println(hex.formatHex((k + "=" + v).getBytes(utf8))));\n'
    )
    done = subprocess.run(["jshell", "-s", "-"], input=program, capture_output=True, text=True, check=True, timeout=120)
    read = {bytes.fromhex(line).decode() for line in done.stdout.split()}
    assert read == {f"{name}={value}" for name, value in settings.items()}
