"""The few TPM 2.0 commands evidence needs: bytes to write to the device, and what it answers.

Source: TCG Trusted Platform Module Library, family 2.0, Part 3 (TPM2_NV_ReadPublic, TPM2_NV_Read, TPM2_PCR_Read,
TPM2_Quote) and Part 2 (structures, TPM_RC). All integers are big-endian.
"""

from typing import Final, NamedTuple

from strongroom.errors import FormatError, UnavailableError
from strongroom.formats.layout import Reader
from strongroom.formats.tpm_quote import (
    MAX_ATTEST_BYTES,
    PCR_COUNT,
    PCR_SIZE,
    SELECTION,
    SHA256,
    parse_rsassa_signature,
    sized,
)

MAX_RESPONSE_BYTES: Final = 4096
OWNER: Final = 0x40000001
NV_BLOCK: Final = 512  # what every TPM reads at once

_NO_SESSIONS: Final = 0x8001
_SESSIONS: Final = 0x8002
_NV_READ: Final = 0x0000014E
_QUOTE: Final = 0x00000158
_NV_READ_PUBLIC: Final = 0x00000169
_PCR_READ: Final = 0x0000017E
_PASSWORD: Final = 0x40000009
_ALG_NULL: Final = 0x0010
_OWNER_READ: Final = 1 << 17
_AUTH_READ: Final = 1 << 18
_HEADER_SIZE: Final = 10
_MAX_NV_PUBLIC: Final = 4 + 2 + 4 + 2 + 66 + 2
_MAX_NAME: Final = 66
_PCRS_AT_ONCE: Final = 8
# An empty password, no nonce, no session kept.
_EMPTY_PASSWORD: Final = _PASSWORD.to_bytes(4, "big") + bytes(2) + bytes(1) + bytes(2)
_WHAT: Final = "tpm"


class NvIndex(NamedTuple):
    """What a TPM says about one of its storage areas.

    Args:
        size: In bytes.
        authority: Handle whose (empty) password allows reading.
    """

    size: int
    authority: int


def read_nv_public(index: int) -> bytes:
    """Asks about a storage area."""
    return _command(_NV_READ_PUBLIC, _u32(index))


def parse_nv_public(response: bytes, index: int) -> NvIndex:
    """The answer to `read_nv_public`.

    Raises:
        UnavailableError: The TPM refused (``tpm.refused``).
        FormatError: Malformed (``tpm.*``).
    """
    reader = _answer(response)
    public = Reader(sized(reader, _MAX_NV_PUBLIC, "NV public area"), what=_WHAT)
    sized(reader, _MAX_NAME, "NV name")
    reader.finish()
    if public.big(4, "NV index") != index:
        raise FormatError("tpm: the answer is about another NV index", code="tpm.nv")
    public.take(2, "name algorithm")
    attributes = public.big(4, "attributes")
    sized(public, _MAX_NAME, "policy")
    size = public.big(2, "data size")
    public.finish()
    if attributes & _OWNER_READ:
        return NvIndex(size, OWNER)
    if attributes & _AUTH_READ:
        return NvIndex(size, index)
    raise FormatError("tpm: nobody may read the NV index", code="tpm.nv")


def read_nv(index: int, authority: int, offset: int, size: int) -> bytes:
    """Asks for at most `NV_BLOCK` bytes of a storage area."""
    return _command(_NV_READ, _u32(authority) + _u32(index), _u16(size) + _u16(offset), authorized=True)


def parse_nv(response: bytes, size: int) -> bytes:
    """The answer to `read_nv`: exactly `size` bytes.

    Raises:
        UnavailableError: The TPM refused (``tpm.refused``).
        FormatError: Malformed (``tpm.*``).
    """
    reader = _parameters(response)
    data = sized(reader, NV_BLOCK, "NV data")
    reader.finish()
    if len(data) != size:
        raise FormatError("tpm: the TPM read another number of bytes", code="tpm.nv")
    return data


