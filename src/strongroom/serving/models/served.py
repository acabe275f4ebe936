"""One version of one model: its state, its engine while it has one, and who uses it right now."""

import enum
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from strongroom.serving.engines import Engine, Signature
from strongroom.serving.models.runner import Runner
from strongroom.serving.status import Status


class State(enum.IntEnum):
    """ModelVersionStatus.State (tensorflow_serving/apis/get_model_status.proto)."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """What a status call says about one version.

    Args:
        version: Its number.
        state: Where it is in its life.
        error: Why it failed, OK otherwise.
        message: One line for people.
    """

    version: int
    state: State
    error: Status = Status.OK
    message: str = ""


class ServedVersion:
    """A loaded version. Its engine is closed when it was retired and the last lease is back.

    Args:
        model: Name of the model.
        version: Its number.
        engine: The loaded model.
        runner: How requests reach the engine.
        digest: SHA-256 over its files, in hex.
        model_bytes: Size of its files.
        quick: Whether one row takes so little time that handing it to another thread would take longer.
    """

    def __init__(
        self,
        model: str,
        version: int,
        engine: Engine,
        runner: Runner,
        digest: str,
        *,
        quick: bool = False,
        model_bytes: int = 0,
    ) -> None:
        self.quick = quick
        self.model_bytes = model_bytes
        self.model = model
        self.version = version
        self.digest = digest
        self.platform = engine.platform
        self.signatures: Mapping[str, Signature] = engine.signatures
        self.runner = runner
        self._engine = engine
        self._condition = threading.Condition()
        self._leases = 0
        self._retired = False

    @property
    def answers(self) -> bool:
        """Whether the engine can be asked: false while a crashed one is started again."""
        return bool(getattr(self._engine, "alive", True))

    def acquire(self) -> bool:
        """Keep the version loaded until `release`; False when it is being unloaded."""
        with self._condition:
            if self._retired:
                return False
            self._leases += 1
            return True

    def release(self) -> None:
        """Give back what `acquire` took."""
        with self._condition:
            self._leases -= 1
            if self._retired:
                self._condition.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def retire(self, timeout_s: float) -> bool:
        """Take no new requests, wait for those under way, then close the engine.

        Args:
            timeout_s: How long to wait.

        Returns:
            Whether every request finished in time. If not, the engine is left to the last of them: closing it under
            a running prediction would crash the server.
        """
        with self._condition:
            self._retired = True
            drained = self._condition.wait_for(lambda: self._leases == 0, timeout_s)
        self.runner.close()
        if drained:
            self._engine.close()
        return drained
