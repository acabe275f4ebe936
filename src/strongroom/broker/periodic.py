"""Work that repeats while the broker runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from strongroom.broker.logs import log


@contextmanager
def repeating(name: str, interval_s: float, work: Callable[[], object]) -> Iterator[None]:
    """Do work now and at every interval during the block, in a thread of its own. A fault is logged, not the end of it.

    Args:
        name: For the log.
        interval_s: From the end of one turn to the beginning of the next.
        work: What to do.

    Yields:
        Nothing.
    """
    ended = threading.Event()

    def repeat() -> None:
        while True:
            try:
                work()
            except Exception as error:
                log.error("broker.periodic", work=name, error=type(error).__name__)
            if ended.wait(interval_s):
                return

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
