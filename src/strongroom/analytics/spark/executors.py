"""Says which executors of a cluster were refused, and why, while the job waits for them."""

import re
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from strongroom.analytics.spark.refusals import explain
from strongroom.outcome import one_line

INTERVAL_S: Final = 0.5
MAX_REFUSED: Final = 4
_ADDED: Final = re.compile(r"Executor added: (\S{1,200}) on (\S{1,200}) \((\S{1,200})\)")
_ENDED: Final = re.compile(r"Executor updated: (\S{1,200}) is now \w+ \(.*exited with code (\d{1,3})\)?")
_FAILED_POD: Final = re.compile(r"Snapshot reported failed executor with id (\d{1,9}), pod name (\S{1,253})")


class ExecutorWatch:
    """Follows the driver's messages about its executors. Use it as a context manager.

    Args:
        log: File that the driver writes them to (`strongroom.analytics.spark.jvm.write_logging`).
        tell: Gets one line for each refused executor.
        alone: Whether no executor takes part.
        give_up: Ends the job; called once when several executors were refused and none takes part.
        pod_status: Exit status of a pod on Kubernetes, by its name.
    """

    def __init__(
        self,
        log: Path,
        tell: Callable[[str], None],
        alone: Callable[[], bool],
        give_up: Callable[[], None],
        pod_status: Callable[[str], int | None] = lambda _: None,
    ) -> None:
        self.refused: list[str] = []
        self._log, self._tell, self._alone, self._give_up = log, tell, alone, give_up
        self._pod_status = pod_status
        self._gave_up = False
        self._places: dict[str, str] = {}
        self._read = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="strongroom-executors", daemon=True)

    def _follow(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self.look()

    def look(self) -> None:
        """Take in what was written since."""
        with self._lock:
            for line in self._new_lines():
                self._take(line)
            if len(self.refused) >= MAX_REFUSED and not self._gave_up and self._alone():
                self._gave_up = True
                self._give_up()

    def _new_lines(self) -> list[str]:
        try:
            with self._log.open("rb") as file:
                file.seek(self._read)
                whole, _, _ = file.read().rpartition(b"\n")
        except OSError:
            return []
        self._read += len(whole) + 1 if whole else 0
        return whole.decode("utf-8", "replace").splitlines()

    def _take(self, line: str) -> None:
        if found := _ADDED.search(line):
            self._places[found[1]] = f"{found[2]} ({found[3]})"
        elif found := _ENDED.search(line):
            self._ended_with(found[1], self._places.get(found[1], "an unknown worker"), int(found[2]))
        elif (found := _FAILED_POD.search(line)) and found[2] not in self._places:
            self._places[found[2]] = f"pod {found[2]}"
            self._ended_with(found[1], self._places[found[2]], self._pod_status(found[2]) or 0)

    def refuse(self, line: str) -> None:
        """Tell of an executor that the driver itself refused, and count it.

        Args:
            line: Which, and why.
        """
        self.refused.append(line)
        self._tell(line)

    def _ended_with(self, executor: str, place: str, status: int) -> None:
        if reason := explain(status):
            self.refuse(one_line(f"executor {executor} on {place} did not take part: {reason}"))

    def start(self) -> Self:
        """Follow, in a thread."""
        self._thread.start()
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.look()
        self.stop()

    def stop(self) -> None:
        """Stop following."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
