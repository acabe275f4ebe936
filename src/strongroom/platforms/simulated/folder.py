"""The folder of a simulated machine: every file name says SIMULATED, private keys are readable by their owner only."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from strongroom.errors import ConfigurationError, WouldOverwrite
from strongroom.platforms.simulated.pki import CertifiedKey, Pki

README: Final = "README.txt"
COLLATERAL: Final = "SIMULATED-collateral.json"
ROOT_DER: Final = "SIMULATED-root-ca.der"
ATTESTATION_KEY: Final = "SIMULATED-attestation-key.pem"
_CERTIFIED: Final = ("root", "pck_ca", "pck", "tcb_signer")
MAX_FILE_BYTES: Final = 64 * 1024

README_TEXT: Final = f"""\
SIMULATED - this folder protects nothing.

It holds a simulated machine of Strongroom: private keys with which anybody who reads them makes attestation evidence
for any code. It serves to develop, test and try Strongroom without SGX or TDX hardware. A broker believes this machine
only if its settings name this root; never name it where real data is involved.

A broker needs two files, and none of the private keys:
  {ROOT_DER}
  {COLLATERAL}
The evidence stays valid for one year from creation; afterwards make a new machine:
  strongroom platform simulate NEW_FOLDER
"""


def write_folder(folder: Path, pki: Pki, attestation_key: ec.EllipticCurvePrivateKey, collateral: str) -> None:
    """Writes a machine into a new or empty folder.

    Args:
        folder: Made if absent.
        pki: Certified keys.
        attestation_key: The quoting enclave's key.
        collateral: QuoteCollateralV3 JSON.

    Raises:
        WouldOverwrite: Something is in the folder (``simulated.exists``).
        ConfigurationError: The folder can't be written (``simulated.folder``).
    """
    contents = {
        README: README_TEXT.encode(),
        COLLATERAL: collateral.encode(),
        ROOT_DER: pki.root.der,
        ATTESTATION_KEY: _key_pem(attestation_key),
    }
    for name in _CERTIFIED:
        certified: CertifiedKey = getattr(pki, name)
        contents[certificate_name(name)] = certified.certificate.public_bytes(Encoding.PEM)
        contents[key_name(name)] = _key_pem(certified.private_key)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise WouldOverwrite(
                f"{folder} is not empty", code="simulated.exists", hint="give the name of a new folder"
            )
        for name, content in contents.items():
            _write_new(folder / name, content, private=name.endswith("-key.pem"))
    except OSError as error:
        raise ConfigurationError(f"can't write {folder}: {error.strerror}", code="simulated.folder") from error


def read_folder(folder: Path) -> tuple[Pki, ec.EllipticCurvePrivateKey, str]:
    """The parts of a machine: the inverse of `write_folder`.

    Raises:
        ConfigurationError: A file is missing, malformed or doesn't belong to the others (``simulated.folder``).
    """
    with _expected(folder):
        pki = Pki(**{name: _read_certified(folder, name) for name in _CERTIFIED})
        return pki, _load_key(_read(folder / ATTESTATION_KEY)), _read_collateral(folder)


def read_trust(folder: Path) -> tuple[bytes, str]:
    """What a broker needs of a machine, and nothing that makes evidence: its private keys may be elsewhere.

    Returns:
        The root certificate, DER, and QuoteCollateralV3 JSON.

    Raises:
        ConfigurationError: One of the two files is missing or malformed (``simulated.folder``).
    """
    with _expected(folder):
        root = _read(folder / ROOT_DER)
        x509.load_der_x509_certificate(root)
        return root, _read_collateral(folder)


@contextmanager
def _expected(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "a file is malformed"
        raise ConfigurationError(
            f"{folder} is not a simulated machine: {reason}",
            code="simulated.folder",
            hint="make one with: strongroom platform simulate FOLDER",
        ) from error


def _read_collateral(folder: Path) -> str:
    collateral = _read(folder / COLLATERAL).decode()
    json.loads(collateral)
    return collateral


def certificate_name(name: str) -> str:
    """File name of a certificate, e.g. ``SIMULATED-pck-ca.pem``."""
    return f"SIMULATED-{name.replace('_', '-')}.pem"


def key_name(name: str) -> str:
    """File name of a private key, e.g. ``SIMULATED-pck-ca-key.pem``."""
    return f"SIMULATED-{name.replace('_', '-')}-key.pem"


def _write_new(path: Path, content: bytes, *, private: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ValueError(f"{path.name} is too long")
    return content


def _read_certified(folder: Path, name: str) -> CertifiedKey:
    certificate = x509.load_pem_x509_certificate(_read(folder / certificate_name(name)))
    key = _load_key(_read(folder / key_name(name)))
    if certificate.public_key() != key.public_key():
        raise ValueError(f"{name}: the key doesn't belong to the certificate")
    return CertifiedKey(certificate, key)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ValueError("not a P-256 key")
    return key
