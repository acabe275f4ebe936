"""The reference's calls, answered as the reference answers them."""

import asyncio
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from strongroom.loan.catalog import load_model, read_catalog
from strongroom.loan.evaluation import REPORT_ROWS
from strongroom.loan.explanation import explain
from strongroom.loan.table import read_csv


def test_ping_answers_as_the_reference(client: Any) -> None:
    answer = client.http.get("/ping")
    assert (answer.status_code, answer.json()) == (200, {"Message": "Server is Running"})


def test_the_readmes_session_from_data_to_prediction(client: Any, book_csv: bytes, sample_csv: bytes) -> None:
    answer = client.process(book_csv, "credit_risk_dataset.csv", size=4_000)
    assert answer.json() == {"Message": "credit_risk_dataset.csv successfully processed and saved"}
    answer = client.train(size=4_000, continue_training="False")
    scores = answer.json()["Validation Scores"]
    assert answer.json() == {"Message": "XGBoost model succesfully trained and saved", "Validation Scores": scores}
    assert list(scores) == ["precision", "recall", "f1-score", "support"]
    assert all(list(column) == list(REPORT_ROWS) for column in scores.values())
    assert len({column["accuracy"] for column in scores.values()}) == 1
    assert client.process(book_csv, size=5_000).status_code == 200
    assert client.train(size=5_000, continue_training="True").status_code == 200
    answer = client.predict(sample_csv)
    output = answer.json()["Prediction Output"]
    assert answer.json() == {"Message": "Model Inference Complete", "Prediction Output": output}
    assert list(output) == ["Probability", "Prediction"]
    assert list(output["Probability"]) == list(output["Prediction"]) == [str(row) for row in range(10)]
    assert [output["Prediction"][row] for row in output["Prediction"]] == [
        str(probability > 0.5) for probability in output["Probability"].values()
    ]


def test_files_lie_where_the_reference_has_them(trained: Any, sample_csv: bytes) -> None:
    trained.predict(sample_csv)
    trained.service.files.close()
    files = trained.storage.files
    assert files["models/XGBoost_results.csv"].startswith(b",precision,recall,f1-score,support\nNon-Default,")
    lines = files["samples/sample_predictions.csv"].decode().splitlines()
    assert lines[0] == ",Probability,Prediction"
    assert re.fullmatch(r"9,[0-9.e-]+,(True|False)", lines[10])
    assert any(re.fullmatch(r"data/3000/[0-9a-f]{16}/train\.parquet", name) for name in files)


@pytest.mark.parametrize("size", [None, ""])
def test_size_without_a_value_means_four_million(client: Any, size: str | None) -> None:
    refused = client.train(size=size)
    assert refused.json()["code"] == "loan.unknown_batch"
    assert "size=4000000" in refused.json()["hint"]


def test_predictions_are_the_models(trained: Any, book_csv: bytes) -> None:
    import io

    import numpy as np

    from strongroom.loan.catalog import load_model
    from strongroom.loan.prediction import predict_book
    from strongroom.loan.table import read_csv

    output = trained.predict(book_csv).json()["Prediction Output"]["Probability"]
    expected = predict_book(load_model(trained.storage, "XGBoost"), read_csv(io.BytesIO(book_csv)))
    assert np.abs(np.array(list(output.values())) - expected).max() < 1e-5


def test_reasons_and_threshold_are_given_when_asked_for(trained: Any, sample_csv: bytes) -> None:
    plain = trained.predict(sample_csv).json()["Prediction Output"]
    answer = trained.predict(sample_csv, reasons="True", threshold="0.01")
    output = answer.json()["Prediction Output"]
    assert "Reasons" not in plain
    assert output["Probability"] == plain["Probability"]
    assert output["Prediction"] == {row: str(p > 0.01) for row, p in plain["Probability"].items()}
    assert list(output["Reasons"]) == [str(row) for row in range(10)]
    bundle = load_model(trained.storage, "XGBoost")
    expected = list(explain(bundle, read_csv(io.BytesIO(sample_csv), labelled=False)))
    for row, reasons in enumerate(expected):
        found = output["Reasons"][str(row)]
        assert [(r["column"], r["statement"]) for r in found] == [(r.column, r.statement) for r in reasons]
        assert [r["contribution"] for r in found] == pytest.approx([r.contribution for r in reasons], abs=1e-6)
    lines = trained.storage.files[answer.headers["strongroom-result"]].decode().splitlines()
    assert lines[0] == ",Probability,Prediction,Reason1,Reason2,Reason3,Reason4"
    assert len(lines) == 11
    assert trained.predict(sample_csv, threshold="", reasons="false").json()["Prediction Output"] == plain


