"""The Open Inference Protocol V2, driven by its public client and by hand."""

import json
import struct
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strongroom.serving.status import InvalidRequest, Refused
from strongroom.serving.tensors import v2
from strongroom.serving.tensors.dtypes import DTYPES
from strongroom.serving.wire import inference_v2 as wire

ROWS = np.array([[0.9, 0.1, 0.2, 0.3], [0.1, 0.5, 0.5, 0.5]], dtype=np.float32)
INFER = "inference.GRPCInferenceService/ModelInfer"
NUMERIC = [dtype.numpy for dtype in DTYPES if not dtype.is_string]


@pytest.fixture
def served(shared: Any) -> Any:
    return shared


@pytest.fixture
def expected(booster: Any) -> Any:
    return pytest.approx(booster.inplace_predict(ROWS, validate_features=False).tolist())


def test_public_grpc_client(served: Any, expected: Any) -> None:
    client_module = pytest.importorskip("tritonclient.grpc")
    client = client_module.InferenceServerClient(f"127.0.0.1:{served.server.grpc_port}")
    try:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("tabular")
        assert not client.is_model_ready("nobody") and not client.is_model_ready("tabular", "7")
        assert client.get_server_metadata().name == "strongroom"
        metadata = client.get_model_metadata("tabular")
        assert (metadata.platform, list(metadata.versions)) == ("xgboost", ["1"])
        assert list(metadata.inputs[0].shape) == [-1, 4]
        tensor = client_module.InferInput("inputs", list(ROWS.shape), "FP32")
        tensor.set_data_from_numpy(ROWS)
        answer = client.infer("tabular", [tensor], request_id="7", model_version="1")
        assert answer.as_numpy("outputs").tolist() == expected
        assert answer.get_response().id == "7"
        texts = client_module.InferInput("text", [2], "BYTES")
        texts.set_data_from_numpy(np.array([b"a", b"\xff\x00"], dtype=object))
        numbers = client_module.InferInput("x", [1, 2], "FP32")
        numbers.set_data_from_numpy(ROWS[:1, :2])
        wanted = [client_module.InferRequestedOutput("text")]
        assert client.infer("echo", [texts, numbers], outputs=wanted).as_numpy("text").tolist() == [b"a", b"\xff\x00"]
    finally:
        client.close()


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_public_rest_client(served: Any, expected: Any, binary_in: bool, binary_out: bool) -> None:
    client_module = pytest.importorskip("tritonclient.http")
    client = client_module.InferenceServerClient(f"127.0.0.1:{served.server.rest_port}")
    try:
        assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("tabular", "1")
        assert not client.is_model_ready("nobody")
        assert client.get_model_metadata("tabular")["inputs"] == [
            {"name": "inputs", "datatype": "FP32", "shape": [-1, 4]}
        ]
        tensor = client_module.InferInput("inputs", list(ROWS.shape), "FP32")
        tensor.set_data_from_numpy(ROWS, binary_data=binary_in)
        wanted = [client_module.InferRequestedOutput("outputs", binary_data=binary_out)]
        answer = client.infer("tabular", [tensor], outputs=wanted, request_id="7")
        assert answer.as_numpy("outputs").tolist() == expected
        assert answer.get_response()["id"] == "7"
        texts = client_module.InferInput("text", [2], "BYTES")
        texts.set_data_from_numpy(np.array([b"a", "é".encode()], dtype=object), binary_data=binary_in)
        numbers = client_module.InferInput("x", [1, 2], "FP32")
        numbers.set_data_from_numpy(ROWS[:1, :2], binary_data=not binary_in)
        wanted = [client_module.InferRequestedOutput("text", binary_data=binary_out)]
        got = client.infer("echo", [texts, numbers], outputs=wanted).as_numpy("text").tolist()
        assert [item if isinstance(item, bytes) else item.encode() for item in got] == [b"a", "é".encode()]
    finally:
        client.close()


def infer_request(name: str = "tabular", **fields: Any) -> Any:
    request = wire.ModelInferRequest(model_name=name, **fields)
    tensor = request.inputs.add(name="inputs", datatype="FP32", shape=ROWS.shape)
    tensor.contents.fp32_contents.extend(ROWS.ravel().tolist())
    return request


