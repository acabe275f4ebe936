"""What both transports of the Open Inference Protocol V2 share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from strongroom.serving.engines import DEFAULT_SIGNATURE, TensorSpec
from strongroom.serving.models.repository import Chosen, Repository
from strongroom.serving.status import InvalidRequest

SERVER_NAME: Final = "strongroom"
SIGNATURE_PARAMETER: Final = "signature_name"


@dataclass(frozen=True, slots=True)
class TensorMetadata:
    """One tensor of a model: its name, V2 datatype and shape with -1 for what may vary."""

    name: str
    datatype: str
    shape: list[int]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What V2 says about a model; the tensors are those of its default signature."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


def chosen_version(name: str, version: str) -> Chosen:
    """Which model and version V2's strings name; an empty version is the highest.

    Raises:
        InvalidRequest: No name, or a version that is no number.
    """
    if not name:
        raise InvalidRequest("the request names no model")
    if not version:
        return Chosen(name)
    if not (version.isascii() and version.isdigit() and len(version) <= 18):
        raise InvalidRequest("a model version is a number")
    return Chosen(name, version=int(version))


def signature_parameter(parameters: Mapping[str, Any]) -> str:
    """The request parameter ``signature_name``: an extension of ours, empty for the default signature.

    Raises:
        InvalidRequest: It is no string.
    """
    name = parameters.get(SIGNATURE_PARAMETER, "")
    if not isinstance(name, str):
        raise InvalidRequest(f"the parameter {SIGNATURE_PARAMETER} must be a string")
    return name


def model_metadata(repository: Repository, chosen: Chosen) -> ModelMetadata:
    """Metadata of an available model.

    Raises:
        Refused: No such model or version.
    """
    found = repository.find(chosen)
    signature = found.signatures[DEFAULT_SIGNATURE]
    return ModelMetadata(
        found.model,
        [str(version) for version in repository.versions(found.model)],
        found.platform,
        _tensors(signature.inputs),
        _tensors(signature.outputs),
    )


def _tensors(specs: Mapping[str, TensorSpec]) -> list[TensorMetadata]:
    return [
        TensorMetadata(name, spec.dtype.v2, [-1 if size is None else size for size in spec.shape or ()])
        for name, spec in specs.items()
    ]
