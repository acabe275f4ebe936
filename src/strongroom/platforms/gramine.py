"""Gramine-SGX: quotes and keys through the pseudo-files in ``/dev/attestation``.

A quote is made by writing 64 bytes to ``user_report_data`` and then opening ``quote``: every open makes a fresh one
about what was written last. That state belongs to the whole process, so the pair is made under one lock.

Source: Gramine documentation, "Attestation and Secret Provisioning", and libos/src/fs/dev/attestation.c (1.3 to 1.9).
Tested against a double of these files; not run on SGX hardware.
"""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from strongroom.errors import ConfigurationError, UnavailableError
from strongroom.platforms import check_report_data
from strongroom.platforms.evidence import about

ATTESTATION: Final = Path("/dev/attestation")
KEY_SIZE: Final = 16
MAX_QUOTE_BYTES: Final = 8192  # as much as Gramine's own verifier takes
DCAP: Final = b"dcap"
_MAX_TYPE_BYTES: Final = 16
_KEY_NAME: Final = re.compile(r"[A-Za-z0-9-][A-Za-z0-9_-]{0,63}")  # a leading underscore is Gramine's
_READ_BYTES: Final = 4096

# One per process, not per object: report data written by one thread must not end in the quote of another.
_PROCESS_STATE: Final = threading.Lock()

Sealing = Literal["mrenclave", "mrsigner"]


@dataclass(frozen=True, slots=True)
class GraminePlatform:
    """The enclave this process runs in.

    Args:
        folder: Gramine's pseudo-files.
    """

    folder: Path = ATTESTATION

    @property
    def name(self) -> str:
        """Always "gramine"."""
        return "gramine"

    @property
    def tee(self) -> str:
        """Always "sgx"."""
        return "sgx"

    @property
    def simulated(self) -> bool:
        """Always false."""
        return False

    def quote(self, report_data: bytes) -> bytes:
        """A fresh SGX quote.

        Args:
            report_data: Exactly 64 bytes.

        Returns:
            The quote.

        Raises:
            ConfigurationError: `report_data` has another length (``platform.report_data``), or remote attestation is
                off in the manifest (``platform.gramine``).
            UnavailableError: Gramine gives no quote (``platform.gramine``), or one about other report data
                (``platform.quote``).
        """
        check_report_data(report_data)
        if attestation_type(self.folder) != DCAP:
            raise ConfigurationError(
                "this enclave can't make quotes",
                code="platform.gramine",
                hint='the manifest needs sgx.remote_attestation = "dcap"',
            )
        with _PROCESS_STATE, _answers(self.folder):
            _write_once(self.folder / "user_report_data", report_data)
            quote = _read_to_end(self.folder / "quote", MAX_QUOTE_BYTES)
        return about(quote, report_data)

    def sealing_key(self, bound_to: Sealing) -> bytes:
        """A key only this enclave (``mrenclave``) or enclaves of this signer (``mrsigner``) get on this CPU.

        It changes when the CPU's security version does, and with ``mrenclave`` at every update of the code.

        Returns:
            16 bytes.

        Raises:
            UnavailableError: Gramine gives none.
        """
        with _answers(self.folder):
            key = _read_to_end(self.folder / "keys" / f"_sgx_{bound_to}", KEY_SIZE)
        if len(key) != KEY_SIZE:
            raise UnavailableError("Gramine gives no sealing key", code="platform.sealing_key")
        return key

    def provisioned_key(self, name: str) -> bytes | None:
        """A key for encrypted files, if it was provisioned.

        Args:
            name: As in a mount's ``key_name``.

        Returns:
            16 bytes; None while it is not set.

        Raises:
            ConfigurationError: Not a key's name, or the manifest has no such key (``platform.key_name``).
            UnavailableError: Gramine doesn't answer.
        """
        with _answers(self.folder), _known(name):
            key = _read_to_end(self.folder / "keys" / name, KEY_SIZE)
        if len(key) not in {0, KEY_SIZE}:
            raise UnavailableError("Gramine's key file has an unknown form", code="platform.key")
        return key or None

    def provide_key(self, name: str, key: bytes) -> None:
        """Sets a key for encrypted files; files of its mounts can be opened from now on.

        Args:
            name: As in a mount's ``key_name``.
            key: Exactly 16 bytes.

        Raises:
            ConfigurationError: Not a key's name, the manifest has no such key (``platform.key_name``), or the key
                does not have 16 bytes (``platform.key``).
            UnavailableError: Gramine does not take it.
        """
        if len(key) != KEY_SIZE:
            raise ConfigurationError(f"the key has {len(key)} bytes, Gramine takes {KEY_SIZE}", code="platform.key")
        with _answers(self.folder), _known(name):
            _write_once(self.folder / "keys" / name, key)


def find_gramine(folder: Path = ATTESTATION) -> GraminePlatform | None:
    """The platform, if this process runs in a Gramine enclave that can be attested remotely (DCAP)."""
    return GraminePlatform(folder) if attestation_type(folder) == DCAP else None


def attestation_type(folder: Path = ATTESTATION) -> bytes | None:
    """What Gramine says it attests with ("dcap", "none"); None outside of Gramine-SGX."""
    try:
        return _read_to_end(folder / "attestation_type", _MAX_TYPE_BYTES).rstrip(b"\n")
    except (OSError, UnavailableError):
        return None


@contextmanager
def _answers(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            f"{folder} does not answer: {os.strerror(error.errno or 0)}",
            code="platform.gramine",
            hint="is the provisioning service (aesmd, PCCS) of this machine running?",
        ) from None


@contextmanager
def _known(key_name: str) -> Iterator[None]:
    unknown = ConfigurationError(
        f"no key {key_name!r} in this enclave",
        code="platform.key_name",
        hint="Gramine knows only the keys that the manifest names (key_name of a mount)",
    )
    if not _KEY_NAME.fullmatch(key_name):
        raise unknown
    try:
        yield
    except FileNotFoundError:
        raise unknown from None


def _write_once(path: Path, content: bytes) -> None:
    # No buffering in between and no second try: Gramine takes each write() for the whole value.
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if os.write(descriptor, content) != len(content):
            raise UnavailableError(f"{path} took only a part", code="platform.gramine")
    finally:
        os.close(descriptor)


def _read_to_end(path: Path, max_bytes: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    content = bytearray()
    try:
        while chunk := os.read(descriptor, _READ_BYTES):
            content += chunk
            if len(content) > max_bytes:
                raise UnavailableError(f"{path} is longer than {max_bytes} bytes", code="platform.gramine")
    finally:
        os.close(descriptor)
    return bytes(content)
