"""The trees as an ONNX model: features in, probability of default out."""

import json
from typing import Final

from strongroom.formats.tree_ensemble import onnx_model, parse_xgboost
from strongroom.loan.bundle import Bundle

MAX_NODES: Final = 20_000_000


def onnx_file(bundle: Bundle) -> bytes:
    """The model's trees with a sigmoid after them.

    Input ``features``: float32 (rows, features), NaN where missing. Output ``probability``: float32 (rows, 1).

    Args:
        bundle: The model.

    Raises:
        FormatError: Its trees have more than 20 million nodes.
    """
    ensemble = parse_xgboost(json.loads(bundle.booster.save_raw("json")), max_nodes=MAX_NODES)
    return onnx_model(ensemble, "probability", probability=True)
