"""The ioctl by which a program under Occlum asks for a quote: structures and command numbers.

The commands are laid out as Linux does (asm-generic/ioctl.h): direction in the top two bits, size of the argument in
14 bits, type and number in 8 bits each.

Source: Occlum, src/libos/src/fs/dev_fs/dev_sgx and demos/remote_attestation/dcap/dcap_lib/dcap.h:
``SGXIOC_GET_DCAP_QUOTE_SIZE = _IOR('s', 7, uint32_t)``, ``SGXIOC_GEN_DCAP_QUOTE = _IOWR('s', 8, argument)``.
"""

from dataclasses import dataclass
from typing import Final

from strongroom.formats.layout import Field, Table, little, little_bytes, read, size_of, write

DEVICE: Final = "/dev/sgx"
POINTER_SIZE: Final = 8
U32_SIZE: Final = 4

_READ: Final = 2
_WRITE: Final = 1
_TYPE: Final = ord("s")

# struct sgxioc_gen_dcap_quote_arg_t on x86-64: three pointers of the calling process.
GENERATE_ARGUMENT: Final[Table] = (
    Field("report_data", 0, POINTER_SIZE),
    Field("quote_len", 8, POINTER_SIZE),
    Field("quote_buf", 16, POINTER_SIZE),
)


def _command(direction: int, number: int, argument_size: int) -> int:
    return direction << 30 | argument_size << 16 | _TYPE << 8 | number


GET_QUOTE_SIZE: Final = _command(_READ, 7, U32_SIZE)
GENERATE_QUOTE: Final = _command(_READ | _WRITE, 8, size_of(GENERATE_ARGUMENT))


@dataclass(frozen=True, slots=True)
class QuoteBuffers:
    """Addresses the argument of `GENERATE_QUOTE` points to.

    Args:
        report_data: 64 bytes, read.
        quote_len: u32, little-endian: size of the buffer going in, size of the quote coming out.
        quote_buf: Where the quote is written.
    """

    report_data: int
    quote_len: int
    quote_buf: int


def serialize_buffers(buffers: QuoteBuffers) -> bytes:
    """The 24 bytes of the argument.

    Raises:
        FormatError: An address does not fit 64 bits.
    """
    return write(
        GENERATE_ARGUMENT,
        {
            name: little_bytes(getattr(buffers, name), POINTER_SIZE, what=name)
            for name in ("report_data", "quote_len", "quote_buf")
        },
        what="occlum",
    )


def parse_buffers(raw: bytes) -> QuoteBuffers:
    """Reads the argument back, as the other side of the ioctl does.

    Raises:
        FormatError: Not 24 bytes.
    """
    return QuoteBuffers(**{name: little(value) for name, value in read(GENERATE_ARGUMENT, raw, what="occlum").items()})
