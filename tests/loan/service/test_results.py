"""Predictions are kept a file a call; no caller's file is another's."""

import asyncio
import csv
import io
from typing import Any

import httpx
import pytest

from strongroom.loan.service.results import NEWEST


def rows(raw: bytes) -> list[tuple[str, str]]:
    return [(row["Probability"], row["Prediction"]) for row in csv.DictReader(io.StringIO(raw.decode()))]


def test_each_call_leaves_a_file_of_its_own(trained: Any, sample_csv: bytes) -> None:
    paths = {trained.predict(sample_csv).headers["strongroom-result"] for _ in range(5)}
    assert len(paths) == 5
    assert paths <= set(trained.storage.files)


def test_concurrent_callers_never_get_each_others_results(trained: Any, book_csv: bytes) -> None:
    header, *lines = book_csv.splitlines(keepends=True)
    samples = [header + b"".join(lines[start : start + 7 + start % 5]) for start in range(0, 600, 20)]
    expected = [trained.predict(sample).json() for sample in samples]
    fields = {name: (None, value) for name, value in trained.fields.items()}

    async def all_at_once() -> list[httpx.Response]:
        transport = httpx.ASGITransport(trained.app)
        async with httpx.AsyncClient(base_url="https://localhost", transport=transport) as http:
            calls = [http.post("/predict", files={**fields, "file": ("s.csv", sample)}) for sample in samples]
            return await asyncio.gather(*calls)

    answers = asyncio.run(all_at_once())
    assert [answer.json() for answer in answers] == expected
    stored = [rows(trained.storage.files[answer.headers["strongroom-result"]]) for answer in answers]
    for answer, own in zip(answers, stored, strict=True):
        assert [label for _, label in own] == list(answer.json()["Prediction Output"]["Prediction"].values())
    trained.service.files.close()
    assert rows(trained.storage.files[f"samples/{NEWEST}"]) in stored


def test_the_newest_results_are_always_some_callers_whole_results(trained: Any, sample_csv: bytes) -> None:
    trained.predict(sample_csv)
    trained.service.files.close()
    assert len(rows(trained.storage.files[f"samples/{NEWEST}"])) == 10


def test_only_the_newest_results_where_the_owner_wants_no_more(trained: Any, sample_csv: bytes) -> None:
    trained.service.files._keep = "latest"
    for _ in range(3):
        answer = trained.predict(sample_csv)
        assert answer.headers["strongroom-result"] == f"samples/{NEWEST}"
    assert [name for name in trained.storage.files if name.startswith("samples/")] == [f"samples/{NEWEST}"]


@pytest.mark.parametrize("most", [1, 3])
def test_too_many_predictions_at_once_are_turned_away(open_client: Any, storage: Any, most: int) -> None:
    client = open_client(max_predictions=most, predict_workers=1)
    predictions = client.service.predictions

    async def crowd() -> list[Any]:
        import threading

        go_on = threading.Event()
        waiting = [asyncio.ensure_future(predictions.run(go_on.wait)) for _ in range(most + 2)]
        await asyncio.sleep(0)
        go_on.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    outcomes = asyncio.run(crowd())
    assert [getattr(outcome, "status", 200) for outcome in outcomes] == [200] * most + [503] * 2
