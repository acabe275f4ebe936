"""Azure's attestation report of a confidential VM: a hardware report and what the paravisor says beside it.

    header 32 | hardware report 1184 (TDX: 1024, then zeros) | request data 20 | runtime data n | zeros

The hardware report's report data is SHA-256 of the runtime data, then 32 zeros. The runtime data is JSON and names the
key of the virtual TPM ("HCLAkPub"), which the paravisor made and keeps.

Source: Microsoft, "Azure confidential VM guest attestation" (report layout, runtime data); kinvolk/azure-cvm-tooling,
az-cvm-vtpm. Header and request data are little-endian.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final, Literal

from cryptography.hazmat.primitives.asymmetric import rsa

from strongroom.errors import FormatError
from strongroom.formats.canonical import parse_json_object
from strongroom.formats.layout import Reader
from strongroom.formats.members import Members
from strongroom.formats.snp_report import REPORT_SIZE

MAX_HCL_REPORT_BYTES: Final = 8 * 1024
MAX_RUNTIME_DATA_BYTES: Final = 4 * 1024
TD_REPORT_SIZE: Final = 1024

_WHAT: Final = "hcl"
_SIGNATURE: Final = b"HCLA"
_VERSIONS: Final = frozenset({1, 2})
_HEADER_SIZE: Final = 32
_REQUEST_DATA_SIZE: Final = 20
_REQUEST_VERSION: Final = 1
_KINDS: Final[dict[int, Literal["snp", "tdx"]]] = {2: "snp", 4: "tdx"}
_HASH_SHA256: Final = 1
_KEY_ID: Final = "HCLAkPub"
_EXPONENT: Final = "AQAB"
_MODULUS_SIZE: Final = 256
_MAX_KEYS: Final = 8
_CODE: Final = "hcl.runtime_data"


@dataclass(frozen=True, slots=True)
class HclReport:
    """A well-formed report, nothing verified.

    Args:
        kind: Which hardware.
        hardware_report: SNP attestation report, 1184 bytes, or TDREPORT, 1024 bytes.
        runtime_data: As the hash in the hardware report covers it.
    """

    kind: Literal["snp", "tdx"]
    hardware_report: bytes
    runtime_data: bytes


def parse_hcl_report(raw: bytes) -> HclReport:
    """Parses the content of NV index 0x01400001; every byte is accounted for.

    Args:
        raw: At most 8 KiB.

    Returns:
        The report.

    Raises:
        FormatError: Malformed (``hcl.*``).
    """
    if len(raw) > MAX_HCL_REPORT_BYTES:
        raise FormatError(f"hcl: {len(raw)} bytes, at most {MAX_HCL_REPORT_BYTES}", code="hcl.length")
    reader = Reader(raw, what=_WHAT)
    if reader.take(4, "signature") != _SIGNATURE or reader.number(4, "version") not in _VERSIONS:
        raise FormatError("hcl: not an attestation report of version 1 or 2", code="hcl.header")
    total = reader.number(4, "report size")
    reader.take(4, "request type")
    if reader.number(4, "status") != 0 or any(reader.take(12, "reserved")):
        raise FormatError("hcl: the report says it failed, or reserved bytes are not zero", code="hcl.header")
    hardware = reader.take(REPORT_SIZE, "hardware report")
    request_size, version, kind, hash_kind, size = (
        reader.number(4, name) for name in ("data size", "version", "report type", "hash type", "runtime data size")
    )
    if version != _REQUEST_VERSION or kind not in _KINDS or hash_kind != _HASH_SHA256:
        raise FormatError("hcl: another kind of report or hash", code="hcl.kind")
    expected = _REQUEST_DATA_SIZE + size
    if size > MAX_RUNTIME_DATA_BYTES or (request_size, total) != (expected, _HEADER_SIZE + REPORT_SIZE + expected):
        raise FormatError("hcl: its sizes contradict each other", code="hcl.length")
    runtime_data = reader.take(size, "runtime data")
    unused = hardware[TD_REPORT_SIZE:] if _KINDS[kind] == "tdx" else b""
    if any(reader.rest()) or any(unused):
        raise FormatError("hcl: unused bytes are not zero", code="hcl.trailing")
    return HclReport(_KINDS[kind], hardware[:TD_REPORT_SIZE] if unused else hardware, runtime_data)


def report_data_of(runtime_data: bytes) -> bytes:
    """What the hardware report says so that it speaks about this runtime data, 64 bytes."""
    return hashlib.sha256(runtime_data).digest() + bytes(32)


def attestation_key_of(runtime_data: bytes) -> rsa.RSAPublicKey:
    """The virtual TPM's attestation key in the runtime data.

    Args:
        runtime_data: JSON, at most 4 KiB.

    Returns:
        An RSA key of 2048 bits with the exponent 65537.

    Raises:
        FormatError: There is not exactly one such key (``hcl.runtime_data``, ``json.*``).
    """
    members = Members(parse_json_object(runtime_data, max_bytes=MAX_RUNTIME_DATA_BYTES), what=_WHAT, code=_CODE)
    keys = [Members(item, what=_WHAT, code=_CODE) for item in members.items("keys", max_items=_MAX_KEYS)]
    named = [key for key in keys if "kid" in key and key.text("kid") == _KEY_ID]
    if len(named) != 1:
        raise FormatError(f"hcl: {len(named)} keys {_KEY_ID} in the runtime data", code=_CODE)
    key = named[0]
    if key.text("kty") != "RSA" or key.text("e") != _EXPONENT:
        raise FormatError("hcl: the attestation key is not RSA with exponent 65537", code=_CODE)
    return rsa.RSAPublicNumbers(65537, _modulus(key.text("n", max_length=512))).public_key()


def _modulus(text: str) -> int:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _MODULUS_SIZE or not raw[0] & 0x80 or not raw[-1] & 1:
        raise FormatError("hcl: the attestation key is not of 2048 bits", code=_CODE)
    return int.from_bytes(raw, "big")