def read_pcrs(first: int) -> bytes:
    """Asks for the eight registers from `first` on (0 or 8), SHA-256 bank."""
    return _command(_PCR_READ, _half(first))


def parse_pcrs(response: bytes, first: int) -> tuple[bytes, ...]:
    """The answer to `read_pcrs`: eight values of 32 bytes.

    Raises:
        UnavailableError: The TPM refused (``tpm.refused``).
        FormatError: Malformed, or other registers (``tpm.*``).
    """
    reader = _answer(response)
    reader.take(4, "update counter")
    selection = _half(first)
    if reader.take(len(selection), "PCR selection") != selection or reader.big(4, "count") != _PCRS_AT_ONCE:
        raise FormatError("tpm: it has no SHA-256 bank, or not all of its registers", code="tpm.selection")
    values = tuple(sized(reader, PCR_SIZE, "PCR") for _ in range(_PCRS_AT_ONCE))
    reader.finish()
    if any(len(value) != PCR_SIZE for value in values):
        raise FormatError("tpm: a PCR is not 32 bytes", code="tpm.digest")
    return values


def quote(key: int, extra_data: bytes) -> bytes:
    """Asks for a quote over PCRs 0 to 15 of the SHA-256 bank, with the key's own scheme."""
    return _command(
        _QUOTE, _u32(key), _u16(len(extra_data)) + extra_data + _u16(_ALG_NULL) + SELECTION, authorized=True
    )


def parse_quote_answer(response: bytes) -> tuple[bytes, bytes]:
    """The answer to `quote`.

    Returns:
        The TPMS_ATTEST as it was signed, and the RSA signature, 256 bytes.

    Raises:
        UnavailableError: The TPM refused (``tpm.refused``).
        FormatError: Malformed (``tpm.*``).
    """
    reader = _parameters(response)
    attest = sized(reader, MAX_ATTEST_BYTES, "attest")
    signature = parse_rsassa_signature(reader)
    reader.finish()
    return attest, signature


def _command(code: int, handles: bytes, parameters: bytes = b"", *, authorized: bool = False) -> bytes:
    tag = _SESSIONS if authorized else _NO_SESSIONS
    sessions = _u32(len(_EMPTY_PASSWORD)) + _EMPTY_PASSWORD if authorized else b""
    size = _HEADER_SIZE + len(handles) + len(sessions) + len(parameters)
    return _u16(tag) + _u32(size) + _u32(code) + handles + sessions + parameters


def _answer(response: bytes, tag: int = _NO_SESSIONS) -> Reader:
    if len(response) > MAX_RESPONSE_BYTES:
        raise FormatError("tpm: the answer is too long", code="tpm.length")
    reader = Reader(response, what=_WHAT)
    found = reader.big(2, "tag")
    if reader.big(4, "size") != len(response):
        raise FormatError("tpm: the answer has another length than it says", code="tpm.length")
    if (reason := reader.big(4, "response code")) != 0:
        raise UnavailableError(f"the TPM refused: {reason:#x}", code="tpm.refused")
    if found != tag:
        raise FormatError("tpm: the answer is to another kind of command", code="tpm.tag")
    return reader


def _parameters(response: bytes) -> Reader:
    """The parameters of an answer to a command with a password; the session's part says nothing."""
    reader = _answer(response, _SESSIONS)
    parameters = reader.take(reader.big(4, "parameter size"), "parameters")
    sized(reader, _MAX_NAME, "session nonce")
    reader.take(1, "session attributes")
    sized(reader, _MAX_NAME, "session authorization")
    reader.finish()
    return Reader(parameters, what=_WHAT)


def _half(first: int) -> bytes:
    bits = ((1 << _PCRS_AT_ONCE) - 1) << first
    return _u32(1) + _u16(SHA256) + bytes((3,)) + bits.to_bytes(3, "little")


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


FIRST_PCRS: Final = tuple(range(0, PCR_COUNT, _PCRS_AT_ONCE))
