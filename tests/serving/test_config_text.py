"""TensorFlow Serving's configuration files."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError
from strongroom.serving.config.text import (
    models_from_config,
    parse_batching,
    parse_model_config,
    parse_monitoring,
)
from strongroom.serving.models.limits import BatchingLimits, ModelLimits
from strongroom.serving.models.policy import ModelSettings

DEFAULTS = ModelSettings("", "", limits=ModelLimits(concurrency=7))

MODELS = b"""
model_config_list {
  config {
    name: "resnet"
    base_path: "models/resnet/"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 2 versions: 3 } }
    version_labels { key: "stable" value: 2 }
  }
  config: { name: 'all', base_path: 'a', model_version_policy: { all: {} } }
  config { name: "latest" base_path: "l" model_version_policy { latest { num_versions: 3 } } }
  config { name: "plain" base_path: "p" }
}
"""


def test_models() -> None:
    resnet, everything, latest, plain = models_from_config(parse_model_config(MODELS), DEFAULTS)
    assert (resnet.name, resnet.base_path, dict(resnet.labels)) == ("resnet", "models/resnet", {"stable": 2})
    assert resnet.policy.wanted([1, 2, 3]) == {2, 3}
    assert everything.policy.wanted([1, 2]) == {1, 2}
    assert latest.policy.wanted([1, 2, 3, 4]) == {2, 3, 4}
    assert plain.policy.wanted([1, 2]) == {2}
    assert plain.limits.concurrency == 7


@pytest.mark.parametrize(
    "text",
    [
        "",
        "model_config_list {}",
        "model_config_list { config { name: 'a' } }",
        "model_config_list { config { base_path: 'a' } }",
        "model_config_list { config { name: 'a' base_path: 'a' } config { name: 'a' base_path: 'b' } }",
        "model_config_list { config { name: 'a' base_path: 'a' model_platform: 'caffe' } }",
        "model_config_list { config { name: 'a' base_path: 'a' model_version_policy { specific {} } } }",
        "model_config_list { config { name: 'a' base_path: 'a' unknown: 1 } }",
        "model_config_list {",
        "\udc00",
    ],
)
def test_refuses_model_configs(text: str) -> None:
    with pytest.raises(ConfigurationError):
        models_from_config(parse_model_config(text.encode("utf-8", "surrogatepass")), DEFAULTS)


def test_batching() -> None:
    text = b"""max_batch_size { value: 16 } batch_timeout_micros { value: 500 } max_enqueued_batches { value: 3 }
    num_batch_threads { value: 1 } allowed_batch_sizes: 4 allowed_batch_sizes: 16
    enable_large_batch_splitting { value: false }"""
    assert parse_batching(text) == BatchingLimits(16, 500, 3, 1, (4, 16), split=False)
    assert parse_batching(b"") == BatchingLimits()


@pytest.mark.parametrize(
    "text",
    [
        "max_batch_size { value: 0 }",
        "max_batch_size { value: -1 }",
        "num_batch_threads { value: 0 }",
        "batch_timeout_micros { value: -1 }",
        "max_batch_size { value: 8 } allowed_batch_sizes: 4",
        "max_batch_size { value: 8 } allowed_batch_sizes: 8 allowed_batch_sizes: 4",
        "pad_variable_length_inputs: true",
        "max_batch_size: 8",
    ],
)
def test_refuses_batching(text: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_batching(text.encode())


def test_monitoring() -> None:
    assert parse_monitoring(b"prometheus_config { enable: true }") == "/monitoring/prometheus/metrics"
    assert parse_monitoring(b"prometheus_config { enable: true path: '/m' }") == "/m"
    assert parse_monitoring(b"prometheus_config { enable: false path: '/m' }") == ""
    assert parse_monitoring(b"") == ""
    with pytest.raises(ConfigurationError):
        parse_monitoring(b"prometheus_config { enable: true path: 'm' }")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_refused_or_read(raw: bytes) -> None:
    for parse in (parse_model_config, parse_batching, parse_monitoring):
        try:
            parse(raw)
        except ConfigurationError:
            pass


def test_refuses_huge_and_deep_files() -> None:
    with pytest.raises(ConfigurationError, match="larger"):
        parse_model_config(b" " * (1 << 20) + b" ")
    with pytest.raises(ConfigurationError):
        parse_model_config(b"model_config_list { config { model_version_policy {" * 5000)
