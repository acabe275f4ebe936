"""TensorFlow Serving's messages, numbers and names as its public clients use them.

Sources: tensorflow/core/{framework,example,protobuf} and tensorflow_serving/{apis,config,servables} of the TensorFlow
and TensorFlow Serving repositories. Only the fields a server needs are described; others are skipped by protobuf.
"""

from typing import Final

from strongroom.serving.wire.describe import Description, register

TENSORFLOW_FILE: Final = "strongroom/tensorflow.proto"

_TENSORFLOW: Final = register(
    Description(
        file=TENSORFLOW_FILE,
        package="tensorflow",
        enums={
            "DataType": {
                "DT_INVALID": 0,
                "DT_FLOAT": 1,
                "DT_DOUBLE": 2,
                "DT_INT32": 3,
                "DT_UINT8": 4,
                "DT_INT16": 5,
                "DT_INT8": 6,
                "DT_STRING": 7,
                "DT_COMPLEX64": 8,
                "DT_INT64": 9,
                "DT_BOOL": 10,
                "DT_BFLOAT16": 14,
                "DT_UINT16": 17,
                "DT_HALF": 19,
                "DT_UINT32": 22,
                "DT_UINT64": 23,
            }
        },
        messages={
            "TensorShapeProto": {"dim": "2 repeated TensorShapeProto.Dim", "unknown_rank": "3 bool"},
            "TensorShapeProto.Dim": {"size": "1 int64", "name": "2 string"},
            "TensorProto": {
                "dtype": "1 enum:DataType",
                "tensor_shape": "2 TensorShapeProto",
                "version_number": "3 int32",
                "tensor_content": "4 bytes",
                "half_val": "13 repeated int32",
                "float_val": "5 repeated float",
                "double_val": "6 repeated double",
                "int_val": "7 repeated int32",
                "string_val": "8 repeated bytes",
                "int64_val": "10 repeated int64",
                "bool_val": "11 repeated bool",
                "uint32_val": "16 repeated uint32",
                "uint64_val": "17 repeated uint64",
            },
            "TensorInfo": {
                "name": "1 string in encoding",
                "dtype": "2 enum:DataType",
                "tensor_shape": "3 TensorShapeProto",
            },
            "SignatureDef": {
                "inputs": "1 map string TensorInfo",
                "outputs": "2 map string TensorInfo",
                "method_name": "3 string",
            },
            "BytesList": {"value": "1 repeated bytes"},
            "FloatList": {"value": "1 repeated float"},
            "Int64List": {"value": "1 repeated int64"},
            "Feature": {
                "bytes_list": "1 BytesList in kind",
                "float_list": "2 FloatList in kind",
                "int64_list": "3 Int64List in kind",
            },
            "Features": {"feature": "1 map string Feature"},
            "Example": {"features": "1 Features"},
        },
    )
)

