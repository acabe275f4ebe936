"""tensorflow.serving.PredictionService and ModelService."""

from collections.abc import Callable, Mapping
from typing import Any

import grpc

from strongroom.serving.engines import CLASSIFY, DEFAULT_SIGNATURE, REGRESS
from strongroom.serving.inference import Answer, Inference
from strongroom.serving.metrics import Metrics
from strongroom.serving.models.repository import Chosen
from strongroom.serving.rpc.calls import Call, UseCase, unary
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
from strongroom.serving.tensors.tensor_proto import decode_tensor, fill_tensor
from strongroom.serving.wire import tensorflow as wire

Reload = Callable[[Any], None]
"""Takes a ModelServerConfig; raises when it can't be served."""


class TensorFlowServices:
    """The methods of both services.

    Args:
        inference: The use cases.
        reload: Applies a new ModelServerConfig.
        metrics: Where calls are counted.
    """

    def __init__(self, inference: Inference, reload: Reload, metrics: Metrics) -> None:
        self._inference = inference
        self._reload = reload
        self._metrics = metrics

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """What a gRPC server is given."""
        return [
            self._service(
                "PredictionService",
                {
                    "Predict": (wire.PredictRequest, self._predict),
                    "Classify": (wire.ClassificationRequest, self._classify),
                    "Regress": (wire.RegressionRequest, self._regress),
                    "MultiInference": (wire.MultiInferenceRequest, self._multi_inference),
                    "GetModelMetadata": (wire.GetModelMetadataRequest, self._metadata),
                },
            ),
            self._service(
                "ModelService",
                {
                    "GetModelStatus": (wire.GetModelStatusRequest, self._status),
                    "HandleReloadConfigRequest": (wire.ReloadConfigRequest, self._handle_reload),
                },
            ),
        ]

    def _service(self, name: str, methods: Mapping[str, tuple[Any, UseCase]]) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            f"tensorflow.serving.{name}",
            {method: unary(method, request, use, self._metrics) for method, (request, use) in methods.items()},
        )

    def _chosen(self, spec: Any, call: Call) -> Chosen:
        chosen = chosen_from_spec(spec)
        call.model = self._inference.repository.known(chosen.name)
        return chosen

    def _predict(self, request: Any, call: Call) -> Any:
        chosen = self._chosen(request.model_spec, call)
        inputs = {name: decode_tensor(tensor) for name, tensor in request.inputs.items()}
        answer = self._inference.predict(
            chosen, request.model_spec.signature_name, inputs, tuple(request.output_filter), call.deadline
        )
        response = wire.PredictResponse()
        for name, array in answer.outputs.items():
            fill_tensor(response.outputs[name], array)
        fill_spec(response.model_spec, answer)
        return response

    def _classify(self, request: Any, call: Call) -> Any:
        chosen = self._chosen(request.model_spec, call)
        classes = self._inference.classify(chosen, request.model_spec.signature_name, request.input, call.deadline)
        response = wire.ClassificationResponse(result=classification_result(classes))
        fill_spec(response.model_spec, classes.answer)
        return response

    def _regress(self, request: Any, call: Call) -> Any:
        chosen = self._chosen(request.model_spec, call)
        values = self._inference.regress(chosen, request.model_spec.signature_name, request.input, call.deadline)
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


def _check_tasks(tasks: Any) -> None:
    if not tasks:
        raise InvalidRequest("MultiInferenceRequest has no tasks")
    if len({task.model_spec.name for task in tasks}) > 1:
        raise InvalidRequest("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    names = [task.model_spec.signature_name or DEFAULT_SIGNATURE for task in tasks]
    if len(set(names)) != len(names):
        raise InvalidRequest("Duplicate evaluation of a signature")
