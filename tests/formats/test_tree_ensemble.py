"""Trees from XGBoost's JSON to ONNX: what is read, what is refused."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.formats.tree_ensemble import onnx_model, parse_xgboost

STUMP: dict[str, Any] = {
    "learner": {
        "gradient_booster": {
            "name": "gbtree",
            "model": {
                "tree_info": [0],
                "trees": [
                    {
                        "tree_param": {"size_leaf_vector": "1"},
                        "left_children": [1, -1, -1],
                        "right_children": [2, -1, -1],
                        "split_indices": [1, 0, 0],
                        "split_conditions": [0.5, -1.25, 2.5],
                        "split_type": [0, 0, 0],
                        "default_left": [1, 0, 0],
                    }
                ],
            },
        },
        "learner_model_param": {"num_class": "0", "num_feature": "2", "base_score": "[2.5E-1]"},
        "objective": {"name": "reg:squarederror"},
    }
}
TREE = ("learner", "gradient_booster", "model", "trees", 0)


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    model = copy.deepcopy(STUMP)
    at: Any = model
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return model


def code_of(model: Any, max_nodes: int = 100) -> str:
    with pytest.raises(FormatError) as refused:
        parse_xgboost(model, max_nodes=max_nodes)
    return refused.value.code


def test_a_stump() -> None:
    ensemble = parse_xgboost(STUMP, max_nodes=3)
    root, left, right = ensemble.nodes
    assert (root.feature, root.value, root.left, root.right, root.missing_left) == (1, 0.5, 1, 2, True)
    assert (left.left, left.value, right.left, right.value) == (None, -1.25, None, 2.5)
    assert (ensemble.base, ensemble.features, ensemble.logistic) == ((0.25,), 2, False)


def test_a_logistic_base_score_is_a_margin() -> None:
    model = changed(("learner", "objective", "name"), "binary:logistic")
    ensemble = parse_xgboost(model, max_nodes=3)
    assert ensemble.logistic
    assert ensemble.base == pytest.approx((-1.0986122,))


@pytest.mark.parametrize("probability", [False, True])
def test_onnx_runtime_adds_up_the_leaves(probability: bool) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    import numpy as np

    raw = onnx_model(parse_xgboost(STUMP, max_nodes=3), "out", probability=probability)
    session = onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"])
    below = np.nextafter(np.float32(0.5), np.float32(0))
    rows = np.array([[9, below], [9, 0.5], [9, np.nan]], dtype=np.float32)
    margins = np.array([-1.0, 2.75, -1.0], dtype=np.float32)
    expected = 1 / (1 + np.exp(-margins)) if probability else margins
    assert session.run(["out"], {"features": rows})[0][:, 0] == pytest.approx(expected)


def test_the_model_is_what_onnx_calls_one() -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.ModelProto.FromString(onnx_model(parse_xgboost(STUMP, max_nodes=3), "out", probability=True))
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["TreeEnsembleRegressor", "Sigmoid"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("learner", "gradient_booster", "name"), "dart"),
        (("learner", "objective", "name"), "survival:cox"),
        ((*TREE, "split_type"), [1, 0, 0]),
        ((*TREE, "tree_param", "size_leaf_vector"), "3"),
    ],
)
def test_refuses_trees_it_would_read_wrongly(path: tuple[Any, ...], value: Any) -> None:
    assert code_of(changed(path, value)) == "trees.unsupported"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*TREE, "left_children"), [0, -1, -1]),  # a node that is its own child
        ((*TREE, "left_children"), [7, -1, -1]),
        ((*TREE, "right_children"), [-7, -1, -1]),
        ((*TREE, "split_conditions"), [0.5]),
        ((*TREE, "split_conditions"), [1e39, 0.5, 1.0]),  # no float32
        ((*TREE, "split_conditions"), [float("nan"), 0.5, 1.0]),
        ((*TREE, "split_indices"), [2, 0, 0]),  # there are two features
        ((*TREE, "split_indices"), [-1, 0, 0]),
        (("learner", "gradient_booster", "model", "tree_info"), [1]),  # there is one output
        ((*TREE, "split_conditions"), [0.5, "much", 1.0]),
        (("learner", "gradient_booster", "model", "tree_info"), []),
        (("learner", "learner_model_param", "base_score"), "nan"),
        (("learner", "learner_model_param", "base_score"), "[0.1,0.2]"),
        (("learner", "learner_model_param", "num_class"), "many"),
        (("learner", "gradient_booster"), None),
    ],
)
def test_refuses_what_is_no_model(path: tuple[Any, ...], value: Any) -> None:
    assert code_of(changed(path, value)) == "trees.model"


@pytest.mark.parametrize("score", ["0", "1", "-3"])
def test_refuses_a_base_score_that_is_no_probability(score: str) -> None:
    model = changed(("learner", "objective", "name"), "binary:logistic")
    model["learner"]["learner_model_param"]["base_score"] = score
    assert code_of(model) == "trees.model"


def test_refuses_more_nodes_than_wanted() -> None:
    assert code_of(STUMP, max_nodes=2) == "trees.nodes"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 9) | st.floats(allow_nan=True) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["trees", "model"]), inner, max_size=2),
    max_leaves=6,
)
PATHS = [
    TREE,
    *((*TREE, name) for name in STUMP["learner"]["gradient_booster"]["model"]["trees"][0]),
    ("learner",),
    ("learner", "learner_model_param"),
    ("learner", "learner_model_param", "num_feature"),
]


@settings(max_examples=150)
@given(st.sampled_from(PATHS), JSON)
def test_any_json_is_trees_or_refused(path: tuple[Any, ...], value: Any) -> None:
    try:
        ensemble = parse_xgboost(json.loads(json.dumps(changed(path, value))), max_nodes=100)
    except FormatError:
        return
    assert len(ensemble.nodes) <= 100
    assert onnx_model(ensemble, "out")
