"""Says in the service log when collateral is about to expire: afterwards every quote it judges is refused."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Final

from strongroom.attestation.roots import AmdRoot
from strongroom.broker.amd_collateral import stored_amd_collateral
from strongroom.broker.collateral_update import WARN_BEFORE, read_stored
from strongroom.broker.logs import log
from strongroom.broker.periodic import repeating
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
    return warned + sum(_warn_of_amd(trusted, root, now) for root in trusted.amd_roots)


def _warn_of_amd(trusted: Trust, root: AmdRoot, now: datetime) -> int:
    warned = 0
    for stored in stored_amd_collateral(trusted.collateral, root, now):
        if stored.expires is None:
            code = stored.problem.code if stored.problem else "collateral.stored"
            log.error("collateral.not_genuine", file=stored.path.name, root=root.kind, code=code)
        elif stored.expires - now < WARN_BEFORE:
            days = (stored.expires - now).days
            log.warning("collateral.expires", file=stored.path.name, expires=stored.expires.isoformat(), days=days)
        else:
            continue
        warned += 1
    return warned


def watching(trusted: Trust, clock: Callable[[], datetime]) -> AbstractContextManager[None]:
    """Warn now and every six hours during the block."""
    return repeating("collateral", INTERVAL_S, lambda: warn_of_expiry(trusted, clock()))
