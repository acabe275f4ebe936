"""Quick calls are answered by the thread that reads them; all others by workers."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from strongroom.serving.models.repository import Chosen
from strongroom.serving.rpc import pool as pool_module
from strongroom.serving.tensors.tensor_proto import decode_tensor, fill_tensor
from strongroom.serving.wire import tensorflow as wire

PREDICT = "tensorflow.serving.PredictionService/Predict"


def request(value: float = 1, rows: int = 1) -> Any:
    message = wire.PredictRequest()
    message.model_spec.name = "m"
    fill_tensor(message.inputs["x"], np.full((rows, 2), value, np.float32))
    return message


def ask(served: Any, value: float = 1, rows: int = 1) -> Any:
    answer = served.call(PREDICT, request(value, rows), wire.PredictResponse)
    return decode_tensor(answer.outputs["y"])


@pytest.fixture
def threads(scale: Any) -> list[str]:
    """Names of the threads the engine ran in."""
    seen: list[str] = []
    load = scale.load

    def loaded(*arguments: Any, **named: Any) -> Any:
        engine = load(*arguments, **named)
        run = engine.run

        def noted(*arguments: Any) -> Any:
            seen.append(threading.current_thread().name)
            return run(*arguments)

        engine.run = noted
        return engine

    scale.load = loaded
    return seen


@pytest.fixture
def served(serve: Any, memory: Any, scale: Any, threads: list[str]) -> Any:
    memory.files["m/1/factor"] = b"2"
    started = serve(["m"], memory, [scale])
    threads.clear()
    return started


def test_this_grpcio_lets_us_read_first() -> None:
    assert pool_module.READS_FIRST


def test_quick_call_is_answered_by_the_thread_that_reads(served: Any, threads: list[str]) -> None:
    served.server.repository.find(Chosen("m")).quick = True  # as measured; not on a machine that is busy
    assert ask(served).tolist() == [[2, 2]]
    assert "_serve" in threads[0]


def test_call_that_is_not_quick_is_answered_by_a_worker(served: Any, threads: list[str]) -> None:
    served.server.repository.find(Chosen("m")).quick = False
    assert ask(served).tolist() == [[2, 2]]
    assert ask(served, rows=10_000).shape == (10_000, 2)
    assert all(name.startswith("grpc") for name in threads)


def test_large_request_is_answered_by_a_worker(served: Any, threads: list[str]) -> None:
    assert ask(served, rows=10_000).shape == (10_000, 2)
    assert threads[0].startswith("grpc")


def test_without_the_names_inside_grpcio_its_own_way_is_taken(
    served: Any, threads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "READS_FIRST", False)
    assert ask(served, 3).tolist() == [[6, 6]]
    assert threads[0].startswith("grpc")


def test_quick_refusal_has_its_status_and_text(served: Any) -> None:
    message = request()
    message.inputs["z"].CopyFrom(message.inputs["x"])
    with pytest.raises(grpc.RpcError) as raised:
        served.call(PREDICT, message, None)
    error: Any = raised.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "input size does not match signature" in error.details()
    with pytest.raises(grpc.RpcError) as raised:
        ask(served, 666)
    assert raised.value.details() == "internal error"
    assert ask(served).tolist() == [[2, 2]]


def test_call_without_a_message_is_refused(served: Any) -> None:
    stub = served.channel.stream_unary(f"/{PREDICT}", None, None)
    with pytest.raises(grpc.RpcError) as raised:
        stub(iter(()), timeout=10)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert ask(served).tolist() == [[2, 2]]


def test_caller_that_hangs_up_before_its_message_is_forgotten(served: Any) -> None:
    gone = threading.Event()

    def nothing() -> Any:
        gone.wait(10)
        yield b""

    stub = served.channel.stream_unary(f"/{PREDICT}", None, None)
    calls = [stub.future(nothing(), timeout=0.1) for _ in range(20)]
    for call in calls:
        with pytest.raises(grpc.RpcError):
            call.result()
    gone.set()
    assert ask(served).tolist() == [[2, 2]]


def test_surprise_in_a_behavior_does_not_end_the_server(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_name: str) -> bool:
        raise RuntimeError("surprise")

    monkeypatch.setattr(served.server.repository, "quick", broken)
    with pytest.raises(grpc.RpcError) as raised:
        ask(served)
    assert raised.value.code() is grpc.StatusCode.CANCELLED
    monkeypatch.undo()
    assert ask(served).tolist() == [[2, 2]]


def test_many_callers_get_their_own_answers(served: Any) -> None:
    with ThreadPoolExecutor(16) as workers:
        answers = list(workers.map(lambda value: (value, ask(served, value)[0, 0]), range(300)))
    assert all(answer == 2 * value for value, answer in answers)
