"""The parts of a running service, and how they start and end."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from strongroom.loan.service.body import Receiver
from strongroom.loan.service.jobs import JobBoard
from strongroom.loan.service.metrics import Metrics
from strongroom.loan.service.models import LoadedModels, Refresher
from strongroom.loan.service.problems import Problem
from strongroom.loan.service.results import ResultFiles
from strongroom.loan.service.settings import ServiceSettings
from strongroom.loan.service.spool import Spool
from strongroom.loan.service.work import Predictor

T = TypeVar("T")


class Predictions:
    """A bounded pool for predictions, apart from the jobs'.

    Args:
        workers: Computed at once.
        most: Computed or waiting.
    """

    def __init__(self, workers: int, most: int) -> None:
        self._pool = ThreadPoolExecutor(workers, "loan-predict")
        self._most = most
        self._live = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Run on a worker.

        Args:
            work: What to run.

        Returns:
            Its result.

        Raises:
            Problem: 503, too many are waiting.
        """
        if self._live >= self._most:
            raise Problem(503, "service.busy", "too many predictions are waiting")
        self._live += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._live -= 1

    def close(self) -> None:
        """Wait for those that run."""
        self._pool.shutdown(wait=True)


class LoanService:
    """Everything behind the routes. Start it, and close it at the end.

    Args:
        settings: Roots, bounds, training.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        limits = settings.limits
        self.settings = settings
        self.metrics = Metrics()
        self.board = JobBoard(limits)
        self.models = LoadedModels(limits.max_models)
        self.files = ResultFiles(settings.keep_results)
        self.predictor = Predictor(self.models, self.files)
        self.predictions = Predictions(limits.predict_workers, limits.max_predictions)
        # One after the other, beside the short ones: neither their time nor their memory is the short ones' burden.
        self.long_predictions = Predictions(1, limits.max_uploads)
        self._spool = Spool(limits.memory_upload_bytes, settings.spool)
        self.receiver = Receiver(limits, self._spool)
        self._refresher = Refresher(self.models, limits.refresh_s)

    def predictions_for(self, upload_bytes: int) -> Predictions:
        """The pool for a file of this length: one that is kept in memory, or a longer one."""
        return self.predictions if upload_bytes <= self.settings.limits.memory_upload_bytes else self.long_predictions

    def start(self) -> None:
        """Begin to watch for new versions."""
        self._refresher.start()

    def drain(self) -> None:
        """Not ready any more; no new jobs, what runs goes on."""
        self.board.drain()

    def close(self) -> None:
        """End everything: jobs are cancelled, written results are waited for."""
        self.board.close()
        self._refresher.close()
        self.predictions.close()
        self.long_predictions.close()
        self.files.close()
        self._spool.close()