_SERVING: Final = register(
    Description(
        file="strongroom/tensorflow_serving.proto",
        package="tensorflow.serving",
        imports=(TENSORFLOW_FILE,),
        enums={
            "ModelVersionStatus.State": {
                "UNKNOWN": 0,
                "START": 10,
                "LOADING": 20,
                "AVAILABLE": 30,
                "UNLOADING": 40,
                "END": 50,
            },
            "ErrorCode": {
                "OK": 0,
                "CANCELLED": 1,
                "UNKNOWN": 2,
                "INVALID_ARGUMENT": 3,
                "DEADLINE_EXCEEDED": 4,
                "NOT_FOUND": 5,
                "ALREADY_EXISTS": 6,
                "PERMISSION_DENIED": 7,
                "RESOURCE_EXHAUSTED": 8,
                "FAILED_PRECONDITION": 9,
                "ABORTED": 10,
                "OUT_OF_RANGE": 11,
                "UNIMPLEMENTED": 12,
                "INTERNAL": 13,
                "UNAVAILABLE": 14,
                "DATA_LOSS": 15,
                "UNAUTHENTICATED": 16,
            },
        },
        messages={
            "ModelSpec": {
                "name": "1 string",
                "version": "2 Int64Value in version_choice",
                "version_label": "4 string in version_choice",
                "signature_name": "3 string",
            },
            "PredictRequest": {
                "model_spec": "1 ModelSpec",
                "inputs": "2 map string tensorflow.TensorProto",
                "output_filter": "3 repeated string",
            },
            "PredictResponse": {"outputs": "1 map string tensorflow.TensorProto", "model_spec": "2 ModelSpec"},
            "ExampleList": {"examples": "1 repeated tensorflow.Example"},
            "ExampleListWithContext": {
                "examples": "1 repeated tensorflow.Example",
                "context": "2 tensorflow.Example",
            },
            "Input": {
                "example_list": "1 ExampleList in kind",
                "example_list_with_context": "2 ExampleListWithContext in kind",
            },
            "Class": {"label": "1 string", "score": "2 float"},
            "Classifications": {"classes": "1 repeated Class"},
            "ClassificationResult": {"classifications": "1 repeated Classifications"},
            "ClassificationRequest": {"model_spec": "1 ModelSpec", "input": "2 Input"},
            "ClassificationResponse": {"result": "1 ClassificationResult", "model_spec": "2 ModelSpec"},
            "Regression": {"value": "1 float"},
            "RegressionResult": {"regressions": "1 repeated Regression"},
            "RegressionRequest": {"model_spec": "1 ModelSpec", "input": "2 Input"},
            "RegressionResponse": {"result": "1 RegressionResult", "model_spec": "2 ModelSpec"},
            "InferenceTask": {"model_spec": "1 ModelSpec", "method_name": "2 string"},
            "InferenceResult": {
                "model_spec": "1 ModelSpec",
                "classification_result": "2 ClassificationResult in result",
                "regression_result": "3 RegressionResult in result",
            },
            "MultiInferenceRequest": {"tasks": "1 repeated InferenceTask", "input": "2 Input"},
            "MultiInferenceResponse": {"results": "1 repeated InferenceResult"},
            "SignatureDefMap": {"signature_def": "1 map string tensorflow.SignatureDef"},
            "GetModelMetadataRequest": {"model_spec": "1 ModelSpec", "metadata_field": "2 repeated string"},
            "GetModelMetadataResponse": {"model_spec": "1 ModelSpec", "metadata": "2 map string Any"},
            "StatusProto": {"error_code": "1 enum:ErrorCode", "error_message": "2 string"},
            "ModelVersionStatus": {
                "version": "1 int64",
                "state": "2 enum:ModelVersionStatus.State",
                "status": "3 StatusProto",
            },
            "GetModelStatusRequest": {"model_spec": "1 ModelSpec"},
            "GetModelStatusResponse": {"model_version_status": "1 repeated ModelVersionStatus"},
            "FileSystemStoragePathSourceConfig": {},
            "FileSystemStoragePathSourceConfig.ServableVersionPolicy": {
                "latest": "100 FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest in policy_choice",
                "all": "101 FileSystemStoragePathSourceConfig.ServableVersionPolicy.All in policy_choice",
                "specific": "102 FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific in policy_choice",
            },
            "FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest": {"num_versions": "1 uint32"},
            "FileSystemStoragePathSourceConfig.ServableVersionPolicy.All": {},
            "FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific": {"versions": "1 repeated int64"},
            "ModelConfig": {
                "name": "1 string",
                "base_path": "2 string",
                "model_platform": "4 string",
                "model_version_policy": "7 FileSystemStoragePathSourceConfig.ServableVersionPolicy",
                "version_labels": "8 map string int64",
            },
            "ModelConfigList": {"config": "1 repeated ModelConfig"},
            "ModelServerConfig": {"model_config_list": "1 ModelConfigList in config"},
            "ReloadConfigRequest": {"config": "1 ModelServerConfig", "metric_names": "2 repeated string"},
            "ReloadConfigResponse": {"status": "1 StatusProto"},
            "BatchingParameters": {
                "max_batch_size": "1 Int64Value",
                "batch_timeout_micros": "2 Int64Value",
                "max_enqueued_batches": "3 Int64Value",
                "num_batch_threads": "4 Int64Value",
                "thread_pool_name": "5 StringValue",
                "allowed_batch_sizes": "6 repeated int64",
                "pad_variable_length_inputs": "7 bool",
                "enable_large_batch_splitting": "8 BoolValue",
                "max_execution_batch_size": "9 Int64Value",
            },
            "PrometheusConfig": {"enable": "1 bool", "path": "2 string"},
            "MonitoringConfig": {"prometheus_config": "1 PrometheusConfig"},
        },
        services={
            "PredictionService": {
                "Classify": ("ClassificationRequest", "ClassificationResponse", "none"),
                "Regress": ("RegressionRequest", "RegressionResponse", "none"),
                "Predict": ("PredictRequest", "PredictResponse", "none"),
                "MultiInference": ("MultiInferenceRequest", "MultiInferenceResponse", "none"),
                "GetModelMetadata": ("GetModelMetadataRequest", "GetModelMetadataResponse", "none"),
            },
            "ModelService": {
                "GetModelStatus": ("GetModelStatusRequest", "GetModelStatusResponse", "none"),
                "HandleReloadConfigRequest": ("ReloadConfigRequest", "ReloadConfigResponse", "none"),
            },
        },
    )
)

TensorProto: Final = _TENSORFLOW["TensorProto"]
TensorShapeProto: Final = _TENSORFLOW["TensorShapeProto"]
TensorInfo: Final = _TENSORFLOW["TensorInfo"]
SignatureDef: Final = _TENSORFLOW["SignatureDef"]
Example: Final = _TENSORFLOW["Example"]

ModelSpec: Final = _SERVING["ModelSpec"]
PredictRequest: Final = _SERVING["PredictRequest"]
PredictResponse: Final = _SERVING["PredictResponse"]
Input: Final = _SERVING["Input"]
ClassificationResult: Final = _SERVING["ClassificationResult"]
ClassificationRequest: Final = _SERVING["ClassificationRequest"]
ClassificationResponse: Final = _SERVING["ClassificationResponse"]
RegressionResult: Final = _SERVING["RegressionResult"]
RegressionRequest: Final = _SERVING["RegressionRequest"]
RegressionResponse: Final = _SERVING["RegressionResponse"]
MultiInferenceRequest: Final = _SERVING["MultiInferenceRequest"]
MultiInferenceResponse: Final = _SERVING["MultiInferenceResponse"]
SignatureDefMap: Final = _SERVING["SignatureDefMap"]
GetModelMetadataRequest: Final = _SERVING["GetModelMetadataRequest"]
GetModelMetadataResponse: Final = _SERVING["GetModelMetadataResponse"]
GetModelStatusRequest: Final = _SERVING["GetModelStatusRequest"]
GetModelStatusResponse: Final = _SERVING["GetModelStatusResponse"]
ModelServerConfig: Final = _SERVING["ModelServerConfig"]
ReloadConfigRequest: Final = _SERVING["ReloadConfigRequest"]
ReloadConfigResponse: Final = _SERVING["ReloadConfigResponse"]
BatchingParameters: Final = _SERVING["BatchingParameters"]
MonitoringConfig: Final = _SERVING["MonitoringConfig"]
