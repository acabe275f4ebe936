"""One row of zeros for a signature: what most engines take as an example of an input."""

import numpy as np

from strongroom.serving.engines import Signature, TensorSpec
from strongroom.serving.tensors.dtypes import Array


def zero_row(signature: Signature) -> dict[str, Array]:
    """An array of zeros (of empty strings) for each input; dimensions that may vary are 1."""
    return {name: _zero(spec) for name, spec in signature.inputs.items()}


def _zero(spec: TensorSpec) -> Array:
    shape = tuple(1 if size is None else size for size in (spec.shape or ()))
    if spec.dtype.is_string:
        return np.full(shape, b"", dtype=object)
    return np.zeros(shape, dtype=spec.dtype.numpy)
