"""Measurements: which code a policy accepts."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from strongroom.errors import ConfigurationError
from strongroom.formats.canonical import JsonValue
from strongroom.formats.evidence import Tee
from strongroom.formats.members import Members
from strongroom.formats.tpm_quote import PCR_COUNT, PCR_SIZE

_CODE: Final = "policy.malformed"


class Anything(Enum):
    """The expectation that accepts everything; it must be written out."""

    ANY = "any"


ANY: Final = Anything.ANY


@dataclass(frozen=True, slots=True)
class SignerIdentity:
    """Any SGX code that this signer released as this product, not older than this version.

    Args:
        mr_signer: SHA-256 of the signer's modulus, 32 bytes.
        isv_prod_id: Exact product id, u16.
        min_isv_svn: Smallest security version, u16.
    """

    mr_signer: bytes
    isv_prod_id: int
    min_isv_svn: int

    def __post_init__(self) -> None:
        """Checks lengths and ranges.

        Raises:
            ConfigurationError: A field is out of range (``policy.measurement``).
        """
        _check_length("mr_signer", self.mr_signer, 32)
        if not (0 <= self.isv_prod_id <= 0xFFFF and 0 <= self.min_isv_svn <= 0xFFFF):
            raise ConfigurationError("isv_prod_id and min_isv_svn are 0 to 65535", code="policy.measurement")


@dataclass(frozen=True, slots=True)
class EnclaveIdentity:
    """Exactly this SGX code.

    Args:
        mr_enclave: 32 bytes.
        signer: Who must have released this very code, too; None: whoever did. The measurement does not cover the
            signer, the product id and the security version, and sealing keys depend on them.
    """

    mr_enclave: bytes
    signer: SignerIdentity | None = None

    def __post_init__(self) -> None:
        """Checks the length.

        Raises:
            ConfigurationError: Not 32 bytes (``policy.measurement``).
        """
        _check_length("mr_enclave", self.mr_enclave, 32)


@dataclass(frozen=True, slots=True)
class TdIdentity:
    """Exactly this trust domain.

    Args:
        mr_td: 48 bytes.
        rtmrs: The four run-time registers, 48 bytes each, or `ANY` for one that may be anything.
    """

    mr_td: bytes
    rtmrs: tuple[bytes | Anything, bytes | Anything, bytes | Anything, bytes | Anything]

    def __post_init__(self) -> None:
        """Checks the lengths.

        Raises:
            ConfigurationError: Not four registers, or one is not 48 bytes (``policy.measurement``).
        """
        _check_length("mr_td", self.mr_td, 48)
        if len(self.rtmrs) != 4:
            raise ConfigurationError('rtmrs are four: write "any" for those that may vary', code="policy.measurement")
        for rtmr in self.rtmrs:
            if rtmr is not ANY:
                _check_length("rtmr", rtmr, 48)


@dataclass(frozen=True, slots=True)
class SnpIdentity:
    """Exactly this SEV-SNP guest.

    Args:
        measurement: Of the guest at launch, 48 bytes.
        host_data: What the host must have said at launch, 32 bytes, or `ANY`.
        id_key_digest: SHA-384 of the key that signed the ID block, 48 bytes, or `ANY`.
    """

    measurement: bytes
    host_data: bytes | Anything
    id_key_digest: bytes | Anything

    def __post_init__(self) -> None:
        """Checks the lengths.

        Raises:
            ConfigurationError: A field has another one (``policy.measurement``).
        """
        _check_length("measurement", self.measurement, 48)
        for name, value, size in (("host_data", self.host_data, 32), ("id_key_digest", self.id_key_digest, 48)):
            if not isinstance(value, Anything):
                _check_length(name, value, size)


@dataclass(frozen=True, slots=True)
class VtpmIdentity:
    """An Azure confidential VM: this paravisor, and a guest that these registers measure.

    The hardware measures the paravisor, the same for every customer. Which guest it started, PCRs alone say.

    Args:
        hardware: The paravisor.
        pcrs: Expected values by index, 0 to 15, SHA-256 bank, 32 bytes each; at least one. The others may be anything.
    """

    hardware: SnpIdentity | TdIdentity
    pcrs: Mapping[int, bytes]

    def __post_init__(self) -> None:
        """Checks indices and lengths.

        Raises:
            ConfigurationError: No register, an unknown one, or a value that is not 32 bytes (``policy.measurement``).
        """
        if not self.pcrs:
            raise ConfigurationError("no PCR is named: any guest would be accepted", code="policy.measurement")
        for index, value in self.pcrs.items():
            if not 0 <= index < PCR_COUNT:
                raise ConfigurationError(f"PCR {index} is not 0 to {PCR_COUNT - 1}", code="policy.measurement")
            _check_length(f"PCR {index}", value, PCR_SIZE)


Measurement = EnclaveIdentity | SignerIdentity | TdIdentity | SnpIdentity | VtpmIdentity


def tee_of(measurement: Measurement) -> Tee:
    """Which kind of trusted execution environment a measurement is of."""
    match measurement:
        case EnclaveIdentity() | SignerIdentity():
            return "sgx"
        case TdIdentity():
            return "tdx"
        case SnpIdentity():
            return "snp"
        case VtpmIdentity():
            return "az-tdx-vtpm" if isinstance(measurement.hardware, TdIdentity) else "az-snp-vtpm"


def measurement_to_json(measurement: Measurement) -> dict[str, JsonValue]:
    """A JSON object (also representable in TOML), bytes in hexadecimal."""
    match measurement:
        case EnclaveIdentity():
            signer = {} if measurement.signer is None else _signer_to_json(measurement.signer)
            return {"mr_enclave": measurement.mr_enclave.hex()} | signer
        case SignerIdentity():
            return _signer_to_json(measurement)
        case TdIdentity():
            return {"mr_td": measurement.mr_td.hex(), "rtmrs": [_hex(rtmr) for rtmr in measurement.rtmrs]}
        case SnpIdentity():
            return {
                "measurement": measurement.measurement.hex(),
                "host_data": _hex(measurement.host_data),
                "id_key_digest": _hex(measurement.id_key_digest),
            }
        case VtpmIdentity():
            pcrs: dict[str, JsonValue] = {str(index): value.hex() for index, value in sorted(measurement.pcrs.items())}
            return measurement_to_json(measurement.hardware) | {"pcrs": pcrs}


def measurement_from_json(value: object) -> Measurement:
    """Reads the JSON form of any kind of measurement.

    Raises:
        FormatError: A member is missing, unknown or malformed (``policy.malformed``).
    """
    members = Members(value, what="policy.measurements", code=_CODE)
    measurement: Measurement
    if "mr_enclave" in members:
        code = members.octets("mr_enclave", 32)
        measurement = EnclaveIdentity(code, _signer_from_json(members) if "mr_signer" in members else None)
    elif "mr_signer" in members:
        measurement = _signer_from_json(members)
    else:
        hardware = _snp_from_json(members) if "measurement" in members else _td_from_json(members)
        measurement = VtpmIdentity(hardware, _pcrs_from_json(members)) if "pcrs" in members else hardware
    members.finish()
    return measurement


def _snp_from_json(members: Members) -> SnpIdentity:
    return SnpIdentity(
        members.octets("measurement", 48),
        _octets_or_any(members, "host_data", 32),
        _octets_or_any(members, "id_key_digest", 48),
    )


def _td_from_json(members: Members) -> TdIdentity:
    return TdIdentity(members.octets("mr_td", 48), _rtmrs_from_json(members))


def _octets_or_any(members: Members, name: str, size: int) -> bytes | Anything:
    text = members.text(name)
    return ANY if text == "any" else Members({name: text}, what="policy.measurements", code=_CODE).octets(name, size)


def _pcrs_from_json(members: Members) -> dict[int, bytes]:
    value = members.value("pcrs")
    names = [str(index) for index in range(PCR_COUNT)]
    if not isinstance(value, Mapping) or not set(value) <= set(names):
        raise members.refuse("pcrs", f"is not a table of registers 0 to {PCR_COUNT - 1}")
    values = Members(value, what="policy.pcrs", code=_CODE)
    return {int(name): values.octets(name, PCR_SIZE) for name in names if name in values}


def _hex(value: bytes | Anything) -> str:
    return "any" if isinstance(value, Anything) else value.hex()


def _rtmrs_from_json(
    members: Members,
) -> tuple[bytes | Anything, bytes | Anything, bytes | Anything, bytes | Anything]:
    texts = members.texts("rtmrs", max_items=4, max_length=96)
    if len(texts) != 4:
        raise members.refuse("rtmrs", "are not four")
    registers = Members({f"rtmr_{i}": text for i, text in enumerate(texts)}, what="policy.rtmrs", code=_CODE)
    first, second, third, fourth = (
        ANY if text == "any" else registers.octets(f"rtmr_{i}", 48) for i, text in enumerate(texts)
    )
    return first, second, third, fourth


def _signer_to_json(signer: SignerIdentity) -> dict[str, JsonValue]:
    return {
        "mr_signer": signer.mr_signer.hex(),
        "isv_prod_id": signer.isv_prod_id,
        "min_isv_svn": signer.min_isv_svn,
    }


def _signer_from_json(members: Members) -> SignerIdentity:
    return SignerIdentity(
        members.octets("mr_signer", 32),
        members.number("isv_prod_id", maximum=0xFFFF),
        members.number("min_isv_svn", maximum=0xFFFF),
    )


def _check_length(name: str, value: bytes, size: int) -> None:
    if len(value) != size:
        raise ConfigurationError(f"{name} has {len(value)} bytes, expected {size}", code="policy.measurement")
