"""Evidence of the node for pods that see neither TPM nor configfs: 64 bytes of report data in, evidence out.

One request a connection on a Unix socket: the client sends exactly 64 bytes and ends its side; the relay answers with
evidence and closes, or closes without an answer. Nothing the relay says is trusted: evidence is verified elsewhere.

Whoever reaches the socket speaks for the whole node. The relay tells no pod from another, on purpose: nothing on the
node could prove such a difference to a verifier.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.errors import ConfigurationError, FormatError, StrongroomError, UnavailableError
from strongroom.formats.evidence import MAX_EVIDENCE_BYTES, parse_evidence
from strongroom.platforms import REPORT_DATA_SIZE, Platform, check_report_data
from strongroom.platforms.evidence import about

SOCKET: Final = Path("/run/strongroom-evidence/evidence.sock")
MAX_CONNECTIONS: Final = 16
REQUEST_S: Final = 5.0
ANSWER_S: Final = 60.0
_POLL_S: Final = 0.2
_CODE: Final = "platform.relay"


@dataclass(frozen=True, slots=True)
class RelayPlatform:
    """The node this process runs on, through its relay.

    Args:
        socket_path: The relay's socket.
        tee: What the node is, in the key broker protocol.
    """

    socket_path: Path
    tee: str

    @property
    def name(self) -> str:
        """Always "relay"."""
        return "relay"

    @property
    def simulated(self) -> bool:
        """Always false; that a relay's evidence is simulated, its verifier finds out."""
        return False

    def quote(self, report_data: bytes) -> bytes:
        """Fresh evidence about the node.

        Args:
            report_data: Exactly 64 bytes.

        Returns:
            The evidence.

        Raises:
            ConfigurationError: `report_data` has another length (``platform.report_data``).
            UnavailableError: The relay gives none (``platform.relay``), or about other report data
                (``platform.quote``).
        """
        return about(_ask(self.socket_path, check_report_data(report_data)), report_data)


def find_relay(path: Path = SOCKET) -> RelayPlatform | None:
    """The platform, if a relay's socket is there.

    Raises:
        UnavailableError: It is there, but gives no evidence (``platform.relay``).
    """
    if not path.is_socket():
        return None
    try:
        return RelayPlatform(path, parse_evidence(_ask(path, bytes(REPORT_DATA_SIZE))).tee)
    except FormatError:
        raise UnavailableError("the relay's evidence is malformed", code=_CODE) from None


def serve_relay(
    path: Path, platform: Platform, stopped: threading.Event, report: Callable[[str], None], *, mode: int = 0o666
) -> None:
    """Answer requests until `stopped` is set. Returns when the last connection is closed.

    Args:
        path: The socket; one that was left behind is replaced.
        platform: Makes the evidence.
        stopped: Ends it.
        report: Told, in one line each, what went wrong.
        mode: Permissions of the socket: who may connect. Pods run as users the node does not know.

    Raises:
        ConfigurationError: The socket can't be made (``platform.relay``).
    """
    free = threading.BoundedSemaphore(MAX_CONNECTIONS)
    one_at_a_time = threading.Lock()
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        try:
            with connection:
                _answer(connection, platform, one_at_a_time)
        except StrongroomError as error:
            report(f"{error.code}: {error.message}")
        except OSError as error:
            report(f"{_CODE}: {type(error).__name__}")
        finally:
            free.release()

    with _listening(path, mode) as server:
        while not stopped.is_set():
            with suppress(TimeoutError):
                connection, _ = server.accept()
                if not free.acquire(blocking=False):
                    connection.close()
                    report(f"{_CODE}: more than {MAX_CONNECTIONS} connections")
                    continue
                thread = threading.Thread(target=serve, args=(connection,), daemon=True)
                threads = [other for other in threads if other.is_alive()] + [thread]
                thread.start()
    path.unlink(missing_ok=True)
    for thread in threads:
        thread.join()


def _listening(path: Path, mode: int) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            path.unlink()
        # Permissions before there is a name: a chmod of the name could hit what somebody put in the socket's place.
        os.fchmod(server.fileno(), mode)
        mask = os.umask(0)
        try:
            server.bind(str(path))
        finally:
            os.umask(mask)
        server.listen(MAX_CONNECTIONS)
        server.settimeout(_POLL_S)
    except OSError as error:
        server.close()
        raise ConfigurationError(
            f"cannot make the socket {path}: {error.strerror or error}", code=_CODE, hint="its folder must exist"
        ) from None
    return server


def _answer(connection: socket.socket, platform: Platform, one_at_a_time: threading.Lock) -> None:
    connection.settimeout(REQUEST_S)
    report_data = _receive(connection, REPORT_DATA_SIZE, REQUEST_S)
    if len(report_data) != REPORT_DATA_SIZE:
        raise UnavailableError(f"a request of {len(report_data)} bytes", code=_CODE)
    with one_at_a_time:
        evidence = platform.quote(report_data)
    connection.settimeout(REQUEST_S)
    connection.sendall(evidence)


def _ask(path: Path, report_data: bytes) -> bytes:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(str(path))
            connection.sendall(report_data)
            connection.shutdown(socket.SHUT_WR)
            evidence = _receive(connection, MAX_EVIDENCE_BYTES, ANSWER_S)
    except OSError as error:
        raise UnavailableError(
            f"the relay {path} does not answer: {error.strerror or type(error).__name__}", code=_CODE
        ) from None
    if not evidence:
        raise UnavailableError("the relay gave no evidence", code=_CODE, hint="its own log on the node says why")
    return evidence


def _receive(connection: socket.socket, max_bytes: int, timeout_s: float) -> bytes:
    """Everything until the other side ends.

    Raises:
        UnavailableError: One byte too many, or too slow (``platform.relay``).
    """
    ends = time.monotonic() + timeout_s
    content = b""
    while chunk := connection.recv(max_bytes + 1 - len(content)):
        content += chunk
        if len(content) > max_bytes:
            raise UnavailableError(f"more than {max_bytes} bytes", code=_CODE)
        left = ends - time.monotonic()
        if left <= 0:
            raise UnavailableError("too slow", code=_CODE)
        connection.settimeout(left)
    return content
