"""Load, faults, bad input: the server stays up, the caller gets the right status, nobody gets another's data."""

import gc
import http.client
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from strongroom.serving.http.app import HttpLimits
from strongroom.serving.http.protocol import BoundedProtocol
from strongroom.serving.models.limits import BatchingLimits, ModelLimits
from strongroom.serving.models.policy import ModelSettings
from strongroom.serving.models.repository import Chosen
from strongroom.serving.rpc.server import RpcLimits
from strongroom.serving.tensors.tensor_proto import decode_tensor, fill_tensor
from strongroom.serving.wire import tensorflow as wire

PREDICT = "tensorflow.serving.PredictionService/Predict"


def request(value: float = 1, rows: int = 1, model: str = "m") -> Any:
    message = wire.PredictRequest()
    message.model_spec.name = model
    fill_tensor(message.inputs["x"], np.full((rows, 2), value, np.float32))
    return message


def version(served: Any) -> Any:
    return served.server.repository.find(Chosen("m"))


def ask(served: Any, value: float = 1, rows: int = 1, **settings: Any) -> Any:
    answer = served.call(PREDICT, request(value, rows), wire.PredictResponse, **settings)
    return decode_tensor(answer.outputs["y"])


def code_of(act: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        act()
    error: Any = raised.value
    return error.code(), error.details()


@pytest.fixture
def served(serve: Any, memory: Any, scale: Any) -> Any:
    memory.files["m/1/factor"] = b"2"
    limits = ModelLimits(concurrency=2, queue=2, timeout_s=10)
    started = serve([ModelSettings("m", "m", limits=limits)], memory, [scale])
    version(started).quick = False  # it will be held, which no quick model ever is
    return started


@pytest.mark.parametrize("raw", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\x0a", os.urandom(300), b"\x13" * 100])
def test_malformed_protobuf(served: Any, raw: bytes) -> None:
    for method in (
        PREDICT,
        "inference.GRPCInferenceService/ModelInfer",
        "tensorflow.serving.ModelService/GetModelStatus",
    ):
        assert code_of(lambda method=method: served.call(method, raw, None))[0] in {  # type: ignore[misc]
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.NOT_FOUND,
        }
    assert ask(served).tolist() == [[2, 2]]


def test_absurd_shape(served: Any) -> None:
    message = request()
    for dim in message.inputs["x"].tensor_shape.dim:
        dim.size = 1 << 40
    assert code_of(lambda: served.call(PREDICT, message, None))[0] is grpc.StatusCode.INVALID_ARGUMENT
    message.inputs["x"].ClearField("tensor_content")
    message.inputs["x"].float_val.append(1)
    assert code_of(lambda: served.call(PREDICT, message, None))[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_dtype_mismatch(served: Any) -> None:
    message = request()
    fill_tensor(message.inputs["x"], np.ones((1, 2), np.int64))
    code, _ = code_of(lambda: served.call(PREDICT, message, None))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


def test_nan_stays_in_its_own_row(serve: Any, memory: Any, scale: Any) -> None:
    memory.files["m/1/factor"] = b"2"
    batching = BatchingLimits(max_batch_size=8, timeout_us=50_000)
    served = serve([ModelSettings("m", "m", batching=batching)], memory, [scale])
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda value: ask(served, value), (1.0, float("nan"), 3.0, 4.0)))
    assert [answer[0, 0] for answer in answers if not np.isnan(answer[0, 0])] == [2, 6, 8]


def test_message_larger_than_the_limit_over_grpc(serve: Any, memory: Any, scale: Any) -> None:
    memory.files["m/1/factor"] = b"2"
    served = serve(["m"], memory, [scale], rpc=RpcLimits(max_message_bytes=100_000))
    code, _ = code_of(lambda: ask(served, rows=100_000))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert ask(served).tolist() == [[2, 2]]


def connect(served: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.server.rest_port), timeout=10)


def test_two_gigabyte_body_is_refused_before_it_is_read(served: Any) -> None:
    with connect(served) as connection:
        connection.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 2147483648\r\n\r\nab")
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")
    assert served.http("/v1/models/m")[0] == 200


def test_chunked_body_without_end_is_refused_at_the_limit(serve: Any, memory: Any, scale: Any) -> None:
    memory.files["m/1/factor"] = b"2"
    served = serve(["m"], memory, [scale], http=HttpLimits(max_body_bytes=10_000))
    with connect(served) as connection:
        connection.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        answer = b""
        for _ in range(11):  # the last one crosses the limit; more would be answered by a reset
            connection.sendall(b"3e8\r\n" + b" " * 1000 + b"\r\n")
        while chunk := connection.recv(1000):
            answer += chunk
        assert b"400" in answer and b"larger" in answer


