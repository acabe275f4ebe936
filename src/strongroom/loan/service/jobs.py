"""Long work: each data step and training is a job, run by a bounded pool, watched and cancelled from outside.

A caller that asks for an answer waits for its job; one that prefers otherwise gets the job's address.
"""

import os
import secrets
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from time import monotonic
from typing import Any, Final, Literal

import structlog

from strongroom.errors import StrongroomError
from strongroom.loan.service.problems import Problem, to_problem
from strongroom.loan.service.settings import Limits

NICENESS: Final = 5
Kind = Literal["data_processing", "train"]

log: Any = structlog.get_logger("strongroom.loan.service")


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED: Final = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})


class JobCancelled(StrongroomError):
    """The job was cancelled; nothing was published."""

    default_code = "loan.cancelled"


@dataclass(eq=False)
class Job:
    """One piece of long work. Written by its worker, read by anybody.

    Args:
        id: 32 hexadecimal digits; who knows it may watch and cancel.
        kind: What it does.
        created_at: When it was accepted.
    """

    id: str
    kind: Kind
    created_at: datetime
    state: State = State.QUEUED
    started_at: datetime | None = None
    ended_at: datetime | None = None
    progress: tuple[int, int] = (0, 0)
    result: dict[str, Any] | None = None
    problem: Problem | None = None
    ended: Future[None] = field(default_factory=Future)
    _cancel: threading.Event = field(default_factory=threading.Event)

    def advance(self, done: int, total: int) -> None:
        """Report progress; ends the work of a job that was cancelled.

        Raises:
            JobCancelled: It was.
        """
        self.progress = (done, total)
        self.check()

    def check(self) -> bool:
        """End the work of a job that was cancelled, where there is no progress to report; else False.

        Raises:
            JobCancelled: It was.
        """
        if self._cancel.is_set():
            raise JobCancelled("the job was cancelled; nothing was published")
        return False

    def cancel(self) -> None:
        """Ask for its end; it comes with the next report of progress."""
        self._cancel.set()

    @property
    def cancel_requested(self) -> bool:
        """Whether somebody asked for its end."""
        return self._cancel.is_set()

    def document(self) -> dict[str, Any]:
        """The JSON object of `GET /jobs/{id}`."""
        done, total = self.progress
        return {
            "id": self.id,
            "kind": self.kind,
            "state": self.state.value,
            "cancel_requested": self.cancel_requested,
            "created_at": _text(self.created_at),
            "started_at": _text(self.started_at),
            "ended_at": _text(self.ended_at),
            "progress": {"done": done, "total": total},
            "result": self.result,
            "problem": self.problem.document() if self.problem else None,
        }


def _text(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds") if moment else None


@dataclass
class _Entry:
    job: Job
    exclusive: Hashable
    ended_s: float | None = None


class JobBoard:
    """All jobs and the pool that runs them.

    Args:
        limits: Workers, waiting places, jobs kept.
        monotonic_s: Clock that never goes back.
    """

    def __init__(self, limits: Limits, monotonic_s: Callable[[], float] = monotonic) -> None:
        self._limits = limits
        self._monotonic_s = monotonic_s
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._closing = False
        self._pool = ThreadPoolExecutor(limits.workers, "loan-job", initializer=_step_back)

    def submit(
        self,
        kind: Kind,
        work: Callable[[Job], dict[str, Any]],
        *,
        exclusive: Hashable = None,
        cleanup: Callable[[], None] = lambda: None,
    ) -> Job:
        """Accept a job.

        Args:
            kind: What it does.
            work: Does it; gets the job, to report progress to, and returns its result.
            exclusive: No two jobs with an equal one are live at once; None: it doesn't matter.
            cleanup: Called exactly once if the job is accepted, after its end.

        Raises:
            Problem: 409, the like is under way; 503, too much is waiting, or the service is ending.
        """
        job = Job(secrets.token_hex(16), kind, datetime.now(UTC))
        with self._lock:
            self._admit(exclusive)
            self._entries[job.id] = _Entry(job, exclusive)
        self._pool.submit(self._run, job, work, cleanup)
        return job

    def _admit(self, exclusive: Hashable) -> None:
        self._forget_old()
        live = [entry for entry in self._entries.values() if entry.ended_s is None]
        if self._closing:
            raise Problem(503, "service.draining", "the service is ending; ask another replica")
        if exclusive is not None and any(entry.exclusive == exclusive for entry in live):
            raise Problem(
                409,
                "loan.training_busy",
                "this model is being trained already",
                hint="wait until that training has ended",
            )
        if len(live) >= self._limits.workers + self._limits.max_jobs_waiting:
            raise Problem(503, "service.busy", "too many jobs are waiting", hint="try again later")

    def _forget_old(self) -> None:
        """Forget ended jobs: the expired ones, and the oldest beyond the number that is kept."""
        oldest_s = self._monotonic_s() - self._limits.job_ttl_s
        ended = [(entry.ended_s, id_) for id_, entry in self._entries.items() if entry.ended_s is not None]
        surplus = len(self._entries) - self._limits.max_jobs_kept + 1
        for rank, (ended_s, id_) in enumerate(sorted(ended)):
            if ended_s < oldest_s or rank < surplus:
                del self._entries[id_]

    def find(self, job_id: str) -> Job:
        """A job by its id.

        Raises:
            Problem: 404, there is none, or it ended long ago.
        """
        with self._lock:
            self._forget_old()
            entry = self._entries.get(job_id)
        if entry is None:
            raise Problem(404, "job.unknown", "there is no such job, or it ended long ago")
        return entry.job

    def counts(self) -> dict[str, int]:
        """Number of jobs by state."""
        counts = dict.fromkeys((state.value for state in State), 0)
        with self._lock:
            for entry in self._entries.values():
                counts[entry.job.state.value] += 1
        return counts

    def drain(self) -> None:
        """Accept nothing more; jobs that wait are cancelled, those that run go on."""
        with self._lock:
            self._closing = True
            waiting = [e.job for e in self._entries.values() if e.job.state is State.QUEUED]
        for job in waiting:
            job.cancel()

    @property
    def draining(self) -> bool:
        """Whether the service is ending."""
        return self._closing

    def cancel_all(self) -> None:
        """Ask every job to end."""
        with self._lock:
            live = [entry.job for entry in self._entries.values() if entry.ended_s is None]
        for job in live:
            job.cancel()

    def close(self) -> None:
        """End all jobs and wait until they have."""
        self.drain()
        self.cancel_all()
        self._pool.shutdown(wait=True)

    def _run(self, job: Job, work: Callable[[Job], dict[str, Any]], cleanup: Callable[[], None]) -> None:
        job.state, job.started_at = State.RUNNING, datetime.now(UTC)
        state = State.SUCCEEDED
        try:
            job.advance(0, 0)
            job.result = work(job)
        except JobCancelled as error:
            state, job.problem = State.CANCELLED, to_problem(error)
        except BaseException as error:  # whatever it is, the job must end
            state, job.problem = State.FAILED, to_problem(error)
            log.warning("job.failed", job=job.id, kind=job.kind, code=job.problem.code, error=type(error).__name__)
        finally:
            with suppress(Exception):
                cleanup()
            job.ended_at = datetime.now(UTC)
            job.state = state
            with self._lock:
                entry = self._entries.get(job.id)
                if entry is not None:
                    entry.ended_s = self._monotonic_s()
            job.ended.set_result(None)
            log.info("job.ended", job=job.id, kind=job.kind, state=state.value)


def _step_back() -> None:
    """Give a worker, and the threads that XGBoost starts from it, a lower priority than predictions have."""
    with suppress(AttributeError, OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
