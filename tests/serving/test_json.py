"""JSON requests and answers of the REST API."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.serving.engines import Signature, TensorSpec
from strongroom.serving.status import InvalidRequest, Refused
from strongroom.serving.tensors.dtypes import FLOAT, INT64, STRING, DType, dtype_by_v2
from strongroom.serving.tensors.json_rows import inputs_from_document, outputs_as_columns, outputs_as_rows
from strongroom.serving.tensors.json_values import array_from_json, b64_bytes, json_from_array, parse_json, render_json

UINT8 = dtype_by_v2("UINT8")
BOOL = dtype_by_v2("BOOL")


def spec(dtype: DType) -> TensorSpec:
    return TensorSpec("t", dtype, None)


ONE = Signature({"x": spec(FLOAT)}, {"y": spec(FLOAT)})
TWO = Signature({"x": spec(FLOAT), "s": spec(STRING)}, {"y": spec(FLOAT)})


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        ([[1, 2.5]], FLOAT, [[1.0, 2.5]]),
        (3, FLOAT, 3.0),
        ([1, -2], INT64, [1, -2]),
        ([0, 255], UINT8, [0, 255]),
        ([True, False], BOOL, [True, False]),
        (["a", {"b64": "/w=="}], STRING, [b"a", b"\xff"]),
        ([["é"]], STRING, [["é".encode()]]),
        ([], FLOAT, []),
    ],
)
def test_values(value: Any, dtype: DType, expected: Any) -> None:
    array = array_from_json(value, dtype)
    assert array.tolist() == expected
    assert array.dtype == dtype.numpy


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (["1.5"], FLOAT),
        ([None], FLOAT),
        ([{}], FLOAT),
        ([True], FLOAT),
        ([1e39], FLOAT),
        ([1 << 70], FLOAT),
        ([1.0], INT64),
        ([1 << 63], INT64),
        ([256], UINT8),
        ([-1], UINT8),
        ([1], BOOL),
        ([[1, 2], [3]], FLOAT),
        ([[1, 2], 3], FLOAT),
        ([1], STRING),
        (["a", ["b"]], STRING),
        ([["a"], "b"], STRING),
        ([{"b64": "!"}], STRING),
        ([{"b64": 1}], STRING),
        ([{"b64": "", "x": 1}], STRING),
    ],
)
def test_refuses_values_of_another_type(value: Any, dtype: DType) -> None:
    with pytest.raises(InvalidRequest):
        array_from_json(value, dtype)


def test_nan_and_infinity_are_numbers_here() -> None:
    array = array_from_json(parse_json(b"[NaN, -Infinity, 1]"), FLOAT)
    assert math.isnan(array[0]) and array[1] == -math.inf and array[2] == 1


def test_nan_is_written_as_tensorflow_serving_writes_it() -> None:
    assert render_json({"predictions": np.array([np.nan, np.inf, 1], dtype=np.float32)}) == (
        b'{"predictions":[NaN,Infinity,1.0]}'
    )


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"a": NaN', b"[" * 100_000, b"NaN" + b"[" * 100_000])
def test_refuses_what_is_no_json(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="JSON"):
        parse_json(raw)


def test_refuses_deep_nesting_of_strings() -> None:
    value: Any = "a"
    for _ in range(500):
        value = [value]
    with pytest.raises(InvalidRequest):
        array_from_json(value, STRING)
    with pytest.raises(InvalidRequest):
        array_from_json(value, FLOAT)


def test_rows_and_columns() -> None:
    rows, in_rows = inputs_from_document({"instances": [[1, 2], [3, 4]]}, ONE)
    columns, as_columns = inputs_from_document({"inputs": [[1, 2], [3, 4]]}, ONE)
    assert in_rows and not as_columns
    assert rows["x"].tolist() == columns["x"].tolist() == [[1, 2], [3, 4]]


def test_named_rows_and_columns() -> None:
    rows, _ = inputs_from_document({"instances": [{"x": 1, "s": "a"}, {"x": 2, "s": {"b64": "Yg=="}}]}, TWO)
    columns, _ = inputs_from_document({"inputs": {"x": [1, 2], "s": ["a", "b"]}}, TWO)
    assert rows["x"].tolist() == columns["x"].tolist() == [1, 2]
    assert rows["s"].tolist() == columns["s"].tolist() == [b"a", b"b"]


def test_plain_rows_of_one_string_input_may_be_base64() -> None:
    inputs, _ = inputs_from_document(
        {"instances": [{"b64": "/w=="}]}, Signature({"s": spec(STRING)}, {"y": spec(FLOAT)})
    )
    assert inputs["s"].tolist() == [b"\xff"]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"instances": [1], "inputs": [1]},
        {"instances": []},
        {"instances": 1},
        {"instances": {"x": 1}},
        {"instances": [{"z": 1}]},
        {"instances": [{"x": 1, "z": 1}]},
        {"instances": [1, {"x": 1}]},
        {"instances": [{"x": 1}, 1]},
        {"inputs": {"z": 1}},
        {"inputs": {"x": [1], "z": [1]}},
    ],
)
def test_refuses_documents_that_do_not_name_the_inputs(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        inputs_from_document(document, ONE)


@pytest.mark.parametrize("document", [{"instances": [1]}, {"inputs": [1]}, {"instances": [{"x": 1}]}])
def test_refuses_missing_inputs_when_there_are_two(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        inputs_from_document(document, TWO)


def test_answers() -> None:
    y, z = np.array([[1.5], [2.5]], dtype=np.float32), np.array([1, 2])
    assert json.loads(render_json(outputs_as_rows({"y": y}))) == {"predictions": [[1.5], [2.5]]}
    assert json.loads(render_json(outputs_as_rows({"y": y, "z": z}))) == {
        "predictions": [{"y": [1.5], "z": 1}, {"y": [2.5], "z": 2}]
    }
    assert json.loads(render_json(outputs_as_columns({"y": y}))) == {"outputs": [[1.5], [2.5]]}
    assert json.loads(render_json(outputs_as_columns({"y": y, "z": z}))) == {
        "outputs": {"y": [[1.5], [2.5]], "z": [1, 2]}
    }


@pytest.mark.parametrize("outputs", [{"y": np.float32(1).reshape(())}, {"y": np.zeros(2), "z": np.zeros(3)}])
def test_outputs_without_common_rows_are_refused_in_row_format(outputs: Any) -> None:
    with pytest.raises(InvalidRequest, match="columnar"):
        outputs_as_rows(outputs)


def test_string_outputs() -> None:
    array = np.array([[b"a", b"\xff"]], dtype=object)
    assert json_from_array("y", array) == [["a", {"b64": "/w=="}]]
    assert json_from_array("y_bytes", array) == [[{"b64": "YQ=="}, {"b64": "/w=="}]]


def test_floats_are_short_and_exact() -> None:
    assert render_json(np.array([0.1, 1e-7, 16777217], dtype=np.float32)) == b"[0.1,1e-7,16777216.0]"


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=12,
    ),
    st.sampled_from([FLOAT, INT64, STRING, BOOL, UINT8]),
)
def test_any_value_gives_an_array_or_a_refusal(value: Any, dtype: DType) -> None:
    try:
        array = array_from_json(value, dtype)
    except Refused:
        return
    assert array.dtype == dtype.numpy


@pytest.mark.parametrize("value", ["a", {"b64": None}, {"b64": "YQ"}, {"b64": "Y Q=="}])
def test_refuses_what_is_no_base64(value: Any) -> None:
    with pytest.raises(InvalidRequest):
        b64_bytes(value)