def test_typed_contents_are_answered_typed(served: Any, expected: Any) -> None:
    answer = served.call(INFER, infer_request(), wire.ModelInferResponse)
    assert list(answer.outputs[0].contents.fp32_contents) == expected
    assert not answer.raw_output_contents


def test_signature_parameter(served: Any) -> None:
    request = infer_request("tabular")
    request.parameters["signature_name"].string_param = "nothing"
    with pytest.raises(grpc.RpcError, match='Serving signature key "nothing"'):
        served.call(INFER, request, wire.ModelInferResponse)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda r: setattr(r, "model_name", "nobody"), grpc.StatusCode.NOT_FOUND),
        (lambda r: setattr(r, "model_name", ""), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: setattr(r, "model_version", "x"), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: setattr(r, "model_version", "9"), grpc.StatusCode.NOT_FOUND),
        (lambda r: setattr(r.inputs[0], "datatype", "FP99"), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: setattr(r.inputs[0], "datatype", "FP64"), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: setattr(r.inputs[0], "datatype", "FP16"), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: r.inputs[0].shape.append(2), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: r.inputs[0].shape.__setitem__(0, -2), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: r.inputs[0].shape.__setitem__(0, 1 << 50), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: r.inputs[0].contents.int_contents.append(1), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: r.inputs.add().CopyFrom(r.inputs[0]), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: r.raw_input_contents.append(ROWS.tobytes()), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: r.raw_input_contents.extend([b"", b""]), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: r.outputs.add(name="nothing"), grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_grpc_refusals(served: Any, change: Any, code: grpc.StatusCode) -> None:
    request = infer_request()
    change(request)
    with pytest.raises(grpc.RpcError) as raised:
        served.call(INFER, request, wire.ModelInferResponse)
    error: Any = raised.value
    assert error.code() is code


def entry(**changes: Any) -> dict[str, Any]:
    return {"name": "inputs", "datatype": "FP32", "shape": list(ROWS.shape), "data": ROWS.tolist(), **changes}


def test_rest_flat_and_nested_data(served: Any, expected: Any) -> None:
    for data in (ROWS.tolist(), ROWS.ravel().tolist()):
        status, body, _ = served.http("/v2/models/tabular/versions/1/infer", {"inputs": [entry(data=data)]})
        assert status == 200
        assert body == {
            "model_name": "tabular",
            "model_version": "1",
            "outputs": [{"name": "outputs", "datatype": "FP32", "shape": [2], "data": expected}],
        }


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"inputs": {}},
        {"inputs": []},
        {"inputs": [1]},
        {"inputs": [entry(name=1)]},
        {"inputs": [entry(name="")]},
        {"inputs": [entry(), entry()]},
        {"inputs": [entry(shape=None)]},
        {"inputs": [entry(shape=[2, True])]},
        {"inputs": [entry(shape=[2, -4])]},
        {"inputs": [entry(shape=[1 << 60, 1 << 60])]},
        {"inputs": [entry(shape=[4, 2])]},
        {"inputs": [entry(shape=[8])]},
        {"inputs": [entry(datatype=1)]},
        {"inputs": [entry(datatype="FP16")]},
        {"inputs": [entry(data=None)]},
        {"inputs": [entry(data=["a"] * 8)]},
        {"inputs": [entry(parameters=1)]},
        {"inputs": [entry(parameters={"binary_data_size": 8})]},
        {"inputs": [entry()], "outputs": [{"name": "nothing"}]},
        {"inputs": [entry()], "outputs": [1]},
        {"inputs": [entry()], "parameters": []},
        {"inputs": [entry()], "parameters": {"signature_name": 1}},
    ],
)
def test_rest_refusals(served: Any, document: Any) -> None:
    status, body, _ = served.http("/v2/models/tabular/infer", document)
    assert status == 400 and set(body) == {"error"}


def binary(document: dict[str, Any], tail: bytes) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(document).encode()
    return head + tail, {"Inference-Header-Content-Length": str(len(head))}


