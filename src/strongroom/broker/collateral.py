"""The broker's own collateral: one JSON file for each kind of platform, named by what it is about.

    collateral/intel/sgx-00606a000000.json          verified with Intel's root
    collateral/simulated/sgx-...json                verified with the simulated root, only if the settings allow it
    collateral/amd/vcek-milan.json                  verified with AMD's root keys (`strongroom.broker.amd_collateral`)

Collateral never comes from the party that is attested. A file may be replaced while the broker runs (write a new one
beside it and rename it); the next quote is verified with it.
"""

import os
from pathlib import Path
from typing import Literal

from strongroom.attestation.collateral import MAX_COLLATERAL_BYTES, Collateral, parse_tcb_info
from strongroom.broker.folder import write_new
from strongroom.errors import ConfigurationError, UnavailableError

Root = Literal["intel", "simulated"]


def collateral_name(collateral: bytes) -> str:
    """File name under which collateral is kept: ``<tee>-<fmspc>.json``.

    Args:
        collateral: QuoteCollateralV3 JSON.

    Returns:
        E.g. ``sgx-00606a000000.json``.

    Raises:
        FormatError: Not collateral, or of a version that is not supported.
    """
    tcb_info = parse_tcb_info(Collateral.from_json(collateral).tcb_info)
    return f"{tcb_info.tee}-{tcb_info.fmspc.hex()}.json"


def find_collateral(folder: Path, root: Root, tee: str, fmspc: bytes) -> bytes | None:
    """Read the collateral for one kind of platform.

    Args:
        folder: The broker's collateral folder.
        root: Which root it will be verified with.
        tee: ``sgx`` or ``tdx``.
        fmspc: 6 bytes, from the PCK certificate of a quote not yet verified; used as hexadecimal digits only.

    Returns:
        The JSON text; None if there is no such file.

    Raises:
        UnavailableError: The file can't be read.
    """
    return read_collateral(folder / root / f"{tee}-{fmspc.hex()}.json")


def read_collateral(path: Path) -> bytes | None:
    """Read one file of collateral.

    Args:
        path: In the broker's collateral folder.

    Returns:
        The JSON text; None if there is no such file.

    Raises:
        UnavailableError: The file can't be read.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_COLLATERAL_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnavailableError(f"cannot read collateral: {error.strerror}", code="collateral.unreadable") from None
    if len(text) > MAX_COLLATERAL_BYTES:
        raise UnavailableError("a collateral file is too long", code="collateral.unreadable")
    return text


def install_collateral(folder: Path, root: Root, collateral: bytes) -> Path:
    """Put collateral into the folder, replacing older collateral about the same kind of platform at once.

    Args:
        folder: The broker's collateral folder.
        root: Which root it will be verified with.
        collateral: JSON text.

    Returns:
        The file.

    Raises:
        FormatError: Not collateral.
        ConfigurationError: The file can't be written.
    """
    path = folder / root / collateral_name(collateral)
    write_collateral(path, collateral)
    return path


def write_collateral(path: Path, collateral: bytes) -> None:
    """Put a file of collateral in place of an older one at once.

    Args:
        path: In the broker's collateral folder.
        collateral: JSON text.

    Raises:
        ConfigurationError: The file can't be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}.new")
        fresh.unlink(missing_ok=True)
        write_new(fresh, collateral)
        fresh.replace(path)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}", code="collateral.unwritable") from None
