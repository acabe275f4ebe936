"""gRPC: PredictionService, ModelService, health and reflection of a running server."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from strongroom.serving.tensors.tensor_proto import decode_tensor, fill_tensor
from strongroom.serving.wire import tensorflow as wire
from strongroom.serving.wire.grpc_services import REFLECTION, HealthCheckRequest, HealthCheckResponse

PREDICTION = "tensorflow.serving.PredictionService"
MODEL = "tensorflow.serving.ModelService"
ROWS = np.array([[0.9, 0.1, 0.2, 0.3], [0.1, 0.5, 0.5, 0.5]], dtype=np.float32)


@pytest.fixture
def served(shared: Any) -> Any:
    return shared


def predict_request(rows: Any = ROWS, name: str = "tabular", **spec: Any) -> Any:
    request = wire.PredictRequest()
    request.model_spec.name = name
    for field, value in spec.items():
        setattr(request.model_spec, field, value)
    fill_tensor(request.inputs["inputs"], np.asarray(rows))
    return request


def refused(code: grpc.StatusCode, ask: Callable[[], Any]) -> str:
    with pytest.raises(grpc.RpcError) as raised:
        ask()
    error: Any = raised.value
    assert error.code() is code, error.details()
    return str(error.details())


def test_predict(served: Any, booster: Any) -> None:
    request = predict_request()
    request.model_spec.version.value = 1
    answer = served.call(f"{PREDICTION}/Predict", request, wire.PredictResponse)
    assert decode_tensor(answer.outputs["outputs"]) == pytest.approx(
        booster.inplace_predict(ROWS, validate_features=False)
    )
    assert (answer.model_spec.name, answer.model_spec.version.value, answer.model_spec.signature_name) == (
        "tabular",
        1,
        "serving_default",
    )


def test_predict_written_by_hand(served: Any, pb: Callable[..., bytes]) -> None:
    """No class of ours on the client's side: field numbers only."""
    tensor = pb((1, 1), (2, pb((2, pb((1, 1))), (2, pb((1, 4))))), (4, ROWS[:1].tobytes()))
    answer = served.call(
        f"{PREDICTION}/Predict", pb((1, pb((1, "tabular"))), (2, pb((1, "inputs"), (2, tensor)))), None
    )
    name, version = pb((1, "tabular")), pb((2, pb((1, 1))))
    assert name in answer and version in answer and b"outputs" in answer


def test_output_filter(served: Any) -> None:
    request = wire.PredictRequest()
    request.model_spec.name = "echo"
    fill_tensor(request.inputs["x"], np.ones((1, 2), np.float32))
    fill_tensor(request.inputs["text"], np.array([b"\xff"], dtype=object))
    assert set(served.call(f"{PREDICTION}/Predict", request, wire.PredictResponse).outputs) == {"x", "text"}
    request.output_filter.append("text")
    answer = served.call(f"{PREDICTION}/Predict", request, wire.PredictResponse)
    assert decode_tensor(answer.outputs["text"]).tolist() == [b"\xff"]
    assert set(answer.outputs) == {"text"}
    request.output_filter.append("text")
    assert "duplicate" in refused(
        grpc.StatusCode.INVALID_ARGUMENT, lambda: served.call(f"{PREDICTION}/Predict", request, wire.PredictResponse)
    )
    request.output_filter[:] = ["nothing"]
    assert "not found in signature" in refused(
        grpc.StatusCode.INVALID_ARGUMENT, lambda: served.call(f"{PREDICTION}/Predict", request, wire.PredictResponse)
    )


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (predict_request(name="nobody"), grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(nobody)"),
        (predict_request(name=""), grpc.StatusCode.INVALID_ARGUMENT, "Missing ModelSpec"),
        (predict_request(version_label="x"), grpc.StatusCode.INVALID_ARGUMENT, "Unrecognized servable version label"),
        (predict_request(signature_name="x"), grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "x"'),
        (predict_request(ROWS.astype(np.float64)), grpc.StatusCode.INVALID_ARGUMENT, "to be DT_FLOAT but DT_DOUBLE"),
        (predict_request(ROWS[:, :3]), grpc.StatusCode.INVALID_ARGUMENT, "to have shape [-1, 4]"),
        (predict_request(ROWS[0]), grpc.StatusCode.INVALID_ARGUMENT, "to have shape [-1, 4]"),
        (predict_request(ROWS[:0]), grpc.StatusCode.INVALID_ARGUMENT, "no rows"),
        (predict_request(ROWS * np.float32(np.inf)), grpc.StatusCode.INVALID_ARGUMENT, "infinite"),
    ],
)
def test_refusals(served: Any, request_: Any, code: grpc.StatusCode, text: str) -> None:
    assert text in refused(code, lambda: served.call(f"{PREDICTION}/Predict", request_, wire.PredictResponse))


