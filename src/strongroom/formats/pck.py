"""Intel's SGX extension of a PCK certificate: which platform, at which security version.

Source: Intel SGX PCK Certificate and CRL Profile Specification, section 1.3.5 (object identifier
1.2.840.113741.1.13.1 and its members).
"""

from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ObjectIdentifier

from strongroom.errors import FormatError
from strongroom.formats import der
from strongroom.formats.quote import Quote

SGX_EXTENSION_OID: Final = "1.2.840.113741.1.13.1"
TCB_COMPONENTS: Final = 16

_CODE: Final = "pck.extension"
_MEMBER: Final = tuple(f"{SGX_EXTENSION_OID}.{n}" for n in range(8))
_TCB_MEMBER: Final = tuple(f"{_MEMBER[2]}.{n}" for n in range(19))
_CONFIGURATION_MEMBER: Final = tuple(f"{_MEMBER[7]}.{n}" for n in range(4))
_REQUIRED: Final = frozenset(_MEMBER[1:6])
_PLATFORM_CA: Final = frozenset(_MEMBER[6:8])


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformConfiguration:
    """What a Platform CA certificate says about a multi-package platform; None where it is silent.

    Args:
        dynamic_platform: Packages may be added or replaced.
        cached_keys: Platform root keys are cached by Intel.
        smt_enabled: Hyper-threading is on.
    """

    dynamic_platform: bool | None = None
    cached_keys: bool | None = None
    smt_enabled: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PckExtension:
    """Intel's SGX extension.

    Args:
        ppid: Platform provisioning id, 16 bytes. Identifies a machine: never log it.
        component_svns: The 16 TCB component security versions, u8 each.
        pce_svn: Security version of the PCE, u16.
        cpu_svn: 16 bytes.
        pce_id: 2 bytes.
        fmspc: Family, model, stepping, platform, custom SKU, 6 bytes.
        sgx_type: 0 standard, 1 scalable, 2 scalable with integrity.
        platform_instance_id: 16 bytes, Platform CA certificates only. Identifies a machine: never log it.
        configuration: Platform CA certificates only.
    """

    ppid: bytes = field(repr=False)
    component_svns: tuple[int, ...]
    pce_svn: int
    cpu_svn: bytes
    pce_id: bytes
    fmspc: bytes
    sgx_type: int
    platform_instance_id: bytes | None = field(default=None, repr=False)
    configuration: PlatformConfiguration | None = None


def parse_pck_extension(raw: bytes) -> PckExtension:
    """Parses the value of the extension; an unknown, missing or repeated member is refused.

    Args:
        raw: DER of the extension value.

    Returns:
        The extension.

    Raises:
        FormatError: Not exactly Intel's structure (``pck.extension``).
    """
    members = _members(der.parse_one(raw, der.SEQUENCE, code=_CODE))
    present = frozenset(members)
    if present not in {_REQUIRED, _REQUIRED | _PLATFORM_CA}:
        raise FormatError("SGX extension: members missing or unknown", code=_CODE)
    svns, pce_svn, cpu_svn = _parse_tcb(members[_MEMBER[2]])
    platform = present > _REQUIRED
    return PckExtension(
        ppid=der.parse_octets(members[_MEMBER[1]], 16, code=_CODE),
        component_svns=svns,
        pce_svn=pce_svn,
        cpu_svn=cpu_svn,
        pce_id=der.parse_octets(members[_MEMBER[3]], 2, code=_CODE),
        fmspc=der.parse_octets(members[_MEMBER[4]], 6, code=_CODE),
        sgx_type=der.parse_integer(members[_MEMBER[5]], maximum=2, tag=der.ENUMERATED, code=_CODE),
        platform_instance_id=der.parse_octets(members[_MEMBER[6]], 16, code=_CODE) if platform else None,
        configuration=_parse_configuration(members[_MEMBER[7]]) if platform else None,
    )


def serialize_pck_extension(extension: PckExtension) -> bytes:
    """The DER value of the extension, members in Intel's order.

    Raises:
        FormatError: A field has the wrong size, or only one of the two Platform CA members is set (``pck.extension``).
    """
    tcb = [
        *(_pair(_TCB_MEMBER[i], der.encode_integer(svn)) for i, svn in enumerate(extension.component_svns, start=1)),
        _pair(_TCB_MEMBER[17], der.encode_integer(extension.pce_svn)),
        _pair(_TCB_MEMBER[18], der.encode(der.OCTET_STRING, extension.cpu_svn)),
    ]
    parts = [
        _pair(_MEMBER[1], der.encode(der.OCTET_STRING, extension.ppid)),
        _pair(_MEMBER[2], der.encode(der.SEQUENCE, *tcb)),
        _pair(_MEMBER[3], der.encode(der.OCTET_STRING, extension.pce_id)),
        _pair(_MEMBER[4], der.encode(der.OCTET_STRING, extension.fmspc)),
        _pair(_MEMBER[5], der.encode_integer(extension.sgx_type, der.ENUMERATED)),
    ]
    if extension.platform_instance_id is not None:
        parts.append(_pair(_MEMBER[6], der.encode(der.OCTET_STRING, extension.platform_instance_id)))
    if extension.configuration is not None:
        parts.append(_pair(_MEMBER[7], _encode_configuration(extension.configuration)))
    raw = der.encode(der.SEQUENCE, *parts)
    if parse_pck_extension(raw) != extension:  # also checks every size
        raise FormatError("SGX extension: a field has the wrong size", code=_CODE)
    return raw


