"""AMD's collateral in the broker's folder: one file for each product and kind of key, ``amd/vcek-milan.json``."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from strongroom.attestation.amd_collateral import AmdCollateral
from strongroom.attestation.roots import AmdRoot
from strongroom.attestation.snp import check_authorities, list_issued
from strongroom.broker.collateral import read_collateral, write_collateral
from strongroom.errors import StrongroomError, VerificationError
from strongroom.formats.snp_report import SigningKey, SnpProduct

PRODUCTS: Final[tuple[SnpProduct, ...]] = ("milan", "genoa", "turin")
SIGNING_KEYS: Final[tuple[SigningKey, ...]] = ("vcek", "vlek")


@dataclass(frozen=True, slots=True)
class StoredAmd:
    """AMD's collateral in the folder.

    Args:
        path: Its file.
        issued: When its revocation list was made; None if it is not good.
        expires: Until when it is good; None if it is not.
        problem: Why it is not; None if it is.
    """

    path: Path
    issued: datetime | None
    expires: datetime | None
    problem: StrongroomError | None = None


def find_amd_collateral(
    folder: Path, root: AmdRoot, signing_key: SigningKey, product: SnpProduct
) -> AmdCollateral | None:
    """Read the collateral for one kind of key.

    Args:
        folder: The broker's collateral folder.
        root: Which root it will be verified with.
        signing_key: Of a report not yet verified.
        product: Likewise; both are among the few names we know.

    Returns:
        The collateral; None if there is none.

    Raises:
        UnavailableError: The file can't be read.
        FormatError: It is malformed.
    """
    text = read_collateral(_path(folder, root, signing_key, product))
    return None if text is None else AmdCollateral.from_json(text)


def store_amd_collateral(folder: Path, collateral: AmdCollateral, root: AmdRoot, now: datetime) -> StoredAmd:
    """Check collateral and put it into the folder in place of older one; a running broker uses it at once.

    Args:
        folder: The broker's collateral folder.
        collateral: From anywhere.
        root: Whose signature counts.
        now: Aware time.

    Returns:
        What is stored now.

    Raises:
        VerificationError: Not genuine, not valid now, or its revocation list is older than the one that is stored,
            which then stays (``collateral.rolled_back``).
        FormatError: What is given or stored is malformed.
        ConfigurationError: The file can't be written.
        UnavailableError: What is stored can't be read.
    """
    authorities = check_authorities(collateral, root, now)
    before = find_amd_collateral(folder, root, collateral.signing_key, collateral.product)
    if before is not None and list_issued(before) > authorities.issued:
        raise VerificationError(
            "the revocation list is older than the one that is stored", code="collateral.rolled_back"
        )
    path = _path(folder, root, collateral.signing_key, collateral.product)
    write_collateral(path, collateral.to_json().encode())
    return StoredAmd(path, authorities.issued, authorities.expires)


def stored_amd_collateral(folder: Path, root: AmdRoot, now: datetime) -> Iterator[StoredAmd]:
    """All of AMD's collateral in the folder, each judged now.

    Args:
        folder: The broker's collateral folder.
        root: Which root it is verified with.
        now: Aware time.

    Yields:
        Each file that is there.
    """
    for signing_key in SIGNING_KEYS:
        for product in PRODUCTS:
            path = _path(folder, root, signing_key, product)
            try:
                collateral = find_amd_collateral(folder, root, signing_key, product)
                if collateral is not None:
                    found = check_authorities(collateral, root, now)
                    yield StoredAmd(path, found.issued, found.expires)
            except StrongroomError as error:
                yield StoredAmd(path, None, None, error)


def _path(folder: Path, root: AmdRoot, signing_key: SigningKey, product: SnpProduct) -> Path:
    # Simulated roots have a folder of their own, so that neither is ever taken for the other.
    return folder / ("amd-simulated" if root.simulated else "amd") / f"{signing_key}-{product}.json"
