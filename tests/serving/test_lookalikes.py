"""Requests that look alike are read without parsing, and never otherwise than parsing would read them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.serving.rpc import lookalikes
from strongroom.serving.rpc.lookalikes import MAX_KNOWN, MAX_SIZES, MAX_TRIES, Asked, Reader, Writer
from strongroom.serving.rpc.tensorflow import _predict_reader
from strongroom.serving.rpc.v2 import _infer_reader
from strongroom.serving.status import InvalidRequest
from strongroom.serving.tensors.tensor_proto import fill_tensor
from strongroom.serving.wire import inference_v2, tensorflow

DTYPES = st.sampled_from([np.float32, np.int64, np.float64, np.uint8, np.int32])


def predict(array: Any, name: str = "x", model: str = "m") -> bytes:
    message = tensorflow.PredictRequest()
    message.model_spec.name = model
    fill_tensor(message.inputs[name], array)
    return bytes(message.SerializeToString())


def infer(array: Any, request_id: str = "") -> bytes:
    message = inference_v2.ModelInferRequest(model_name="m", id=request_id)
    message.inputs.add(name="x", datatype="FP32", shape=array.shape)
    message.raw_input_contents.append(array.astype(np.float32).tobytes())
    return bytes(message.SerializeToString())


def same(one: Asked, other: Asked) -> bool:
    assert one.inputs.keys() == other.inputs.keys()
    for name, array in one.inputs.items():
        assert array.dtype == other.inputs[name].dtype and array.shape == other.inputs[name].shape
        assert array.tobytes() == other.inputs[name].tobytes()
    return (one.chosen, one.signature, one.outputs, one.request_id, one.raw) == (
        other.chosen,
        other.signature,
        other.outputs,
        other.request_id,
        other.raw,
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.binary(min_size=16, max_size=16), DTYPES), max_size=12))
def test_reads_as_a_fresh_reader_does(sent: list[tuple[int, bytes, Any]]) -> None:
    reader = _predict_reader()
    for which, content, dtype in sent:
        array = np.frombuffer(content, dtype)
        body = predict(array, name="xyzw"[which], model="m" * (which + 1))
        assert same(reader(body), _predict_reader()(body))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=8, max_size=8), st.text("ab", max_size=2)), max_size=12))
def test_reads_v2_as_a_fresh_reader_does(sent: list[tuple[bytes, str]]) -> None:
    reader = _infer_reader()
    for content, request_id in sent:
        body = infer(np.frombuffer(content, np.float32), request_id)
        assert same(reader(body), _infer_reader()(body))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 60))
def test_damaged_lookalike_is_read_as_what_it_is(junk: bytes, place: int) -> None:
    reader = _predict_reader()
    good = predict(np.array([1, 2], np.float32))
    reader(good)
    damaged = (good[:place] + junk + good[place + len(junk) :])[: len(good)]

    def outcome(read: Callable[[bytes], Asked]) -> Any:
        try:
            return read(damaged)
        except Exception as error:  # compared below
            return type(error)

    one, other = outcome(reader), outcome(_predict_reader())
    assert same(one, other) if isinstance(one, Asked) else one is other


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> tuple[Reader, list[int]]:
    """A reader that counts what it decodes."""
    reader, count = _predict_reader(), [0]

    def decode(request: Any) -> Asked:
        count[0] += 1
        return reader.decode(request)

    return Reader(reader.request_class, decode, reader.content, reader.exchange), count


def test_lookalike_is_not_parsed_again(parsed: tuple[Reader, list[int]]) -> None:
    reader, count = parsed
    for value in range(20):
        assert reader(predict(np.array([[value, 2]], np.float32))).inputs["x"].tolist() == [[value, 2]]
    assert count == [1]


@pytest.mark.parametrize("array", [np.array([True, False]), np.array([b"a"], dtype=object)])
def test_types_whose_content_must_be_looked_at_are_parsed(parsed: tuple[Reader, list[int]], array: Any) -> None:
    reader, count = parsed
    for _ in range(3):
        reader(predict(array))
    assert count == [3]


def test_tensor_that_is_overwritten_later_in_the_message_is_not_mistaken(parsed: tuple[Reader, list[int]]) -> None:
    """Of two map entries with one key the last counts: its content, not the first equal bytes."""
    reader, count = parsed
    ones, twos = np.array([1, 1], np.float32), np.array([2, 2], np.float32)
    for first, last in ((ones, ones), (twos, ones), (ones, twos)):
        body = predict(first) + predict(last)
        assert reader(body).inputs["x"].tolist() == last.tolist()
    assert count == [3]


def test_content_of_another_byte_in_a_bool_is_still_refused() -> None:
    reader = _predict_reader()
    message = tensorflow.PredictRequest()
    message.model_spec.name = "m"
    fill_tensor(message.inputs["x"], np.array([True]))
    reader(message.SerializeToString())
    message.inputs["x"].tensor_content = b"\x02"
    with pytest.raises(InvalidRequest):
        reader(message.SerializeToString())


def test_memory_is_bounded(parsed: tuple[Reader, list[int]]) -> None:
    reader, _ = parsed
    for size in range(1, 3 * MAX_KNOWN):
        reader(predict(np.zeros(size, np.uint8)))
    assert len(reader._known) <= MAX_KNOWN
    for size in range(1, 3 * MAX_SIZES):
        reader._worth_learning(size)
    assert len(reader._tries) <= MAX_SIZES


def test_an_image_is_not_parsed_again(parsed: tuple[Reader, list[int]]) -> None:
    reader, count = parsed
    image = np.arange(224 * 224 * 3, dtype=np.float32).reshape(1, 224, 224, 3)
    for shift in range(4):
        assert np.array_equal(reader(predict(image + shift)).inputs["x"], image + shift)
    assert count == [2]  # what is large is learned when it comes a second time


def test_large_requests_that_come_once_are_only_parsed(
    parsed: tuple[Reader, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, _ = parsed
    monkeypatch.setattr(Reader, "_learn", lambda *_: pytest.fail("learned"))
    for size in range(5000, 5200):
        reader(predict(np.zeros(size, np.uint8)))


@pytest.mark.parametrize("name", ["n" * 5000, "\N{GRINNING FACE}" * 1500])
def test_padding_around_a_tensor_is_not_kept(parsed: tuple[Reader, list[int]], name: str) -> None:
    """Else a stranger could fill the memory: all but a tensor's content is kept, and names take four bytes a letter."""
    reader, count = parsed
    for _ in range(3):
        assert reader(predict(np.ones(2, np.float32), model=name)).chosen.name == name
        assert reader(predict(np.ones(2, np.float32), name=name)).inputs.keys() == {name}
    assert count == [6] and not reader._known