def pck_certificate_of(quote: Quote) -> x509.Certificate:
    """The PCK certificate a quote carries; nothing of it is verified.

    Raises:
        FormatError: The quote carries none (``quote.certification``), or it can't be read (``quote.pem``).
    """
    chain = quote.certification.chain_der
    if not chain:
        raise FormatError("the quote carries no PCK chain", code="quote.certification")
    try:
        return x509.load_der_x509_certificate(chain[0])
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise FormatError("the PCK is not a certificate", code="quote.pem") from None


def pck_extension_of(certificate: x509.Certificate) -> PckExtension:
    """The SGX extension of a PCK certificate.

    Raises:
        FormatError: The certificate has none, or it is malformed (``pck.extension``).
    """
    raw = sgx_extension_bytes(certificate)
    if raw is None:
        raise FormatError("certificate has no SGX extension: not a PCK certificate", code=_CODE)
    return parse_pck_extension(raw)


def sgx_extension_bytes(certificate: x509.Certificate) -> bytes | None:
    """DER value of the SGX extension; None when the certificate has none.

    Raises:
        FormatError: The certificate's extensions are malformed (``pck.extension``).
    """
    try:
        extension = certificate.extensions.get_extension_for_oid(ObjectIdentifier(SGX_EXTENSION_OID))
    except x509.ExtensionNotFound:
        return None
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise FormatError("certificate's extensions are malformed", code=_CODE) from None
    value = extension.value
    return value.value if isinstance(value, x509.UnrecognizedExtension) else None


def _members(sequence: der.Element) -> dict[str, der.Element]:
    members: dict[str, der.Element] = {}
    for element in der.parse_sequence(sequence, code=_CODE):
        pair = der.parse_sequence(element, code=_CODE)
        if len(pair) != 2:
            raise FormatError("SGX extension: a member is not a pair", code=_CODE)
        oid = der.parse_oid(pair[0], code=_CODE)
        if oid in members:
            raise FormatError(f"SGX extension: member {oid} twice", code=_CODE)
        members[oid] = pair[1]
    return members


def _parse_tcb(element: der.Element) -> tuple[tuple[int, ...], int, bytes]:
    members = _members(element)
    if frozenset(members) != frozenset(_TCB_MEMBER[1:]):
        raise FormatError("SGX extension: TCB members missing or unknown", code=_CODE)
    svns = tuple(
        der.parse_integer(members[_TCB_MEMBER[i]], maximum=0xFF, code=_CODE) for i in range(1, TCB_COMPONENTS + 1)
    )
    pce_svn = der.parse_integer(members[_TCB_MEMBER[17]], maximum=0xFFFF, code=_CODE)
    return svns, pce_svn, der.parse_octets(members[_TCB_MEMBER[18]], 16, code=_CODE)


def _parse_configuration(element: der.Element) -> PlatformConfiguration:
    members = _members(element)
    if not frozenset(members) <= frozenset(_CONFIGURATION_MEMBER[1:]):
        raise FormatError("SGX extension: unknown configuration member", code=_CODE)
    flags = [
        der.parse_boolean(members[oid], code=_CODE) if oid in members else None for oid in _CONFIGURATION_MEMBER[1:]
    ]
    return PlatformConfiguration(dynamic_platform=flags[0], cached_keys=flags[1], smt_enabled=flags[2])


def _encode_configuration(configuration: PlatformConfiguration) -> bytes:
    values = (configuration.dynamic_platform, configuration.cached_keys, configuration.smt_enabled)
    pairs = [
        _pair(oid, der.encode_boolean(value))
        for oid, value in zip(_CONFIGURATION_MEMBER[1:], values, strict=True)
        if value is not None
    ]
    return der.encode(der.SEQUENCE, *pairs)


def _pair(oid: str, value: bytes) -> bytes:
    return der.encode(der.SEQUENCE, der.encode_oid(oid), value)
