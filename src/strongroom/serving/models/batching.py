"""Dynamic batching: rows of several requests share one run, and the oldest waits no longer than it was told."""

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from strongroom.serving.engines import Engine
from strongroom.serving.models.limits import BatchingLimits, ModelLimits
from strongroom.serving.models.runner import DirectRunner
from strongroom.serving.status import InvalidRequest, Overloaded, Refused, Status
from strongroom.serving.tensors.dtypes import Array

_Key = tuple[object, ...]
_CLOSED: Final = "this version of the model is being unloaded"


@dataclass(eq=False, slots=True)
class _Task:
    signature: str
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...]
    rows: int
    due: float
    done: threading.Event = field(default_factory=threading.Event)
    result: dict[str, Array] | None = None
    error: BaseException | None = None
    abandoned: bool = False


class BatchingRunner:
    """Puts requests together. Requests of different signatures, types or row shapes never share a run.

    Args:
        engine: The loaded model.
        batching: Sizes and times.
        limits: For signatures that can't be batched, and the waiting time of a request without a deadline.
    """

    def __init__(self, engine: Engine, batching: BatchingLimits, limits: ModelLimits) -> None:
        self._engine = engine
        self._batching = batching
        self._timeout_s = limits.timeout_s
        self._direct = DirectRunner(engine, limits)
        self._condition = threading.Condition()
        self._queues: dict[_Key, deque[_Task]] = {}
        self._queued_rows = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True)
            for number in range(batching.threads)
        ]
        for thread in self._threads:
            thread.start()

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str], deadline: float | None
    ) -> dict[str, Array]:
        """Wait for the run that has these rows.

        Raises:
            Refused: The queue is full, the deadline passed, the rows do not match, or the engine refuses them.
        """
        if not self._engine.signatures[signature].batched:
            return self._direct.run(signature, inputs, outputs, deadline)
        rows = _rows(inputs)
        if rows == 0:
            return self._direct.run(signature, inputs, outputs, deadline)
        pieces = self._pieces(inputs, rows)
        tasks = self._enqueue(signature, pieces, tuple(outputs))
        until = time.monotonic() + self._timeout_s if deadline is None else deadline
        results = [self._result(task, until, tasks) for task in tasks]
        if len(results) == 1:
            return results[0]
        return {name: np.concatenate([result[name] for result in results]) for name in outputs}

    @property
    def idle(self) -> bool:
        """Never: a request waits for company."""
        return False

    def close(self) -> None:
        """Stop the threads once the queue is empty."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _pieces(self, inputs: Mapping[str, Array], rows: int) -> list[tuple[Mapping[str, Array], int]]:
        size = self._batching.max_batch_size
        if rows <= size:
            return [(inputs, rows)]
        if not self._batching.split:
            raise InvalidRequest(f"a request of {rows} rows is larger than the maximum batch size {size}")
        return [
            ({name: array[start : start + size] for name, array in inputs.items()}, min(size, rows - start))
            for start in range(0, rows, size)
        ]

    def _enqueue(
        self, signature: str, pieces: list[tuple[Mapping[str, Array], int]], outputs: tuple[str, ...]
    ) -> list[_Task]:
        due = time.monotonic() + self._batching.timeout_us / 1e6
        tasks = [_Task(signature, inputs, outputs, rows, due) for inputs, rows in pieces]
        rows = sum(task.rows for task in tasks)
        with self._condition:
            if self._closed:
                raise Refused(Status.UNAVAILABLE, _CLOSED)
            if self._queued_rows + rows > self._batching.max_enqueued_batches * self._batching.max_batch_size:
                raise Overloaded("the batching queue of this model is full")
            for task in tasks:
                self._queues.setdefault(_key(task), deque()).append(task)
            self._queued_rows += rows
            self._condition.notify()
        return tasks

    def _result(self, task: _Task, until: float, siblings: list[_Task]) -> dict[str, Array]:
        if not task.done.wait(max(0.0, until - time.monotonic())):
            for sibling in siblings:
                sibling.abandoned = True
            raise Refused(Status.DEADLINE_EXCEEDED, "the deadline passed while the request waited in a batch")
        if task.error is not None:
            raise task.error
        if task.result is None:
            raise Refused(Status.INTERNAL, "internal error")
        return task.result

    def _work(self) -> None:
        while (tasks := self._next()) is not None:
            self._run_together([task for task in tasks if not task.abandoned])

    def _next(self) -> list[_Task] | None:
        """The tasks of the next batch; None when closed and empty."""
        with self._condition:
            while True:
                if not self._queues:
                    if self._closed:
                        return None
                    self._condition.wait()
                    continue
                key, wait_s = self._most_urgent()
                if wait_s <= 0 or self._closed:
                    return self._take(key)
                self._condition.wait(wait_s)

    def _most_urgent(self) -> tuple[_Key, float]:
        """A full batch, or else the one whose oldest request is due first, and how long that may still wait."""
        for key, queue in self._queues.items():
            if sum(task.rows for task in queue) >= self._batching.max_batch_size:
                return key, 0.0
        key = min(self._queues, key=lambda key: self._queues[key][0].due)
        return key, self._queues[key][0].due - time.monotonic()

    def _take(self, key: _Key) -> list[_Task]:
        queue = self._queues[key]
        tasks = [queue.popleft()]
        rows = tasks[0].rows
        while queue and rows + queue[0].rows <= self._batching.max_batch_size:
            rows += queue[0].rows
            tasks.append(queue.popleft())
        if not queue:
            del self._queues[key]
        self._queued_rows -= rows
        return tasks

    def _run_together(self, tasks: list[_Task]) -> None:
        if not tasks:
            return
        try:
            _share(tasks, self._run_batch(tasks))
        except BaseException as error:  # handed to the callers; this thread serves others next
            if len(tasks) == 1:
                tasks[0].error = error
                tasks[0].done.set()
                return
            for task in tasks:  # one caller's rows must not fail another's
                self._run_together([task])

    def _run_batch(self, tasks: list[_Task]) -> dict[str, Array]:
        first = tasks[0]
        rows = sum(task.rows for task in tasks)
        padding = _padding(rows, self._batching.allowed_sizes)
        inputs = first.inputs
        if len(tasks) > 1 or padding:
            inputs = {
                name: np.concatenate([*(task.inputs[name] for task in tasks), *([first.inputs[name][:1]] * padding)])
                for name in first.inputs
            }
        results = self._engine.run(first.signature, inputs, first.outputs)
        for name, array in results.items():
            if array.ndim == 0 or len(array) != rows + padding:
                raise Refused(Status.FAILED_PRECONDITION, f"the output {name!r} has no batch dimension: can't batch")
        return results


def _share(tasks: list[_Task], results: dict[str, Array]) -> None:
    """Give each task its own rows, as copies when others share the memory."""
    start = 0
    for task in tasks:
        end = start + task.rows
        task.result = {
            name: array[start:end].copy() if len(array) != task.rows else array for name, array in results.items()
        }
        start = end
        task.done.set()


def _key(task: _Task) -> _Key:
    shapes = tuple(sorted((name, array.dtype.str, array.shape[1:]) for name, array in task.inputs.items()))
    return (task.signature, task.outputs, shapes)


def _rows(inputs: Mapping[str, Array]) -> int:
    sizes = {array.shape[0] for array in inputs.values()}
    if len(sizes) != 1:
        raise InvalidRequest("the inputs of a batched request must have the same number of rows")
    return int(sizes.pop())


def _padding(rows: int, allowed: tuple[int, ...]) -> int:
    return next((size - rows for size in allowed if size >= rows), 0)
