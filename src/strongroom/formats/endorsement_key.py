"""AMD's extensions of a VCEK or VLEK certificate: for which chip or cloud, at which security versions.

Source: AMD Versioned Chip Endorsement Key Certificate and KDS Interface Specification (publication 57230), tables of
the certificate extensions (arc 1.3.6.1.4.1.3704.1).
"""

from dataclasses import dataclass, field
from typing import Final

from strongroom.errors import FormatError
from strongroom.formats import der
from strongroom.formats.certificate import Certificate
from strongroom.formats.snp_report import SigningKey, SnpProduct, SnpTcb

ARC: Final = "1.3.6.1.4.1.3704.1"
STRUCT_VERSION: Final = f"{ARC}.1"
PRODUCT_NAME: Final = f"{ARC}.2"
BOOTLOADER: Final = f"{ARC}.3.1"
TEE: Final = f"{ARC}.3.2"
SNP: Final = f"{ARC}.3.3"
RESERVED_SPLS: Final = tuple(f"{ARC}.3.{n}" for n in (4, 5, 6, 7))
MICROCODE: Final = f"{ARC}.3.8"
FMC: Final = f"{ARC}.3.9"
HARDWARE_ID: Final = f"{ARC}.4"
CSP_ID: Final = f"{ARC}.5"
CHIP_ID_SIZE: Final = 64
TURIN_CHIP_ID_SIZE: Final = 8

_CODE: Final = "endorsement_key.extension"
_IA5_STRING: Final = 0x16
_MAX_TEXT: Final = 128
_REQUIRED: Final = frozenset({STRUCT_VERSION, PRODUCT_NAME, BOOTLOADER, TEE, SNP, MICROCODE})
_OPTIONAL: Final = frozenset({*RESERVED_SPLS, FMC, HARDWARE_ID, CSP_ID})
_PRODUCTS: Final[dict[str, SnpProduct]] = {"Milan": "milan", "Genoa": "genoa", "Turin": "turin"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EndorsementKey:
    """What a VCEK or VLEK certificate says.

    Args:
        kind: VCEK: one chip's; VLEK: one cloud's.
        product: Which processors.
        tcb: For which security versions it was made.
        hardware_id: The chip, 64 bytes (Turin: 8); None for a VLEK. Identifies the machine: never log it.
        csp_id: The cloud; None for a VCEK.
    """

    kind: SigningKey
    product: SnpProduct
    tcb: SnpTcb
    hardware_id: bytes | None = field(default=None, repr=False)
    csp_id: str | None = None


def endorsement_key_of(certificate: Certificate) -> EndorsementKey:
    """Reads AMD's extensions of a certificate; an unknown, missing or repeated one is refused.

    Raises:
        FormatError: They are not exactly AMD's (``endorsement_key.extension``).
    """
    values = _extensions(certificate)
    present = frozenset(values)
    if not _REQUIRED <= present <= _REQUIRED | _OPTIONAL:
        raise FormatError("AMD's certificate extensions are missing or unknown", code=_CODE)
    if (HARDWARE_ID in present) == (CSP_ID in present):
        raise FormatError("the certificate is neither a chip's nor a cloud's", code=_CODE)
    if any(_number(values[oid]) for oid in RESERVED_SPLS if oid in present):
        raise FormatError("the certificate has a reserved security version", code=_CODE)
    product = _product(_text(values[PRODUCT_NAME]))
    if (product == "turin") != (FMC in present):
        raise FormatError("the security versions do not belong to the product", code=_CODE)
    return EndorsementKey(
        kind="vcek" if HARDWARE_ID in present else "vlek",
        product=product,
        tcb=SnpTcb(
            bootloader=_number(values[BOOTLOADER]),
            tee=_number(values[TEE]),
            snp=_number(values[SNP]),
            microcode=_number(values[MICROCODE]),
            fmc=_number(values[FMC]) if FMC in present else None,
        ),
        hardware_id=_hardware_id(values[HARDWARE_ID], product) if HARDWARE_ID in present else None,
        csp_id=_text(values[CSP_ID]) if CSP_ID in present else None,
    )


def _extensions(certificate: Certificate) -> dict[str, bytes]:
    found = {oid: extension for oid, extension in certificate.extensions.items() if oid.startswith(f"{ARC}.")}
    if any(extension.critical for oid, extension in certificate.extensions.items() if oid not in found):
        raise FormatError("the certificate has a critical extension that AMD's have not", code=_CODE)
    return {oid: extension.value for oid, extension in found.items()}


def _number(raw: bytes) -> int:
    return der.parse_integer(der.parse_one(raw, der.INTEGER, code=_CODE), maximum=0xFF, code=_CODE)


def _text(raw: bytes) -> str:
    content = der.parse_one(raw, _IA5_STRING, code=_CODE).content
    if not 0 < len(content) <= _MAX_TEXT or not all(0x20 <= byte < 0x7F for byte in content):
        raise FormatError("a text in the certificate is not printable ASCII", code=_CODE)
    return content.decode("ascii")


def _product(name: str) -> SnpProduct:
    # A VCEK adds the stepping: "Milan-B0".
    product = _PRODUCTS.get(name.partition("-")[0])
    if product is None:
        raise FormatError("the certificate is not of Milan, Genoa or Turin", code=_CODE)
    return product


def _hardware_id(raw: bytes, product: SnpProduct) -> bytes:
    # Certificates of both spellings are in use: the bare bytes, and the same bytes as an OCTET STRING.
    size = TURIN_CHIP_ID_SIZE if product == "turin" else CHIP_ID_SIZE
    return (
        raw
        if len(raw) == size
        else der.parse_octets(der.parse_one(raw, der.OCTET_STRING, code=_CODE), size, code=_CODE)
    )
