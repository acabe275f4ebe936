"""The trees as an ONNX model: features in, probability of default out.

Source: ONNX operators, ai.onnx.ml TreeEnsembleRegressor (version 3); XGBoost JSON model, "Introduction to Model IO".
"""

import json
from typing import Any, Final

import numpy as np

from strongroom.errors import ConfigurationError
from strongroom.loan.bundle import Bundle

OPSET: Final = 17
ML_OPSET: Final = 3
IR_VERSION: Final = 9


def onnx_model(bundle: Bundle) -> bytes:
    """The model's trees with a sigmoid after them.

    Input ``features``: float32 (rows, features), NaN where missing. Output ``probability``: float32 (rows, 1).

    Args:
        bundle: The model.

    Raises:
        ConfigurationError: The `onnx` package is not installed.
    """
    try:
        from onnx import TensorProto, helper
    except ImportError:
        raise ConfigurationError(
            "writing ONNX needs the onnx package", code="loan.onnx", hint="pip install onnx"
        ) from None

    size = len(bundle.preprocessor.names)
    trees = helper.make_node(
        "TreeEnsembleRegressor", ["features"], ["margin"], domain="ai.onnx.ml", n_targets=1, **_attributes(bundle)
    )
    sigmoid = helper.make_node("Sigmoid", ["margin"], ["probability"])
    graph = helper.make_graph(
        [trees, sigmoid],
        "loan",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, size])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="strongroom")
    return bytes(model.SerializeToString())


def _attributes(bundle: Bundle) -> dict[str, Any]:
    learner = json.loads(bundle.booster.save_raw("json"))["learner"]
    base = np.float32(learner["learner_model_param"]["base_score"].strip("[]"))
    columns: dict[str, list[Any]] = {name: [] for name in (*_NODE_NAMES, *_LEAF_NAMES)}
    for number, tree in enumerate(learner["gradient_booster"]["model"]["trees"]):
        _add_tree(columns, number, tree)
    return {**columns, "base_values": [float(np.log(base / (1 - base)))]}


_NODE_NAMES: Final = (
    "nodes_treeids",
    "nodes_nodeids",
    "nodes_featureids",
    "nodes_values",
    "nodes_modes",
    "nodes_truenodeids",
    "nodes_falsenodeids",
    "nodes_missing_value_tracks_true",
)
_LEAF_NAMES: Final = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


def _add_tree(columns: dict[str, list[Any]], number: int, tree: dict[str, Any]) -> None:
    """Append one tree: a row goes left where its value is less than the condition."""
    left, right = tree["left_children"], tree["right_children"]
    for node, condition in enumerate(tree["split_conditions"]):
        leaf = left[node] == -1
        values = (
            number,
            node,
            0 if leaf else tree["split_indices"][node],
            0.0 if leaf else condition,
            "LEAF" if leaf else "BRANCH_LT",
            0 if leaf else left[node],
            0 if leaf else right[node],
            0 if leaf else int(tree["default_left"][node]),
        )
        for name, value in zip(_NODE_NAMES, values, strict=True):
            columns[name].append(value)
        if leaf:
            for name, value in zip(_LEAF_NAMES, (number, node, 0, condition), strict=True):
                columns[name].append(value)
