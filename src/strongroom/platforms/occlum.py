"""Occlum: quotes through an ioctl on ``/dev/sgx`` inside the library OS.

Source: Occlum, demos/remote_attestation/dcap; command numbers and structure in `strongroom.formats.occlum`.
"""

import ctypes
import fcntl
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.errors import UnavailableError
from strongroom.formats.layout import little, little_bytes
from strongroom.formats.occlum import (
    DEVICE,
    GENERATE_QUOTE,
    GET_QUOTE_SIZE,
    U32_SIZE,
    QuoteBuffers,
    serialize_buffers,
)
from strongroom.platforms import check_report_data
from strongroom.platforms.evidence import about

MAX_QUOTE_BYTES: Final = 16 * 1024
_ONE_AT_A_TIME: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class OcclumPlatform:
    """The enclave this process runs in.

    Args:
        device: Occlum's device.
    """

    device: Path = Path(DEVICE)

    @property
    def name(self) -> str:
        """Always "occlum"."""
        return "occlum"

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
            The quote, without the buffer's unused end.

        Raises:
            ConfigurationError: `report_data` has another length (``platform.report_data``).
            UnavailableError: Occlum gives no quote (``platform.occlum``), or one about other report data
                (``platform.quote``).
        """
        check_report_data(report_data)
        try:
            descriptor = os.open(self.device, os.O_RDONLY | os.O_CLOEXEC)
            try:
                with _ONE_AT_A_TIME:
                    quote = _generate(descriptor, report_data, _buffer_size(descriptor))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UnavailableError(
                f"{self.device} gives no quote: {os.strerror(error.errno or 0)}", code="platform.occlum"
            ) from None
        return about(quote, report_data)


def answers(device: Path = Path(DEVICE)) -> bool:
    """Whether `device` is Occlum's: on a host, ``/dev/sgx`` is a folder of drivers or does not know the command."""
    try:
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _buffer_size(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, UnavailableError):
        return False
    return True


def _buffer_size(descriptor: int) -> int:
    size = bytearray(U32_SIZE)
    fcntl.ioctl(descriptor, GET_QUOTE_SIZE, size, True)
    wanted = little(bytes(size))
    if not 0 < wanted <= MAX_QUOTE_BYTES:
        raise UnavailableError("Occlum names an impossible quote size", code="platform.occlum")
    return wanted


def _generate(descriptor: int, report_data: bytes, buffer_size: int) -> bytes:
    # The structure holds addresses in this process, so the three buffers must stay where they are until it returns.
    said = ctypes.create_string_buffer(report_data, len(report_data))
    length = ctypes.create_string_buffer(little_bytes(buffer_size, U32_SIZE, what="quote_len"), U32_SIZE)
    quote = ctypes.create_string_buffer(buffer_size)
    buffers = QuoteBuffers(*(ctypes.addressof(buffer) for buffer in (said, length, quote)))
    fcntl.ioctl(descriptor, GENERATE_QUOTE, bytearray(serialize_buffers(buffers)), True)
    used = little(length.raw)
    if used > buffer_size:
        raise UnavailableError("Occlum wrote more than the buffer holds", code="platform.occlum")
    return quote.raw[:used]
