import hashlib
import io
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import FormatError
from strongroom.loan.book import LoanBook
from strongroom.loan.bundle import Bundle, read_bundle, serialize_bundle
from strongroom.loan.prediction import predict_book
from strongroom.loan.presets import TrainSettings
from strongroom.loan.training import train


@pytest.fixture(scope="module")
def bundle(small_book: LoanBook) -> Bundle:
    trained = train(small_book, TrainSettings(rounds=5))
    return Bundle(trained.booster, trained.preprocessor, {"name": "loan", "rounds": 5})


@pytest.fixture(scope="module")
def raw(bundle: Bundle) -> bytes:
    return serialize_bundle(bundle)


def resealed(body: bytes) -> bytes:
    """A body with a digest that fits: what a careless or hostile writer with the key could make."""
    return body + hashlib.sha256(body).digest()


def with_header(raw: bytes, change: dict[str, object]) -> bytes:
    magic, header_bytes, model_bytes = struct.unpack_from("<8sIQ", raw)
    header = json.loads(raw[20 : 20 + header_bytes])
    header.update(change)
    text = json.dumps(header).encode()
    model = raw[20 + header_bytes : 20 + header_bytes + model_bytes]
    return resealed(struct.pack("<8sIQ", magic, len(text), model_bytes) + text + model)


def test_reads_back_the_same_model(bundle: Bundle, raw: bytes, small_book: LoanBook) -> None:
    again = read_bundle(io.BytesIO(raw))
    assert again.metadata == bundle.metadata
    assert again.preprocessor == bundle.preprocessor
    assert again.digest == hashlib.sha256(raw).hexdigest()
    np.testing.assert_array_equal(predict_book(again, small_book), predict_book(bundle, small_book))
    assert serialize_bundle(again) == raw


def test_is_not_a_pickle_and_says_its_version(raw: bytes) -> None:
    assert raw.startswith(b"SRLOANM1")


@pytest.mark.parametrize("size", [0, 1, 19, 20, 100, -33, -32, -1])
def test_refuses_a_cut_bundle(raw: bytes, size: int) -> None:
    with pytest.raises(FormatError) as refused:
        read_bundle(io.BytesIO(raw[:size]))
    assert refused.value.code == "loan.bundle"


def test_refuses_trailing_bytes(raw: bytes) -> None:
    with pytest.raises(FormatError, match="length"):
        read_bundle(io.BytesIO(raw + b"\0"))


def test_refuses_another_version(raw: bytes) -> None:
    with pytest.raises(FormatError):
        read_bundle(io.BytesIO(b"SRLOANM2" + raw[8:]))


@pytest.mark.parametrize(("header", "model"), [(1 << 31, 10), (10, 1 << 40), (4 << 20 | 1, 10)])
def test_refuses_lengths_over_the_limits_before_reading(header: int, model: int) -> None:
    with pytest.raises(FormatError, match="too large"):
        read_bundle(io.BytesIO(struct.pack("<8sIQ", b"SRLOANM1", header, model)))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_refuses_every_flipped_bit(raw: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(raw) - 1))
    altered = bytearray(raw)
    altered[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(FormatError):
        read_bundle(io.BytesIO(bytes(altered)))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: b"SRLOANM1" + tail))
def test_any_bytes_give_the_documented_error(raw_bytes: bytes) -> None:
    with pytest.raises(FormatError):
        read_bundle(io.BytesIO(raw_bytes))


@pytest.mark.parametrize(
    "change",
    [{"rounds": 6}, {"rounds": None}, {"metadata": []}, {"preprocessor": {}}, {"more": 1}],
    ids=["rounds", "no rounds", "metadata", "preprocessor", "unknown field"],
)
def test_refuses_a_header_that_does_not_fit_even_with_a_right_digest(raw: bytes, change: dict[str, object]) -> None:
    with pytest.raises(FormatError):
        read_bundle(io.BytesIO(with_header(raw, change)))


def test_refuses_trees_of_another_preprocessor(bundle: Bundle, small_book: LoanBook) -> None:
    other = train(small_book, TrainSettings("reference", rounds=5))
    mixed = serialize_bundle(Bundle(bundle.booster, other.preprocessor))
    with pytest.raises(FormatError, match="do not fit"):
        read_bundle(io.BytesIO(mixed))


def test_refuses_a_pickle() -> None:
    import pickle

    with pytest.raises(FormatError):
        read_bundle(io.BytesIO(pickle.dumps({"model": 1})))
