"""An engine in a process of its own: its crash is told to its callers, and to nobody else."""

import os
import signal
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from strongroom.errors import FormatError
from strongroom.serving.engines import DEFAULT_SIGNATURE, Signature, TensorSpec
from strongroom.serving.engines.xgboost import XGBoostMaker
from strongroom.serving.isolation import engine as isolation
from strongroom.serving.isolation.frames import receive, send, signatures_as_json, signatures_from_json
from strongroom.serving.models.limits import ModelLimits
from strongroom.serving.models.policy import ModelSettings
from strongroom.serving.models.repository import Chosen
from strongroom.serving.models.storage import DangerousPlaintextFolder, VersionFiles
from strongroom.serving.tensors.dtypes import FLOAT
from strongroom.serving.tensors.tensor_proto import decode_tensor, fill_tensor
from strongroom.serving.wire import tensorflow as wire

PREDICT = "tensorflow.serving.PredictionService/Predict"


def request(model: str = "tabular") -> Any:
    message = wire.PredictRequest()
    message.model_spec.name = model
    fill_tensor(message.inputs["inputs"], np.ones((1, 4), np.float32))
    return message


def ask(served: Any, timeout: float = 20) -> float:
    answer = served.call(PREDICT, request(), wire.PredictResponse, timeout=timeout)
    return float(decode_tensor(answer.outputs["outputs"])[0])


def engine_of(served: Any) -> Any:
    return served.server.repository.find(Chosen("tabular"))._engine


def code_of(served: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as raised:
        ask(served)
    error: Any = raised.value
    code: grpc.StatusCode = error.code()
    return code


@pytest.fixture
def served(serve: Any, models: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(isolation, "FIRST_PAUSE_S", 0.3)
    limits = ModelLimits(concurrency=2, timeout_s=20)
    return serve([ModelSettings("tabular", "tabular", limits=limits, isolated=True), "echo"], models)


def test_answers_as_an_engine_inside_does(served: Any, booster: Any) -> None:
    expected = booster.inplace_predict(np.ones((1, 4), np.float32), validate_features=False)[0]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: ask(served), range(40))) == {float(expected)}
    status, answer, _ = served.http("/v1/models/tabular:predict", {"instances": [[1, 1, 1, 1]]})
    assert status == 200 and answer["predictions"] == [pytest.approx(float(expected))]
    status, answer, _ = served.http("/v1/models/tabular:predict", {"instances": [[1, 1, 1, 1e39]]})
    assert status == 400
    assert not served.server.repository.quick("tabular")


def test_engine_crash_by_sigsegv_is_unavailable_and_the_server_stays_up(served: Any) -> None:
    expected, engine = ask(served), engine_of(served)
    crashed = engine._process.process
    os.kill(crashed.pid, signal.SIGSEGV)
    os.waitid(os.P_PID, crashed.pid, os.WEXITED | os.WNOWAIT)
    assert code_of(served) is grpc.StatusCode.UNAVAILABLE
    status, answer, _ = served.http("/v1/models/tabular:predict", {"instances": [[1, 1, 1, 1]]})
    assert status == 503 and "engine" in answer["error"]
    assert served.http("/readyz")[0] == 503
    assert served.http("/v1/models/echo")[0] == 200  # other models are not concerned
    until = time.monotonic() + 300
    while not engine.alive:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert ask(served) == expected
    assert served.http("/readyz")[0] == 200
    assert engine._process.process.pid != crashed.pid


def test_caller_in_the_middle_of_an_engine_crash_is_told(served: Any) -> None:
    child = engine_of(served)._process.process.pid
    os.kill(child, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(code_of, served)
        assert not waiting.done()
        assert served.http("/v1/models/echo")[0] == 200
        os.kill(child, signal.SIGSEGV)
        os.kill(child, signal.SIGCONT)
        assert waiting.result(20) is grpc.StatusCode.UNAVAILABLE


def test_engine_that_hangs_is_a_crash(served: Any) -> None:
    process = engine_of(served)._process
    for connection in process._all:
        connection.settimeout(0.2)
    os.kill(process.process.pid, signal.SIGSTOP)
    assert code_of(served) is grpc.StatusCode.UNAVAILABLE
    assert process.process.returncode == -signal.SIGKILL


def test_engine_that_crashes_too_often_stays_down(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "MAX_CRASHES", 1)
    engine = engine_of(served)
    engine._process.process.kill()
    engine._process.process.wait()
    assert code_of(served) is grpc.StatusCode.UNAVAILABLE
    for thread in threading.enumerate():
        if thread.name == "engine-restart":
            thread.join(10)
    assert not engine.alive
    assert served.http("/v1/models/echo")[0] == 200


def test_model_that_does_not_load_over_there_is_refused_here(models: Path) -> None:
    (models / "tabular/2").mkdir()
    (models / "tabular/2/model.ubj").write_bytes(b"no model")
    with pytest.raises(FormatError):
        isolation.IsolatedEngine(XGBoostMaker().load, VersionFiles(DangerousPlaintextFolder(models), "tabular/2"), 1, 5)


def test_process_ends_with_the_server(served: Any) -> None:
    child = engine_of(served)._process.process
    served.server.drain()
    assert child.returncode is not None


def test_frames_come_out_as_they_went_in() -> None:
    ours, theirs = socket.socketpair()
    arrays = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "s": np.array([b"a", b""], dtype=object)}
    with ours, theirs:
        send(ours, {"ask": "run"}, arrays)
        head, got = receive(theirs)
    assert head == {"ask": "run"}
    assert all((got[name] == array).all() and got[name].shape == array.shape for name, array in arrays.items())
    spec = TensorSpec("n", FLOAT, (None, 3))
    signatures = {DEFAULT_SIGNATURE: Signature({"x": spec}, {"y": TensorSpec("m", FLOAT, None)})}
    assert signatures_from_json(signatures_as_json(signatures)) == signatures


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"", b""),
        (b"[]", b""),
        (b'{"tensors":[]}', b"more"),
        (b'{"tensors":[["x","FP32",[1],4]]}', b"abc"),
        (b'{"tensors":[["x","FP32",[1073741824,1073741824],4]]}', b"abcd"),
        (b'{"tensors":[["x","NOPE",[1],4]]}', b"abcd"),
        (b'{"tensors":[["x"]]}', b""),
        (b'{"tensors":{"x":1}}', b""),
    ],
)
def test_refuses_what_a_process_that_was_taken_over_may_say(head: bytes, body: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack("<IQ", len(head), len(body)) + head + body)
        with pytest.raises(FormatError):
            receive(ours)


def test_refuses_a_frame_that_asks_for_too_much_memory() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(struct.pack("<IQ", 2, 1 << 62))
        with pytest.raises(FormatError):
            receive(ours)


@pytest.mark.parametrize("value", [None, [], {"s": 1}, {"s": {"method": "m"}}, {"s": {"inputs": {"x": []}}}])
def test_refuses_signatures_that_are_none(value: Any) -> None:
    with pytest.raises(FormatError):
        signatures_from_json(value)
