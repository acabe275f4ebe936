"""The key server of one TEE: wraps and unwraps for the JVM that its launcher started, over a Unix socket.

Master keys stay in this process; the JVM gets key encryption keys only. Who may ask is decided by the folder of the
socket (mode 0700) and by the asking process's user.

Request: operation (``W``, ``U`` or another that its launcher added, 1 byte), length and master key's name, length and
content. Answer: status (1 byte), length and content: the key, or why not. Lengths are 4 bytes, big-endian. One request
a connection; the Java side is `strongroom.spark.BrokerKmsClient`.
"""

import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

from strongroom.analytics.kms import Kms
from strongroom.errors import FormatError, KeyReleaseError, PolicyRejected, StrongroomError
from strongroom.outcome import one_line
from strongroom.platforms.gramine import find_gramine

SOCKET_VARIABLE: Final = "STRONGROOM_KEY_SOCKET"
SOCKET_NAME: Final = "keys"
DONE, REFUSED, FAILED = 0, 1, 2
MAX_NAME_BYTES: Final = 400
MAX_CONTENT_BYTES: Final = 32 * 1024
MAX_REASON_CHARS: Final = 1000
TIMEOUT_S: Final = 10.0
_LENGTH: Final = struct.Struct(">I")
_CREDENTIALS: Final = struct.Struct("3i")
_NOTHING_MORE: Final[Mapping[bytes, "Operation"]] = MappingProxyType({})

Operation = Callable[[str, bytes], bytes]
"""Gets a name and content; returns the answer, or raises an error of ours."""


class KeyServer:
    """Serves a `Kms` until it is closed. Use it as a context manager.

    Args:
        kms: Wraps and unwraps.
        folder: Private folder (mode 0700) for the socket.
        more: Further operations, by their byte.
    """

    def __init__(self, kms: Kms, folder: Path, more: Mapping[bytes, Operation] = _NOTHING_MORE) -> None:
        self.path = folder / SOCKET_NAME
        self._operations = {b"W": kms.wrap, b"U": kms.unwrap, **more}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(self.path))
        self._socket.listen(64)
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Serve in a thread."""
        self._thread = threading.Thread(target=self.serve, name="strongroom-keys", daemon=True)
        self._thread.start()
        return self

    def serve(self) -> None:
        """Serve until the server is closed."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, FormatError):
            connection.settimeout(TIMEOUT_S)
            if not _is_ours(connection):
                return
            status, content = answer(self._operations, _reader(connection))
            connection.sendall(bytes([status]) + _LENGTH.pack(len(content)) + content)

    def close(self) -> None:
        """Stop serving."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
        self._socket.close()
        if self._thread is not None:
            self._thread.join(TIMEOUT_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def answer(operations: Mapping[bytes, Operation], read: Callable[[int], bytes]) -> tuple[int, bytes]:
    """Do what one request asks.

    Args:
        operations: What can be asked, by its byte.
        read: Reads exactly so many bytes of the request.

    Returns:
        Status, and the key or the reason.

    Raises:
        FormatError: Not a request; there is nobody to answer.
    """
    operation = read(1)
    name = _sized(read, MAX_NAME_BYTES)
    content = _sized(read, MAX_CONTENT_BYTES)
    if operation not in operations:
        raise FormatError("no such operation", code="key_server.request")
    try:
        return DONE, operations[operation](name.decode("utf-8", "replace"), content)
    except (KeyReleaseError, PolicyRejected) as error:
        return REFUSED, _reason(error)
    except StrongroomError as error:
        return FAILED, _reason(error)
    except Exception as error:  # a bug here must not leave the JVM waiting; its text may hold anything
        return FAILED, type(error).__name__.encode()


def _reason(error: StrongroomError) -> bytes:
    return f"{one_line(error.message)[:MAX_REASON_CHARS]} [{error.code}]".encode()


def _sized(read: Callable[[int], bytes], most: int) -> bytes:
    (length,) = _LENGTH.unpack(read(_LENGTH.size))
    if length > most:
        raise FormatError("too long", code="key_server.request")
    return read(length)


def _reader(connection: socket.socket) -> Callable[[int], bytes]:
    def read(count: int) -> bytes:
        received = bytearray()
        while len(received) < count:
            piece = connection.recv(count - len(received))
            if not piece:
                raise FormatError("the request ends early", code="key_server.request")
            received += piece
        return bytes(received)

    return read


def _is_ours(connection: socket.socket) -> bool:
    try:
        return _user_of(connection) == os.geteuid()
    except OSError as error:
        # Gramine has no credentials to show; it connects only processes of one instance, each attested to the other.
        return error.errno == errno.ENOPROTOOPT and find_gramine() is not None


def _user_of(connection: socket.socket) -> int:
    _, user, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(user)
