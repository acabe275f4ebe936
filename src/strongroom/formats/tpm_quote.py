"""TPM quotes: what a TPM says about its platform configuration registers (PCRs), and the signature under it.

Source: TCG Trusted Platform Module Library, family 2.0, Part 2 (TPMS_ATTEST, TPMS_QUOTE_INFO, TPML_PCR_SELECTION,
TPMT_SIGNATURE). All integers are big-endian.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from strongroom.errors import FormatError
from strongroom.formats.layout import Reader

SHA256: Final = 0x000B
RSASSA: Final = 0x0014
# The registers that nothing but a reset of the machine sets back; 16 and above can be reset while it runs.
PCR_COUNT: Final = 16
PCR_SIZE: Final = 32
RSA_2048_SIZE: Final = 256
MAX_ATTEST_BYTES: Final = 512

# TPMS_ATTEST begins with it: no structure a restricted key signs for somebody else does.
_GENERATED: Final = 0xFF544347
_ST_ATTEST_QUOTE: Final = 0x8018
_CLOCK_INFO_SIZE: Final = 8 + 4 + 4 + 1
_FIRMWARE_VERSION_SIZE: Final = 8
_MAX_NAME: Final = 66
_MAX_DATA: Final = 66
_WHAT: Final = "tpm"
# One bank, three octets of bits, registers 0 to 15.
SELECTION: Final = (
    (1).to_bytes(4, "big") + SHA256.to_bytes(2, "big") + bytes((3,)) + ((1 << PCR_COUNT) - 1).to_bytes(3, "little")
)


@dataclass(frozen=True, slots=True)
class TpmQuote:
    """A well-formed quote over PCRs 0 to 15 of the SHA-256 bank, nothing verified.

    Args:
        extra_data: What the caller wanted to say, at most 66 bytes.
        pcr_digest: SHA-256 over the registers' values in order, 32 bytes.
    """

    extra_data: bytes
    pcr_digest: bytes


def parse_tpm_quote(raw: bytes) -> TpmQuote:
    """Parses a TPMS_ATTEST of a quote; every byte is accounted for.

    Args:
        raw: At most 512 bytes.

    Returns:
        The quote.

    Raises:
        FormatError: Not a quote over exactly those registers (``tpm.*``).
    """
    if len(raw) > MAX_ATTEST_BYTES:
        raise FormatError(f"tpm: quote of {len(raw)} bytes, at most {MAX_ATTEST_BYTES}", code="tpm.length")
    reader = Reader(raw, what=_WHAT)
    if reader.big(4, "magic") != _GENERATED:
        raise FormatError("tpm: not made by a TPM (magic)", code="tpm.magic")
    if reader.big(2, "type") != _ST_ATTEST_QUOTE:
        raise FormatError("tpm: not a quote", code="tpm.type")
    sized(reader, _MAX_NAME, "qualified signer")
    extra_data = sized(reader, _MAX_DATA, "extra data")
    reader.take(_CLOCK_INFO_SIZE, "clock")
    reader.take(_FIRMWARE_VERSION_SIZE, "firmware version")
    if reader.take(len(SELECTION), "PCR selection") != SELECTION:
        raise FormatError("tpm: the quote is not over PCRs 0 to 15 of the SHA-256 bank", code="tpm.selection")
    pcr_digest = sized(reader, PCR_SIZE, "PCR digest")
    if len(pcr_digest) != PCR_SIZE:
        raise FormatError("tpm: the PCR digest is not 32 bytes", code="tpm.digest")
    reader.finish()
    return TpmQuote(extra_data, pcr_digest)


def parse_rsassa_signature(reader: Reader) -> bytes:
    """Reads a TPMT_SIGNATURE: RSASSA-PKCS1-v1_5 with SHA-256 by a key of 2048 bits.

    Returns:
        The signature, 256 bytes.

    Raises:
        FormatError: Another kind of signature (``tpm.*``).
    """
    if (reader.big(2, "signature algorithm"), reader.big(2, "hash algorithm")) != (RSASSA, SHA256):
        raise FormatError("tpm: the signature is not RSASSA with SHA-256", code="tpm.signature")
    signature = sized(reader, RSA_2048_SIZE, "signature")
    if len(signature) != RSA_2048_SIZE:
        raise FormatError("tpm: the signature is not 256 bytes", code="tpm.signature")
    return signature


def sized(reader: Reader, max_bytes: int, name: str) -> bytes:
    """Reads a TPM2B structure: a length of two bytes, then as many bytes.

    Raises:
        FormatError: It is longer than `max_bytes` (``tpm.length``) or cut (``tpm.truncated``).
    """
    size = reader.big(2, name)
    if size > max_bytes:
        raise FormatError(f"tpm: {name} of {size} bytes, at most {max_bytes}", code="tpm.length")
    return reader.take(size, name)


def pcr_digest_of(pcrs: Sequence[bytes]) -> bytes:
    """The digest a quote holds over these values, 32 bytes."""
    return hashlib.sha256(b"".join(pcrs)).digest()


def extra_data_of(report_data: bytes) -> bytes:
    """What our quotes carry in `extra_data`: SHA-256 of the report data; 64 bytes would not fit every TPM's field."""
    return hashlib.sha256(report_data).digest()
