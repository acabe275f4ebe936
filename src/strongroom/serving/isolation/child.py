"""The engine process: ``python -m strongroom.serving.isolation.child DESCRIPTOR...``, one connection each.

The first connection brings what loads the engine and the model's files; then all of them ask. The process ends when the
server does. What it reads comes from the server that started it, over a descriptor nobody else has.
"""

import pickle  # see load
import signal
import socket
import struct
import sys
import threading
from typing import Any, Final

from strongroom.errors import StrongroomError
from strongroom.serving.engines import Engine
from strongroom.serving.isolation.frames import receive, send, signatures_as_json
from strongroom.serving.status import Status, status_of

SIZE: Final = struct.Struct("<Q")


class SentFiles:
    """The model's files, as the server sent them.

    Args:
        files: Name to content.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files
        self.names = frozenset(files)

    def read(self, name: str) -> bytes:
        """One file; it is given out once, so that it is not in memory twice."""
        return self._files.pop(name)


def load(connection: socket.socket) -> Engine:
    """Receive what loads and the files, load, and say what was loaded."""
    with connection.makefile("rb") as stream:
        (size,) = SIZE.unpack(stream.read(SIZE.size))
        load_engine, files = pickle.loads(stream.read(size))  # noqa: S301  # the server's own objects, from the server itself
    engine: Engine = load_engine(SentFiles(files))
    send(connection, {"platform": engine.platform, "signatures": signatures_as_json(engine.signatures)}, {})
    return engine


def answer(engine: Engine, connection: socket.socket) -> None:
    """Answer what comes over one connection until it ends."""
    while True:
        try:
            head, arrays = receive(connection)
        except OSError:
            return
        try:
            results: Any = (
                engine.example(head["signature"])
                if head["ask"] == "example"
                else engine.run(head["signature"], arrays, head["outputs"])
            )
            send(connection, {"status": int(Status.OK)}, results)
        except Exception as error:  # the caller is told what it may know
            status, message = status_of(error)
            send(connection, {"status": int(status), "message": message}, {})


def main() -> None:
    """Serve one engine."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides when the end is
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connections = [socket.socket(fileno=int(number)) for number in sys.argv[1:]]
    try:
        engine = load(connections[0])
    except StrongroomError as error:
        send(connections[0], {"code": error.code, "message": error.message}, {})
        return
    threads = [threading.Thread(target=answer, args=(engine, one)) for one in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
