"""Gradient boosted trees: read from XGBoost's JSON model, written as an ONNX model.

Sources: XGBoost, "Introduction to Model IO" and its JSON schema (doc/model.schema); ONNX, onnx/onnx.proto3 (field
numbers) and ai.onnx.ml TreeEnsembleRegressor, version 3; Protocol Buffers, "Encoding".
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log
from typing import Any, Final

from strongroom.errors import FormatError

IR_VERSION: Final = 9
OPSET: Final = 17
ML_OPSET: Final = 3
ML_DOMAIN: Final = "ai.onnx.ml"
_FLOAT: Final = 1  # TensorProto.DataType
_INT, _FLOATS, _INTS, _STRINGS = 2, 6, 7, 8  # AttributeProto.AttributeType
_LARGEST_FLOAT: Final = 3.4028234663852886e38  # of float32
_LOGISTIC: Final = frozenset({"binary:logistic", "reg:logistic"})
_AS_IT_IS: Final = frozenset({"reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "multi:softprob"})


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a tree.

    Args:
        tree: Number of the tree.
        node: Number of the node in it; the root is 0.
        value: A leaf's weight; else a row goes left where its feature is less.
        feature: Position of the feature; 0 in a leaf.
        left: Node for rows that are less; None in a leaf.
        right: Node for the others; None in a leaf.
        missing_left: Where rows without a value go.
        target: The class that a leaf adds to; 0 where there is one output.
    """

    tree: int
    node: int
    value: float
    feature: int = 0
    left: int | None = None
    right: int | None = None
    missing_left: bool = False
    target: int = 0


@dataclass(frozen=True, slots=True)
class TreeEnsemble:
    """Trees whose leaves add up to margins.

    Args:
        nodes: All nodes that a row can come to, tree by tree, each tree's root first.
        base: What the sums begin with, one for each output.
        features: Number of features.
        objective: XGBoost's name of it.
    """

    nodes: Sequence[Node]
    base: tuple[float, ...]
    features: int
    objective: str

    @property
    def logistic(self) -> bool:
        """Whether a sigmoid makes the margin a probability."""
        return self.objective in _LOGISTIC


def parse_xgboost(model: Mapping[str, Any], *, max_nodes: int) -> TreeEnsemble:
    """Read a model as `Booster.save_raw("json")` writes it.

    Args:
        model: The parsed JSON.
        max_nodes: Most nodes of all trees together.

    Raises:
        FormatError: More nodes (``trees.nodes``); not such a model (``trees.model``); not supported here
            (``trees.unsupported``): another booster than ``gbtree``, categorical splits, leaves with several values,
            an objective whose margin's meaning is not known here.
    """
    try:
        return _ensemble(model["learner"], max_nodes)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise FormatError("not a model of XGBoost", code="trees.model") from None


def _ensemble(learner: Mapping[str, Any], max_nodes: int) -> TreeEnsemble:
    booster, params, objective = (
        learner["gradient_booster"],
        learner["learner_model_param"],
        learner["objective"]["name"],
    )
    if booster["name"] != "gbtree" or objective not in _LOGISTIC | _AS_IT_IS:
        raise FormatError("these trees are not plain ones", code="trees.unsupported")
    trees = booster["model"]["trees"]
    if sum(len(tree["left_children"]) for tree in trees) > max_nodes:
        raise FormatError(f"the trees have more than {max_nodes} nodes", code="trees.nodes")
    nodes = [
        node
        for number, (tree, target) in enumerate(zip(trees, booster["model"]["tree_info"], strict=True))
        for node in _nodes(number, tree, int(target))
    ]
    base = _base(str(params["base_score"]), objective, max(1, int(params["num_class"])))
    ensemble = TreeEnsemble(nodes, base, int(params["num_feature"]), objective)
    if not all(_possible(node, ensemble) for node in nodes):
        raise ValueError("a node that can't be")
    return ensemble


def _nodes(number: int, tree: Mapping[str, Any], target: int) -> Iterator[Node]:
    if any(tree.get("split_type", ())) or int(tree["tree_param"].get("size_leaf_vector", 1)) > 1:
        raise FormatError("these trees are not plain ones", code="trees.unsupported")
    left, right, values = tree["left_children"], tree["right_children"], tree["split_conditions"]
    waiting, seen = [0], 0
    while waiting:
        node = waiting.pop()
        seen += 1
        if seen > len(left) or node < 0:
            raise ValueError("a tree that is none")
        if left[node] == -1:
            yield Node(number, node, float(values[node]), target=target)
            continue
        feature, missing_left = int(tree["split_indices"][node]), bool(tree["default_left"][node])
        yield Node(number, node, float(values[node]), feature, left[node], right[node], missing_left, target)
        waiting += (right[node], left[node])


