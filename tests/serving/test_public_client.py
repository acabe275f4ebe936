"""An unmodified TensorFlow Serving client: the public package's stubs and TensorFlow's own tensors.

Skipped where `tensorflow-serving-api` is not installed (it brings all of TensorFlow, about 2 GB).
"""

from typing import Any

import numpy as np
import pytest

apis: Any = pytest.importorskip("tensorflow_serving.apis", reason="tensorflow-serving-api is not installed")
tf: Any = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.slow

ROWS = np.array([[0.9, 0.1, 0.2, 0.3], [0.1, 0.5, 0.5, 0.5]], dtype=np.float32)


def module(name: str) -> Any:
    return __import__(f"tensorflow_serving.apis.{name}", fromlist=[name])


@pytest.fixture
def stub(shared: Any) -> Any:
    return module("prediction_service_pb2_grpc").PredictionServiceStub(shared.channel)


@pytest.mark.parametrize("content", [True, False], ids=["tensor_content", "float_val"])
def test_predict(stub: Any, booster: Any, content: bool) -> None:
    request = module("predict_pb2").PredictRequest()
    request.model_spec.name = "tabular"
    proto = tf.make_tensor_proto(ROWS)
    if not content:
        proto = tf.make_tensor_proto(ROWS[:1])
        proto.ClearField("tensor_content")
        proto.float_val.extend(ROWS[0].tolist())
    request.inputs["inputs"].CopyFrom(proto)
    answer = stub.Predict(request, 10)
    rows = ROWS if content else ROWS[:1]
    expected = booster.inplace_predict(rows, validate_features=False)
    assert tf.make_ndarray(answer.outputs["outputs"]) == pytest.approx(expected)


def test_strings(stub: Any) -> None:
    request = module("predict_pb2").PredictRequest()
    request.model_spec.name = "echo"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(ROWS[:, :2]))
    request.inputs["text"].CopyFrom(tf.make_tensor_proto([b"a", b"\xff"]))
    answer = stub.Predict(request, 10)
    assert tf.make_ndarray(answer.outputs["text"]).tolist() == [b"a", b"\xff"]


def test_classify_and_metadata(stub: Any, booster: Any) -> None:
    request = module("classification_pb2").ClassificationRequest()
    request.model_spec.name = "tabular"
    features = {f"f{i}": tf.train.Feature(float_list=tf.train.FloatList(value=[ROWS[0, i]])) for i in range(4)}
    request.input.example_list.examples.append(tf.train.Example(features=tf.train.Features(feature=features)))
    answer = stub.Classify(request, 10)
    expected = booster.inplace_predict(ROWS[:1], validate_features=False)[0]
    assert answer.result.classifications[0].classes[1].score == pytest.approx(expected)
    metadata = module("get_model_metadata_pb2")
    asked = metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = "tabular"
    signatures = metadata.SignatureDefMap()
    assert stub.GetModelMetadata(asked, 10).metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["serving_default"].inputs["inputs"].dtype == tf.float32.as_datatype_enum


def test_model_status(shared: Any) -> None:
    service = module("model_service_pb2_grpc").ModelServiceStub(shared.channel)
    request = module("get_model_status_pb2").GetModelStatusRequest()
    request.model_spec.name = "tabular"
    (line,) = service.GetModelStatus(request, 10).model_version_status
    assert (line.version, line.state, line.status.error_code) == (1, line.AVAILABLE, 0)


def test_tensorflow_itself_agrees_on_the_resnet_to_five_digits(serve: Any, tmp_path: Any) -> None:
    """The very SavedModel of `examples/serving/make_resnet50.py`, in TensorFlow and in OpenVINO behind our server."""
    import runpy
    from pathlib import Path

    pytest.importorskip("openvino")
    from strongroom.serving.engines.openvino import OpenVinoMaker

    script = Path(__file__).resolve().parents[2] / "examples/serving/make_resnet50.py"
    (tmp_path / "resnet/1").mkdir(parents=True)
    (tmp_path / "resnet/1/saved_model.pb").write_bytes(runpy.run_path(str(script))["make_resnet50"]())
    served = serve(["resnet"], tmp_path, [OpenVinoMaker()])
    image = np.random.default_rng(0).random((1, 224, 224, 3), dtype=np.float32)
    request = module("predict_pb2").PredictRequest()
    request.model_spec.name = "resnet"
    request.inputs["input"].CopyFrom(tf.make_tensor_proto(image))
    stub = module("prediction_service_pb2_grpc").PredictionServiceStub(served.channel)
    ours = tf.make_ndarray(stub.Predict(request, 60).outputs["predict"])
    theirs = tf.saved_model.load(str(tmp_path / "resnet/1")).signatures["serving_default"](input=tf.constant(image))
    assert np.abs(ours - theirs["predict"].numpy()).max() < 1e-5
