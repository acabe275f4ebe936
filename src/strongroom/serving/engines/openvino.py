"""OpenVINO: SavedModel (``saved_model.pb``), IR (``model.xml`` and ``model.bin``), ONNX (``model.onnx``).

IR and ONNX are read from memory. OpenVINO reads a SavedModel by path only: it gets one that leads to memory.
"""

import queue
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np

from strongroom.errors import ConfigurationError, FormatError
from strongroom.serving.engines import DEFAULT_SIGNATURE, Engine, ModelFiles, Signature, TensorSpec
from strongroom.serving.engines.onnx_file import check_self_contained
from strongroom.serving.engines.zeros import zero_row
from strongroom.serving.memory_files import memory_folder
from strongroom.serving.status import InvalidRequest, Refused
from strongroom.serving.tensors.dtypes import STRING, Array, dtype_by_numpy
from strongroom.serving.wire.saved_model import SavedModelOutline

Precision = Literal["f32", "bf16"]
SAVED_MODEL: Final = "saved_model.pb"
IR: Final = ("model.xml", "model.bin")
ONNX: Final = "model.onnx"
_VARIABLES: Final = "variables/"
_SERVE_TAG: Final = "serve"


class OpenVinoEngine:
    """A compiled model behind `Engine`, with one infer request for each prediction at a time.

    Args:
        compiled: An `openvino.CompiledModel`.
        requests: How many predictions run at the same time.
        names: Tensor name inside the model to the name callers use; empty to use the model's own.
    """

    platform = "openvino"

    def __init__(self, compiled: Any, requests: int, names: Mapping[str, str]) -> None:
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(requests):
            self._requests.put(compiled.create_infer_request())
        self._inputs = {_public_name(port, names): port for port in compiled.inputs}
        self._outputs = {_public_name(port, names): port for port in compiled.outputs}
        signature = Signature(
            {name: _spec(port) for name, port in self._inputs.items()},
            {name: _spec(port) for name, port in self._outputs.items()},
        )
        self.signatures = MappingProxyType({DEFAULT_SIGNATURE: signature})

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the model; the interpreter is free meanwhile.

        Raises:
            InvalidRequest: The model does not take these inputs.
        """
        del signature
        request = self._requests.get()
        try:
            results = request.infer({self._inputs[name]: array for name, array in inputs.items()}, share_inputs=True)
            return {name: np.array(results[self._outputs[name]]) for name in outputs}
        except RuntimeError:
            raise InvalidRequest("the model does not take these inputs") from None
        finally:
            self._requests.put(request)

    def example(self, signature: str) -> Mapping[str, Array]:
        """A row of zeros."""
        return zero_row(self.signatures[signature])

    def close(self) -> None:
        """Drop the requests, and with them the model."""
        while not self._requests.empty():
            self._requests.get()
        self._inputs.clear()
        self._outputs.clear()


class OpenVinoMaker:
    """Loads and compiles models.

    Args:
        threads: Threads in all; 0 lets OpenVINO take every core.
        precision: "f32", or "bf16" where speed matters more than the fourth digit.
    """

    name = "openvino"

    def __init__(self, threads: int = 0, precision: Precision = "f32") -> None:
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            "EXECUTION_MODE_HINT": "ACCURACY" if precision == "f32" else "PERFORMANCE",
        }
        if threads:
            self._settings["INFERENCE_NUM_THREADS"] = threads

    def recognises(self, names: frozenset[str]) -> bool:
        """Whether there is a SavedModel or an IR. ONNX is taken when the configuration names this engine."""
        return SAVED_MODEL in names or set(IR) <= names

    def load(self, files: ModelFiles, concurrency: int = 1) -> Engine:
        """Read and compile.

        Raises:
            ConfigurationError: openvino is not installed.
            FormatError: Not a model OpenVINO can read, or a SavedModel without a default signature.
        """
        try:
            import openvino
        except ImportError:
            raise ConfigurationError(
                "openvino is not installed", code="serving.engine", hint="pip install 'strongroom[openvino]'"
            ) from None
        core = openvino.Core()
        try:
            model, names = _read(core, files)
            compiled = core.compile_model(model, "CPU", {**self._settings, "NUM_STREAMS": str(concurrency)})
            return OpenVinoEngine(compiled, concurrency, names)
        except RuntimeError:
            raise FormatError("OpenVINO can't read this model", code="serving.model") from None
        except Refused as refused:
            raise FormatError(f"the model can't be served: {refused.message}", code="serving.model") from None


def _read(core: Any, files: ModelFiles) -> tuple[Any, dict[str, str]]:
    if SAVED_MODEL in files.names:
        return _read_saved_model(core, files)
    if set(IR) <= files.names:
        return core.read_model(files.read(IR[0]), files.read(IR[1])), {}
    if ONNX in files.names:
        raw = files.read(ONNX)
        check_self_contained(raw)
        return core.read_model(raw), {}
    raise FormatError("no saved_model.pb, model.xml and model.bin, or model.onnx", code="serving.model_files")


def _read_saved_model(core: Any, files: ModelFiles) -> tuple[Any, dict[str, str]]:
    content = {SAVED_MODEL: files.read(SAVED_MODEL)}
    names = _signature_names(content[SAVED_MODEL])
    content.update({name: files.read(name) for name in sorted(files.names) if name.startswith(_VARIABLES)})
    with memory_folder(content) as folder:
        return core.read_model(Path(folder)), names


def _signature_names(raw: bytes) -> dict[str, str]:
    """Tensor name to the alias of the default signature.

    Raises:
        FormatError: Not a SavedModel, not one for serving, or one without a default signature.
    """
    from google.protobuf.message import DecodeError

    try:
        saved = SavedModelOutline.FromString(raw)
    except DecodeError:
        raise FormatError("saved_model.pb is not a SavedModel", code="serving.model") from None
    for graph in saved.meta_graphs:
        if _SERVE_TAG in graph.meta_info_def.tags and DEFAULT_SIGNATURE in graph.signature_def:
            signature = graph.signature_def[DEFAULT_SIGNATURE]
            sides = (signature.inputs, signature.outputs)
            return {info.name: alias for side in sides for alias, info in side.items()}
    raise FormatError("the SavedModel has no serving_default signature", code="serving.model")


def _public_name(port: Any, names: Mapping[str, str]) -> str:
    own: Iterable[str] = sorted(port.get_names())
    for name in own:
        for spelling in (name, f"{name}:0"):
            if spelling in names:
                return names[spelling]
    if names:
        alias = next((alias for alias in own if alias in names.values()), None)
        if alias is None:
            raise InvalidRequest("a tensor of the model is not in its signature")
        return alias
    return str(port.get_any_name())


def _spec(port: Any) -> TensorSpec:
    shape = port.get_partial_shape()
    sizes = None if shape.rank.is_dynamic else tuple(None if d.is_dynamic else d.get_length() for d in shape)
    kind = port.get_element_type()
    dtype = STRING if kind.get_type_name() == "string" else dtype_by_numpy(kind.to_dtype())
    return TensorSpec(port.get_any_name(), dtype, sizes)
