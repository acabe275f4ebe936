"""SIGSTRUCT: the signer's certificate of an SGX enclave (a ``.sig`` file).

Source: Intel 64 and IA-32 Software Developer's Manual, volume 3D, "Enclave Signature Structure (SIGSTRUCT)" and EINIT.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from strongroom.errors import FormatError, VerificationError
from strongroom.formats.layout import Field, Table, little, read, write

SIGSTRUCT: Final[Table] = (
    Field("header_1", 0, 16),
    Field("vendor", 16, 4),
    Field("date", 20, 4),
    Field("header_2", 24, 16),
    Field("sw_defined", 40, 4),
    Field("reserved_1", 44, 84),
    Field("modulus", 128, 384),
    Field("exponent", 512, 4),
    Field("signature", 516, 384),
    Field("misc_select", 900, 4),
    Field("misc_mask", 904, 4),
    Field("cet_attributes", 908, 1),
    Field("cet_attributes_mask", 909, 1),
    Field("reserved_2", 910, 2),
    Field("isv_family_id", 912, 16),
    Field("attributes", 928, 16),
    Field("attribute_mask", 944, 16),
    Field("mr_enclave", 960, 32),
    Field("reserved_3", 992, 16),
    Field("isv_ext_prod_id", 1008, 16),
    Field("isv_prod_id", 1024, 2),
    Field("isv_svn", 1026, 2),
    Field("reserved_4", 1028, 12),
    Field("q1", 1040, 384),
    Field("q2", 1424, 384),
)

HEADER_1: Final = bytes.fromhex("06000000e10000000000010000000000")
HEADER_2: Final = bytes.fromhex("01010000600000006000000001000000")
RSA_EXPONENT: Final = 3
RSA_BITS: Final = 3072
SIGNED_RANGES: Final = ((0, 128), (900, 1028))

_DEBUG: Final = 1 << 1
_DATE: Final = re.compile(r"[0-9]{8}")
_WHAT: Final = "sigstruct"


@dataclass(frozen=True, slots=True)
class Sigstruct:
    """A parsed SIGSTRUCT; nothing is verified before `verify`.

    Args:
        fields: Every field that is not reserved, by the name in `SIGSTRUCT`.
    """

    fields: dict[str, bytes]

    @property
    def mr_enclave(self) -> bytes:
        """Measurement of the enclave that was signed, 32 bytes."""
        return self.fields["mr_enclave"]

    @property
    def mr_signer(self) -> bytes:
        """SHA-256 of the modulus as stored (little-endian), 32 bytes."""
        return hashlib.sha256(self.fields["modulus"]).digest()

    @property
    def isv_prod_id(self) -> int:
        """Product id, u16."""
        return little(self.fields["isv_prod_id"])

    @property
    def isv_svn(self) -> int:
        """Security version, u16."""
        return little(self.fields["isv_svn"])

    @property
    def date(self) -> str:
        """Date of signing, ``YYYY-MM-DD``; Gramine may write 0000-00-00."""
        text = f"{little(self.fields['date']):08x}"
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"

    @property
    def debug_allowed(self) -> bool:
        """Whether the enclave may be started in debug mode: required so, or not fixed by the mask."""
        flags, mask = little(self.fields["attributes"][:8]), little(self.fields["attribute_mask"][:8])
        return bool(flags & _DEBUG) or not mask & _DEBUG

    def verify(self) -> None:
        """Checks the signature as EINIT does: RSA-3072, e = 3, PKCS #1 v1.5 with SHA-256, and q1 and q2.

        Raises:
            VerificationError: The signature is wrong (``sigstruct.signature``).
        """
        modulus, signature = little(self.fields["modulus"]), little(self.fields["signature"])
        signed = serialize_sigstruct(self)
        message = b"".join(signed[start:end] for start, end in SIGNED_RANGES)
        if modulus.bit_length() != RSA_BITS or signature >= modulus:
            raise VerificationError("modulus or signature is out of range", code="sigstruct.signature")
        try:
            key = rsa.RSAPublicNumbers(RSA_EXPONENT, modulus).public_key()
            key.verify(signature.to_bytes(RSA_BITS // 8, "big"), message, padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, ValueError):
            raise VerificationError("the enclave's signature is wrong", code="sigstruct.signature") from None
        if (little(self.fields["q1"]), little(self.fields["q2"])) != quotients(signature, modulus):
            raise VerificationError("q1 or q2 of the enclave's signature is wrong", code="sigstruct.signature")


def parse_sigstruct(raw: bytes) -> Sigstruct:
    """Parses a SIGSTRUCT.

    Args:
        raw: Exactly 1808 bytes.

    Returns:
        The structure, not verified.

    Raises:
        FormatError: Wrong length, reserved bytes or constants (``sigstruct.length``, ``sigstruct.reserved``,
            ``sigstruct.constant``).
    """
    fields = read(SIGSTRUCT, raw, what=_WHAT)
    constants = (fields["header_1"], fields["header_2"], little(fields["exponent"]))
    if constants != (HEADER_1, HEADER_2, RSA_EXPONENT):
        raise FormatError("sigstruct: header or exponent is not the architectural constant", code="sigstruct.constant")
    if not _DATE.fullmatch(f"{little(fields['date']):08x}"):
        raise FormatError("sigstruct: date at offset 20 is not BCD", code="sigstruct.constant")
    return Sigstruct(fields)


def serialize_sigstruct(sigstruct: Sigstruct) -> bytes:
    """The structure as 1808 bytes, the inverse of `parse_sigstruct`.

    Raises:
        FormatError: A field is missing or has the wrong size (``sigstruct.field``).
    """
    return write(SIGSTRUCT, sigstruct.fields, what=_WHAT)


def quotients(signature: int, modulus: int) -> tuple[int, int]:
    """q1 and q2, which spare the processor two long divisions."""
    square = signature * signature
    return square // modulus, (square % modulus) * signature // modulus