def test_unknown_version_and_inputs(served: Any) -> None:
    request = predict_request()
    request.model_spec.version.value = 7
    assert "Specific(tabular, 7)" in refused(
        grpc.StatusCode.NOT_FOUND, lambda: served.call(f"{PREDICTION}/Predict", request, wire.PredictResponse)
    )
    request = predict_request()
    fill_tensor(request.inputs["more"], ROWS)
    assert "Sent extra: {more}" in refused(
        grpc.StatusCode.INVALID_ARGUMENT, lambda: served.call(f"{PREDICTION}/Predict", request, wire.PredictResponse)
    )


def example(request: Any, **features: float) -> None:
    target = request.input.example_list.examples.add()
    for name, value in features.items():
        target.features.feature[name].float_list.value.append(value)


def test_classify(served: Any, booster: Any) -> None:
    request = wire.ClassificationRequest()
    request.model_spec.name = "tabular"
    for row in ROWS.tolist():
        example(request, **{f"f{i}": value for i, value in enumerate(row)})
    answer = served.call(f"{PREDICTION}/Classify", request, wire.ClassificationResponse)
    scores = [[one.score for one in line.classes] for line in answer.result.classifications]
    expected = booster.inplace_predict(ROWS, validate_features=False)
    assert np.array(scores) == pytest.approx(np.stack([1 - expected, expected], axis=1))
    assert answer.model_spec.signature_name == "classification"


def test_classify_with_context_and_missing_features(served: Any, booster: Any) -> None:
    request = wire.ClassificationRequest()
    request.model_spec.name = "tabular"
    listed = request.input.example_list_with_context
    for name in ("f0", "f1", "f2"):
        listed.context.features.feature[name].float_list.value.append(0.25)
    one = listed.examples.add()
    one.features.feature["f0"].float_list.value.append(0.75)

    def ask() -> Any:
        return served.call(f"{PREDICTION}/Classify", request, wire.ClassificationResponse)

    assert "f3" in refused(grpc.StatusCode.INVALID_ARGUMENT, ask)
    one.features.feature["f3"].int64_list.value.append(1)
    (line,) = ask().result.classifications
    row = np.array([[0.75, 0.25, 0.25, 1]], dtype=np.float32)
    assert line.classes[1].score == pytest.approx(booster.inplace_predict(row, validate_features=False)[0])


def test_regress_is_refused_where_no_signature_allows_it(served: Any) -> None:
    request = wire.RegressionRequest()
    request.model_spec.name = "tabular"
    example(request, f0=1)
    assert "Expected signature method_name" in refused(
        grpc.StatusCode.INVALID_ARGUMENT, lambda: served.call(f"{PREDICTION}/Regress", request, wire.RegressionResponse)
    )


