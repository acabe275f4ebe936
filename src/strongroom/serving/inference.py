"""The use cases of a model server, free of any transport: arrays in, arrays out."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from strongroom.serving.engines import CLASSIFY, DEFAULT_SIGNATURE, REGRESS, Signature, TensorSpec
from strongroom.serving.metrics import Metrics
from strongroom.serving.models.repository import Chosen, Repository
from strongroom.serving.models.served import ServedVersion
from strongroom.serving.status import InvalidRequest, Refused, Status
from strongroom.serving.tensors.dtypes import Array, dtype_of
from strongroom.serving.tensors.examples import arrays_from_input


@dataclass(slots=True)
class Answer:
    """What a model answered, and which one it was.

    Args:
        model: Name of the model.
        version: Version that answered.
        digest: Digest of that version's files, hex.
        signature: Name of the signature.
        outputs: Output name to values.
    """

    model: str
    version: int
    digest: str
    signature: str
    outputs: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Classes:
    """Classify's answer: for each example, (label, score) of each class."""

    answer: Answer
    rows: Sequence[Sequence[tuple[str, float]]]


@dataclass(frozen=True, slots=True)
class Values:
    """Regress's answer: one value for each example."""

    answer: Answer
    rows: Sequence[float]


class Inference:
    """Answers questions with the models of a repository.

    Args:
        repository: Has the models.
        metrics: Where run times are counted.
    """

    def __init__(self, repository: Repository, metrics: Metrics) -> None:
        self.repository = repository
        self._metrics = metrics

    def signature(self, chosen: Chosen, name: str) -> Signature:
        """A signature of a model that is available.

        Raises:
            Refused: No such model or signature.
        """
        return _signature(self.repository.find(chosen), name or DEFAULT_SIGNATURE)

    def predict(
        self,
        chosen: Chosen,
        signature_name: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] = (),
        deadline: float | None = None,
    ) -> Answer:
        """Run a model.

        Args:
            chosen: Which model and version.
            signature_name: Which signature; empty for the default one.
            inputs: Arrays by name.
            outputs: Names of the outputs wanted; empty for all.
            deadline: `time.monotonic()` after which nobody listens, or None.

        Raises:
            Refused: Unknown names, inputs that do not fit the signature, a limit, a deadline.
        """
        name = signature_name or DEFAULT_SIGNATURE
        with self.repository.lease(chosen) as version:
            signature = _signature(version, name)
            _check_inputs(signature, inputs)
            return self._run(version, name, inputs, _wanted(signature, outputs), deadline, "Predict")

    def classify(self, chosen: Chosen, signature_name: str, message: Any, deadline: float | None = None) -> Classes:
        """Classify tf.Examples.

        Args:
            chosen: Which model and version.
            signature_name: Which signature; empty for the default one, or the only one that can classify.
            message: An Input message.
            deadline: As for `predict`.

        Raises:
            Refused: No such signature, or examples that do not fit it.
        """
        answer, count = self._examples(chosen, signature_name, message, CLASSIFY, deadline)
        return Classes(answer, _class_rows(answer, count))

    def regress(self, chosen: Chosen, signature_name: str, message: Any, deadline: float | None = None) -> Values:
        """Regress tf.Examples; arguments and errors as for `classify`.

        Raises:
            InvalidRequest: No such signature, or examples that do not fit it.
        """
        answer, count = self._examples(chosen, signature_name, message, REGRESS, deadline)
        (output,) = answer.outputs.values()
        if output.size != count or output.dtype.kind != "f":
            raise InvalidRequest(
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] of DT_FLOAT"
            )
        return Values(answer, output.ravel().tolist())

    def _examples(
        self, chosen: Chosen, signature_name: str, message: Any, method: str, deadline: float | None
    ) -> tuple[Answer, int]:
        with self.repository.lease(chosen) as version:
            name = signature_name or _only_signature(version, method)
            if name not in version.signatures:
                raise InvalidRequest(f"No signature was found with the name: {name}")
            signature = version.signatures[name]
            if signature.method != method:
                raise InvalidRequest(f"Expected signature method_name to be {method}. Was: {signature.method}")
            inputs, count = arrays_from_input(message, signature)
            self._metrics.examples(version.model, count)
            api = "Classify" if method == CLASSIFY else "Regress"
            return self._run(version, name, inputs, tuple(signature.outputs), deadline, api), count

    def _run(
        self,
        version: ServedVersion,
        signature: str,
        inputs: Mapping[str, Array],
        outputs: tuple[str, ...],
        deadline: float | None,
        api: str,
    ) -> Answer:
        started = time.perf_counter()
        results = version.runner.run(signature, inputs, outputs, deadline)
        self._metrics.runtime(version.model, api, version.platform, time.perf_counter() - started)
        return Answer(version.model, version.version, version.digest, signature, results)


