"""Long work as jobs: watched, cancelled, bounded, forgotten; the service answers meanwhile."""

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from strongroom.loan.presets import TrainSettings
from strongroom.loan.service.jobs import Job, JobBoard, State
from strongroom.loan.service.problems import Problem
from strongroom.loan.service.settings import Limits

ASYNC = {"Prefer": "respond-async"}


def ended(client: Any, location: str) -> dict[str, Any]:
    client.service.board.find(location.removeprefix("/jobs/")).ended.result(60)
    document: dict[str, Any] = client.http.get(location).json()
    return document


def test_a_training_as_a_job_gives_the_same_answer(trained: Any) -> None:
    answer = trained.train(ASYNC)
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    assert answer.json()["state"] in {"queued", "running"}
    document = ended(trained, answer.headers["location"])
    assert document["state"] == "succeeded"
    assert document["progress"] == {"done": 20, "total": 20}
    assert document["result"] == trained.train().json()
    assert document["problem"] is None
    assert document["created_at"] <= document["started_at"] <= document["ended_at"]


def test_a_data_step_as_a_job(client: Any, book_csv: bytes) -> None:
    answer = client.process(book_csv, headers=ASYNC, size=50_000)
    document = ended(client, answer.headers["location"])
    assert document["result"] == {"Message": "loans.csv successfully processed and saved"}
    assert document["progress"] == {"done": 50_000, "total": 50_000}


def test_a_job_that_fails_keeps_its_problem(client: Any) -> None:
    document = ended(client, client.process(b"", headers=ASYNC).headers["location"])
    assert (document["state"], document["problem"]["code"]) == ("failed", "loan.csv")


def test_waiting_a_while_gives_the_answer_when_it_comes_in_time(trained: Any) -> None:
    assert trained.train({"Prefer": "respond-async; x=1, wait=60"}).status_code == 200
    assert trained.train({"Prefer": "wait=0"}).status_code == 200
    assert trained.train({"Prefer": "RESPOND-ASYNC, wait=0"}).status_code == 202


class Gate:
    """Stops readers of the training rows until it is opened."""

    def __init__(self, storage: Any) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self._open = storage.open
        storage.open = self._gated

    def _gated(self, path: str, /) -> Any:
        if path.endswith("train.parquet"):
            self.reached.set()
            assert self.opened.wait(60)
        return self._open(path)


@pytest.fixture
def gate(trained: Any) -> Iterator[Gate]:
    gate = Gate(trained.storage)
    yield gate
    gate.opened.set()


def test_a_cancelled_training_leaves_the_last_good_version_served(trained: Any, gate: Gate, sample_csv: bytes) -> None:
    before = dict(trained.storage.files)
    expected = trained.predict(sample_csv).json()
    location = trained.train(ASYNC).headers["location"]
    assert gate.reached.wait(30)
    answer = trained.http.delete(location)
    assert (answer.status_code, answer.json()["cancel_requested"]) == (202, True)
    gate.opened.set()
    document = ended(trained, location)
    assert (document["state"], document["problem"]["code"]) == ("cancelled", "loan.cancelled")
    assert {name: raw for name, raw in trained.storage.files.items() if "samples" not in name} == before
    assert trained.predict(sample_csv).json() == expected
    again = trained.http.delete(location)
    assert (again.status_code, again.json()["state"]) == (200, "cancelled")


def test_a_continuation_can_be_cancelled_before_its_first_tree(trained: Any, gate: Gate) -> None:
    # While the leaves of the old trees are fitted again, there is no progress to report.
    before = dict(trained.storage.files)
    location = trained.train(ASYNC, continue_training="True").headers["location"]
    assert gate.reached.wait(30)
    assert trained.http.delete(location).status_code == 202
    gate.opened.set()
    document = ended(trained, location)
    assert (document["state"], document["progress"]["done"]) == ("cancelled", 0)
    assert trained.storage.files == before


def test_a_caller_who_waits_is_told_of_the_cancellation(trained: Any, gate: Gate) -> None:
    answers: list[httpx.Response] = []
    board = trained.service.board

    def cancel() -> None:
        assert gate.reached.wait(30)
        board.cancel_all()
        gate.opened.set()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    answers.append(trained.train())
    canceller.join()
    assert (answers[0].status_code, answers[0].json()["code"]) == (409, "loan.cancelled")


def test_a_cancelled_data_step_leaves_nothing_that_could_be_trained_on(client: Any, book_csv: bytes) -> None:
    job_of: list[Job] = []
    submit = client.service.board.submit

    def watched(*args: Any, **kwargs: Any) -> Job:
        job: Job = submit(*args, **kwargs)
        job.cancel()
        job_of.append(job)
        return job

    client.service.board.submit = watched
    answer = client.process(book_csv, size=2_000_000)
    assert answer.json()["code"] == "loan.cancelled"
    assert client.storage.files == {}
    assert job_of[0].state is State.CANCELLED


