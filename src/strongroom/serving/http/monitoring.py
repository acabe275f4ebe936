"""Metrics, liveness and readiness."""

from collections.abc import Callable

from strongroom.serving.http.exchange import Request, Response, json_response
from strongroom.serving.metrics import Metrics

PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Monitoring:
    """``/healthz``, ``/readyz`` and the metrics page.

    Args:
        metrics: What is rendered.
        ready: Whether requests should be sent here.
        metrics_path: Path of the metrics page; empty for none.
    """

    def __init__(self, metrics: Metrics, ready: Callable[[], bool], metrics_path: str) -> None:
        self._metrics = metrics
        self._ready = ready
        self._path = metrics_path

    def handle(self, request: Request) -> Response | None:
        """Answer the three paths."""
        if request.path == "/healthz":
            return json_response({"live": True})
        if request.path == "/readyz":
            ready = self._ready()
            return json_response({"ready": ready}, 200 if ready else 503)
        if self._path and request.path == self._path:
            return Response(self._metrics.render(), content_type=PROMETHEUS_TYPE)
        return None
