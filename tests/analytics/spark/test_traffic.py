"""Secrets of Spark's own traffic, and the masters they are for."""

import pytest

from strongroom.analytics.spark.private_folder import PrivateFolder
from strongroom.analytics.spark.refusals import explain, status_of
from strongroom.analytics.spark.traffic import credentials, traffic
from strongroom.errors import (
    ConfigurationError,
    Finding,
    FormatError,
    KeyReleaseError,
    PolicyRejected,
    UnavailableError,
)

SECRET = "5ec12e7" * 9


def test_local_mode_needs_no_secret() -> None:
    with PrivateFolder() as folder:
        for master in ("local", "local[2]", "local[*]", "local[2, 3]"):
            assert traffic(master, None, folder) == ({}, None)


@pytest.mark.parametrize("master", ["spark://10.0.0.7:7077", "k8s://https://10.0.0.7:6443"])
def test_a_cluster_needs_a_secret_and_no_setting_holds_it(master: str) -> None:
    with PrivateFolder() as folder:
        with pytest.raises(ConfigurationError) as refusal:
            traffic(master, None, folder)
        assert refusal.value.code == "spark.no_secret"
        settings, _ = traffic(master, SECRET, folder)
        assert SECRET not in str(settings)


def test_what_spark_insists_on_opens_nothing_and_is_never_the_same() -> None:
    texts = set()
    for _ in range(2):
        with PrivateFolder() as folder:
            texts.add(traffic("spark://10.0.0.7:7077", SECRET, folder)[0]["spark.authenticate.secret"])
    assert len(texts) == 2


@pytest.mark.parametrize(
    "master", ["yarn", "local-cluster[1,1,1024]", "mesos://x:1", "spark://a b:1", "", "k8s://ftp://x"]
)
def test_refuses_other_masters(master: str) -> None:
    with PrivateFolder() as folder, pytest.raises(ConfigurationError):
        traffic(master, SECRET, folder)


def test_credentials_as_hadoop_writes_them() -> None:
    assert credentials("ab") == b"HDTS\0" + b"\0\1" + b"\x0bsparkCookie" + b"\2ab"
    with pytest.raises(FormatError):
        credentials("a" * 128)


def test_an_exit_status_tells_why_an_executor_was_refused() -> None:
    refused = PolicyRejected([Finding("unknown.code", ""), Finding("measurement.mr_enclave", "secret detail")])
    said = explain(status_of(refused))
    assert said is not None
    assert said.startswith("measurement.mr_enclave: the code measured here is not the code that was authorized")
    assert explain(status_of(PolicyRejected([Finding("spark.setting", "x")]))) is not None
    assert explain(status_of(KeyReleaseError("no"))) == "the broker refused it"
    assert explain(status_of(UnavailableError("no"))) == "the broker does not answer it"


def test_other_exit_statuses_say_nothing() -> None:
    assert [status for status in (0, 1, 52, 56, 137, 143, 255) if explain(status)] == []
