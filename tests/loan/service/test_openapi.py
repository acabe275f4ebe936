"""The OpenAPI document is complete, and the service does what it says, also to what it does not say."""

from typing import Any

import pytest
import schemathesis
import structlog
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

from strongroom.loan.service import app, jobs, shield

EXPECTED = {
    ("/ping", "get"),
    ("/healthz", "get"),
    ("/readyz", "get"),
    ("/metrics", "get"),
    ("/data_processing", "post"),
    ("/train", "post"),
    ("/predict", "post"),
    ("/jobs/{job_id}", "get"),
    ("/jobs/{job_id}", "delete"),
}


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of log lines say nothing here."""
    for module in (app, jobs, shield):
        monkeypatch.setattr(module, "log", structlog.wrap_logger(None, processors=[drop]))


def drop(*_: Any) -> Any:
    raise structlog.DropEvent


WITHOUT_INPUT = {"/ping", "/healthz", "/readyz", "/metrics"}
CASES = [(mode, *call) for call in sorted(EXPECTED) for mode in GenerationMode]


@pytest.mark.parametrize(
    ("mode", "path", "method"),
    [case for case in CASES if case[0] is GenerationMode.POSITIVE or case[1] not in WITHOUT_INPUT],
)
def test_the_service_does_what_its_document_says(
    client: Any, silent: None, mode: GenerationMode, path: str, method: str
) -> None:
    """Requests that follow the document, and requests that break it, made up by schemathesis."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
    statuses: list[int] = []

    @settings(max_examples=60, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=schema[path][method.upper()].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        # What is made up for `file` is hardly ever a loan book: 422 is right then.
        statuses.append(case.call_and_validate(excluded_checks=[positive_data_acceptance]).status_code)

    check()
    assert statuses
    assert client.storage.files == {}


def test_the_document_names_every_call_with_its_fields_and_problems(client: Any) -> None:
    document = client.http.get("/openapi.json").json()
    calls = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert calls == EXPECTED
    for path in ("/data_processing", "/train", "/predict"):
        call = document["paths"][path]["post"]
        body = call["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert body["additionalProperties"] is False
        assert set(body["required"]) <= set(body["properties"])
        assert body["properties"]["az_file_path"]["enum"] == ["/loan_app/azure-fileshare"]
        problems = {int(status) for status in call["responses"]} - {200, 202}
        assert {400, 404, 408, 413, 415, 422, 500, 503, 507} <= problems
        for status in problems:
            assert list(call["responses"][str(status)]["content"]) == ["application/problem+json"]
    predict = document["paths"]["/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert set(predict["required"]) == {"file", *client.fields}
    assert (
        document["paths"]["/data_processing"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"][
            "properties"
        ]["size"]["default"]
        == 4_000_000
    )
    assert {"Problem", "JobDocument", "Predicted", "Trained"} <= set(document["components"]["schemas"])
