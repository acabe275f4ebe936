"""An engine that lives in another process: a crash there is UNAVAILABLE here, and the process is started again."""

import pickle  # only written here: to our own child
import queue
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from strongroom.errors import FormatError, UnavailableError
from strongroom.serving.engines import Engine, ModelFiles
from strongroom.serving.isolation.child import SIZE
from strongroom.serving.isolation.frames import receive, send, signatures_from_json
from strongroom.serving.models.storage import VersionFiles
from strongroom.serving.status import Refused, Status
from strongroom.serving.tensors.dtypes import Array

log: Any = structlog.get_logger("strongroom.serving")
MAX_CRASHES: Final = 5
WITHIN_S: Final = 600.0
FIRST_PAUSE_S: Final = 0.1
LOAD_TIMEOUT_S: Final = 300.0

LoadEngine = Callable[[ModelFiles], Engine]


class EngineProcess:
    """One child process and the connections to it.

    Args:
        load: Loads the engine, over there; can be pickled.
        files: The model's files; each is read anew.
        connections: Predictions at the same time.
        timeout_s: A prediction that takes longer is taken for a crash.

    Raises:
        FormatError: The engine can't load the model.
        UnavailableError: The process ended while it loaded it.
    """

    def __init__(self, load: LoadEngine, files: VersionFiles, connections: int, timeout_s: float) -> None:
        pairs = [socket.socketpair() for _ in range(connections)]
        numbers = [theirs.fileno() for _, theirs in pairs]
        command = [sys.executable, "-m", "strongroom.serving.isolation.child", *map(str, numbers)]
        self.process = subprocess.Popen(command, pass_fds=numbers, stdin=subprocess.DEVNULL)
        self._all = [ours for ours, _ in pairs]
        self._free: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        for ours, theirs in pairs:
            theirs.close()
            ours.settimeout(LOAD_TIMEOUT_S)
        try:
            head = self._load(load, files)
        except BaseException:
            self.end()
            raise
        self.platform, self.signatures = str(head["platform"]), signatures_from_json(head["signatures"])
        for ours in self._all:
            ours.settimeout(timeout_s)
            self._free.put(ours)

    def _load(self, load: LoadEngine, files: VersionFiles) -> dict[str, Any]:
        message = pickle.dumps((load, {name: files.read(name) for name in sorted(files.names)}))
        try:
            self._all[0].sendall(SIZE.pack(len(message)))
            self._all[0].sendall(message)
            del message
            head, _ = receive(self._all[0])
        except OSError:
            raise UnavailableError("the engine's process ended while it loaded", code="serving.engine_crash") from None
        if "platform" not in head:
            raise FormatError(str(head.get("message"))[:200], code=str(head.get("code"))[:60])
        return head

    def ask(self, head: Mapping[str, Any], arrays: Mapping[str, Array]) -> dict[str, Array]:
        """One question.

        Raises:
            Refused: The engine refuses it.
            OSError: The process is gone or hangs.
            FormatError: It answers nonsense.
        """
        connection = self._free.get()
        try:
            send(connection, head, arrays)
            answer, results = receive(connection)
        finally:
            self._free.put(connection)
        if answer.get("status") != Status.OK:
            raise Refused(_status(answer.get("status")), str(answer.get("message"))[:500])
        return results

    def end(self) -> None:
        """Kill it: it holds nothing that must be finished."""
        self.process.kill()
        self.process.wait()
        for connection in self._all:
            connection.close()


class IsolatedEngine:
    """`Engine` over an `EngineProcess`, which is started again after a crash, but not for ever.

    Args:
        load: Loads the engine; can be pickled.
        files: The model's files. They are read again for each start, and must be the same.
        connections: Predictions at the same time.
        timeout_s: A prediction that takes longer is taken for a crash.

    Raises:
        FormatError: The engine can't load the model.
        UnavailableError: Its process ended while it loaded it.
    """

    def __init__(self, load: LoadEngine, files: VersionFiles, connections: int, timeout_s: float) -> None:
        self._arguments = load, files, connections, timeout_s
        self._files = files
        self._lock = threading.Lock()
        self._crashes: deque[float] = deque(maxlen=MAX_CRASHES)
        self._closed = threading.Event()
        first = EngineProcess(*self._arguments)
        self._digest = files.digest()
        self._process: EngineProcess | None = first
        self.platform, self.signatures = first.platform, first.signatures

    @property
    def alive(self) -> bool:
        """Whether there is a process to ask."""
        return self._process is not None

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Ask the process.

        Raises:
            UnavailableError: It crashed, or is being started again.
            Refused: The engine refuses the inputs.
        """
        results = self._ask({"ask": "run", "signature": signature, "outputs": list(outputs)}, inputs)
        if results.keys() != set(outputs):
            raise UnavailableError("the engine's process answers nonsense", code="serving.engine_crash")
        return {name: results[name] for name in outputs}

    def example(self, signature: str) -> Mapping[str, Array]:
        """Inputs the model accepts."""
        return self._ask({"ask": "example", "signature": signature}, {})

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._closed.set()
            process, self._process = self._process, None
        if process is not None:
            process.end()

    def _ask(self, head: Mapping[str, Any], arrays: Mapping[str, Array]) -> dict[str, Array]:
        process = self._process
        if process is None:
            raise UnavailableError("the engine's process is being started again", code="serving.engine_crash")
        try:
            return process.ask(head, arrays)
        except (OSError, FormatError):
            self._crashed(process)
            raise UnavailableError("the engine's process ended", code="serving.engine_crash") from None

    def _crashed(self, process: EngineProcess) -> None:
        with self._lock:
            if self._process is not process:
                return  # somebody else noticed first
            self._process = None
        process.end()
        log.error("engine process ended", status=process.process.returncode, model_digest=self._digest)
        self._crashes.append(time.monotonic())
        threading.Thread(target=self._start_again, name="engine-restart", daemon=True).start()

    def _start_again(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            if len(self._crashes) == MAX_CRASHES and time.monotonic() - self._crashes[0] < WITHIN_S:
                log.error("engine process crashes too often; it stays down", model_digest=self._digest)
                return
            if self._closed.wait(pause_s):
                return
            if self._try_again():
                return
            self._crashes.append(time.monotonic())
            pause_s = min(2 * pause_s, 30.0)

    def _try_again(self) -> bool:
        try:
            fresh = EngineProcess(*self._arguments)
        except Exception as error:  # the storage or the broker may come back
            log.warning("engine process not started", error=type(error).__name__)
            return False
        with self._lock:
            wanted = not self._closed.is_set() and self._files.digest() == self._digest
            if wanted:
                self._process = fresh
        if not wanted:
            log.error("engine process not wanted", same_model=self._files.digest() == self._digest)
            fresh.end()
        return True


def _status(number: Any) -> Status:
    return Status(number) if number in set(Status) else Status.INTERNAL
