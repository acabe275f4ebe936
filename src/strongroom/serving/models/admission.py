"""At most so many at once, at most so many waiting: everybody else is told at once."""

import threading
import time

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

    def enter(self, deadline: float | None) -> None:
        """Wait until it is our turn; then `leave` must follow.

        Args:
            deadline: `time.monotonic()` after which the caller is no longer interested; None for the model's own
                waiting time.

        Raises:
            Overloaded: Too many wait.
            Refused: DEADLINE_EXCEEDED when the turn did not come in time.
        """
        with self._condition:
            if self._running >= self._limits.concurrency or self._waiting:
                if self._waiting >= self._limits.queue:
                    raise Overloaded("too many requests wait for this model")
                self._wait(time.monotonic() + self._limits.timeout_s if deadline is None else deadline)
            self._running += 1

    def leave(self) -> None:
        """Let the next one run."""
        with self._condition:
            self._running -= 1
            if self._waiting:
                self._condition.notify()

    def _wait(self, deadline: float) -> None:
        self._waiting += 1
        try:
            while self._running >= self._limits.concurrency:
                left = deadline - time.monotonic()
                if left <= 0 or not self._condition.wait(left):
                    raise Refused(Status.DEADLINE_EXCEEDED, "the deadline passed while the request waited its turn")
        finally:
            self._waiting -= 1
