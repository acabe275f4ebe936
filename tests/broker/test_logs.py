"""The service log: lines of JSON, no exception texts, and no harm when it can't be written."""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from strongroom.broker import kbs
from strongroom.broker.logs import send_server_messages_to_the_log

if TYPE_CHECKING:
    from tests.broker.conftest import Broker

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """What was logged since the last call; nothing of it may hold the word CANARY."""
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    send_server_messages_to_the_log()

    def read() -> list[dict[str, Any]]:
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "CANARY" not in captured.err
        return [json.loads(line) for line in captured.err.splitlines()]

    yield read
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)


def test_one_json_line_a_request_without_query_or_token(lines: Lines, broker: "Broker") -> None:
    broker.http.get("/kbs/v0/resource/loan/key/book?CANARY=1", headers={"Authorization": "Bearer CANARY"})
    (request,) = [line for line in lines() if line["event"] == "http.request"]
    assert (request["path"], request["status"], request["method"]) == ("/kbs/v0/resource/loan/key/book", 401, "GET")


def test_refused_path_is_not_written_to_the_log(lines: Lines, broker: "Broker") -> None:
    broker.http.get("/CANARY%0a")
    (request,) = [line for line in lines() if line["event"] == "http.request"]
    assert (request["path"], request["status"]) == ("(refused)", 404)


def test_servers_own_messages_are_json_too_and_carry_no_exception(lines: Lines) -> None:
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # as another server of this process may have done
    send_server_messages_to_the_log()
    try:
        raise ValueError("CANARY")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("failed")
    (line,) = lines()
    assert (line["event"], line["level"]) == ("failed", "error")


def test_a_bug_tells_a_stranger_nothing(lines: Lines, broker: "Broker", monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CANARY")

    monkeypatch.setattr(kbs, "_parse_request", fail)
    answer = broker.http.post("/kbs/v0/auth", json={})
    assert answer.status_code == 500
    assert answer.json()["detail"] == "internal error"
    assert "CANARY" not in answer.text
    (bug,) = [line for line in lines() if line["event"] == "broker.bug"]
    assert (bug["error"], bug["where"].split(":")[0]) == ("RuntimeError", "fail")


def test_requests_are_served_when_the_log_is_gone(broker: "Broker", monkeypatch: pytest.MonkeyPatch) -> None:
    gone = io.StringIO()
    gone.close()
    monkeypatch.setattr(sys, "stderr", gone)
    assert broker.http.get("/healthz").status_code == 200
    assert broker.http.get("/kbs/v0/resource/a/b/c").status_code == 401
