"""The driver of a Spark application: key server, JVM, and the cluster's messages about executors that were refused."""

import atexit
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Final, Self

from strongroom.analytics.kms import Kms
from strongroom.analytics.receipts import DRIVER, DRIVER_ALONE, Worker
from strongroom.analytics.spark.evidence import JOB_SIZE, PLUGINS_SETTING, Participants
from strongroom.analytics.spark.executors import ExecutorWatch
from strongroom.analytics.spark.jvm import (
    environment,
    no_executors,
    start_jvm,
    stop_context,
    stop_jvm,
    wait_for_events,
    write_logging,
)
from strongroom.analytics.spark.key_server import KeyServer, Operation
from strongroom.analytics.spark.pod_status import pod_exit_status
from strongroom.analytics.spark.private_folder import PrivateFolder
from strongroom.analytics.spark.settings import combined
from strongroom.analytics.spark.traffic import traffic

_PYTHON: Final = "PYSPARK_PYTHON"


def _to_stderr(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)  # noqa: T201


class Driver:
    """What runs beside the application in its process. Use it as a context manager.

    Args:
        kms: Wraps and unwraps for this process's JVM.
        master: ``local[*]``, ``spark://HOST:PORT`` or ``k8s://https://HOST:PORT``.
        own: The application's or its owner's settings.
        given: The cluster's settings, checked.
        secret: Of Spark's own traffic; None in local mode.
        signer: Public key that the job's receipt will be signed with, 32 bytes.
        tell: Gets one line for each executor that was refused.

    Raises:
        ConfigurationError: There is no Java, no PySpark, no tmpfs, no secret for a cluster, or a JVM already.
        UnavailableError: The JVM doesn't start.
    """

    def __init__(
        self,
        kms: Kms,
        *,
        master: str = "local[*]",
        own: Mapping[str, str] | None = None,
        given: Mapping[str, str] | None = None,
        secret: str | None = None,
        signer: bytes = bytes(32),
        tell: Callable[[str], None] = _to_stderr,
    ) -> None:
        self.executors: ExecutorWatch | None = None
        self.participants: Participants | None = None
        if not master.startswith("local"):
            self.participants = Participants(secrets.token_bytes(JOB_SIZE), signer, self._refuse)
        self._tell = tell
        self._folder = PrivateFolder()
        self._folder.guard()
        self._keys: KeyServer | None = None
        self._running = False
        self._python: str | None = None
        try:
            self._start(kms, master, combined(own=own or {}, given=given or {}), secret)
        except BaseException:
            self.close()
            raise
        atexit.register(self.close)

    def _start(self, kms: Kms, master: str, settings: Mapping[str, str], secret: str | None) -> None:
        more, token_file = traffic(master, secret, self._folder)
        operations: Mapping[bytes, Operation] = {}
        if self.participants is not None:
            more |= self.participants.settings(settings.get(PLUGINS_SETTING, ""))
            operations = self.participants.operations
        self._keys = KeyServer(kms, self._folder.path, operations)
        log = write_logging(self._folder)
        variables = environment(self._folder, self._keys.path, token_file)
        if master.startswith("local"):
            variables["SPARK_LOCAL_IP"] = "127.0.0.1"  # nobody else has anything to say to it
        start_jvm(self._folder, {**settings, **more, "spark.master": master}, variables)
        self._running = True
        # PySpark asks this process's environment which Python runs functions, and takes any that it finds otherwise.
        self._python = os.environ.get(_PYTHON)
        os.environ[_PYTHON] = sys.executable
        self._keys.start()  # only now: under Gramine a process with threads had better not fork
        if not master.startswith("local"):
            namespace = settings.get("spark.kubernetes.namespace", "default")
            status = partial(pod_exit_status, master, namespace)
            self.executors = ExecutorWatch(log, self._tell, no_executors, stop_context, status).start()

    @property
    def refused(self) -> list[str]:
        """What was said about executors that were refused."""
        if self.executors is None:
            return []
        self.executors.look()
        return self.executors.refused

    def _refuse(self, line: str) -> None:
        if self.executors is not None:
            self.executors.refuse(line)

    def workers(self, own: Worker) -> tuple[Worker, ...]:
        """The processes that took part, for a receipt.

        Args:
            own: This process, with its evidence.

        Raises:
            VerificationError: An executor took part and handed in no evidence.
            UnavailableError: Spark doesn't say which took part.
        """
        if self.participants is None:
            return (replace(own, role=DRIVER_ALONE),)
        wait_for_events()
        return (replace(own, role=DRIVER), *self.participants.workers())

    def close(self) -> None:
        """Stop Spark, its JVM and the key server; wipe the private folder."""
        atexit.unregister(self.close)
        if self.executors is not None:
            self.executors.stop()
        if self._running:
            stop_jvm()
            self._running = False
            os.environ.pop(_PYTHON)
            if self._python is not None:
                os.environ[_PYTHON] = self._python
        if self._keys is not None:
            self._keys.close()
            self._keys = None
        self._folder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
