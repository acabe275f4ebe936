"""Where predictions are kept: a file for each call, and the newest of a directory under the reference's name.

The caller's own file is written before the answer. ``sample_predictions.csv`` is shared by all callers of a directory;
it follows at once, always whole, and always one caller's.
"""

import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final, Literal

import structlog

from strongroom.loan.explanation import Reason, write_reasons
from strongroom.loan.prediction import Predictions, write_predictions
from strongroom.loan.service.problems import to_problem
from strongroom.loan.service.settings import Root

NEWEST: Final = "sample_predictions.csv"

Reasons = Sequence[tuple[Reason, ...]]
"""Of each row, the inputs that raise its risk most."""

log: Any = structlog.get_logger("strongroom.loan.service")


class ResultFiles:
    """Writes predictions.

    Args:
        keep: See `ServiceSettings.keep_results`.
    """

    def __init__(self, keep: Literal["each", "latest"]) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._newest: dict[tuple[int, str], Callable[[], None]] = {}
        self._behind = ThreadPoolExecutor(1, "loan-newest")

    def write(self, root: Root, directory: str, predictions: Predictions, reasons: Reasons | None = None) -> str:
        """Write one call's predictions.

        Args:
            root: Storage root.
            directory: `sample_directory`.
            predictions: What to write.
            reasons: Of the same rows, to be written beside them.

        Returns:
            Path of the file below the root.

        Raises:
            StrongroomError: The storage refuses.
            OSError: The same.
        """
        newest = f"{directory}/{NEWEST}"
        if self._keep == "latest":
            _write(root, newest, predictions, reasons)
            return newest
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        own = f"{directory}/predictions-{moment}-{secrets.token_hex(8)}.csv"
        _write(root, own, predictions, reasons)
        self._follow(root, newest, predictions, reasons)
        return own

    def _follow(self, root: Root, path: str, predictions: Predictions, reasons: Reasons | None) -> None:
        """Write the shared file soon; of several waiting contents only the newest is written."""
        key = (id(root), path)
        with self._lock:
            waiting = key in self._newest
            self._newest[key] = lambda: _write(root, path, predictions, reasons)
        if not waiting:
            self._behind.submit(self._write_newest, key)

    def _write_newest(self, key: tuple[int, str]) -> None:
        with self._lock:
            write = self._newest.pop(key)
        try:
            write()
        except Exception as error:  # nobody waits for it; the caller has a file of its own
            log.error("results.newest_not_written", code=to_problem(error).code)  # noqa: TRY400 -- no text

    def close(self) -> None:
        """Write what still waits."""
        self._behind.shutdown(wait=True)


def _write(root: Root, path: str, predictions: Predictions, reasons: Reasons | None) -> None:
    create = root.create_quickly or root.storage.create
    with create(root.path(path)) as sink:
        if reasons is None:
            write_predictions(predictions, sink)
        else:
            write_reasons(predictions, iter(reasons), sink)
