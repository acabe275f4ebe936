"""Metrics, health and the log: enough to run the service, nothing of the data."""

import io
import json
import re
from typing import Any

import pytest
import structlog

from strongroom.loan.service import app, jobs, models, shield

LINE = re.compile(
    r"# (HELP|TYPE) strongroom_loan_[a-z_]+ .+"
    r'|strongroom_loan_[a-z_]+(\{[a-z]+="[^"\\]*"(,[a-z]+="[^"\\]*")*\})? -?[0-9.]+'
)


def test_metrics_are_prometheus_text_and_count_what_happened(trained: Any, sample_csv: bytes) -> None:
    for _ in range(3):
        trained.predict(sample_csv)
    trained.predict(b"")
    trained.http.get("/no/such/path")
    answer = trained.http.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.text.splitlines()
    assert all(LINE.fullmatch(line) for line in lines), [line for line in lines if not LINE.fullmatch(line)]
    assert 'strongroom_loan_requests_total{route="/predict",method="POST",status="200"} 3' in lines
    assert 'strongroom_loan_requests_total{route="/predict",method="POST",status="422"} 1' in lines
    assert 'strongroom_loan_requests_total{route="other",method="GET",status="404"} 1' in lines
    assert "strongroom_loan_predicted_rows_total 30" in lines
    assert "strongroom_loan_models_loaded 1" in lines
    assert 'strongroom_loan_request_seconds_count{route="/predict"} 4' in lines
    buckets = [
        int(line.split()[-1])
        for line in lines
        if line.startswith('strongroom_loan_request_seconds_bucket{route="/predict"')
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 4


def test_strange_paths_and_methods_make_no_new_series(client: Any) -> None:
    for number in range(50):
        client.http.get(f"/path{number}")
        client.http.get(f"/jobs/{number:032x}")
        client.http.request(f"METHOD{number}", "/ping")
    series = [
        line
        for line in client.http.get("/metrics").text.splitlines()
        if line.startswith("strongroom_loan_requests_total")
    ]
    assert len(series) == 3


def test_ready_until_it_drains(client: Any) -> None:
    assert client.http.get("/readyz").json() == {"status": "ready", "simulated": False}
    client.service.drain()
    answer = client.http.get("/readyz")
    assert (answer.status_code, answer.json()["code"]) == (503, "service.draining")
    assert client.http.get("/healthz").status_code == 200
    assert "strongroom_loan_draining 1" in client.http.get("/metrics").text


def test_answers_are_not_cached_and_not_sniffed(client: Any) -> None:
    for answer in (client.http.get("/ping"), client.http.get("/nothing"), client.train()):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_log_has_names_codes_and_numbers_and_no_data(
    trained: Any, monkeypatch: pytest.MonkeyPatch, sample_csv: bytes
) -> None:
    sink = io.StringIO()
    logger = structlog.wrap_logger(
        structlog.PrintLogger(sink),
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
    )
    for module in (app, jobs, models, shield):
        monkeypatch.setattr(module, "log", logger)
    trained.predict(sample_csv, "S3CRET-name.csv")
    trained.predict(sample_csv.replace(b"RENT", b"S3CRET").replace(b"OWN", b"S3CRET").replace(b"MORTGAGE", b"S3CRET"))
    trained.process(b"S3CRET", "S3CRET.csv", size="S3CRET")
    trained.process(b"S3CRET", "S3CRET.csv")
    trained.predict(sample_csv, model_name="S3CRET/..", az_file_path="S3CRET")
    trained.http.get("/S3CRET?S3CRET=S3CRET", headers={"Authorization": "Bearer S3CRET"})
    text = sink.getvalue()
    assert "S3CRET" not in text
    events = [json.loads(line) for line in text.splitlines()]
    assert {event["event"] for event in events} >= {"http.request", "request.refused", "job.failed", "model.loaded"}
    assert {event.get("code") for event in events} >= {"loan.rows", "loan.size", "loan.unknown_root"}
    request = next(event for event in events if event["event"] == "http.request")
    assert set(request) == {"event", "level", "client", "method", "route", "status", "duration_ms"}


def test_a_bug_is_answered_and_logged_without_its_text(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("S3CRET")

    sink = io.StringIO()
    monkeypatch.setattr(shield, "log", structlog.wrap_logger(structlog.PrintLogger(sink)))
    monkeypatch.setattr(trained.service.predictor, "predict", fails)
    answer = trained.predict(b"x")
    assert (answer.status_code, answer.json()["code"]) == (500, "bug")
    assert "S3CRET" not in answer.text + sink.getvalue()
    assert "RuntimeError" in sink.getvalue()
