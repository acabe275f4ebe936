"""tensorflow.serving.PredictionService and ModelService."""

from collections.abc import Callable, Mapping
from typing import Any

from strongroom.serving.engines import CLASSIFY, DEFAULT_SIGNATURE, REGRESS
from strongroom.serving.inference import Answer, Inference
from strongroom.serving.models.repository import Chosen
from strongroom.serving.rpc.calls import Call, Method
from strongroom.serving.rpc.lookalikes import Asked, Reader, Writer
from strongroom.serving.rpc.messages import (
    check_metadata_fields,
    chosen_from_spec,
    classification_result,
    fill_spec,
    metadata_response,
    regression_result,
    status_response,
)
from strongroom.serving.status import InvalidRequest, Refused, Status, status_of
from strongroom.serving.tensors.dtypes import Array
from strongroom.serving.tensors.tensor_proto import decode_tensor, fill_tensor
from strongroom.serving.wire import tensorflow as wire

Reload = Callable[[Any], None]
"""Takes a ModelServerConfig; raises when it can't be served."""


class TensorFlowServices:
    """The methods of both services.

    Args:
        inference: The use cases.
        reload: Applies a new ModelServerConfig.
    """

    def __init__(self, inference: Inference, reload: Reload) -> None:
        self._inference = inference
        self._reload = reload
        self._write = Writer()

    def services(self) -> dict[str, dict[str, Method]]:
        """Full service name to its methods."""
        return {
            "tensorflow.serving.PredictionService": {
                "Predict": Method(wire.PredictRequest, self._predict, quick=self._quick, read=_predict_reader()),
                "Classify": Method(wire.ClassificationRequest, self._classify),
                "Regress": Method(wire.RegressionRequest, self._regress),
                "MultiInference": Method(wire.MultiInferenceRequest, self._multi_inference),
                "GetModelMetadata": Method(wire.GetModelMetadataRequest, self._metadata),
            },
            "tensorflow.serving.ModelService": {
                "GetModelStatus": Method(wire.GetModelStatusRequest, self._status),
                "HandleReloadConfigRequest": Method(wire.ReloadConfigRequest, self._handle_reload),
            },
        }

    def _quick(self, asked: Asked) -> bool:
        return self._inference.repository.quick(asked.chosen.name)

    def _chosen(self, spec: Any, call: Call) -> Chosen:
        chosen = chosen_from_spec(spec)
        call.model = self._inference.repository.known(chosen.name)
        return chosen

    def _predict(self, asked: Asked, call: Call) -> Any:
        call.model = self._inference.repository.known(asked.chosen.name)
        call.answer = answer = self._inference.predict(
            asked.chosen, asked.signature, asked.inputs, asked.outputs, call.deadline
        )
        if len(answer.outputs) != 1:
            return _predict_response(answer, answer.outputs)
        ((name, array),) = answer.outputs.items()
        key = (answer.model, answer.version, answer.signature, name)
        return self._write(key, array, lambda array: _predict_response(answer, {name: array}))

    def _classify(self, request: Any, call: Call) -> Any:
        chosen = self._chosen(request.model_spec, call)
        classes = self._inference.classify(chosen, request.model_spec.signature_name, request.input, call.deadline)
        call.answer = classes.answer
        response = wire.ClassificationResponse(result=classification_result(classes))
        fill_spec(response.model_spec, classes.answer)
        return response

    def _regress(self, request: Any, call: Call) -> Any:
        chosen = self._chosen(request.model_spec, call)
        values = self._inference.regress(chosen, request.model_spec.signature_name, request.input, call.deadline)
        call.answer = values.answer
        response = wire.RegressionResponse(result=regression_result(values))
        fill_spec(response.model_spec, values.answer)
        return response

    def _multi_inference(self, request: Any, call: Call) -> Any:
        _check_tasks(request.tasks)
        response = wire.MultiInferenceResponse()
        for task in request.tasks:
            self._run_task(task, request.input, response.results.add(), call)
        return response

    def _run_task(self, task: Any, message: Any, result: Any, call: Call) -> None:
        chosen, name = self._chosen(task.model_spec, call), task.model_spec.signature_name
        answer: Answer
        if task.method_name == CLASSIFY:
            classes = self._inference.classify(chosen, name, message, call.deadline)
            result.classification_result.CopyFrom(classification_result(classes))
            answer = classes.answer
        elif task.method_name == REGRESS:
            values = self._inference.regress(chosen, name, message, call.deadline)
            result.regression_result.CopyFrom(regression_result(values))
            answer = values.answer
        else:
            raise Refused(Status.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name[:100]}")
        call.answer = answer
        fill_spec(result.model_spec, answer)

    def _metadata(self, request: Any, call: Call) -> Any:
        check_metadata_fields(request.metadata_field)
        found = self._inference.repository.find(self._chosen(request.model_spec, call))
        return metadata_response(found.model, found.version, found.signatures)

    def _status(self, request: Any, call: Call) -> Any:
        return status_response(self._inference.repository.status(self._chosen(request.model_spec, call)))

    def _handle_reload(self, request: Any, call: Call) -> Any:
        del call
        response = wire.ReloadConfigResponse()
        try:
            self._reload(request.config)
        except Exception as error:  # the status of a reload travels inside the answer
            status, message = status_of(error)
            response.status.error_code = int(status)
            response.status.error_message = message
        return response


def _predict_reader() -> Reader:
    """Reads PredictRequest."""

    def decode(request: Any) -> Asked:
        inputs = {name: decode_tensor(tensor) for name, tensor in request.inputs.items()}
        spec = request.model_spec
        return Asked(chosen_from_spec(spec), spec.signature_name, inputs, tuple(request.output_filter))

    def content(request: Any) -> bytes:
        (tensor,) = request.inputs.values()
        return bytes(tensor.tensor_content)

    def exchange(request: Any, other: bytes) -> None:
        (tensor,) = request.inputs.values()
        tensor.tensor_content = other

    return Reader(wire.PredictRequest, decode, content, exchange)


def _predict_response(answer: Answer, outputs: Mapping[str, Array]) -> Any:
    response = wire.PredictResponse()
    for name, array in outputs.items():
        fill_tensor(response.outputs[name], array)
    fill_spec(response.model_spec, answer)
    return response


def _check_tasks(tasks: Any) -> None:
    if not tasks:
        raise InvalidRequest("MultiInferenceRequest has no tasks")
    if len({task.model_spec.name for task in tasks}) > 1:
        raise InvalidRequest("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    names = [task.model_spec.signature_name or DEFAULT_SIGNATURE for task in tasks]
    if len(set(names)) != len(names):
        raise InvalidRequest("Duplicate evaluation of a signature")
