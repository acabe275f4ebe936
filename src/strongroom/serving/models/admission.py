"""At most so many at once, at most so many waiting: everybody else is told at once."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from strongroom.serving.models.limits import ModelLimits
from strongroom.serving.status import Overloaded, Refused, Status


class Gate:
    """A bounded queue in front of a model.

    Args:
        limits: How many run and wait.
    """

    def __init__(self, limits: ModelLimits) -> None:
        self._limits = limits
        self._condition = threading.Condition()
        self._running = 0
        self._waiting = 0

    @property
    def idle(self) -> bool:
        """Whether a request would run at once."""
        return self._running < self._limits.concurrency and not self._waiting

    @contextmanager
    def admitted(self, deadline: float | None) -> Iterator[None]:
        """Run when it is our turn.

        Args:
            deadline: `time.monotonic()` after which the caller is no longer interested; None for the model's own
                waiting time.

        Raises:
            Refused: RESOURCE_EXHAUSTED when too many wait, DEADLINE_EXCEEDED when the turn did not come in time.
        """
        self._enter(time.monotonic() + self._limits.timeout_s if deadline is None else deadline)
        try:
            yield
        finally:
            with self._condition:
                self._running -= 1
                self._condition.notify()

    def _enter(self, deadline: float) -> None:
        with self._condition:
            if self._running >= self._limits.concurrency or self._waiting:
                if self._waiting >= self._limits.queue:
                    raise Overloaded("too many requests wait for this model")
                self._wait(deadline)
            self._running += 1

    def _wait(self, deadline: float) -> None:
        self._waiting += 1
        try:
            while self._running >= self._limits.concurrency:
                left = deadline - time.monotonic()
                if left <= 0 or not self._condition.wait(left):
                    raise Refused(Status.DEADLINE_EXCEEDED, "the deadline passed while the request waited its turn")
        finally:
            self._waiting -= 1
