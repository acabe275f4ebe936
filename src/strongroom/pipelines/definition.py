"""The pipeline in Kubeflow's language: seven lightweight components whose body is one call.

Source of names, inputs and artifacts: intel/kubernetes-intel-azure-high-availability-training,
intel-xgboost-daal4py-pipeline-azure.py. Kubeflow ships each function's text alone: all it uses is imported in it.
"""

from collections.abc import Callable
from typing import Any, Final

from kfp import dsl
from kfp.dsl import ClassificationMetrics, Dataset, Input, Metrics, Model, Output

IMAGE: Final = "strongroom-pipeline-python"
"""Stands for the image until `compile_pipeline` puts the real one in its place."""
NAME: Final = "intel-xgboost-daal4py-pipeline"


def _step(function: Callable[..., None]) -> Any:
    # The image has Kubeflow's SDK and Strongroom: a step installs nothing when it runs.
    return dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)(function)


@_step
def load_data(data_url: str, credit_risk_dataset: Output[Dataset]) -> None:
    """Read and validate the loan book.

    Args:
        data_url: ``sealed:NAME``, or a URL that the step's list of sources allows.
        credit_risk_dataset: Sealed CSV with a header.
    """
    from strongroom.pipelines import steps

    credit_risk_dataset.metadata.update(steps.load_data(data_url, credit_risk_dataset.path))


@_step
def create_train_test_set(
    data: Input[Dataset],
    data_size: int,
    x_train_data: Output[Dataset],
    y_train_data: Output[Dataset],
    x_test_data: Output[Dataset],
    y_test_data: Output[Dataset],
) -> None:
    """Hold a quarter of the rows out, then grow the others with perturbed copies.

    Args:
        data: What `load_data` made.
        data_size: Rows wanted in all.
        x_train_data: Sealed Parquet, inputs.
        y_train_data: Sealed Parquet, outcomes.
        x_test_data: Sealed Parquet, inputs of the rows held out.
        y_test_data: Sealed Parquet, their outcomes.
    """
    from strongroom.pipelines import steps

    outputs = {
        "x_train_data": x_train_data.path,
        "y_train_data": y_train_data.path,
        "x_test_data": x_test_data.path,
        "y_test_data": y_test_data.path,
    }
    said = steps.run_step("create-train-test-set", {"credit_risk_dataset": data.path}, outputs, (str(data_size),))
    x_train_data.metadata["rows"] = said["train_rows"]
    x_test_data.metadata["rows"] = said["test_rows"]


@_step
def preprocess_features(
    x_train: Input[Dataset],
    x_test: Input[Dataset],
    x_train_processed: Output[Dataset],
    x_test_processed: Output[Dataset],
    preprocessor: Output[Model],
) -> None:
    """Fit the preprocessor on the training rows and apply it to all.

    Args:
        x_train: Training rows.
        x_test: Rows held out.
        x_train_processed: Sealed Parquet, features.
        x_test_processed: Sealed Parquet, features.
        preprocessor: Sealed JSON; with it the model can score raw rows.
    """
    from strongroom.pipelines import steps

    outputs = {
        "x_train_processed": x_train_processed.path,
        "x_test_processed": x_test_processed.path,
        "preprocessor": preprocessor.path,
    }
    inputs = {"x_train_data": x_train.path, "x_test_data": x_test.path}
    x_train_processed.metadata.update(steps.run_step("preprocess-features", inputs, outputs))


@_step
def train_xgboost_model(x_train: Input[Dataset], y_train: Input[Dataset], xgb_model: Output[Model]) -> None:
    """Train gradient-boosted trees.

    Args:
        x_train: Features.
        y_train: Outcomes.
        xgb_model: Sealed UBJSON.
    """
    from strongroom.pipelines import steps

    inputs = {"x_train_processed": x_train.path, "y_train_data": y_train.path}
    xgb_model.metadata.update(steps.run_step("train-xgboost-model", inputs, {"xgb_model": xgb_model.path}))


