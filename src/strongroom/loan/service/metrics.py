"""Counts and durations in Prometheus' text format (version 0.0.4). Labels are names of ours, never a caller's."""

import threading
from bisect import bisect_left
from collections.abc import Mapping
from itertools import accumulate
from typing import Final

MEDIA_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PREFIX: Final = "strongroom_loan_"
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0)


class Metrics:
    """What happened since the start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str, int], int] = {}
        self._seconds: dict[str, list[float]] = {}
        self._sums: dict[str, float] = {}
        self._rows = 0

    def count_request(self, route: str, method: str, status: int, duration_s: float) -> None:
        """Count one answered request.

        Args:
            route: One of the service's routes, or ``other``.
            method: HTTP method, known to the service, or ``OTHER``.
            status: HTTP status.
            duration_s: From its first byte to the answer's last.
        """
        bucket = bisect_left(SECONDS, duration_s)
        with self._lock:
            key = (route, method, status)
            self._requests[key] = self._requests.get(key, 0) + 1
            cell = self._seconds.setdefault(route, [0] * (len(SECONDS) + 1))
            cell[bucket] += 1
            self._sums[route] = self._sums.get(route, 0.0) + duration_s

    def count_rows(self, rows: int) -> None:
        """Count predicted rows."""
        with self._lock:
            self._rows += rows

    def text(self, jobs: Mapping[str, int], gauges: Mapping[str, int]) -> str:
        """The exposition.

        Args:
            jobs: Number of jobs by state.
            gauges: Further numbers as they stand, by name.
        """
        with self._lock:
            requests = sorted(self._requests.items())
            seconds = {route: (list(cell), self._sums[route]) for route, cell in sorted(self._seconds.items())}
            rows = self._rows
        lines = _head("requests_total", "counter", "Answered requests.")
        lines += [
            f'{PREFIX}requests_total{{route="{route}",method="{method}",status="{status}"}} {count}'
            for (route, method, status), count in requests
        ]
        lines += _head("request_seconds", "histogram", "Duration of requests.")
        for route, (cell, total) in seconds.items():
            lines += _histogram(route, cell, total)
        lines += [*_head("predicted_rows_total", "counter", "Rows predicted."), f"{PREFIX}predicted_rows_total {rows}"]
        lines += _head("jobs", "gauge", "Jobs by state.")
        lines += [f'{PREFIX}jobs{{state="{state}"}} {count}' for state, count in jobs.items()]
        for name, value in gauges.items():
            lines += [*_head(name, "gauge", name.replace("_", " ").capitalize() + "."), f"{PREFIX}{name} {value}"]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {PREFIX}{name} {text}", f"# TYPE {PREFIX}{name} {kind}"]


def _histogram(route: str, cell: list[float], total: float) -> list[str]:
    name = f"{PREFIX}request_seconds"
    limits = [*(f"{limit:g}" for limit in SECONDS), "+Inf"]
    counts = list(accumulate(cell))
    lines = [
        f'{name}_bucket{{route="{route}",le="{limit}"}} {count:.0f}'
        for limit, count in zip(limits, counts, strict=True)
    ]
    return [*lines, f'{name}_sum{{route="{route}"}} {total:.6f}', f'{name}_count{{route="{route}"}} {counts[-1]:.0f}']
