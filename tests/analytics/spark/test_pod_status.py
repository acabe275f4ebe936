"""What an API server says about a pod, whatever it says."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.analytics.spark.executors import ExecutorWatch
from strongroom.analytics.spark.pod_status import _exit_status, pod_exit_status

ENDED = {"status": {"containerStatuses": [{"state": {"terminated": {"exitCode": 107}}}]}}


@contextmanager
def answering(body: bytes, status: int = 200) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *values: object) -> None:  # the library's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"k8s://http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_asks_for_the_pod() -> None:
    with answering(json.dumps(ENDED).encode()) as (master, asked):
        assert pod_exit_status(master, "strongroom", "monthly-exec-1") == 107
    assert asked == ["/api/v1/namespaces/strongroom/pods/monthly-exec-1"]


@pytest.mark.parametrize("pod", ["../../secrets/x", "a/b", "", "A", "x" * 300])
def test_asks_for_nothing_else(pod: str) -> None:
    with answering(json.dumps(ENDED).encode()) as (master, asked):
        assert pod_exit_status(master, "strongroom", pod) is None
    assert asked == []


@pytest.mark.parametrize(("body", "status"), [(b"", 200), (b"[" * 100_000, 200), (b"{}", 403), (b"\xff", 200)])
def test_an_answer_that_says_nothing(body: bytes, status: int) -> None:
    with answering(body, status) as (master, _):
        assert pod_exit_status(master, "strongroom", "p") is None


def test_no_service_account_no_question(tmp_path: Path) -> None:
    assert pod_exit_status("k8s://https://127.0.0.1:1", "strongroom", "p", account=tmp_path) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["status", "containerStatuses", "state", "terminated", "exitCode"]), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_any_answer_is_a_status_or_nothing(answer: object) -> None:
    assert _exit_status(answer) is None or isinstance(_exit_status(answer), int)


def test_each_refused_pod_is_told_once(tmp_path: Path) -> None:
    log, told = tmp_path / "log", list[str]()
    line = "Snapshot reported failed executor with id 3, pod name monthly-exec-3\n"
    log.write_text(line * 2 + "Snapshot reported failed executor with id 4, pod name monthly-exec-4\n")
    statuses = {"monthly-exec-3": 4, "monthly-exec-4": 137}
    watch = ExecutorWatch(log, told.append, lambda: False, lambda: None, statuses.get)
    watch.look()
    assert told == ["executor 3 on pod monthly-exec-3 did not take part: the broker refused it"]
