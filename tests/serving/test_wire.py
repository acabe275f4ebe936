"""Our message classes against bytes that were written by hand from TensorFlow Serving's field numbers."""

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from strongroom.serving.tensors.tensor_proto import decode_tensor, fill_tensor
from strongroom.serving.wire import inference_v2
from strongroom.serving.wire import tensorflow as wire

Pb = Callable[..., bytes]


def test_predict_request(pb: Pb) -> None:
    shape = pb((2, pb((1, 1))), (2, pb((1, 2))))
    tensor = pb((1, 1), (2, shape), (4, struct.pack("<2f", 1.5, -2)))
    raw = pb(
        (1, pb((1, "m"), (2, pb((1, 7))), (3, "sig"))),
        (2, pb((1, "x"), (2, tensor))),
        (3, "y"),
    )
    message = wire.PredictRequest.FromString(raw)
    assert (message.model_spec.name, message.model_spec.version.value, message.model_spec.signature_name) == (
        "m",
        7,
        "sig",
    )
    assert list(message.output_filter) == ["y"]
    assert decode_tensor(message.inputs["x"]).tolist() == [[1.5, -2.0]]
    assert message.SerializeToString(deterministic=True) == raw


def test_version_label_and_version_exclude_each_other(pb: Pb) -> None:
    message = wire.ModelSpec.FromString(pb((1, "m"), (2, pb((1, 7))), (4, "stable")))
    assert message.WhichOneof("version_choice") == "version_label"


def test_predict_response(pb: Pb) -> None:
    response = wire.PredictResponse()
    fill_tensor(response.outputs["y"], np.array([3], dtype=np.int64))
    response.model_spec.name = "m"
    tensor = pb((1, 9), (2, pb((2, pb((1, 1))))), (4, struct.pack("<q", 3)))
    assert response.SerializeToString(deterministic=True) == pb((1, pb((1, "y"), (2, tensor))), (2, pb((1, "m"))))


def test_classification_request_with_example(pb: Pb) -> None:
    feature = pb((2, pb((1, struct.pack("<f", 0.5)))))
    example = pb((1, pb((1, pb((1, "age"), (2, feature))))))
    message = wire.ClassificationRequest.FromString(pb((1, pb((1, "m"))), (2, pb((1, pb((1, example)))))))
    (read,) = message.input.example_list.examples
    assert list(read.features.feature["age"].float_list.value) == [0.5]


def test_model_status_response(pb: Pb) -> None:
    response = wire.GetModelStatusResponse()
    line = response.model_version_status.add(version=3, state=30)
    line.status.error_code = 5
    line.status.error_message = "gone"
    assert response.SerializeToString() == pb((1, pb((1, 3), (2, 30), (3, pb((1, 5), (2, "gone"))))))


def test_signature_map_travels_as_any(pb: Pb) -> None:
    response = wire.GetModelMetadataResponse()
    packed = wire.SignatureDefMap()
    packed.signature_def["serving_default"].method_name = "tensorflow/serving/predict"
    response.metadata["signature_def"].Pack(packed)
    inner = pb((1, pb((1, "serving_default"), (2, pb((3, "tensorflow/serving/predict"))))))
    any_ = pb((1, "type.googleapis.com/tensorflow.serving.SignatureDefMap"), (2, inner))
    assert response.SerializeToString() == pb((2, pb((1, "signature_def"), (2, any_))))


def test_v2_infer_request(pb: Pb) -> None:
    raw = pb(
        (1, "m"),
        (2, "1"),
        (3, "id"),
        (5, pb((1, "x"), (2, "FP32"), (3, b"\x01\x02"))),
        (6, pb((1, "y"))),
        (7, struct.pack("<2f", 1, 2)),
    )
    message = inference_v2.ModelInferRequest.FromString(raw)
    (tensor,) = message.inputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("x", "FP32", [1, 2])
    assert message.raw_input_contents[0] == struct.pack("<2f", 1, 2)
    assert message.SerializeToString() == raw


@pytest.mark.parametrize("name", ["PredictRequest", "GetModelStatusRequest", "ReloadConfigRequest"])
def test_same_bytes_as_the_public_package(name: str) -> None:
    public: Any = pytest.importorskip("tensorflow_serving.apis", reason="tensorflow-serving-api is not installed")
    modules = {
        "PredictRequest": "predict_pb2",
        "GetModelStatusRequest": "get_model_status_pb2",
        "ReloadConfigRequest": "model_management_pb2",
    }
    module = __import__(f"{public.__name__}.{modules[name]}", fromlist=[name])
    theirs, ours = getattr(module, name)(), getattr(wire, name)()
    for message in (theirs, ours):
        if name == "ReloadConfigRequest":
            entry = message.config.model_config_list.config.add(name="m", base_path="/m")
            entry.model_version_policy.specific.versions.extend([1, 2])
            entry.version_labels["stable"] = 1
        else:
            message.model_spec.name = "m"
            message.model_spec.version.value = 3
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)
