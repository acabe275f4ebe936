"""tf.Example, as Classify and Regress take it -> arrays of a signature (tensorflow/core/example/example.proto)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from strongroom.serving.engines import Signature, TensorSpec
from strongroom.serving.status import InvalidRequest
from strongroom.serving.tensors.bounds import checked_shape
from strongroom.serving.tensors.dtypes import Array
from strongroom.serving.tensors.json_values import b64_bytes
from strongroom.serving.wire.tensorflow import Example, Input

MAX_EXAMPLES: Final = 1_000_000
_KIND_OF_NUMPY: Final = {
    "f": ("float_list", "int64_list"),
    "i": ("int64_list",),
    "u": ("int64_list",),
    "b": ("int64_list",),
    "O": ("bytes_list",),
}


def arrays_from_input(message: Any, signature: Signature) -> tuple[dict[str, Array], int]:
    """The inputs a signature needs, each from the feature of its name.

    A signature with one string input and no feature of its name gets the serialized examples, as in TensorFlow.

    Args:
        message: An Input message.
        signature: Of the model.

    Returns:
        The arrays and the number of examples.

    Raises:
        InvalidRequest: No examples, a missing feature, or features that do not fit.
    """
    examples = _examples(message)
    specs = signature.inputs
    if len(specs) == 1:
        name, spec = next(iter(specs.items()))
        if spec.dtype.is_string and name not in examples[0].features.feature:
            serialized = np.empty(len(examples), dtype=object)
            serialized[:] = [example.SerializeToString() for example in examples]
            return {name: serialized}, len(examples)
    features = [example.features.feature for example in examples]
    return {name: _column(features, name, spec) for name, spec in specs.items()}, len(examples)


def input_from_json(document: Mapping[str, Any]) -> Any:
    """The Input message of a REST Classify or Regress request: ``examples`` and an optional ``context``.

    Raises:
        InvalidRequest: Not of this form.
    """
    message = Input()
    rows = document.get("examples")
    if not isinstance(rows, list) or not rows:
        raise InvalidRequest("key 'examples' is expected and must be a list with at least one example")
    if "context" in document:
        target = message.example_list_with_context
        target.context.CopyFrom(_example(document["context"]))
    else:
        target = message.example_list
    target.examples.extend(_example(row) for row in rows)
    return message


def _examples(message: Any) -> Sequence[Any]:
    kind = message.WhichOneof("kind")
    if kind is None:
        raise InvalidRequest("Input is empty")
    source = getattr(message, kind)
    examples = list(source.examples)
    if not examples:
        raise InvalidRequest("Input is empty")
    if len(examples) > MAX_EXAMPLES:
        raise InvalidRequest(f"more than {MAX_EXAMPLES} examples in one request")
    if kind == "example_list":
        return examples
    merged = []
    for example in examples:  # an example's own feature wins over the context's
        whole = Example()
        whole.CopyFrom(source.context)
        whole.MergeFrom(example)
        for name in example.features.feature:
            whole.features.feature[name].CopyFrom(example.features.feature[name])
        merged.append(whole)
    return merged


def _column(features: Sequence[Any], name: str, spec: TensorSpec) -> Array:
    inner = (spec.shape or (None,))[1:]
    if None in inner:
        raise InvalidRequest(f"the input {name!r} has no fixed row shape: send it with Predict")
    shape, count = checked_shape((len(features), *(size or 0 for size in inner)), spec.dtype)
    values: list[Any] = []
    for feature in features:
        if name not in feature:
            raise InvalidRequest(f"Feature: {name} (data type: {spec.dtype.name}) is required but could not be found.")
        values.extend(_feature_values(feature[name], name, spec))
    if len(values) != count:
        raise InvalidRequest(
            f"Feature: {name}: {len(values)} values for {len(features)} examples of row shape {list(inner)}"
        )
    return _array(values, name, spec).reshape(shape)


def _feature_values(feature: Any, name: str, spec: TensorSpec) -> Sequence[Any]:
    kind = feature.WhichOneof("kind")
    if kind not in _KIND_OF_NUMPY[spec.dtype.numpy.kind]:
        raise InvalidRequest(f"Feature: {name}. Data types don't match. Expected type: {spec.dtype.name}")
    values: Sequence[Any] = getattr(feature, kind).value
    return values


def _array(values: list[Any], name: str, spec: TensorSpec) -> Array:
    if spec.dtype.is_string:
        array: Array = np.empty(len(values), dtype=object)
        array[:] = values
        return array
    if spec.dtype.numpy.kind in "iu" and values:
        limits = np.iinfo(spec.dtype.numpy)
        if min(values) < limits.min or max(values) > limits.max:
            raise InvalidRequest(f"Feature: {name} holds a value outside {spec.dtype.name}")
    return np.array(values, dtype=spec.dtype.numpy)


def _example(row: Any) -> Any:
    if not isinstance(row, dict):
        raise InvalidRequest("Example must be JSON object")
    example = Example()
    for name, content in row.items():
        _fill(example.features.feature[name], name, content if isinstance(content, list) else [content])
    return example


def _fill(feature: Any, name: str, values: list[Any]) -> None:
    """All elements of one kind: numbers with a point are floats, whole ones int64, strings and base64 bytes.

    Raises:
        InvalidRequest: Of several kinds, or of another.
    """
    if not values:
        return
    if all(isinstance(value, (int, bool)) for value in values):
        if not all(-(2**63) <= value < 2**63 for value in values):
            raise InvalidRequest(f"Feature: {name} has an element outside int64")
        feature.int64_list.value.extend(int(value) for value in values)
    elif all(isinstance(value, float) for value in values):
        feature.float_list.value.extend(values)
    elif all(isinstance(value, (str, dict)) for value in values):
        feature.bytes_list.value.extend(
            value.encode("utf-8", "surrogatepass") if isinstance(value, str) else b64_bytes(value) for value in values
        )
    else:
        raise InvalidRequest(f"Feature: {name} has elements of different or unexpected JSON types")
