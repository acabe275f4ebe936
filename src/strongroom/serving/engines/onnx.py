"""ONNX Runtime: ``model.onnx`` loaded from memory; external weight files are refused."""

import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from strongroom.errors import ConfigurationError, FormatError
from strongroom.serving.engines import DEFAULT_SIGNATURE, Engine, ModelFiles, Signature, TensorSpec
from strongroom.serving.engines.onnx_file import check_self_contained
from strongroom.serving.engines.zeros import zero_row
from strongroom.serving.status import InvalidRequest, Refused
from strongroom.serving.tensors.dtypes import STRING, Array, DType, dtype_by_numpy

FILE: Final = "model.onnx"
_NUMPY_NAMES: Final = {
    "float": "float32",
    "double": "float64",
    "float16": "float16",
    **{name: name for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")},
}


class OnnxEngine:
    """An ONNX Runtime session behind `Engine`, f32 as the file has it.

    Args:
        session: An `onnxruntime.InferenceSession`.
    """

    platform = "onnxruntime_onnx"

    def __init__(self, session: Any) -> None:
        self._session = session
        self._error = _runtime_errors()
        inputs = {arg.name: _spec(arg) for arg in session.get_inputs()}
        outputs = {arg.name: _spec(arg) for arg in session.get_outputs()}
        self.signatures = MappingProxyType({DEFAULT_SIGNATURE: Signature(inputs, outputs)})

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the graph; thread-safe, and the interpreter is free meanwhile.

        Raises:
            InvalidRequest: The graph does not take these inputs.
        """
        del signature
        try:
            values = self._session.run(list(outputs), dict(inputs))
        except self._error:
            raise InvalidRequest("the model does not take these inputs") from None
        return dict(zip(outputs, values, strict=True))

    def example(self, signature: str) -> Mapping[str, Array]:
        """A row of zeros."""
        return zero_row(self.signatures[signature])

    def close(self) -> None:
        """Drop the session."""
        self._session = None


class OnnxMaker:
    """Loads ``model.onnx``.

    Args:
        threads: Threads in all; 0: one for each core.
    """

    name = "onnx"

    def __init__(self, threads: int = 0) -> None:
        self._threads = threads

    def recognises(self, names: frozenset[str]) -> bool:
        """Whether ``model.onnx`` is there."""
        return FILE in names

    def load(self, files: ModelFiles, concurrency: int = 1) -> Engine:
        """Load it.

        Raises:
            ConfigurationError: onnxruntime is not installed.
            FormatError: Not a model ONNX Runtime can read, or one that points to other files.
        """
        raw = files.read(FILE)
        check_self_contained(raw)
        try:
            threads = (self._threads or len(os.sched_getaffinity(0))) // concurrency
            return OnnxEngine(open_session(raw, max(1, threads)))
        except Refused as refused:
            raise FormatError(f"{FILE}: {refused.message}", code="serving.model") from None


def open_session(raw: bytes, threads: int) -> Any:
    """Load a model from memory.

    Args:
        raw: The ONNX file.
        threads: Threads inside one operator; 0 lets ONNX Runtime take all cores.

    Returns:
        An `onnxruntime.InferenceSession`.

    Raises:
        ConfigurationError: onnxruntime is not installed.
        FormatError: Not a model ONNX Runtime can read.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ConfigurationError(
            "onnxruntime is not installed", code="serving.engine", hint="pip install 'strongroom[onnx]'"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(raw, sess_options=options, providers=["CPUExecutionProvider"])
    except _runtime_errors():
        raise FormatError("not a self-contained ONNX model", code="serving.model") from None


def _runtime_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its own exceptions derive from Exception (or RuntimeError), one class per status."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = [value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*found, RuntimeError, ValueError, TypeError)


def _spec(arg: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) and size > 0 else None for size in arg.shape)
    return TensorSpec(arg.name, _dtype(arg.type), shape)


def _dtype(text: str) -> DType:
    """``tensor(float)`` to our type.

    Raises:
        InvalidRequest: A sequence, a map or a type that can't travel.
    """
    inner = text.removeprefix("tensor(").removesuffix(")")
    if inner == "string":
        return STRING
    if inner not in _NUMPY_NAMES:
        raise InvalidRequest(f"the model has a tensor of type {text}, which can't be served")
    return dtype_by_numpy(_NUMPY_NAMES[inner])
