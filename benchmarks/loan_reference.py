"""The reference's algorithm for the loan-default service, written again in our words, to be timed beside ours.

What is reproduced: Intel's cloud optimization module for Azure (kubernetes, loan_app): grow the book by repeating rows
with noise, split afterwards, scikit-learn preprocessing, matrices as CSV text, XGBoost with depth 10 and 500 rounds,
oneDAL converted at every request, the answer put together row by row. Its one known crash is mended.

    python benchmarks/loan_reference.py process|train|predict|score FOLDER ...     (needs pandas and daal4py)

Prints one JSON line with wall seconds, processor seconds and peak memory.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import xgboost as xgb
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.metrics import classification_report, roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, PowerTransformer

CATEGORICAL = ["person_home_ownership", "loan_intent", "loan_grade", "cb_person_default_on_file"]
IMPUTED = ["loan_int_rate", "person_emp_length", "cb_person_cred_hist_length"]
POWERED = ["person_age", "person_income", "loan_amnt", "loan_percent_income"]
PARAMETERS = {
    "objective": "binary:logistic",
    "eval_metric": "logloss",
    "nthread": 4,
    "tree_method": "hist",
    "learning_rate": 0.02,
    "max_depth": 10,
    "min_child_weight": 6,
    "n_jobs": 4,
    "verbosity": 0,
}


def grow(frame: Any, size: int) -> Any:
    repeats = size // len(frame) + 1
    grown = {name: np.repeat(frame[name].to_numpy(), repeats)[:size] for name in frame.columns}
    grown["person_age"] = grown["person_age"] + np.random.randint(-1, 1, size)
    grown["person_income"] = grown["person_income"] + np.random.normal(0, 10, size)
    grown["person_emp_length"] = grown["person_emp_length"] + np.random.randint(-1, 1, size)
    grown["loan_amnt"] = grown["loan_amnt"] + np.random.normal(0, 5, size)
    grown["loan_int_rate"] = grown["loan_int_rate"] + np.random.normal(0, 0.2, size)
    grown["loan_percent_income"] = grown["loan_percent_income"] + np.random.randint(0, 100, size) / 1000
    grown["cb_person_cred_hist_length"] = grown["cb_person_cred_hist_length"] + np.random.randint(0, 2, size)
    for name in CATEGORICAL:
        drawn = np.random.choice(np.unique(grown[name]), size)
        grown[name] = np.where(np.random.random(size) < 0.1, drawn, grown[name])
    return pd.DataFrame(list(zip(*grown.values(), strict=True)), columns=list(grown)).drop_duplicates()


def process(folder: Path, source: str, size: str) -> dict[str, Any]:
    frame = pd.read_csv(source)
    wanted = int(size)
    if wanted > len(frame):
        frame = grow(frame, wanted)
    x, y = frame.drop("loan_status", axis=1), frame["loan_status"]
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.25, random_state=0)
    steps = ColumnTransformer(
        [
            ("impute", SimpleImputer(strategy="median"), IMPUTED),
            ("power", PowerTransformer(), POWERED),
            ("one_hot", OneHotEncoder(handle_unknown="ignore"), CATEGORICAL),
        ],
        remainder="passthrough",
    )
    train, test = pd.DataFrame(steps.fit_transform(x_train)), pd.DataFrame(steps.transform(x_test))
    joblib.dump(steps, folder / "preprocessor.sav")
    for name, part in (("X_train", train), ("X_test", test), ("y_train", y_train), ("y_test", y_test)):
        part.to_csv(folder / f"{name}.csv", header=False, index=False)
    return {"rows": len(frame)}


def train(folder: Path) -> dict[str, Any]:
    import daal4py

    parts = {n: pd.read_csv(folder / f"{n}.csv", header=None) for n in ("X_train", "X_test", "y_train", "y_test")}
    matrix = xgb.DMatrix(parts["X_train"].to_numpy(), parts["y_train"].to_numpy())
    booster = xgb.train(PARAMETERS, matrix, num_boost_round=500)
    joblib.dump(booster, folder / "model.joblib")
    model = daal4py.mb.convert_model(booster)
    probability = model.predict_proba(parts["X_test"].to_numpy())[:, 1]
    labels = parts["y_test"].to_numpy().ravel()
    report = classification_report(labels, probability > 0.5, output_dict=True)
    return {"auc_it_reports": roc_auc_score(labels, probability), "accuracy": report["accuracy"]}


def predict(folder: Path, source: str) -> dict[str, Any]:
    import daal4py

    frame = pd.read_csv(source)
    features = joblib.load(folder / "preprocessor.sav").transform(frame)
    model = daal4py.mb.convert_model(joblib.load(folder / "model.joblib"))
    probability = model.predict_proba(np.asarray(features))[:, 1]
    answer = pd.DataFrame(columns=["Probability", "Prediction"])
    for row, value in enumerate(probability):
        answer.loc[row, "Probability"] = value
        answer.loc[row, "Prediction"] = "True" if value > 0.5 else "False"
    answer.to_csv(folder / "sample_predictions.csv")
    answer.to_json()
    return {"rows": len(answer)}


def score(folder: Path, source: str) -> dict[str, Any]:
    """AUC on rows it never saw, scored by XGBoost itself."""
    frame = pd.read_csv(source)
    labels = frame.pop("loan_status")
    features = np.asarray(joblib.load(folder / "preprocessor.sav").transform(frame))
    probability = joblib.load(folder / "model.joblib").predict(xgb.DMatrix(features))
    return {"auc_on_unseen_rows": roc_auc_score(labels, probability)}


STEPS: dict[str, Any] = {"process": process, "train": train, "predict": predict, "score": score}


def main() -> None:
    step, folder, *rest = sys.argv[1:]
    # One request after another of a running service: the imports are not part of it.
    started, used = time.perf_counter(), time.process_time()
    facts = STEPS[step](Path(folder), *rest)
    facts |= {
        "wall_s": time.perf_counter() - started,
        "cpu_s": time.process_time() - used,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
