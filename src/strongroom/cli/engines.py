"""The engines of `strongroom serve`, the only place where the model server meets the loan application."""

from strongroom.cli.loan_engine import LoanBundleMaker
from strongroom.serving.engines import EngineMaker
from strongroom.serving.engines.identity import IdentityMaker
from strongroom.serving.engines.onnx import OnnxMaker
from strongroom.serving.engines.openvino import OpenVinoMaker, Precision
from strongroom.serving.engines.xgboost import XGBoostMaker


def engine_makers(concurrency: int, precision: Precision = "f32") -> list[EngineMaker]:
    """Every engine; a version goes to the first one that recognises its files.

    Args:
        concurrency: Predictions of a model at once: an engine with threads of its own divides the cores by it.
        precision: Of OpenVINO.
    """
    import os

    threads = max(1, len(os.sched_getaffinity(0)) // concurrency)
    return [
        LoanBundleMaker(),
        XGBoostMaker(threads=1),
        OnnxMaker(threads=threads),
        OpenVinoMaker(requests=concurrency, precision=precision),
        IdentityMaker(),
    ]
