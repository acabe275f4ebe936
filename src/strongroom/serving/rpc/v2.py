"""inference.GRPCInferenceService: the Open Inference Protocol V2 over gRPC."""

from collections.abc import Mapping
from typing import Any

from strongroom import __version__
from strongroom.serving.inference import Answer, Inference
from strongroom.serving.rpc.calls import Call, Method
from strongroom.serving.rpc.health import Health
from strongroom.serving.rpc.lookalikes import Asked, Reader, Writer
from strongroom.serving.status import InvalidRequest
from strongroom.serving.tensors.dtypes import Array, dtype_of
from strongroom.serving.tensors.v2 import fill_contents, from_contents, from_raw, to_raw
from strongroom.serving.v2 import SERVER_NAME, chosen_version, model_metadata, signature_parameter
from strongroom.serving.wire import inference_v2 as wire

SERVICE = "inference.GRPCInferenceService"


class InferenceV2Service:
    """The methods of the service.

    Args:
        inference: The use cases.
        health: Says what is ready.
    """

    def __init__(self, inference: Inference, health: Health) -> None:
        self._inference = inference
        self._health = health
        self._write = Writer()

    def services(self) -> dict[str, dict[str, Method]]:
        """Full service name to its methods."""
        return {
            SERVICE: {
                "ServerLive": Method(wire.ServerLiveRequest, self._live, counted=False),
                "ServerReady": Method(wire.ServerReadyRequest, self._ready, counted=False),
                "ModelReady": Method(wire.ModelReadyRequest, self._model_ready, counted=False),
                "ServerMetadata": Method(wire.ServerMetadataRequest, self._server_metadata, counted=False),
                "ModelMetadata": Method(wire.ModelMetadataRequest, self._metadata),
                "ModelInfer": Method(wire.ModelInferRequest, self._infer, quick=self._quick, read=_infer_reader()),
            }
        }

    def _live(self, request: Any, call: Call) -> Any:
        del request, call
        return wire.ServerLiveResponse(live=True)

    def _ready(self, request: Any, call: Call) -> Any:
        del request, call
        return wire.ServerReadyResponse(ready=self._health.ready)

    def _server_metadata(self, request: Any, call: Call) -> Any:
        del request, call
        return wire.ServerMetadataResponse(name=SERVER_NAME, version=__version__)

    def _model_ready(self, request: Any, call: Call) -> Any:
        del call
        chosen = chosen_version(request.name, request.version)
        return wire.ModelReadyResponse(ready=self._health.model_ready(chosen))

    def _metadata(self, request: Any, call: Call) -> Any:
        chosen = chosen_version(request.name, request.version)
        call.model = self._inference.repository.known(chosen.name)
        found = model_metadata(self._inference.repository, chosen)
        response = wire.ModelMetadataResponse(name=found.name, versions=found.versions, platform=found.platform)
        for side, tensors in ((response.inputs, found.inputs), (response.outputs, found.outputs)):
            for tensor in tensors:
                side.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        return response

    def _quick(self, asked: Asked) -> bool:
        return self._inference.repository.quick(asked.chosen.name)

    def _infer(self, asked: Asked, call: Call) -> Any:
        call.model = self._inference.repository.known(asked.chosen.name)
        call.answer = answer = self._inference.predict(
            asked.chosen, asked.signature, asked.inputs, asked.outputs, call.deadline
        )
        named = wire.ModelInferResponse(id=asked.request_id).SerializeToString()
        if len(answer.outputs) != 1 or not asked.raw:
            return _response(answer, answer.outputs, raw=asked.raw).SerializeToString() + named
        ((name, array),) = answer.outputs.items()
        # Messages that follow each other are one message: the id, which differs each time, comes behind.
        return self._write(
            (answer.model, answer.version, name), array, lambda array: _response(answer, {name: array}, raw=True)
        ) + bytes(named)


def _infer_reader() -> Reader:
    """Reads ModelInferRequest."""

    def decode(request: Any) -> Asked:
        parameters = {
            name: getattr(value, value.WhichOneof("parameter_choice") or "string_param")
            for name, value in request.parameters.items()
        }
        return Asked(
            chosen_version(request.model_name, request.model_version),
            signature_parameter(parameters),
            _inputs(request),
            tuple(output.name for output in request.outputs),
            request.id,
            bool(request.raw_input_contents),
        )

    def content(request: Any) -> bytes:
        return bytes(request.raw_input_contents[0]) if request.raw_input_contents else b""

    def exchange(request: Any, other: bytes) -> None:
        request.raw_input_contents[0] = other

    return Reader(wire.ModelInferRequest, decode, content, exchange)


def _inputs(request: Any) -> dict[str, Array]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidRequest(f"{len(raw)} raw contents for {len(request.inputs)} inputs")
    arrays: dict[str, Array] = {}
    for position, tensor in enumerate(request.inputs):
        if tensor.name in arrays:
            raise InvalidRequest(f"the input {tensor.name[:200]!r} is given twice")
        if raw and tensor.HasField("contents"):
            raise InvalidRequest("an input has both raw and typed contents")
        if raw:
            arrays[tensor.name] = from_raw(tensor.datatype, tensor.shape, raw[position])
        else:
            arrays[tensor.name] = from_contents(tensor.datatype, tensor.shape, tensor.contents)
    return arrays


def _response(answer: Answer, outputs: Mapping[str, Array], *, raw: bool) -> Any:
    """Answers come the way the inputs came; a type that can only travel raw makes all of them raw."""
    raw = raw or any(dtype_of(array).v2_field is None for array in outputs.values())
    response = wire.ModelInferResponse(model_name=answer.model, model_version=str(answer.version))
    for name, array in outputs.items():
        output = response.outputs.add(name=name, datatype=dtype_of(array).v2, shape=array.shape)
        if raw:
            response.raw_output_contents.append(to_raw(array))
        else:
            fill_contents(output.contents, array)
    return response