@pytest.mark.parametrize(
    ("size", "tail", "header"),
    [
        (32, ROWS.tobytes()[:-1], None),
        (32, ROWS.tobytes() + b"x", None),
        (31, ROWS.tobytes(), None),
        (-1, ROWS.tobytes(), None),
        (True, ROWS.tobytes(), None),
        (1 << 40, ROWS.tobytes(), None),
        (32, ROWS.tobytes(), "999999"),
        (32, ROWS.tobytes(), "-1"),
        (32, ROWS.tobytes(), "x"),
    ],
)
def test_rest_refuses_binary_sizes_that_lie(served: Any, size: Any, tail: bytes, header: str | None) -> None:
    tensor = entry(parameters={"binary_data_size": size})
    del tensor["data"]
    body, headers = binary({"inputs": [tensor]}, tail)
    if header:
        headers = {"Inference-Header-Content-Length": header}
    assert served.http("/v2/models/tabular/infer", body, headers=headers)[0] == 400


def test_rest_binary_by_hand(served: Any, expected: Any) -> None:
    tensor = entry(parameters={"binary_data_size": 32})
    del tensor["data"]
    body, headers = binary({"inputs": [tensor], "parameters": {"binary_data_output": True}}, ROWS.tobytes())
    status, raw, given = served.http("/v2/models/tabular/infer", body, headers=headers)
    length = int({name.lower(): value for name, value in given.items()}["inference-header-content-length"])
    (output,) = json.loads(raw[:length])["outputs"]
    assert status == 200 and output["parameters"] == {"binary_data_size": 8}
    assert list(struct.unpack("<2f", raw[length:])) == expected


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2", 200),
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
        ("/v2/models/tabular", 200),
        ("/v2/models/tabular/ready", 200),
        ("/v2/models/nobody/ready", 503),
        ("/v2/models/nobody", 404),
        ("/v2/models/tabular/versions/9", 404),
        ("/v2/models/tabular/versions/x", 400),
        ("/v2/models/tabular/infer", 400),
        ("/v2/repository", 404),
        ("/v2x", 404),
    ],
)
def test_rest_paths(served: Any, path: str, status: int) -> None:
    assert served.http(path)[0] == status


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(NUMERIC).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    )
)
def test_numbers_round_trip(array: Any) -> None:
    name = next(dtype.v2 for dtype in DTYPES if dtype.numpy == array.dtype)
    assert v2.from_raw(name, array.shape, v2.to_raw(array)).tobytes() == array.tobytes()
    if name != "FP16":
        tensor = wire.ModelInferRequest().inputs.add()
        v2.fill_contents(tensor.contents, array)
        back = v2.from_contents(name, array.shape, tensor.contents)
        assert back.dtype == array.dtype
        assert np.array_equal(back, array, equal_nan=array.dtype.kind == "f")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=9), max_size=5))
def test_strings_round_trip(items: list[bytes]) -> None:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    assert v2.from_raw("BYTES", [len(items)], v2.to_raw(array)).tolist() == items


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([dtype.v2 for dtype in DTYPES]), st.lists(st.integers(-1, 5), max_size=3), st.binary(max_size=64)
)
def test_any_raw_bytes_give_an_array_or_a_refusal(name: str, shape: list[int], raw: bytes) -> None:
    try:
        assert list(v2.from_raw(name, shape, raw).shape) == shape
    except Refused:
        return


@pytest.mark.parametrize(
    ("name", "shape", "raw"),
    [
        ("BYTES", [1], b"\5\0\0\0ab"),
        ("BYTES", [1], b"\0\0"),
        ("BYTES", [1], b"\0\0\0\0x"),
        ("BYTES", [1 << 30], b""),
        ("BOOL", [1], b"\2"),
        ("FP32", [1], b"\0"),
        ("BF16", [1], b"\0\0"),
    ],
)
def test_refuses_raw(name: str, shape: list[int], raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        v2.from_raw(name, shape, raw)


def test_v2_and_tensorflow_share_one_model(serve: Any, models: Path) -> None:
    served = serve(["tabular"], models)
    one = served.http("/v2/models/tabular/infer", {"inputs": [entry()]})[1]["outputs"][0]["data"]
    other = served.http("/v1/models/tabular:predict", {"instances": ROWS.tolist()})[1]["predictions"]
    assert one == other
