"""REST: TensorFlow Serving's paths, forms, statuses and error JSON; monitoring."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROWS = [[0.9, 0.1, 0.2, 0.3], [0.1, 0.5, 0.5, 0.5]]


@pytest.fixture
def served(shared: Any) -> Any:
    return shared


@pytest.fixture
def expected(booster: Any) -> Any:
    return pytest.approx(booster.inplace_predict(np.array(ROWS, np.float32), validate_features=False).tolist())


def test_row_and_columnar_format(served: Any, expected: Any) -> None:
    assert served.http("/v1/models/tabular:predict", {"instances": ROWS})[1] == {"predictions": expected}
    assert served.http("/v1/models/tabular:predict", {"inputs": ROWS})[1] == {"outputs": expected}
    assert served.http("/v1/models/tabular/versions/1:predict", {"inputs": {"inputs": ROWS}})[1] == {
        "outputs": expected
    }
    named = {"signature_name": "serving_default", "instances": [{"inputs": row} for row in ROWS]}
    assert served.http("/v1/models/tabular:predict", named)[1] == {"predictions": expected}


def test_several_tensors_and_base64(served: Any) -> None:
    body = {"instances": [{"x": [1, 2], "text": "a"}, {"x": [3, 4], "text": {"b64": "/w=="}}]}
    assert served.http("/v1/models/echo:predict", body)[1] == {
        "predictions": [{"x": [1.0, 2.0], "text": "a"}, {"x": [3.0, 4.0], "text": {"b64": "/w=="}}]
    }


def test_classify(served: Any, expected: Any) -> None:
    examples = [{f"f{i}": value for i, value in enumerate(row)} for row in ROWS]
    status, body, _ = served.http("/v1/models/tabular:classify", {"examples": examples})
    assert status == 200
    assert [line[1][1] for line in body["results"]] == expected
    context = {"context": {f"f{i}": 0.5 for i in range(4)}, "examples": [{"f0": 0.9}]}
    assert served.http("/v1/models/tabular:classify", context)[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"examples": []},
        {"examples": 1},
        {"examples": [1]},
        {"examples": [{"f0": None}]},
        {"examples": [{"f0": [1, "a"]}]},
        {"examples": [{"f0": 1 << 70}]},
        {"examples": [{"f0": [[1]]}]},
        {"examples": [{"f0": "text", "f1": 1, "f2": 1, "f3": 1}]},
        {"examples": [{"f0": [1, 2], "f1": 1, "f2": 1, "f3": 1}]},
        {"examples": [{"f0": []}]},
        {"examples": [{"f0": 1}]},
        {"examples": [{"f0": 1}], "context": 1},
        {"examples": [{"f0": {"b64": "!"}}]},
    ],
)
def test_classify_refuses(served: Any, body: Any) -> None:
    status, answer, _ = served.http("/v1/models/tabular:classify", body)
    assert status == 400 and set(answer) == {"error"}


def test_status_and_metadata(served: Any) -> None:
    expected = {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    for path in ("/v1/models/tabular", "/v1/models/tabular/versions/1", "/V1/Models/tabular"):
        assert served.http(path)[1] == expected
    body = served.http("/v1/models/tabular/metadata")[1]
    assert body["model_spec"] == {"name": "tabular", "signature_name": "", "version": "1"}
    info = body["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["inputs"]
    assert info == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "4", "name": ""}], "unknown_rank": False},
        "name": "dmatrix:0",
    }


def test_labels(serve: Any, models: Path) -> None:
    from strongroom.serving.models.policy import ModelSettings

    served = serve([ModelSettings("tabular", "tabular", labels={"stable": 1})], models)
    assert served.http("/v1/models/tabular/labels/stable:predict", {"instances": ROWS})[0] == 200
    assert served.http("/v1/models/tabular/labels/stable")[0] == 200
    status, body, _ = served.http("/v1/models/tabular/labels/canary:predict", {"instances": ROWS})
    assert (status, body) == (400, {"error": "Unrecognized servable version label: canary"})


@pytest.mark.parametrize(
    ("path", "body", "method", "status", "text"),
    [
        ("/v1/models/nobody:predict", {"instances": [1]}, None, 404, "Servable not found for request: Latest(nobody)"),
        ("/v1/models/nobody", None, None, 404, "Could not find any versions of model nobody"),
        ("/v1/models/tabular/versions/9", None, None, 404, "Could not find version 9 of model tabular"),
        ("/v1/models/tabular:predict", b"{", None, 400, "JSON Parse error"),
        ("/v1/models/tabular:predict", b"[]", None, 400, "not an object"),
        ("/v1/models/tabular:predict", b"", None, 400, "JSON Parse error"),
        ("/v1/models/tabular:predict", {"instances": [["a"]]}, None, 400, "expected type: DT_FLOAT"),
        ("/v1/models/tabular:predict", {"instances": [[1]]}, None, 400, "shape"),
        ("/v1/models/tabular:predict", {"signature_name": 1, "instances": [1]}, None, 400, "signature_name"),
        ("/v1/models/tabular:predict", {"signature_name": "x", "instances": [1]}, None, 400, "signature key"),
        ("/v1/models/tabular:explain", {}, None, 400, "Malformed request: POST"),
        ("/v1/models/tabular/versions/x:predict", {}, None, 400, "Malformed request"),
        ("/v1/models/tabular:predict", None, "GET", 400, "Malformed request: GET"),
        ("/v1/models/tabular", None, "DELETE", 400, "Malformed request: DELETE"),
        ("/v1/models/", None, None, 400, "Malformed request"),
        ("/", None, None, 404, "Not Found"),
        ("/etc/passwd", None, None, 404, "Not Found"),
    ],
)
def test_errors(served: Any, path: str, body: Any, method: str | None, status: int, text: str) -> None:
    given, answer, _ = served.http(path, body, method)
    assert given == status
    assert text in answer["error"]


def test_nan_is_a_missing_value_for_xgboost(served: Any) -> None:
    status, body, _ = served.http("/v1/models/tabular:predict", b'{"instances": [[NaN, 1, 1, 1]]}')
    assert status == 200 and len(body["predictions"]) == 1


def test_names_with_escapes(serve: Any, models: Path) -> None:
    from strongroom.serving.models.policy import ModelSettings

    served = serve([ModelSettings("my model", "tabular")], models)
    assert served.http("/v1/models/my%20model")[0] == 200


def test_health_and_readiness(serve: Any, models: Path) -> None:
    served = serve(["tabular", "echo"], models, metrics_path="/monitoring/prometheus/metrics")
    assert served.http("/healthz")[:2] == (200, {"live": True})
    assert served.http("/readyz")[:2] == (200, {"ready": True})
    served.server.health.drain()
    assert served.http("/readyz")[:2] == (503, {"ready": False})


def test_not_ready_until_the_model_answers(serve: Any, memory: Any, scale: Any) -> None:
    from strongroom.serving.status import Refused

    with pytest.raises(Refused):
        serve(["m"], memory, [scale], poll_wait_s=0)
    # The server is up and says so, but is not ready: the storage (or the broker) may come back.


def test_metrics(serve: Any, models: Path) -> None:
    served = serve(["tabular", "echo"], models, metrics_path="/monitoring/prometheus/metrics")
    served.http("/v1/models/tabular:predict", {"instances": ROWS})
    served.http("/v1/models/tabular:predict", {"instances": 1})
    served.http("/v1/models/unknown-name-of-a-stranger:predict", {"instances": 1})
    status, raw, headers = served.http("/monitoring/prometheus/metrics")
    text = raw.decode()
    assert status == 200 and headers["content-type"].startswith("text/plain")
    assert ':tensorflow:serving:request_count{model_name="tabular",status="OK"} 1' in text
    assert ':tensorflow:serving:request_count{model_name="tabular",status="INVALID_ARGUMENT"} 1' in text
    assert ':tensorflow:serving:request_count{model_name="",status="NOT_FOUND"} 1' in text
    assert "unknown-name-of-a-stranger" not in text
    labels = 'model_name="tabular",API="predict",entrypoint="REST"'
    assert f":tensorflow:serving:request_latency_count{{{labels}}} 1" in text
    assert f':tensorflow:serving:request_latency_bucket{{{labels},le="+Inf"}} 1' in text
    assert ":strongroom:serving:ready 1" in text


def test_metrics_page_is_off_by_default(serve: Any, models: Path) -> None:
    assert serve(["tabular"], models).http("/monitoring/prometheus/metrics")[0] == 404