def test_one_request_is_learned_at_a_time(parsed: tuple[Reader, list[int]]) -> None:
    reader, count = parsed
    with reader._learning:
        for _ in range(3):
            assert reader(predict(np.ones(2, np.float32))).inputs["x"].tolist() == [1, 1]
        assert count == [3] and not reader._known
    for _ in range(3):
        reader(predict(np.ones(2, np.float32)))
    assert count == [4]


def test_content_that_stands_elsewhere_too_is_no_fault() -> None:
    """One byte may be a tag or a length as well; exchanged there, it makes another message or none."""
    for content in range(256):
        reader = _predict_reader()
        for _ in range(2):
            assert reader(predict(np.array([content], np.uint8))).inputs["x"].tolist() == [content]


def test_the_oldest_makes_room(parsed: tuple[Reader, list[int]]) -> None:
    reader, count = parsed
    for size in range(1, MAX_KNOWN + 2):
        reader(predict(np.zeros(size, np.uint8)))
    learned = count[0]
    reader(predict(np.ones(MAX_KNOWN + 1, np.uint8)))
    reader(predict(np.ones(2, np.uint8)))
    assert count == [learned]
    reader(predict(np.ones(1, np.uint8)))
    assert count == [learned + 1]


def test_what_is_larger_than_memory_should_be_given_for_is_parsed(
    parsed: tuple[Reader, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookalikes, "MAX_REQUEST_BYTES", 1000)
    reader, count = parsed
    for _ in range(3):
        assert not reader(predict(np.zeros(1001, np.uint8))).inputs["x"].any()
    assert count == [3]


def test_other_ids_of_one_length_are_not_learned_for_ever() -> None:
    reader = _infer_reader()
    for number in range(100, 150):
        assert reader(infer(np.zeros(2), str(number))).request_id == str(number)
    assert max(reader._tries.values()) == 50
    assert reader(infer(np.ones(2), str(100 + MAX_TRIES - 1))).inputs["x"].tolist() == [1, 1]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.binary(min_size=8, max_size=8), DTYPES, st.integers(1, 300)), max_size=6))
def test_writes_what_building_writes(outputs: list[tuple[bytes, Any, int]]) -> None:
    def build(array: Any) -> Any:
        message = tensorflow.PredictResponse()
        fill_tensor(message.outputs["y"], array)
        message.model_spec.name = "m"
        return message

    write = Writer()
    for content, dtype, repeat in outputs:
        array = np.frombuffer(content * repeat, dtype)
        for shaped in (array, array.reshape(1, -1)):
            assert write("key", shaped, build) == build(shaped).SerializeToString(deterministic=True)