@_step
def convert_xgboost_to_daal4py(
    xgb_model: Input[Model], preprocessor: Input[Model], daal4py_model: Output[Model]
) -> None:
    """Make the model that is served, and prove that oneDAL scores as XGBoost does.

    Args:
        xgb_model: The trees.
        preprocessor: Made with them.
        daal4py_model: Sealed bundle of both.
    """
    from strongroom.pipelines import steps

    inputs = {"xgb_model": xgb_model.path, "preprocessor": preprocessor.path}
    said = steps.run_step("convert-xgboost-to-daal4py", inputs, {"daal4py_model": daal4py_model.path})
    daal4py_model.metadata.update(said)


@_step
def daal4py_inference(
    x_test: Input[Dataset],
    y_test: Input[Dataset],
    daal4py_model: Input[Model],
    prediction_data: Output[Dataset],
    report: Output[Dataset],
    metrics: Output[Metrics],
) -> None:
    """Score the rows held out.

    Args:
        x_test: Features.
        y_test: Outcomes.
        daal4py_model: The model.
        prediction_data: Sealed Parquet: outcome and probability.
        report: Sealed CSV: classification report.
        metrics: AUC and accuracy in percent, in the clear.
    """
    from strongroom.pipelines import steps

    inputs = {"x_test_processed": x_test.path, "y_test_data": y_test.path, "daal4py_model": daal4py_model.path}
    outputs = {"prediction_data": prediction_data.path, "report": report.path}
    said = steps.run_step("daal4py-inference", inputs, outputs)
    metrics.log_metric("AUC", said["auc"])
    metrics.log_metric("Accuracy", said["accuracy"])
    prediction_data.metadata["rows"] = said["rows"]


@_step
def plot_roc_curve(predictions: Input[Dataset], roc_curve_daal4py: Output[ClassificationMetrics]) -> None:
    """Draw the ROC curve.

    Args:
        predictions: What `daal4py_inference` made.
        roc_curve_daal4py: A few hundred points, in the clear.
    """
    from strongroom.pipelines import steps

    said = steps.run_step("plot-roc-curve", {"prediction_data": predictions.path}, {})
    roc_curve_daal4py.log_roc_curve(said["fpr"], said["tpr"], said["threshold"])


STEPS: Final = {
    "load-data": load_data,
    "create-train-test-set": create_train_test_set,
    "preprocess-features": preprocess_features,
    "train-xgboost-model": train_xgboost_model,
    "convert-xgboost-to-daal4py": convert_xgboost_to_daal4py,
    "daal4py-inference": daal4py_inference,
    "plot-roc-curve": plot_roc_curve,
}

Place = Callable[[Any, str], None]
"""Called with every task and its workload's name: says where and with what the task runs."""


def make_pipeline(place: Place) -> Any:
    """The pipeline as Kubeflow's SDK has it.

    Args:
        place: See `Place`.
    """

    def intel_xgboost_daal4py_pipeline(data_url: str, data_size: int) -> None:
        loaded = load_data(data_url=data_url)
        divided = create_train_test_set(data=loaded.outputs["credit_risk_dataset"], data_size=data_size)
        processed = preprocess_features(x_train=divided.outputs["x_train_data"], x_test=divided.outputs["x_test_data"])
        trained = train_xgboost_model(
            x_train=processed.outputs["x_train_processed"], y_train=divided.outputs["y_train_data"]
        )
        converted = convert_xgboost_to_daal4py(
            xgb_model=trained.outputs["xgb_model"], preprocessor=processed.outputs["preprocessor"]
        )
        scored = daal4py_inference(
            x_test=processed.outputs["x_test_processed"],
            y_test=divided.outputs["y_test_data"],
            daal4py_model=converted.outputs["daal4py_model"],
        )
        plotted = plot_roc_curve(predictions=scored.outputs["prediction_data"])
        tasks = (loaded, divided, processed, trained, converted, scored, plotted)
        for task, name in zip(tasks, STEPS, strict=True):
            task.set_caching_options(False)
            place(task, name)

    description = "Credit risk: seven attested steps with keys of their own."
    return dsl.pipeline(intel_xgboost_daal4py_pipeline, name=NAME, description=description)
