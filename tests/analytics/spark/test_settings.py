"""Which settings a cluster may give."""

import pytest

from strongroom.analytics.spark.settings import DEFAULTS, FREE, PINNED, accepted, combined
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
