"""Between TensorFlow Serving's messages and the use cases' values."""

from collections.abc import Mapping, Sequence
from typing import Any

from strongroom.serving.engines import Signature, TensorSpec
from strongroom.serving.inference import Answer, Classes, Values
from strongroom.serving.models.repository import Chosen
from strongroom.serving.models.served import VersionStatus
from strongroom.serving.status import InvalidRequest
from strongroom.serving.wire.tensorflow import (
    ClassificationResult,
    GetModelMetadataResponse,
    GetModelStatusResponse,
    RegressionResult,
    SignatureDefMap,
)

SIGNATURE_DEF = "signature_def"


def chosen_from_spec(spec: Any) -> Chosen:
    """Which model a ModelSpec names.

    Raises:
        InvalidRequest: It names none.
    """
    if not spec.name:
        raise InvalidRequest("Missing ModelSpec")
    choice = spec.WhichOneof("version_choice")
    if choice == "version":
        return Chosen(spec.name, version=spec.version.value)
    return Chosen(spec.name, label=spec.version_label)


def fill_spec(spec: Any, answer: Answer) -> None:
    """Say in a ModelSpec who answered."""
    spec.name = answer.model
    spec.version.value = answer.version
    spec.signature_name = answer.signature


def classification_result(classes: Classes) -> Any:
    """ClassificationResult of an answer."""
    result = ClassificationResult()
    for row in classes.rows:
        line = result.classifications.add()
        for label, score in row:
            line.classes.add(label=label, score=score)
    return result


def regression_result(values: Values) -> Any:
    """RegressionResult of an answer."""
    result = RegressionResult()
    for value in values.rows:
        result.regressions.add(value=value)
    return result


def status_response(statuses: Sequence[VersionStatus]) -> Any:
    """GetModelStatusResponse."""
    response = GetModelStatusResponse()
    for status in statuses:
        line = response.model_version_status.add(version=status.version, state=int(status.state))
        line.status.error_code = int(status.error)
        line.status.error_message = status.message
    return response


def signature_map(signatures: Mapping[str, Signature]) -> Any:
    """SignatureDefMap of a model's signatures."""
    message = SignatureDefMap()
    for name, signature in signatures.items():
        target = message.signature_def[name]
        target.method_name = signature.method
        for side, specs in ((target.inputs, signature.inputs), (target.outputs, signature.outputs)):
            for alias, spec in specs.items():
                _fill_info(side[alias], spec)
    return message


def metadata_response(name: str, version: int, signatures: Mapping[str, Signature]) -> Any:
    """GetModelMetadataResponse with the signatures."""
    response = GetModelMetadataResponse()
    response.model_spec.name = name
    response.model_spec.version.value = version
    response.metadata[SIGNATURE_DEF].Pack(signature_map(signatures))
    return response


def check_metadata_fields(fields: Sequence[str]) -> None:
    """Only the signatures can be asked for.

    Raises:
        InvalidRequest: Something else is, or nothing.
    """
    if not fields:
        raise InvalidRequest("GetModelMetadataRequest must specify at least one metadata_field")
    for field in fields:
        if field != SIGNATURE_DEF:
            raise InvalidRequest(f"Metadata field {field[:100]} is not supported")


def _fill_info(info: Any, spec: TensorSpec) -> None:
    info.name = spec.name
    info.dtype = spec.dtype.number
    info.tensor_shape.SetInParent()
    if spec.shape is None:
        info.tensor_shape.unknown_rank = True
        return
    for size in spec.shape:
        info.tensor_shape.dim.add(size=-1 if size is None else size)
