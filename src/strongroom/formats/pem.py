"""Strict, bounded PEM for certificate chains: one way to write each chain, nothing between the certificates.

Source: RFC 7468, section 3 (``stricttextualmsg``: lines of 64 characters, no explanatory text). Line ends may be LF or
CR LF. Laxer readers accept many spellings of one chain, which makes bytes around a signature malleable.
"""

import base64
import binascii
import re
from typing import Final

from strongroom.errors import FormatError

_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_END: Final = b"-----END CERTIFICATE-----"
_LINE: Final = 64
_BLOCK: Final = re.compile(
    rb"-----BEGIN CERTIFICATE-----\r?\n((?:[A-Za-z0-9+/=]{1,64}\r?\n)+)-----END CERTIFICATE-----(?:\r?\n|\Z)"
)


def parse_certificates_pem(raw: bytes, *, what: str, max_certificates: int, max_bytes: int) -> tuple[bytes, ...]:
    """Splits a PEM chain into DER certificates (their DER is not looked at here).

    Args:
        raw: The chain, at least one certificate, nothing else.
        what: First part of the code, e.g. ``quote``.
        max_certificates: More are refused.
        max_bytes: Longer input is refused before it is read.

    Returns:
        DER of each certificate, in the order of the chain.

    Raises:
        FormatError: Not exactly that (``<what>.pem``).
    """
    if len(raw) > max_bytes:
        raise FormatError(f"{what}: certificate chain of {len(raw)} bytes, at most {max_bytes}", code=f"{what}.pem")
    certificates: list[bytes] = []
    position = 0
    while position < len(raw):
        block = _BLOCK.match(raw, position)
        if block is None or len(certificates) == max_certificates:
            raise FormatError(f"{what}: certificate chain malformed at offset {position} of it", code=f"{what}.pem")
        certificates.append(_decode(block.group(1), what))
        position = block.end()
    if not certificates:
        raise FormatError(f"{what}: certificate chain is empty", code=f"{what}.pem")
    return tuple(certificates)


def serialize_certificates_pem(certificates: tuple[bytes, ...]) -> bytes:
    """DER certificates as a PEM chain with LF line ends."""
    blocks = []
    for der in certificates:
        text = base64.b64encode(der)
        lines = [text[i : i + _LINE] for i in range(0, len(text), _LINE)]
        blocks.append(b"\n".join([_BEGIN, *lines, _END, b""]))
    return b"".join(blocks)


def _decode(body: bytes, what: str) -> bytes:
    *full, last = body.split()
    if any(len(line) != _LINE for line in full):
        raise FormatError(f"{what}: PEM line is not {_LINE} characters", code=f"{what}.pem")
    text = b"".join([*full, last])
    try:
        der = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise FormatError(f"{what}: PEM is not base64", code=f"{what}.pem") from None
    if base64.b64encode(der) != text:  # non-zero padding bits: a second spelling of the same bytes
        raise FormatError(f"{what}: PEM base64 is not canonical", code=f"{what}.pem")
    return der