def _signature(version: ServedVersion, name: str) -> Signature:
    found = version.signatures.get(name)
    if found is None:
        raise Refused(Status.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    return found


def _only_signature(version: ServedVersion, method: str) -> str:
    """The default signature if it has the method, else the only one that has."""
    if version.signatures[DEFAULT_SIGNATURE].method == method:
        return DEFAULT_SIGNATURE
    fitting = [name for name, signature in version.signatures.items() if signature.method == method]
    return fitting[0] if len(fitting) == 1 else DEFAULT_SIGNATURE


def _check_inputs(signature: Signature, inputs: Mapping[str, Array]) -> None:
    if inputs.keys() != signature.inputs.keys():
        extra = ",".join(sorted(inputs.keys() - signature.inputs.keys()))
        missing = ",".join(sorted(signature.inputs.keys() - inputs.keys()))
        raise InvalidRequest(
            f"input size does not match signature: {len(inputs)}!={len(signature.inputs)}. "
            f"Sent extra: {{{extra[:200]}}}. Missing but required: {{{missing}}}."
        )
    for name, spec in signature.inputs.items():
        _check_input(name, spec, inputs[name])


def _check_input(name: str, spec: TensorSpec, array: Array) -> None:
    given = dtype_of(array)
    if given is not spec.dtype:
        raise InvalidRequest(f"Expects input {name} to be {spec.dtype.name} but {given.name} is provided")
    if spec.shape is not None and not _fits(spec.shape, array.shape):
        expected = [-1 if size is None else size for size in spec.shape]
        raise InvalidRequest(f"Expects input {name} to have shape {expected} but {list(array.shape)} is provided")


def _fits(expected: tuple[int | None, ...], sent: tuple[int, ...]) -> bool:
    if len(expected) != len(sent):
        return False
    for wanted, given in zip(expected, sent, strict=True):  # noqa: SIM110  # a generator takes three times as long
        if wanted is not None and wanted != given:
            return False
    return True


def _wanted(signature: Signature, outputs: Sequence[str]) -> tuple[str, ...]:
    for name in outputs:
        if name not in signature.outputs:
            known = ",".join(sorted(signature.outputs))
            raise InvalidRequest(
                f"output tensor alias not found in signature: {name[:200]} "
                f"Outputs expected to be in the set {{{known}}}."
            )
    if len(set(outputs)) != len(outputs):
        raise InvalidRequest("duplicate output tensor alias")
    return tuple(outputs) or tuple(signature.outputs)


def _class_rows(answer: Answer, count: int) -> list[list[tuple[str, float]]]:
    scores = answer.outputs.get("scores")
    classes = answer.outputs.get("classes")
    if scores is None and classes is None:
        raise InvalidRequest(
            'Expected classification signature outputs to contain at least one of "classes" or "scores"'
        )
    for array in (scores, classes):
        if array is not None and (array.ndim != 2 or array.shape[0] != count):
            raise InvalidRequest("Expected Tensor shape: [batch_size num_classes]")
    if scores is None:
        scores = np.zeros(() if classes is None else classes.shape, dtype="<f4")
    labels = (
        [[item.decode("utf-8", "replace") for item in row] for row in classes.tolist()]
        if classes is not None
        else [[""] * scores.shape[1]] * count
    )
    return [list(zip(names, row, strict=True)) for names, row in zip(labels, scores.tolist(), strict=True)]