def test_reasons_for_very_many_rows_are_refused(trained: Any, book_csv: bytes) -> None:
    refused = trained.predict(book_csv, reasons="yes")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "reasons")


def test_continuing_adds_trees_and_keeps_the_earlier_version(trained: Any, book_csv: bytes) -> None:
    assert trained.train(continue_training="true").status_code == 200
    assert [version.note for version in read_catalog(trained.storage, "XGBoost").versions] == [
        "trained",
        "continued (all rows)",
    ]
    continued = json.loads(trained.storage.files["models/XGBoost_continued.json"])
    assert set(continued) >= {"before", "after", "drift"}


def test_a_model_lives_in_the_directory_that_the_caller_names(trained: Any, sample_csv: bytes) -> None:
    assert trained.train(model_directory="elsewhere", model_name="second").status_code == 200
    assert "elsewhere/second/catalog.json" in trained.storage.files
    assert trained.predict(sample_csv, model_directory="elsewhere", model_name="second").status_code == 200
    assert trained.predict(sample_csv, model_name="second").json()["code"] == "loan.unknown_model"


def test_the_same_upload_makes_the_same_batch_and_another_one_keeps_it(client: Any, book_csv: bytes) -> None:
    client.process(book_csv)
    first = {name: raw for name, raw in client.storage.files.items() if "latest" not in name}
    client.process(book_csv, "renamed.csv")
    assert {name: raw for name, raw in client.storage.files.items() if "latest" not in name} == first
    other = b"".join(book_csv.splitlines(keepends=True)[:2_001])
    client.process(other)
    assert all(client.storage.files[name] == raw for name, raw in first.items())
    assert len(client.storage.files) == 2 * len(first) + 1


def test_a_form_may_be_urlencoded_where_it_has_no_file(trained: Any) -> None:
    fields = {name: trained.fields[name] for name in ("az_file_path", "data_directory", "model_directory")}
    answer = trained.http.post("/train", data={**fields, "model_name": "encoded", "size": "3000"})
    assert answer.json()["Message"] == "encoded model succesfully trained and saved"


def test_the_root_may_end_in_a_slash(trained: Any, sample_csv: bytes) -> None:
    assert trained.predict(sample_csv, az_file_path="/loan_app/azure-fileshare/").status_code == 200


@pytest.mark.testdata
def test_the_real_samples_are_predicted(trained: Any, testdata: Path) -> None:
    answer = trained.predict((testdata / "credit_risk" / "sample_1000.csv").read_bytes())
    assert len(answer.json()["Prediction Output"]["Probability"]) == 1_000


def test_a_long_upload_passes_through_the_sealed_spool_unchanged(
    open_client: Any, storage: Any, trained_files: dict[str, bytes], book_csv: bytes
) -> None:
    storage.files.update(trained_files)
    short, long = open_client(), open_client(memory_upload_bytes=1_000)
    assert long.predict(book_csv).json() == short.predict(book_csv).json()
    assert long.process(book_csv).status_code == 200
    assert {name for name in storage.files if not name.startswith("samples/")} == set(trained_files)


def test_two_data_steps_into_one_directory_never_mix(client: Any, book_csv: bytes) -> None:
    header, *lines = book_csv.splitlines(keepends=True)
    books = [header + b"".join(lines[start : start + 1_500]) for start in (0, 1_500)]
    fields = {name: (None, client.fields[name]) for name in ("az_file_path", "data_directory")}

    async def both() -> list[httpx.Response]:
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(base_url="https://localhost", transport=transport) as http:
            forms = [{**fields, "size": (None, "2000"), "file": ("loans.csv", book)} for book in books]
            calls = [http.post("/data_processing", files=form, timeout=60) for form in forms]
            return await asyncio.gather(*calls)

    assert [answer.status_code for answer in asyncio.run(both())] == [200, 200]
    manifests = [name for name in client.storage.files if name.endswith("manifest.json")]
    digests = {json.loads(client.storage.files[name])["source_digest"] for name in manifests}
    assert digests == {hashlib.sha256(book).hexdigest() for book in books}
    latest = json.loads(client.storage.files["data/2000/latest.json"])["batch"]
    assert f"data/2000/{latest}/manifest.json" in manifests
    assert client.train(size=2_000).status_code == 200
