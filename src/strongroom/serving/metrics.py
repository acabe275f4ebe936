"""Metrics in Prometheus' text format, under TensorFlow Serving's names.

Names, labels and buckets: tensorflow_serving/servables/tensorflow/util.cc and util/prometheus_exporter.cc. Names of
our own start with ``:strongroom:serving:``.
"""

import bisect
import itertools
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

MICROSECONDS: Final = 1e6
MAX_SERIES: Final = 1000
_TOGETHER: Final = 200
_RUN: Final = "engine"
_LATENCY_LIMITS: Final = tuple(10 * 1.8**power for power in range(33))
_COUNT_LIMITS: Final = tuple(float(2**power) for power in range(15))
_Labels = tuple[str, ...]


class Counter:
    """A number for each combination of labels, that only grows."""

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        self._name = name
        self._labels = tuple(labels)
        self._lock = threading.Lock()
        self._cells: dict[_Labels, float] = {}

    def add(self, labels: _Labels, amount: float = 1) -> None:
        """Count; label values beyond `MAX_SERIES` combinations are dropped, so that callers can't fill the memory."""
        with self._lock:
            if labels in self._cells or len(self._cells) < MAX_SERIES:
                self._cells[labels] = self._cells.get(labels, 0) + amount

    def lines(self) -> list[str]:
        """The text lines."""
        with self._lock:
            cells = dict(self._cells)
        lines = [f"# TYPE {self._name} counter"]
        return lines + [
            f"{self._name}{{{_label_text(self._labels, values)}}} {amount:.0f}" for values, amount in cells.items()
        ]


class Histogram:
    """A distribution for each combination of labels."""

    def __init__(self, name: str, labels: Sequence[str], limits: Sequence[float]) -> None:
        self._name = name
        self._labels = tuple(labels)
        self._limits = tuple(limits)
        self._lock = threading.Lock()
        self._cells: dict[_Labels, list[float]] = {}

    def add(self, labels: _Labels, value: float) -> None:
        """Count one value. The last element of a cell is the sum."""
        bucket = bisect.bisect_right(self._limits, value)
        with self._lock:
            cell = self._cells.get(labels)
            if cell is None:
                if len(self._cells) >= MAX_SERIES:
                    return
                cell = self._cells[labels] = [0.0] * (len(self._limits) + 2)
            cell[bucket] += 1
            cell[-1] += value

    def lines(self) -> list[str]:
        """The text lines."""
        with self._lock:
            cells = {labels: list(cell) for labels, cell in self._cells.items()}
        lines = [f"# TYPE {self._name} histogram"]
        for values, cell in cells.items():
            text = _label_text(self._labels, values)
            counts = list(itertools.accumulate(cell[:-1]))
            limits = [f"{limit:g}" for limit in self._limits] + ["+Inf"]
            lines.extend(
                f'{self._name}_bucket{{{text},le="{limit}"}} {count:.0f}'
                for limit, count in zip(limits, counts, strict=True)
            )
            lines.append(f"{self._name}_sum{{{text}}} {cell[-1]:.17g}")
            lines.append(f"{self._name}_count{{{text}}} {counts[-1]:.0f}")
        return lines


class Metrics:
    """All metrics of one server."""

    def __init__(self) -> None:
        prefix = ":tensorflow:serving:"
        self._requests = Counter(f"{prefix}request_count", ("model_name", "status"))
        self._examples = Histogram(f"{prefix}request_example_counts", ("model",), _COUNT_LIMITS)
        self._examples_total = Counter(f"{prefix}request_example_count_total", ("model",))
        self._latency = Histogram(f"{prefix}request_latency", ("model_name", "API", "entrypoint"), _LATENCY_LIMITS)
        self._runtime = Histogram(f"{prefix}runtime_latency", ("model_name", "API", "runtime"), _LATENCY_LIMITS)
        self._gauges: list[tuple[str, Callable[[], float]]] = []
        self._pending: deque[tuple[str, str, str, str, float]] = deque()

    def request(self, model: str, api: str, entrypoint: str, status: str, seconds: float) -> None:
        """One answered request. The latency of refused ones is not counted, as in TensorFlow Serving.

        Counted a while later, many at a time: that takes a fraction of the time.
        """
        self._pending.append((model, api, entrypoint, status, seconds))
        if len(self._pending) >= _TOGETHER:
            self._count()

    def _count(self) -> None:
        while True:
            try:
                model, api, entrypoint, status, seconds = self._pending.popleft()
            except IndexError:
                return
            if status == _RUN:
                self._runtime.add((model, api, entrypoint), seconds * MICROSECONDS)
                continue
            self._requests.add((model, status))
            if status == "OK":
                self._latency.add((model, api, entrypoint), seconds * MICROSECONDS)

    def examples(self, model: str, count: int) -> None:
        """Examples of one Classify or Regress request."""
        self._examples.add((model,), count)
        self._examples_total.add((model,), count)

    def runtime(self, model: str, api: str, runtime: str, seconds: float) -> None:
        """Time the engine took, its queue included."""
        self._pending.append((model, api, runtime, _RUN, seconds))

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Add a value of our own that is read when metrics are fetched."""
        self._gauges.append((f":strongroom:serving:{name}", read))

    def render(self) -> bytes:
        """Everything, as Prometheus reads it."""
        self._count()
        metrics = (self._requests, self._examples, self._examples_total, self._latency, self._runtime)
        lines = [line for metric in metrics for line in metric.lines()]
        for name, read in self._gauges:
            lines += [f"# TYPE {name} gauge", f"{name} {read():g}"]
        return ("\n".join(lines) + "\n").encode()


def _label_text(names: _Labels, values: _Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
