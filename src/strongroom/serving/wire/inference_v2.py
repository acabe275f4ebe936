"""Messages of the Open Inference Protocol V2 over gRPC.

Source: the public `grpc_predict_v2.proto` of the protocol (package ``inference``), with the repository extension.
"""

from typing import Final

from strongroom.serving.wire.describe import Description, register

_TENSOR: Final = {
    "name": "1 string",
    "datatype": "2 string",
    "shape": "3 repeated int64",
    "parameters": "4 map string InferParameter",
    "contents": "5 InferTensorContents",
}
_METADATA: Final = {"name": "1 string", "datatype": "2 string", "shape": "3 repeated int64"}
_NAMED_VERSION: Final = {"name": "1 string", "version": "2 string"}

_MESSAGES: Final = register(
    Description(
        file="strongroom/inference_v2.proto",
        package="inference",
        messages={
            "ServerLiveRequest": {},
            "ServerLiveResponse": {"live": "1 bool"},
            "ServerReadyRequest": {},
            "ServerReadyResponse": {"ready": "1 bool"},
            "ModelReadyRequest": _NAMED_VERSION,
            "ModelReadyResponse": {"ready": "1 bool"},
            "ServerMetadataRequest": {},
            "ServerMetadataResponse": {"name": "1 string", "version": "2 string", "extensions": "3 repeated string"},
            "ModelMetadataRequest": _NAMED_VERSION,
            "ModelMetadataResponse": {
                "name": "1 string",
                "versions": "2 repeated string",
                "platform": "3 string",
                "inputs": "4 repeated ModelMetadataResponse.TensorMetadata",
                "outputs": "5 repeated ModelMetadataResponse.TensorMetadata",
            },
            "ModelMetadataResponse.TensorMetadata": _METADATA,
            "InferParameter": {
                "bool_param": "1 bool in parameter_choice",
                "int64_param": "2 int64 in parameter_choice",
                "string_param": "3 string in parameter_choice",
            },
            "InferTensorContents": {
                "bool_contents": "1 repeated bool",
                "int_contents": "2 repeated int32",
                "int64_contents": "3 repeated int64",
                "uint_contents": "4 repeated uint32",
                "uint64_contents": "5 repeated uint64",
                "fp32_contents": "6 repeated float",
                "fp64_contents": "7 repeated double",
                "bytes_contents": "8 repeated bytes",
            },
            "ModelInferRequest": {
                "model_name": "1 string",
                "model_version": "2 string",
                "id": "3 string",
                "parameters": "4 map string InferParameter",
                "inputs": "5 repeated ModelInferRequest.InferInputTensor",
                "outputs": "6 repeated ModelInferRequest.InferRequestedOutputTensor",
                "raw_input_contents": "7 repeated bytes",
            },
            "ModelInferRequest.InferInputTensor": _TENSOR,
            "ModelInferRequest.InferRequestedOutputTensor": {
                "name": "1 string",
                "parameters": "2 map string InferParameter",
            },
            "ModelInferResponse": {
                "model_name": "1 string",
                "model_version": "2 string",
                "id": "3 string",
                "parameters": "4 map string InferParameter",
                "outputs": "5 repeated ModelInferResponse.InferOutputTensor",
                "raw_output_contents": "6 repeated bytes",
            },
            "ModelInferResponse.InferOutputTensor": _TENSOR,
        },
        services={
            "GRPCInferenceService": {
                "ServerLive": ("ServerLiveRequest", "ServerLiveResponse", "none"),
                "ServerReady": ("ServerReadyRequest", "ServerReadyResponse", "none"),
                "ModelReady": ("ModelReadyRequest", "ModelReadyResponse", "none"),
                "ServerMetadata": ("ServerMetadataRequest", "ServerMetadataResponse", "none"),
                "ModelMetadata": ("ModelMetadataRequest", "ModelMetadataResponse", "none"),
                "ModelInfer": ("ModelInferRequest", "ModelInferResponse", "none"),
            }
        },
    )
)

ServerLiveRequest: Final = _MESSAGES["ServerLiveRequest"]
ServerLiveResponse: Final = _MESSAGES["ServerLiveResponse"]
ServerReadyRequest: Final = _MESSAGES["ServerReadyRequest"]
ServerReadyResponse: Final = _MESSAGES["ServerReadyResponse"]
ModelReadyRequest: Final = _MESSAGES["ModelReadyRequest"]
ModelReadyResponse: Final = _MESSAGES["ModelReadyResponse"]
ServerMetadataRequest: Final = _MESSAGES["ServerMetadataRequest"]
ServerMetadataResponse: Final = _MESSAGES["ServerMetadataResponse"]
ModelMetadataRequest: Final = _MESSAGES["ModelMetadataRequest"]
ModelMetadataResponse: Final = _MESSAGES["ModelMetadataResponse"]
ModelInferRequest: Final = _MESSAGES["ModelInferRequest"]
ModelInferResponse: Final = _MESSAGES["ModelInferResponse"]
