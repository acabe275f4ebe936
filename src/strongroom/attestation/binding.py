"""Binding: does the evidence speak about this key, this nonce, this session?"""

from typing import Final

from strongroom.attestation.claims import Claims
from strongroom.errors import ConfigurationError, VerificationError

REPORT_DATA_SIZE: Final = 64
_DIGEST_SIZES: Final = (32, 48)


def check_report_data(claims: Claims, expected: bytes) -> None:
    """Checks what the environment said in its report data.

    Args:
        claims: Of a verified quote.
        expected: Exactly 64 bytes, or a digest of 32 or 48 bytes that must be followed by zeros.

    Raises:
        VerificationError: The report data says something else (``binding.report_data``).
        ConfigurationError: `expected` has another length (``binding.length``).
    """
    if len(expected) not in {REPORT_DATA_SIZE, *_DIGEST_SIZES}:
        raise ConfigurationError(f"expected report data has {len(expected)} bytes", code="binding.length")
    if claims.report_data != expected.ljust(REPORT_DATA_SIZE, b"\0"):
        raise VerificationError("the evidence speaks about something else (report data)", code="binding.report_data")