def test_regress(serve: Any, tmp_path: Path) -> None:
    xgboost = pytest.importorskip("xgboost")
    (tmp_path / "price/1").mkdir(parents=True)
    data = xgboost.DMatrix(np.arange(20, dtype=np.float32).reshape(10, 2), label=np.arange(10))
    xgboost.train({"objective": "reg:squarederror"}, data, 5).save_model(tmp_path / "price/1/model.ubj")
    served = serve(["price"], tmp_path)
    request = wire.RegressionRequest()
    request.model_spec.name = "price"
    one = request.input.example_list.examples.add()
    one.features.feature["inputs"].float_list.value.extend([4, 5])
    answer = served.call(f"{PREDICTION}/Regress", request, wire.RegressionResponse)
    assert len(answer.result.regressions) == 1
    status, body, _ = served.http("/v1/models/price:regress", {"examples": [{"inputs": [4.0, 5.0]}]})
    assert status == 200 and body == {"results": [pytest.approx(answer.result.regressions[0].value)]}


def test_multi_inference(served: Any) -> None:
    request = wire.MultiInferenceRequest()
    task = request.tasks.add(method_name="tensorflow/serving/classify")
    task.model_spec.name = "tabular"
    task.model_spec.signature_name = "classification"
    example(request, f0=1, f1=1, f2=1, f3=1)

    def ask() -> Any:
        return served.call(f"{PREDICTION}/MultiInference", request, wire.MultiInferenceResponse)

    (result,) = ask().results
    assert len(result.classification_result.classifications) == 1
    request.tasks.add().CopyFrom(task)
    assert "Duplicate" in refused(grpc.StatusCode.INVALID_ARGUMENT, ask)
    request.tasks[1].model_spec.name = "echo"
    assert "same model name" in refused(grpc.StatusCode.INVALID_ARGUMENT, ask)
    del request.tasks[1]
    request.tasks[0].method_name = "other"
    refused(grpc.StatusCode.UNIMPLEMENTED, ask)
    del request.tasks[:]
    refused(grpc.StatusCode.INVALID_ARGUMENT, ask)


def test_metadata(served: Any) -> None:
    request = wire.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "tabular"
    answer = served.call(f"{PREDICTION}/GetModelMetadata", request, wire.GetModelMetadataResponse)
    signatures = wire.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    default = signatures.signature_def["serving_default"]
    assert [dim.size for dim in default.inputs["inputs"].tensor_shape.dim] == [-1, 4]
    assert (default.inputs["inputs"].dtype, default.method_name) == (1, "tensorflow/serving/predict")
    assert set(signatures.signature_def["classification"].inputs) == {"f0", "f1", "f2", "f3"}
    request.metadata_field[:] = ["weights"]
    refused(
        grpc.StatusCode.INVALID_ARGUMENT,
        lambda: served.call(f"{PREDICTION}/GetModelMetadata", request, wire.GetModelMetadataResponse),
    )


def test_model_status(served: Any) -> None:
    request = wire.GetModelStatusRequest()
    request.model_spec.name = "tabular"
    answer = served.call(f"{MODEL}/GetModelStatus", request, wire.GetModelStatusResponse)
    assert [(line.version, line.state) for line in answer.model_version_status] == [(1, 30)]
    request.model_spec.name = "nobody"
    refused(
        grpc.StatusCode.NOT_FOUND,
        lambda: served.call(f"{MODEL}/GetModelStatus", request, wire.GetModelStatusResponse),
    )


def reload_request(**models: str) -> Any:
    request = wire.ReloadConfigRequest()
    for name, base_path in models.items():
        request.config.model_config_list.config.add(name=name, base_path=base_path)
    return request


def test_reload_request_replaces_the_models(serve: Any, models: Path) -> None:
    served = serve(["tabular"], models, reloadable=True)
    answer = served.call(
        f"{MODEL}/HandleReloadConfigRequest", reload_request(renamed="tabular"), wire.ReloadConfigResponse
    )
    assert answer.status.error_code == 0
    assert served.server.repository.names() == ["renamed"]


