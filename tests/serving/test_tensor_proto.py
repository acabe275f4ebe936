"""TensorProto: round trips, TensorFlow's typed fields, and shapes that lie."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strongroom.serving.status import InvalidRequest, Refused
from strongroom.serving.tensors.dtypes import DTYPES
from strongroom.serving.tensors.tensor_proto import decode_tensor, fill_tensor
from strongroom.serving.wire.tensorflow import TensorProto

NUMERIC = [dtype.numpy for dtype in DTYPES if not dtype.is_string]


def tensor(number: int, shape: tuple[int, ...], **fields: Any) -> Any:
    proto = TensorProto(dtype=number, **fields)
    proto.tensor_shape.SetInParent()
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(NUMERIC).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    )
)
def test_numbers_round_trip(array: Any) -> None:
    proto = TensorProto()
    fill_tensor(proto, array)
    back = decode_tensor(TensorProto.FromString(proto.SerializeToString()))
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=6))
def test_strings_round_trip(items: list[bytes]) -> None:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    proto = TensorProto()
    fill_tensor(proto, array)
    assert decode_tensor(proto).tolist() == items


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_give_an_array_or_a_refusal(raw: bytes) -> None:
    from google.protobuf.message import DecodeError

    try:
        array = decode_tensor(TensorProto.FromString(raw))
    except (DecodeError, Refused):
        return
    assert array.size * 1 <= 256 * 1024 * 1024


@pytest.mark.parametrize(
    ("number", "fields", "expected"),
    [
        (1, {"float_val": [1.5, 2.5]}, [1.5, 2.5]),
        (2, {"double_val": [1.5, 2.5]}, [1.5, 2.5]),
        (3, {"int_val": [-1, 2]}, [-1, 2]),
        (4, {"int_val": [0, 255]}, [0, 255]),
        (6, {"int_val": [-128, 127]}, [-128, 127]),
        (9, {"int64_val": [1 << 40, -1]}, [1 << 40, -1]),
        (10, {"bool_val": [True, False]}, [True, False]),
        (19, {"half_val": [0x3C00, 0xC000]}, [1.0, -2.0]),
        (22, {"uint32_val": [1 << 31, 0]}, [1 << 31, 0]),
        (23, {"uint64_val": [1 << 63, 0]}, [1 << 63, 0]),
        (7, {"string_val": [b"a", b"\xff"]}, [b"a", b"\xff"]),
    ],
)
def test_typed_fields(number: int, fields: dict[str, Any], expected: list[Any]) -> None:
    assert decode_tensor(tensor(number, (2,), **fields)).tolist() == expected


def test_one_value_stands_for_all() -> None:
    assert decode_tensor(tensor(1, (2, 2), float_val=[3.0])).tolist() == [[3.0, 3.0], [3.0, 3.0]]


def test_last_value_stands_for_the_rest() -> None:
    assert decode_tensor(tensor(9, (4,), int64_val=[1, 2])).tolist() == [1, 2, 2, 2]


def test_scalar() -> None:
    assert decode_tensor(tensor(1, (), float_val=[3.0])).shape == ()


@pytest.mark.parametrize(
    "proto",
    [
        tensor(1, (1 << 40,), float_val=[1.0]),
        tensor(1, (1 << 20, 1 << 20, 1 << 20, 1 << 20), float_val=[1.0]),
        tensor(7, (1 << 28,), string_val=[b""]),
        tensor(1, (-1,), float_val=[1.0]),
        tensor(1, (1,) * 17, float_val=[1.0]),
    ],
    ids=["2^40", "product overflows", "strings", "negative", "rank"],
)
def test_refuses_absurd_shape_without_allocating_it(proto: Any) -> None:
    with pytest.raises(InvalidRequest):
        decode_tensor(proto)


@pytest.mark.parametrize(
    "proto",
    [
        tensor(1, (2,), tensor_content=b"\0" * 7),
        tensor(1, (2,), tensor_content=b"\0" * 12),
        tensor(7, (1,), tensor_content=b"a"),
        tensor(10, (1,), tensor_content=b"\2"),
        tensor(1, (2,), float_val=[1.0, 2.0, 3.0]),
        tensor(1, (2,)),
        tensor(1, (2,), int_val=[1, 2]),
        tensor(4, (1,), int_val=[256]),
        tensor(6, (1,), int_val=[-129]),
        tensor(17, (1,), int_val=[-1]),
        tensor(19, (1,), half_val=[1 << 16]),
        tensor(0, (1,), float_val=[1.0]),
        tensor(8, (1,)),
        tensor(14, (1,), half_val=[1]),
        tensor(120, (1,)),
    ],
)
def test_refuses_contents_that_do_not_fit(proto: Any) -> None:
    with pytest.raises(InvalidRequest):
        decode_tensor(proto)


def test_refuses_unknown_rank() -> None:
    proto = TensorProto(dtype=1, float_val=[1.0])
    proto.tensor_shape.unknown_rank = True
    with pytest.raises(InvalidRequest, match="rank"):
        decode_tensor(proto)


def test_engine_output_of_a_type_that_cannot_travel() -> None:
    with pytest.raises(Refused):
        fill_tensor(TensorProto(), np.array([1j]))


def test_big_endian_output_travels_little_endian() -> None:
    proto = TensorProto()
    fill_tensor(proto, np.array([1.5], dtype=">f4"))
    assert decode_tensor(proto).tolist() == [1.5]
