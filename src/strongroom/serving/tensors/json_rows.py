"""TensorFlow Serving's two JSON forms of a request: rows (``instances``) and columns (``inputs``), and the answers."""

from collections.abc import Mapping
from typing import Any, Final

from strongroom.serving.engines import Signature
from strongroom.serving.status import InvalidRequest
from strongroom.serving.tensors.dtypes import Array
from strongroom.serving.tensors.json_values import array_from_json, is_b64, json_from_array

INSTANCES: Final = "instances"
INPUTS: Final = "inputs"


def inputs_from_document(document: Mapping[str, Any], signature: Signature) -> tuple[dict[str, Array], bool]:
    """The arrays of a predict request.

    Args:
        document: The parsed JSON object.
        signature: Says names and types.

    Returns:
        The arrays, and whether they came as rows.

    Raises:
        InvalidRequest: Not of either form, or values that do not fit the types.
    """
    if (INSTANCES in document) == (INPUTS in document):
        raise InvalidRequest(
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist"
            if INPUTS in document
            else "Missing 'inputs' or 'instances' key"
        )
    if INPUTS in document:
        return _from_columns(document[INPUTS], signature), False
    return _from_rows(document[INSTANCES], signature), True


def outputs_as_rows(outputs: Mapping[str, Array]) -> dict[str, Any]:
    """``{"predictions": [...]}``: one entry for each row, an object when there are several outputs.

    Raises:
        InvalidRequest: Outputs without a batch dimension, or of different batch sizes.
    """
    sizes = {len(array) if array.ndim else -1 for array in outputs.values()}
    if len(sizes) != 1 or -1 in sizes:
        raise InvalidRequest("the outputs have no common batch size: ask in columnar format ('inputs')")
    columns = {name: json_from_array(name, array) for name, array in outputs.items()}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    (count,) = sizes
    return {"predictions": [{name: column[row] for name, column in columns.items()} for row in range(count)]}


def outputs_as_columns(outputs: Mapping[str, Array]) -> dict[str, Any]:
    """``{"outputs": ...}``: one tensor, or an object of them."""
    columns = {name: json_from_array(name, array) for name, array in outputs.items()}
    return {"outputs": next(iter(columns.values())) if len(columns) == 1 else columns}


def _from_columns(value: Any, signature: Signature) -> dict[str, Array]:
    specs = signature.inputs
    if not isinstance(value, dict) or is_b64(value):
        if len(specs) != 1:
            raise InvalidRequest(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required"
            )
        name, spec = next(iter(specs.items()))
        return {name: array_from_json(value, spec.dtype)}
    _check_names(value, signature)
    return {name: array_from_json(value[name], spec.dtype) for name, spec in specs.items()}


def _from_rows(rows: Any, signature: Signature) -> dict[str, Array]:
    if not isinstance(rows, list) or not rows:
        raise InvalidRequest("Expecting 'instances' to be a list with at least one element")
    specs = signature.inputs
    named = isinstance(rows[0], dict) and not is_b64(rows[0])
    if not named:
        if len(specs) != 1:
            raise InvalidRequest(
                "instances is a plain list, but expecting list of objects as multiple input tensors required"
            )
        if any(isinstance(row, dict) and not is_b64(row) for row in rows):
            raise InvalidRequest("Expecting value/list but got object in the list 'instances'")
        name, spec = next(iter(specs.items()))
        return {name: array_from_json(rows, spec.dtype)}
    for row in rows:
        if not isinstance(row, dict):
            raise InvalidRequest("Expecting object but got a value in the list 'instances'")
        _check_names(row, signature)
    return {name: array_from_json([row[name] for row in rows], spec.dtype) for name, spec in specs.items()}


def _check_names(given: Mapping[str, Any], signature: Signature) -> None:
    if given.keys() != signature.inputs.keys():
        raise InvalidRequest(f"keys must be equal to: {','.join(sorted(signature.inputs))}")
