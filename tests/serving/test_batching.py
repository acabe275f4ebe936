"""Admission and dynamic batching: bounds, latency, isolation."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from strongroom.serving.models.admission import Gate
from strongroom.serving.models.batching import BatchingRunner
from strongroom.serving.models.limits import BatchingLimits, ModelLimits
from strongroom.serving.status import InvalidRequest, Overloaded, Refused, Status

SIGNATURE = "serving_default"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as made:
        yield made


@pytest.fixture
def engine(scale: Any) -> Any:
    class Files:
        names = frozenset({"factor"})

        def read(self, name: str) -> bytes:
            return b"2"

    return scale.load(Files())


Make = Callable[..., BatchingRunner]


@pytest.fixture
def make(engine: Any) -> Iterator[Make]:
    made: list[BatchingRunner] = []

    def runner(**limits: Any) -> BatchingRunner:
        made.append(BatchingRunner(engine, BatchingLimits(**limits), ModelLimits(timeout_s=10)))
        return made[-1]

    yield runner
    engine.gate.set()
    for one in made:
        one.close()


def ask(runner: BatchingRunner, value: float, rows: int = 1, width: int = 2, deadline: float | None = None) -> Any:
    return runner.run(SIGNATURE, {"x": np.full((rows, width), value, np.float32)}, ("y",), deadline)["y"]


def queued(runner: BatchingRunner, rows: int) -> None:
    """Wait until so many rows are queued."""
    wait = threading.Event()
    for _ in range(2000):
        if runner._queued_rows == rows:
            return
        wait.wait(0.005)
    raise AssertionError(runner._queued_rows)


def hold(pool: ThreadPoolExecutor, runner: BatchingRunner, engine: Any) -> Future[Any]:
    """One request inside the engine, held there."""
    engine.gate.clear()
    engine.entered.clear()
    held = pool.submit(ask, runner, 1)
    assert engine.entered.wait(5)
    return held


def test_requests_share_a_run_and_get_their_own_rows(pool: ThreadPoolExecutor, engine: Any, make: Make) -> None:
    runner = make(max_batch_size=8, threads=1)
    held = hold(pool, runner, engine)
    others = [pool.submit(ask, runner, value, rows=2) for value in (10, 20, 30)]
    queued(runner, 6)
    engine.gate.set()
    assert held.result(5).tolist() == [[2, 2]]
    assert [other.result(5).tolist() for other in others] == [[[v, v], [v, v]] for v in (20, 40, 60)]
    assert engine.batches == [1, 6]


def test_answers_do_not_share_memory(pool: ThreadPoolExecutor, engine: Any, make: Make) -> None:
    runner = make(max_batch_size=8, threads=1)
    held = hold(pool, runner, engine)
    others = [pool.submit(ask, runner, value) for value in (10, 20)]
    queued(runner, 2)
    engine.gate.set()
    held.result(5)
    first, second = (other.result(5) for other in others)
    first[:] = -1
    assert second.tolist() == [[40, 40]]


def test_rows_of_other_shapes_never_share_a_run(pool: ThreadPoolExecutor, engine: Any, make: Make) -> None:
    runner = make(max_batch_size=8, threads=1)
    held = hold(pool, runner, engine)
    others = [pool.submit(ask, runner, 5, width=width) for width in (2, 3, 2)]
    queued(runner, 3)
    engine.gate.set()
    held.result(5)
    assert [other.result(5).shape for other in others] == [(1, 2), (1, 3), (1, 2)]
    assert sorted(engine.batches) == [1, 1, 2]


def test_crash_on_one_callers_rows_does_not_fail_the_others(pool: ThreadPoolExecutor, engine: Any, make: Make) -> None:
    runner = make(max_batch_size=8, threads=1)
    held = hold(pool, runner, engine)
    others = [pool.submit(ask, runner, value) for value in (10, 666, 30)]
    queued(runner, 3)
    engine.gate.set()
    held.result(5)
    assert others[0].result(5).tolist() == [[20, 20]]
    with pytest.raises(RuntimeError):
        others[1].result(5)
    assert others[2].result(5).tolist() == [[60, 60]]


def test_full_batch_does_not_wait(pool: ThreadPoolExecutor, engine: Any, make: Make) -> None:
    runner = make(max_batch_size=2, timeout_us=60_000_000, threads=1)
    first = pool.submit(ask, runner, 1)
    second = pool.submit(ask, runner, 2)
    assert first.result(5).tolist() == [[2, 2]]
    assert second.result(5).tolist() == [[4, 4]]
    assert engine.batches == [2]


def test_oldest_request_waits_no_longer_than_the_bound(engine: Any, make: Make) -> None:
    runner = make(max_batch_size=100, timeout_us=20_000, threads=1)
    started = time.monotonic()
    ask(runner, 1)
    assert 0.015 < time.monotonic() - started < 60  # not until the batch is full, which it never is


def test_padding_to_allowed_sizes(engine: Any, make: Make) -> None:
    runner = make(max_batch_size=8, allowed_sizes=(4, 8), threads=1)
    assert ask(runner, 3, rows=3).tolist() == [[6, 6]] * 3
    assert ask(runner, 3, rows=5).tolist() == [[6, 6]] * 5
    assert engine.batches == [4, 8]


def test_large_request_is_split_and_put_together_again(engine: Any, make: Make) -> None:
    runner = make(max_batch_size=4, threads=2)
    rows = np.arange(20, dtype=np.float32).reshape(10, 2)
    answer = runner.run(SIGNATURE, {"x": rows}, ("y",), None)["y"]
    assert answer.tolist() == (rows * 2).tolist()
    assert sorted(engine.batches) == [2, 4, 4]


def test_large_request_is_refused_where_splitting_is_off(make: Make) -> None:
    with pytest.raises(InvalidRequest, match="maximum batch size"):
        ask(make(max_batch_size=4, split=False), 1, rows=5)


def test_full_queue_is_told_at_once(pool: ThreadPoolExecutor, engine: Any, make: Make) -> None:
    runner = make(max_batch_size=2, max_enqueued_batches=2, threads=1)
    held = hold(pool, runner, engine)
    waiting = [pool.submit(ask, runner, 1) for _ in range(4)]
    queued(runner, 4)
    with pytest.raises(Overloaded) as refused:
        ask(runner, 1)
    assert refused.value.status is Status.RESOURCE_EXHAUSTED
    engine.gate.set()
    for future in (held, *waiting):
        future.result(5)


def test_caller_whose_deadline_passed_is_not_computed(pool: ThreadPoolExecutor, engine: Any, make: Make) -> None:
    runner = make(max_batch_size=2, threads=1)
    held = hold(pool, runner, engine)
    with pytest.raises(Refused) as refused:
        ask(runner, 5, deadline=time.monotonic() + 0.05)
    assert refused.value.status is Status.DEADLINE_EXCEEDED
    engine.gate.set()
    held.result(5)
    ask(runner, 1)
    assert engine.batches == [1, 1]


def test_closed_runner_finishes_what_is_queued_and_takes_nothing_more(
    pool: ThreadPoolExecutor, engine: Any, make: Make
) -> None:
    runner = make(max_batch_size=2, timeout_us=60_000_000, threads=1)
    waiting = pool.submit(ask, runner, 4)
    queued(runner, 1)
    runner.close()
    assert waiting.result(5).tolist() == [[8, 8]]
    with pytest.raises(Refused) as refused:
        ask(runner, 1)
    assert refused.value.status is Status.UNAVAILABLE


def test_no_rows_and_unequal_rows(engine: Any, make: Make) -> None:
    runner = make(max_batch_size=2)
    assert ask(runner, 1, rows=0).shape == (0, 2)
    with pytest.raises(InvalidRequest, match="same number of rows"):
        runner.run(SIGNATURE, {"x": np.ones((1, 2)), "z": np.ones((2, 2))}, ("y",), None)


def test_output_without_rows_is_refused_not_mixed_up(engine: Any, make: Make) -> None:
    engine.run = lambda *_: {"y": np.zeros((7, 2), np.float32)}
    with pytest.raises(Refused) as refused:
        ask(make(max_batch_size=8), 1, rows=3)
    assert refused.value.status is Status.FAILED_PRECONDITION


def test_many_callers_get_their_own_answers(pool: ThreadPoolExecutor, make: Make) -> None:
    runner = make(max_batch_size=16, timeout_us=200, threads=2, max_enqueued_batches=100)
    answers = list(pool.map(lambda value: (value, ask(runner, value, rows=value % 3 + 1)), range(300)))
    assert all((answer == value * 2).all() and len(answer) == value % 3 + 1 for value, answer in answers)


@contextmanager
def admitted(gate: Gate, deadline: float | None) -> Iterator[None]:
    gate.enter(deadline)
    try:
        yield
    finally:
        gate.leave()


def test_gate_bounds_what_runs(pool: ThreadPoolExecutor) -> None:
    gate = Gate(ModelLimits(concurrency=3, queue=100))
    running, peak, lock = 0, 0, threading.Lock()

    def work(_: int) -> None:
        nonlocal running, peak
        with admitted(gate, None):
            with lock:
                running += 1
                peak = max(peak, running)
            threading.Event().wait(0.002)
            with lock:
                running -= 1

    list(pool.map(work, range(60)))
    assert peak == 3


def test_gate_refuses_when_the_queue_is_full_and_when_the_turn_does_not_come() -> None:
    gate = Gate(ModelLimits(concurrency=1, queue=0))
    with admitted(gate, None), pytest.raises(Overloaded), admitted(gate, None):
        pass
    gate = Gate(ModelLimits(concurrency=1, queue=1))
    with admitted(gate, None), pytest.raises(Refused) as refused, admitted(gate, time.monotonic() + 0.02):
        pass
    assert refused.value.status is Status.DEADLINE_EXCEEDED
    with admitted(gate, None):
        pass  # the place was given back


def test_gate_is_free_again_after_a_failure() -> None:
    gate = Gate(ModelLimits(concurrency=1, queue=0))
    with pytest.raises(ZeroDivisionError), admitted(gate, None):
        1 / 0  # noqa: B018
    with admitted(gate, None):
        pass
