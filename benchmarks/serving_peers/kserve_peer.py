"""A peer: KServe's Python server around an XGBoost model. MODEL names the file; ports on the command line."""

import os
from typing import Any

import numpy as np
import xgboost
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class Tabular(Model):  # type: ignore[misc]  # kserve is not installed where this is checked
    """V1 and V2 for one booster."""

    def __init__(self) -> None:
        super().__init__("tabular")
        self.booster = xgboost.Booster({"nthread": 1})
        self.booster.load_model(os.environ["MODEL"])
        self.ready = True

    def predict(self, payload: Any, headers: Any = None) -> Any:
        """Predict."""
        del headers
        if isinstance(payload, InferRequest):
            rows = payload.inputs[0].as_numpy().astype(np.float32)
            output = InferOutput("outputs", [len(rows)], "FP32")
            output.set_data_from_numpy(self.booster.inplace_predict(rows, validate_features=False), binary_data=False)
            return InferResponse(payload.id, "tabular", [output])
        rows = np.array(payload["instances"], dtype=np.float32)
        return {"predictions": self.booster.inplace_predict(rows, validate_features=False).tolist()}


if __name__ == "__main__":
    ModelServer().start([Tabular()])
