"""An engine that answers what it was asked: for measuring everything that is not the model, and for tests."""

import tomllib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from strongroom.errors import FormatError
from strongroom.serving.engines import DEFAULT_SIGNATURE, Engine, ModelFiles, Signature, TensorSpec
from strongroom.serving.engines.zeros import zero_row
from strongroom.serving.status import Refused
from strongroom.serving.tensors.dtypes import Array, dtype_by_v2

FILE = "identity.toml"


class IdentityEngine:
    """Outputs equal inputs.

    Args:
        tensors: Names and specifications, the same for inputs and outputs.
    """

    platform = "strongroom_identity"

    def __init__(self, tensors: Mapping[str, TensorSpec]) -> None:
        self.signatures = MappingProxyType({DEFAULT_SIGNATURE: Signature(tensors, tensors)})

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """The inputs again."""
        del signature
        return {name: inputs[name] for name in outputs}

    def example(self, signature: str) -> Mapping[str, Array]:
        """A row of zeros."""
        return zero_row(self.signatures[signature])

    def close(self) -> None:
        """Nothing is held."""


class IdentityMaker:
    """Reads ``identity.toml``: ``[tensors]`` with a V2 datatype and a shape (-1 varies) for each name."""

    name = "identity"

    def recognises(self, names: frozenset[str]) -> bool:
        """Whether ``identity.toml`` is there."""
        return FILE in names

    def load(self, files: ModelFiles, concurrency: int = 1) -> Engine:
        """Load it.

        Raises:
            FormatError: Not the expected TOML.
        """
        del concurrency  # one thread for each prediction
        try:
            table = tomllib.loads(files.read(FILE).decode("utf-8"))["tensors"]
            tensors = {
                str(name): TensorSpec(
                    str(name),
                    dtype_by_v2(row["datatype"]),
                    tuple(None if size == -1 else int(size) for size in row["shape"]),
                )
                for name, row in table.items()
            }
        except (UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, AttributeError, Refused):
            raise FormatError(f"{FILE} does not describe tensors", code="serving.identity") from None
        return IdentityEngine(tensors)
