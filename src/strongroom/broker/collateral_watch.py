"""Says in the service log when collateral is about to expire: afterwards every quote it judges is refused."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from strongroom.broker.collateral_update import read_stored
from strongroom.broker.logs import log
from strongroom.broker.verifier import Trust

INTERVAL_S: Final = 6 * 3600.0


def warn_of_expiry(trusted: Trust, now: datetime) -> int:
    """Log each collateral file that expires within a week, has expired, or is not genuine.

    Args:
        trusted: Roots and the collateral folder.
        now: Aware time.

    Returns:
        How many there are.
    """
    warned = 0
    for root in trusted.roots:
        for stored in read_stored(trusted.collateral, root):
            if stored.checked is None:
                problem = stored.problem.code if stored.problem else "collateral.stored"
                log.error("collateral.not_genuine", file=stored.path.name, root=root.kind, code=problem)
            elif stored.expires_soon(now):
                expires = stored.checked.expires
                days = (expires - now).days
                log.warning("collateral.expires", file=stored.path.name, expires=expires.isoformat(), days=days)
            else:
                continue
            warned += 1
    return warned


@contextmanager
def watching(trusted: Trust, clock: Callable[[], datetime]) -> Iterator[None]:
    """Warn now and every six hours during the block."""
    ended = threading.Event()

    def watch() -> None:
        while True:
            try:
                warn_of_expiry(trusted, clock())
            except Exception as error:  # the watch must not end before the broker does
                log.error("collateral.watch", error=type(error).__name__)
            if ended.wait(INTERVAL_S):
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
