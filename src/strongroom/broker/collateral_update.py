"""Puts genuine collateral into the broker's folder, never older than what is there, and says when it expires."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from strongroom.attestation.collateral import MAX_COLLATERAL_BYTES, Collateral
from strongroom.attestation.collateral_check import (
    CheckedCollateral,
    check_collateral,
    check_signatures,
    refuse_older,
)
from strongroom.attestation.roots import TrustRoot
from strongroom.broker.collateral import collateral_name, install_collateral
from strongroom.broker.pcs import CollateralService, Wanted
from strongroom.errors import StrongroomError, UnavailableError, VerificationError

# Intel's documents live 30 days: whoever fetches daily never comes near it.
WARN_BEFORE: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Stored:
    """Collateral in the folder.

    Args:
        path: Its file.
        checked: What it says; None if it is not genuine.
        problem: Why it is not; None if it is.
    """

    path: Path
    checked: CheckedCollateral | None
    problem: StrongroomError | None

    def expires_soon(self, now: datetime) -> bool:
        """Whether quotes will soon be refused because of it, or are already."""
        return self.checked is None or self.checked.expires - now < WARN_BEFORE


def read_stored(folder: Path, root: TrustRoot) -> list[Stored]:
    """All collateral under one root, sorted by name.

    Args:
        folder: The broker's collateral folder.
        root: Which.

    Returns:
        Each file; those that are not genuine say why.
    """
    return [_read(path, root) for path in sorted((folder / root.kind).glob("*.json"))]


def store_collateral(folder: Path, collateral: Collateral, root: TrustRoot, now: datetime) -> Stored:
    """Check collateral and put it into the folder in place of older one; a running broker uses it at once.

    Args:
        folder: The broker's collateral folder.
        collateral: From anywhere.
        root: Whose signature counts.
        now: Aware time.

    Returns:
        What is stored now.

    Raises:
        VerificationError: Not genuine, not valid now, or older than what is stored, which then stays
            (``collateral.rolled_back``).
        FormatError: What is stored is malformed.
        ConfigurationError: The file can't be written.
        UnavailableError: What is stored can't be read.
    """
    checked = check_collateral(collateral, root, now)
    raw = collateral.to_json().encode()
    path = folder / root.kind / collateral_name(raw)
    if path.exists():
        before = _read(path, root)
        if before.checked is None:
            raise VerificationError(
                f"what is stored is not genuine: {before.problem.message if before.problem else ''}",
                code="collateral.stored",
                hint=f"find out who changed it, then remove {path}",
            )
        refuse_older(checked, before.checked)
    return Stored(install_collateral(folder, root.kind, raw), checked, None)


def fetch_collateral(
    folder: Path, service: CollateralService, wanted: list[Wanted], root: TrustRoot, now: datetime
) -> Iterator[Stored]:
    """Fetch, check and store collateral for each kind of platform that is wanted.

    Args:
        folder: The broker's collateral folder.
        service: Whom to ask.
        wanted: For which platforms.
        root: Whose signature counts.
        now: Aware time.

    Yields:
        What is stored now, one after the other: an error ends it and leaves the others as they were.

    Raises:
        VerificationError: As `store_collateral`, or about another platform than was asked for (``collateral.other``).
        FormatError: An answer is malformed.
        UnavailableError: The service does not answer.
        ConfigurationError: A file can't be written.
    """
    for platform in wanted:
        collateral = service.fetch(platform)
        found = check_collateral(collateral, root, now)
        if Wanted(found.tcb_info.tee, found.tcb_info.fmspc, found.ca) != platform:
            raise VerificationError("the collateral is about another kind of platform", code="collateral.other")
        yield store_collateral(folder, collateral, root, now)


def stored_platforms(folder: Path, root: TrustRoot) -> list[Wanted]:
    """The kinds of platforms that there is genuine collateral for: what to fetch again."""
    found = (stored.checked for stored in read_stored(folder, root))
    return [Wanted(each.tcb_info.tee, each.tcb_info.fmspc, each.ca) for each in found if each is not None]


def _read(path: Path, root: TrustRoot) -> Stored:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_COLLATERAL_BYTES + 1)
    except OSError as error:
        problem = UnavailableError(f"cannot read it: {error.strerror}", code="collateral.unreadable")
        return Stored(path, None, problem)
    try:
        return Stored(path, check_signatures(Collateral.from_json(raw), root), None)
    except StrongroomError as error:
        return Stored(path, None, error)
