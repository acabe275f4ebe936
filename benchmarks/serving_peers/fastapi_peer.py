"""A peer: the shortest FastAPI service around an XGBoost model. uvicorn fastapi_peer:app; MODEL names the file."""

import os

import numpy as np
import xgboost
from fastapi import FastAPI
from pydantic import BaseModel

booster = xgboost.Booster({"nthread": 1})
booster.load_model(os.environ["MODEL"])
app = FastAPI()


class Rows(BaseModel):
    """TensorFlow Serving's row format."""

    instances: list[list[float]]


@app.post("/v1/models/tabular:predict")
def predict(rows: Rows) -> dict[str, list[float]]:
    """Predict."""
    predicted = booster.inplace_predict(np.array(rows.instances, dtype=np.float32), validate_features=False)
    return {"predictions": predicted.tolist()}
