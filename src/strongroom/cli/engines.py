"""The engines of `strongroom serve`, the only place where the model server meets the loan application."""

from strongroom.cli.loan_engine import LoanBundleMaker
from strongroom.serving.engines import EngineMaker
from strongroom.serving.engines.identity import IdentityMaker
from strongroom.serving.engines.onnx import OnnxMaker
from strongroom.serving.engines.openvino import OpenVinoMaker, Precision
from strongroom.serving.engines.xgboost import XGBoostMaker


def engine_makers(precision: Precision = "f32") -> list[EngineMaker]:
    """Every engine; a version goes to the first one that recognises its files.

    Args:
        precision: Of OpenVINO.
    """
    return [
        LoanBundleMaker(),
        XGBoostMaker(threads=1),
        OnnxMaker(),
        OpenVinoMaker(precision=precision),
        IdentityMaker(),
    ]