def _possible(node: Node, ensemble: TreeEnsemble) -> bool:
    within = 0 <= node.feature < ensemble.features and 0 <= node.target < len(ensemble.base)
    return within and abs(node.value) <= _LARGEST_FLOAT


def _base(text: str, objective: str, outputs: int) -> tuple[float, ...]:
    # One number, in brackets since 3.1, or one for each class.
    scores = [float(part) for part in text.strip("[]").split(",")]
    if len(scores) == 1:
        scores *= outputs
    if len(scores) != outputs or not all(map(isfinite, scores)):
        raise ValueError("base scores")
    return tuple(log(score / (1 - score)) for score in scores) if objective in _LOGISTIC else tuple(scores)


def onnx_model(ensemble: TreeEnsemble, output: str, *, probability: bool = False) -> bytes:
    """The trees as an ONNX model.

    Its input ``features`` is float32 (rows, features), NaN where a value is missing; its output is float32
    (rows, outputs).

    Args:
        ensemble: The trees.
        output: Name of the output.
        probability: Whether a sigmoid follows; else the output is margins.

    Returns:
        ModelProto, serialized.
    """
    trees = _node(["features"], "margin" if probability else output, "TreeEnsembleRegressor", ML_DOMAIN)
    trees += b"".join(_field(5, attribute) for attribute in _attributes(ensemble))
    steps = [trees] + ([_node(["margin"], output, "Sigmoid", "")] if probability else [])
    graph = b"".join(_field(1, step) for step in steps) + _text(2, "trees")
    graph += _field(11, _tensor("features", ensemble.features)) + _field(12, _tensor(output, len(ensemble.base)))
    opsets = [_text(1, domain) + _number(2, version) for domain, version in (("", OPSET), (ML_DOMAIN, ML_OPSET))]
    model = _number(1, IR_VERSION) + _text(2, "strongroom") + _field(7, graph)
    return model + b"".join(_field(8, opset) for opset in opsets)


def _attributes(ensemble: TreeEnsemble) -> Iterator[bytes]:
    nodes = ensemble.nodes
    leaves = [node for node in nodes if node.left is None]
    yield _integers("nodes_treeids", (node.tree for node in nodes))
    yield _integers("nodes_nodeids", (node.node for node in nodes))
    yield _integers("nodes_featureids", (node.feature for node in nodes))
    yield _floats("nodes_values", [0.0 if node.left is None else node.value for node in nodes])
    modes = (b"LEAF" if node.left is None else b"BRANCH_LT" for node in nodes)
    yield _attribute("nodes_modes", _STRINGS) + b"".join(_field(9, mode) for mode in modes)
    yield _integers("nodes_truenodeids", (node.left or 0 for node in nodes))
    yield _integers("nodes_falsenodeids", (node.right or 0 for node in nodes))
    yield _integers("nodes_missing_value_tracks_true", (node.missing_left for node in nodes))
    yield _integers("target_treeids", (leaf.tree for leaf in leaves))
    yield _integers("target_nodeids", (leaf.node for leaf in leaves))
    yield _integers("target_ids", (leaf.target for leaf in leaves))
    yield _floats("target_weights", [leaf.value for leaf in leaves])
    yield _floats("base_values", ensemble.base)
    yield _attribute("n_targets", _INT) + _number(3, len(ensemble.base))


def _node(inputs: Sequence[str], output: str, operator: str, domain: str) -> bytes:
    return b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(4, operator) + _text(7, domain)


def _tensor(name: str, width: int) -> bytes:
    """ValueInfoProto of float32 [rows, width]."""
    rows, columns = _text(2, "rows"), _number(1, width)
    shape = _field(1, rows) + _field(1, columns)
    return _text(1, name) + _field(2, _field(1, _number(1, _FLOAT) + _field(2, shape)))


def _attribute(name: str, kind: int) -> bytes:
    return _text(1, name) + _number(20, kind)


def _integers(name: str, values: Iterable[int]) -> bytes:
    return _attribute(name, _INTS) + _field(8, b"".join(map(_varint, values)))


def _floats(name: str, values: Sequence[float]) -> bytes:
    return _attribute(name, _FLOATS) + _field(7, struct.pack(f"<{len(values)}f", *values))


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode())


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