def test_reload_request_for_a_missing_model_says_so_and_keeps_the_others(serve: Any, models: Path) -> None:
    served = serve(["tabular"], models, reloadable=True)
    answer = served.call(
        f"{MODEL}/HandleReloadConfigRequest", reload_request(tabular="tabular", gone="gone"), wire.ReloadConfigResponse
    )
    assert answer.status.error_code == 9 and "gone" in answer.status.error_message
    served.call(f"{PREDICTION}/Predict", predict_request(), wire.PredictResponse)


@pytest.mark.parametrize("path", ["/etc", "../x", "a/../../x"])
def test_reload_request_cannot_leave_the_storage(serve: Any, models: Path, path: str) -> None:
    served = serve(["tabular"], models, reloadable=True)
    for wanted in (reload_request(tabular=path), reload_request(other=path, tabular="tabular")):
        answer = served.call(f"{MODEL}/HandleReloadConfigRequest", wanted, wire.ReloadConfigResponse)
        assert answer.status.error_code == 9
    assert served.server.repository.names() == ["tabular"] and served.server.health.ready
    served.call(f"{PREDICTION}/Predict", predict_request(), wire.PredictResponse)


def test_reload_requests_are_refused_unless_allowed(served: Any) -> None:
    answer = served.call(f"{MODEL}/HandleReloadConfigRequest", reload_request(a="a"), wire.ReloadConfigResponse)
    assert answer.status.error_code == 7
    assert served.server.repository.names() == ["echo", "tabular"]


def test_health(serve: Any, models: Path) -> None:
    served = serve(["tabular"], models)

    def check(service: str) -> int:
        answer = served.call("grpc.health.v1.Health/Check", HealthCheckRequest(service=service), HealthCheckResponse)
        return int(answer.status)

    assert [check(name) for name in ("", PREDICTION, "tabular")] == [1, 1, 1]
    refused(grpc.StatusCode.NOT_FOUND, lambda: check("nobody"))
    served.server.health.drain()
    assert check("") == 2


def test_health_watch_ends_with_the_drain(serve: Any, models: Path) -> None:
    served = serve(["tabular", "echo"], models, metrics_path="/monitoring/prometheus/metrics")
    stub = served.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=HealthCheckRequest.SerializeToString,
        response_deserializer=HealthCheckResponse.FromString,
    )
    stream = stub(HealthCheckRequest(), timeout=10)
    assert next(stream).status == 1
    served.server.health.drain()
    assert [answer.status for answer in stream] == [2]


@pytest.mark.parametrize("package", ["grpc.reflection.v1", "grpc.reflection.v1alpha"])
def test_reflection(served: Any, package: str) -> None:
    from google.protobuf import descriptor_pb2, descriptor_pool

    classes = REFLECTION[package]
    request_class, response_class = classes["ServerReflectionRequest"], classes["ServerReflectionResponse"]
    stub = served.channel.stream_stream(
        f"/{package}.ServerReflection/ServerReflectionInfo",
        request_serializer=request_class.SerializeToString,
        response_deserializer=response_class.FromString,
    )
    asked = [
        request_class(list_services=""),
        request_class(file_containing_symbol=f"{PREDICTION}.Predict"),
        request_class(file_containing_symbol="nobody"),
        request_class(file_by_filename="strongroom/tensorflow.proto"),
        request_class(all_extension_numbers_of_type="x"),
    ]
    listed, symbol, nobody, file, extension = stub(iter(asked), timeout=10)
    assert PREDICTION in [service.name for service in listed.list_services_response.service]
    pool = descriptor_pool.DescriptorPool()
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(raw)
        for raw in symbol.file_descriptor_response.file_descriptor_proto
    ]
    for one in reversed(files):
        pool.Add(one)
    assert pool.FindMessageTypeByName("tensorflow.serving.PredictRequest").fields_by_number[2].name == "inputs"
    assert nobody.error_response.error_code == 5 and extension.error_response.error_code == 5
    assert file.WhichOneof("message_response") == "file_descriptor_response"
