"""Engines: what runs a model. One small protocol; each engine is a leaf and imports its library when it is used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from strongroom.serving.tensors.dtypes import Array, DType

PREDICT: Final = "tensorflow/serving/predict"
CLASSIFY: Final = "tensorflow/serving/classify"
REGRESS: Final = "tensorflow/serving/regress"
DEFAULT_SIGNATURE: Final = "serving_default"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model says about one of its tensors.

    Args:
        name: The engine's own name of the tensor ("input:0").
        dtype: Element type.
        shape: Dimensions, None for one that may vary; None as a whole for an unknown rank.
    """

    name: str
    dtype: DType
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a model.

    Args:
        inputs: Name callers use to what is expected.
        outputs: Name callers use to what is answered.
        method: PREDICT, CLASSIFY or REGRESS.
    """

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method: str = PREDICT

    @property
    def batched(self) -> bool:
        """Whether rows of several requests may be put together: every tensor's first dimension may vary."""
        specs = (*self.inputs.values(), *self.outputs.values())
        return all(spec.shape is not None and len(spec.shape) > 0 and spec.shape[0] is None for spec in specs)


class Engine(Protocol):
    """A loaded model. `run` may be called from several threads at once."""

    @property
    def platform(self) -> str:
        """What V2 metadata calls the platform: "xgboost", "onnxruntime_onnx", "openvino"."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The ways to call it; `DEFAULT_SIGNATURE` is among them."""

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Compute the outputs named, from inputs that were checked against the signature.

        Raises:
            Refused: The inputs do not suit the model.
        """

    def example(self, signature: str) -> Mapping[str, Array]:
        """Inputs the model accepts: it must answer them before anybody else may ask it."""

    def close(self) -> None:
        """Give the model's memory back. No `run` is under way."""


class ModelFiles(Protocol):
    """The files of one model version: read into memory, never copied to a disk."""

    @property
    def names(self) -> frozenset[str]:
        """Relative names of all files, as the (untrusted) storage lists them."""

    def read(self, name: str) -> bytes:
        """The whole content of one file; its digest becomes part of the model's digest.

        Raises:
            SealedDataError: The file does not open.
            UnavailableError: The storage has no such file.
            FormatError: The file is larger than is allowed.
        """


class EngineMaker(Protocol):
    """Makes engines of one kind."""

    @property
    def name(self) -> str:
        """Name in the configuration: "xgboost", "onnx", "openvino"."""

    def recognises(self, names: frozenset[str]) -> bool:
        """Whether a version with these files is for this engine."""

    def load(self, files: ModelFiles, concurrency: int = 1) -> Engine:
        """Load a version into memory.

        Args:
            files: Its files.
            concurrency: Predictions that should run side by side: an engine with threads of its own divides the cores
                by it. More may be asked for at once (by batches, say) and may wait for each other.

        Raises:
            FormatError: The files are not a model of this kind.
            ConfigurationError: The engine's library is not installed.
            SealedDataError: A file does not open.
            UnavailableError: A file is missing.
        """
