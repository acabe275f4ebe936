"""Certificates an SEV-SNP host gives its guest along with a report.

Source: AMD GHCB specification (publication 56421), "SNP Extended Guest Request", certificate table: entries of GUID
(16 bytes, as they are written), offset and length (u32, little-endian), ended by a zero entry; then the certificates.
"""

from typing import Final
from uuid import UUID

from strongroom.errors import FormatError
from strongroom.formats.certificate import MAX_CERTIFICATE_BYTES
from strongroom.formats.layout import Reader

VCEK: Final = UUID("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK: Final = UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
MAX_ENTRIES: Final = 16

_WHAT: Final = "certificate_table"


def parse_certificate_table(raw: bytes) -> dict[UUID, bytes]:
    """Reads the table; what stands at which GUID is not looked at.

    Args:
        raw: The table and the certificates; empty: no certificate.

    Returns:
        DER by GUID.

    Raises:
        FormatError: An entry points outside, is there twice or is too long, or the end is missing
            (``certificate_table.*``).
    """
    entries: dict[UUID, tuple[int, int]] = {}
    reader = Reader(raw, what=_WHAT)
    while raw:
        guid, offset, size = reader.take(16, "GUID"), reader.number(4, "offset"), reader.number(4, "length")
        if not any(guid) and not offset and not size:
            break
        key = UUID(bytes=guid)
        if key in entries or len(entries) == MAX_ENTRIES or size > MAX_CERTIFICATE_BYTES:
            raise FormatError("certificate table: an entry twice, too long, or too many", code=f"{_WHAT}.entry")
        entries[key] = (offset, size)
    if any(offset < reader.offset or offset + size > len(raw) for offset, size in entries.values()):
        raise FormatError("certificate table: an entry points outside", code=f"{_WHAT}.entry")
    return {guid: raw[offset : offset + size] for guid, (offset, size) in entries.items()}
