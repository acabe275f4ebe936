"""Bounds on shapes: a shape is a claim by a stranger and may ask for more memory than there is."""

from collections.abc import Iterable
from typing import Final

from strongroom.serving.status import InvalidRequest
from strongroom.serving.tensors.dtypes import DType

MAX_RANK: Final = 16
MAX_TENSOR_BYTES: Final = 256 * 1024 * 1024
_STRING_ELEMENT_BYTES: Final = 64  # what a short Python bytes object takes, about


def checked_shape(sizes: Iterable[int], dtype: DType) -> tuple[tuple[int, ...], int]:
    """A shape that is safe to allocate.

    Args:
        sizes: The dimensions as the caller wrote them.
        dtype: Type of the elements.

    Returns:
        The shape and its number of elements.

    Raises:
        InvalidRequest: Negative dimensions, too many of them, or too large a product.
    """
    shape = tuple(sizes)
    if len(shape) > MAX_RANK:
        raise InvalidRequest(f"a tensor has {len(shape)} dimensions, at most {MAX_RANK} are served")
    count = 1
    for size in shape:
        if size < 0:
            raise InvalidRequest("a tensor of a request must have a known shape: a dimension is negative")
        count *= size
    element = _STRING_ELEMENT_BYTES if dtype.is_string else dtype.numpy.itemsize
    if count * element > MAX_TENSOR_BYTES:
        raise InvalidRequest(f"a tensor's shape asks for more than {MAX_TENSOR_BYTES} bytes")
    return shape, count
