"""A TPM 2.0 through the kernel's resource manager: one command in, one answer out; nothing is started for it.

Source: Linux, Documentation/security/tpm (``/dev/tpmrm0``); the commands are in `strongroom.formats.tpm_commands`.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.errors import FormatError, UnavailableError
from strongroom.formats import tpm_commands as tpm
from strongroom.formats.tpm_quote import parse_tpm_quote, pcr_digest_of

DEVICE: Final = Path("/dev/tpmrm0")
_CODE: Final = "platform.tpm"
_TRIES: Final = 3

Exchange = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Quoted:
    """A quote and the registers it is over.

    Args:
        attest: TPMS_ATTEST as it was signed.
        signature: RSA, 256 bytes.
        pcrs: PCRs 0 to 15, SHA-256 bank, 32 bytes each.
    """

    attest: bytes
    signature: bytes
    pcrs: tuple[bytes, ...]


def read_nv(device: Path, index: int, max_bytes: int) -> bytes:
    """Reads a storage area.

    Args:
        device: Of the TPM.
        index: Handle of the area.
        max_bytes: Longer ones are refused.

    Returns:
        All of it.

    Raises:
        UnavailableError: The TPM doesn't answer, has no such area, or it is too long (``platform.tpm``).
    """
    with _answers(device) as exchange:
        public = tpm.parse_nv_public(exchange(tpm.read_nv_public(index)), index)
        if public.size > max_bytes:
            raise UnavailableError(f"NV index {index:#x} is longer than {max_bytes} bytes", code=_CODE)
        content = b""
        while (left := public.size - len(content)) > 0:
            size = min(left, tpm.NV_BLOCK)
            content += tpm.parse_nv(exchange(tpm.read_nv(index, public.authority, len(content), size)), size)
        return content


def make_quote(device: Path, key: int, extra_data: bytes) -> Quoted:
    """Makes a quote over PCRs 0 to 15.

    Args:
        device: Of the TPM.
        key: Handle of a restricted signing key.
        extra_data: What it shall carry, at most 50 bytes.

    Returns:
        The quote and the values it is over.

    Raises:
        UnavailableError: The TPM doesn't answer, or its registers kept changing (``platform.tpm``).
    """
    with _answers(device) as exchange:
        for _ in range(_TRIES):
            pcrs: tuple[bytes, ...] = ()
            for first in tpm.FIRST_PCRS:
                pcrs += tpm.parse_pcrs(exchange(tpm.read_pcrs(first)), first)
            attest, signature = tpm.parse_quote_answer(exchange(tpm.quote(key, extra_data)))
            if parse_tpm_quote(attest).pcr_digest == pcr_digest_of(pcrs):
                return Quoted(attest, signature, pcrs)
    raise UnavailableError("the TPM's registers changed while they were read", code=_CODE)


@contextmanager
def _answers(device: Path) -> Iterator[Exchange]:
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            yield lambda command: _exchange(descriptor, command)
        finally:
            os.close(descriptor)
    except FormatError as error:
        raise UnavailableError(f"{device} answers what no TPM would: {error.message}", code=_CODE) from None
    except OSError as error:
        raise UnavailableError(f"{device} does not answer: {os.strerror(error.errno or 0)}", code=_CODE) from None


def _exchange(descriptor: int, command: bytes) -> bytes:
    if os.write(descriptor, command) != len(command):
        raise UnavailableError("the TPM took only a part of a command", code=_CODE)
    return os.read(descriptor, tpm.MAX_RESPONSE_BYTES + 1)