@pytest.mark.parametrize("length", [b"-1", b"x", b"99999999999999999999999999", b"1, 2"])
def test_content_length_that_is_none(served: Any, length: bytes) -> None:
    with connect(served) as connection:
        connection.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nhost: x\r\ncontent-length: " + length + b"\r\n\r\n")
        assert b" 400 " in connection.recv(1000)
    assert served.http("/v1/models/m")[0] == 200


def test_slow_body_is_given_up(serve: Any, memory: Any, scale: Any) -> None:
    memory.files["m/1/factor"] = b"2"
    served = serve(["m"], memory, [scale], http=HttpLimits(body_timeout_s=0.1))
    with connect(served) as connection:
        connection.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert b" 504 " in connection.recv(1000)


@pytest.mark.parametrize("sent", [b"", b"GET /v1/models/m HT", b"GET / HTTP/1.1\r\nhost: x\r\nx: "])
def test_slow_head_is_given_up(served: Any, monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(BoundedProtocol, "head_timeout_s", 0.1)
    with connect(served) as connection:
        connection.sendall(sent)
        try:
            assert connection.recv(1000) == b""
        except ConnectionResetError:
            pass


def test_idle_connection_between_requests_is_not_slow(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.server.rest_port, timeout=60)
    connection.connect()
    for _ in range(2):
        connection.request("GET", "/v1/models/m")
        assert connection.getresponse().read()
        # From here on: a loaded machine may need longer for a new connection's first request.
        monkeypatch.setattr(BoundedProtocol, "head_timeout_s", 0.1)
        threading.Event().wait(0.2)
    connection.close()


def test_huge_head_is_refused(served: Any) -> None:
    with connect(served) as connection:
        try:
            connection.sendall(b"GET / HTTP/1.1\r\n" + b"".join(b"x%d: %s\r\n" % (i, b"a" * 900) for i in range(200)))
            assert connection.recv(1000) == b""
        except OSError:
            pass
    assert served.http("/v1/models/m")[0] == 200


def test_http_garbage(served: Any) -> None:
    for junk in (
        b"\0" * 100,
        b"\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET  HTTP/9\r\n\r\n",
        os.urandom(500),
    ):
        with connect(served) as connection:
            connection.sendall(junk)
            connection.shutdown(socket.SHUT_WR)
            try:
                while connection.recv(1000):
                    pass
            except OSError:
                pass
    assert served.http("/v1/models/m")[0] == 200


def test_caller_that_hangs_up_in_the_middle_of_its_body(served: Any) -> None:
    for _ in range(20):
        with connect(served) as connection:
            connection.sendall(b"POST /v1/models/m:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    assert served.http("/v1/models/m:predict", {"instances": [[1, 1]]})[1] == {"predictions": [[2.0, 2.0]]}


def held(served: Any, scale: Any, count: int, pool: ThreadPoolExecutor) -> list[Any]:
    """So many requests inside the engine or waiting for it."""
    engine = scale.engines[-1]
    engine.gate.clear()
    started = [pool.submit(ask, served, value) for value in range(count)]
    waiting = served.server.repository.find(Chosen("m")).runner._gate
    for _ in range(2000):
        if waiting._running + waiting._waiting == count:
            return started
        time.sleep(0.005)
    raise AssertionError("requests did not arrive")


def test_limits_are_told_as_429_and_resource_exhausted(served: Any, scale: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        started = held(served, scale, 4, pool)  # two run, two wait: the model's limits
        assert code_of(lambda: ask(served))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        status, body, headers = served.http("/v1/models/m:predict", {"instances": [[1, 1]]})
        assert status == 429 and "too many" in body["error"]
        assert {name.lower() for name in headers} >= {"retry-after"}
        scale.engines[-1].gate.set()
        assert [future.result(10)[0, 0] for future in started] == [0, 2, 4, 6]
    assert ask(served).tolist() == [[2, 2]]


def test_cancelled_call_frees_its_place(served: Any, scale: Any) -> None:
    engine = scale.engines[-1]
    engine.gate.clear()
    engine.entered.clear()
    stub = served.channel.unary_unary(f"/{PREDICT}", request_serializer=lambda m: m.SerializeToString())
    call = stub.future(request(), timeout=20)
    assert engine.entered.wait(5)
    call.cancel()
    engine.gate.set()
    assert [ask(served, value)[0, 0] for value in range(5)] == [0, 2, 4, 6, 8]


def test_deadline_of_a_caller_that_waits(served: Any, scale: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        started = held(served, scale, 2, pool)
        assert code_of(lambda: ask(served, timeout=0.2))[0] is grpc.StatusCode.DEADLINE_EXCEEDED
        scale.engines[-1].gate.set()
        for future in started:
            future.result(10)


def test_engine_crash_is_internal_and_says_nothing_of_what_was_asked(served: Any) -> None:
    code, text = code_of(lambda: ask(served, 666))
    assert (code, text) == (grpc.StatusCode.INTERNAL, "internal error")
    status, body, _ = served.http("/v1/models/m:predict", {"instances": [[666, 666]]})
    assert (status, body) == (500, {"error": "internal error"})
    assert ask(served).tolist() == [[2, 2]]


def test_engine_crash_does_not_log_what_was_asked(served: Any, capfd: pytest.CaptureFixture[str]) -> None:
    code_of(lambda: ask(served, 666))
    out, err = capfd.readouterr()
    assert "request failed" in out + err and "applicant row" not in out + err


def test_model_is_replaced_under_load(serve: Any, memory: Any, scale: Any) -> None:
    memory.files["m/1/factor"] = b"1"
    batching = BatchingLimits(max_batch_size=8, timeout_us=100, max_enqueued_batches=1000)
    served = serve([ModelSettings("m", "m", batching=batching)], memory, [scale], poll_wait_s=0.01)
    stop = threading.Event()
    wrong: list[Any] = []
    counts: dict[int, int] = {}

    def load(caller: int) -> None:
        while not stop.is_set():
            answer = served.call(PREDICT, request(caller + 1), wire.PredictResponse)
            version = answer.model_spec.version.value
            values = decode_tensor(answer.outputs["y"])
            counts[version] = counts.get(version, 0) + 1
            if not (values == (caller + 1) * version).all():
                wrong.append((caller, version, values))

    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(load, caller) for caller in range(8)]
        for version in range(2, 7):
            memory.files[f"m/{version}/factor"] = str(version).encode()
            until = time.monotonic() + 120
            while served.server.repository.versions("m") != [version]:
                assert time.monotonic() < until
                time.sleep(0.005)
            seen = counts.get(version, 0)
            while counts.get(version, 0) <= seen:
                assert time.monotonic() < until
                time.sleep(0.005)
        stop.set()
        for future in callers:
            future.result(60)  # not one call failed
    assert not wrong
    until = time.monotonic() + 120
    while not scale.engines[4].closed:  # the last one that was replaced: its callers have just left
        assert time.monotonic() < until
        time.sleep(0.005)
    assert set(counts) >= {2, 3, 4, 5, 6}
    assert [engine.closed for engine in scale.engines] == [True] * 5 + [False]


def test_requests_under_way_are_finished_when_the_server_drains(served: Any, scale: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        started = held(served, scale, 2, pool)
        draining = pool.submit(served.server.drain)
        while not served.server.health._draining:
            time.sleep(0.005)
        scale.engines[-1].gate.set()
        assert [future.result(10)[0, 0] for future in started] == [0, 2]
        draining.result(10)
    assert scale.engines[-1].closed


def test_rest_drains_as_long_as_the_server_is_told(served: Any) -> None:
    assert served.server._http._server.config.timeout_graceful_shutdown == served.server._options.drain_s


def test_server_without_its_models_is_up_but_not_ready_and_recovers(
    memory: Any, scale: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from strongroom.serving.models import repository
    from strongroom.serving.server import ModelServer, ServerOptions
    from strongroom.serving.status import Refused

    options = ServerOptions((ModelSettings("m", "m"),), grpc_port=0, rest_port=0, poll_wait_s=0.01)
    monkeypatch.setattr(repository, "MAX_RETRY_S", 0.01)
    server = ModelServer(options, memory, [scale])
    try:
        with pytest.raises(Refused):
            server.start()
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port or 0, timeout=10)

        def get(path: str) -> tuple[int, Any]:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

        assert get("/readyz") == (503, {"ready": False})
        assert get("/v1/models/m")[0] == 404
        memory.files["m/1/factor"] = b"2"
        assert server.wait_ready(10)
        assert get("/readyz") == (200, {"ready": True})
        connection.close()
    finally:
        server.drain()


def test_nothing_of_one_caller_reaches_another(serve: Any, memory: Any, scale: Any) -> None:
    memory.files["m/1/factor"] = b"2"
    batching = BatchingLimits(max_batch_size=16, timeout_us=500, max_enqueued_batches=1000)
    served = serve([ModelSettings("m", "m", batching=batching)], memory, [scale])

    def caller(number: int) -> bool:
        if number % 7 == 0:
            return code_of(lambda: ask(served, 666))[0] is grpc.StatusCode.INTERNAL
        if number % 5 == 0:
            body = {"instances": [[number, number]]}
            return bool(served.http("/v1/models/m:predict", body)[1] == {"predictions": [[2.0 * number] * 2]})
        return bool((ask(served, number, rows=number % 3 + 1) == 2 * number).all())

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(caller, range(1, 300)))


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.slow
def test_memory_does_not_grow_with_64_connections(serve: Any, models: Path) -> None:
    """Half a minute here; `benchmarks/serving.py --soak` runs it for ten."""
    served = serve(["tabular"], models)
    rows = np.random.default_rng(0).random((1, 4), dtype=np.float32)
    message = wire.PredictRequest()
    message.model_spec.name = "tabular"
    fill_tensor(message.inputs["inputs"], rows)

    def load(seconds: float) -> int:
        until, done = time.monotonic() + seconds, 0
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(f"127.0.0.1:{served.server.grpc_port}", options=options) as channel:
            stub = channel.unary_unary(f"/{PREDICT}", request_serializer=lambda m: m.SerializeToString())
            while time.monotonic() < until:
                stub(message, timeout=20)
                done += 1
        return done

    with ThreadPoolExecutor(64) as pool:
        sum(pool.map(load, [6.0] * 64))
        gc.collect()
        before = resident_mb()
        done = sum(pool.map(load, [25.0] * 64))
        gc.collect()
    assert done > 1000
    assert resident_mb() - before < 30


def test_a_held_engine_does_not_hold_the_rest_server(served: Any, scale: Any) -> None:
    """A quick model is asked on the server's own loop, but never when somebody would have to be waited for."""
    with ThreadPoolExecutor(8) as pool:
        started = held(served, scale, 2, pool)
        version(served).quick = True
        waiting = pool.submit(served.http, "/v1/models/m:predict", {"instances": [[5, 5]]})
        for _ in range(20):
            assert served.http("/healthz")[0] == 200
        assert not waiting.done()
        scale.engines[-1].gate.set()
        assert waiting.result(10)[1] == {"predictions": [[10.0, 10.0]]}
        for future in started:
            future.result(10)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name: bytes, value: bytes) -> bytes:
    """One header field, never indexed, not compressed (RFC 7541, 6.2.3)."""
    return b"\x10" + bytes([len(name)]) + name + bytes([len(value)]) + value


def opened_call(served: Any) -> socket.socket:
    """A connection with one gRPC call whose message is yet to come."""
    connection = socket.create_connection(("127.0.0.1", served.server.grpc_port), timeout=10)
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": f"/{PREDICT}".encode(),
        b":authority": b"x",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    head = b"".join(literal(name, value) for name, value in fields.items())
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"") + frame(1, 4, 1, head))
    return connection


def test_two_gigabyte_message_over_grpc_is_refused_before_it_is_read(served: Any) -> None:
    before = resident_mb()
    with opened_call(served) as connection:
        connection.sendall(frame(0, 0, 1, b"\0" + (2**31 - 1).to_bytes(4, "big") + b"ab"))
        answer = b""
        while b"larger than max" not in answer:  # the text is sent as it is: `grpc-message`
            part = connection.recv(4096)
            assert part, answer
            answer += part
    assert resident_mb() - before < 200
    assert ask(served).tolist() == [[2, 2]]


def test_slow_grpc_callers_hold_nobody_up(served: Any) -> None:
    connections = [opened_call(served) for _ in range(40)]  # more than there are workers
    connections += [socket.create_connection(("127.0.0.1", served.server.grpc_port), timeout=10) for _ in range(40)]
    try:
        for connection in connections:
            connection.sendall(frame(0, 0, 1, b"\0\0\0") if connection in connections[:40] else b"PRI * HT")
        assert [ask(served, value)[0, 0] for value in range(5)] == [0, 2, 4, 6, 8]
    finally:
        for connection in connections:
            connection.close()