@pytest.mark.parametrize("job_id", ["0" * 32, "x", "0" * 31, "G" * 32, "0" * 33])
def test_an_unknown_job_is_not_found(client: Any, job_id: str) -> None:
    for method in ("GET", "DELETE"):
        answer = client.http.request(method, f"/jobs/{job_id}")
        assert (answer.status_code, answer.json()["code"]) == (404, "job.unknown")


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def run(board: JobBoard) -> Job:
    job = board.submit("train", lambda job: {"id": job.id})
    job.ended.result(10)
    return job


def test_ended_jobs_are_forgotten_after_their_time() -> None:
    clock = Clock()
    board = JobBoard(Limits(job_ttl_s=60), clock)
    job = run(board)
    clock.now_s += 59
    assert board.find(job.id) is job
    clock.now_s += 2
    with pytest.raises(Problem):
        board.find(job.id)
    board.close()


def test_only_so_many_jobs_are_kept() -> None:
    clock = Clock()
    board = JobBoard(Limits(max_jobs_kept=3), clock)
    jobs = []
    for _ in range(6):
        clock.now_s += 1
        jobs.append(run(board))
    assert sum(board.counts().values()) == 3
    assert board.find(jobs[-1].id) is jobs[-1]
    with pytest.raises(Problem):
        board.find(jobs[0].id)
    board.close()


def test_only_so_many_jobs_may_wait() -> None:
    board = JobBoard(Limits(workers=1, max_jobs_waiting=2))
    go_on = threading.Event()
    jobs = [board.submit("train", lambda _job: {"ok": go_on.wait(30)}) for _ in range(3)]
    with pytest.raises(Problem) as refused:
        board.submit("train", lambda _job: {})
    assert (refused.value.status, refused.value.code) == (503, "service.busy")
    assert refused.value.response().headers["retry-after"] == "5"
    go_on.set()
    for job in jobs:
        job.ended.result(30)
    assert run(board).state is State.SUCCEEDED
    board.close()


def test_draining_cancels_what_waits_and_lets_the_rest_finish() -> None:
    board = JobBoard(Limits(workers=1))
    go_on, running = threading.Event(), threading.Event()

    def work(_job: Job) -> dict[str, Any]:
        running.set()
        return {"ok": go_on.wait(30)}

    first = board.submit("train", work)
    second = board.submit("train", work)
    assert running.wait(30)
    board.drain()
    with pytest.raises(Problem) as refused:
        board.submit("train", work)
    assert refused.value.code == "service.draining"
    go_on.set()
    board.close()
    assert (first.state, second.state) == (State.SUCCEEDED, State.CANCELLED)


def test_a_jobs_cleanup_runs_once_however_it_ends() -> None:
    board = JobBoard(Limits())
    cleaned: list[str] = []

    def fails(_job: Job) -> dict[str, Any]:
        raise RuntimeError("S3CRET")

    def works(_job: Job) -> dict[str, Any]:
        return {}

    for work in (fails, works):
        job = board.submit("train", work, cleanup=lambda: cleaned.append("x"))
        job.ended.result(10)
    assert cleaned == ["x", "x"]
    board.close()


def test_a_bug_in_a_job_is_a_problem_without_its_text() -> None:
    board = JobBoard(Limits())

    def fails(_job: Job) -> dict[str, Any]:
        raise RuntimeError("S3CRET")

    job = board.submit("train", fails)
    job.ended.result(10)
    assert job.problem is not None
    assert (job.problem.status, job.problem.code) == (500, "bug")
    assert "S3CRET" not in str(job.document())
    board.close()


def test_answers_while_it_trains(
    open_client: Any, storage: Any, trained_files: dict[str, bytes], sample_csv: bytes
) -> None:
    """Every look at the service is answered in less than half a second during a real training."""
    storage.files.update(trained_files)
    client = open_client(training=TrainSettings(rounds=200))
    location = client.train(ASYNC, model_name="slow").headers["location"]
    job = client.service.board.find(location.removeprefix("/jobs/"))
    rounds = 0
    while not job.ended.done():
        for path in ("/ping", "/healthz", "/readyz", "/metrics", location):
            assert client.http.get(path).status_code == 200
        assert client.predict(sample_csv).status_code == 200
        rounds += 1
    assert job.state is State.SUCCEEDED
    assert rounds >= 5  # answers that waited for the training would be one round
