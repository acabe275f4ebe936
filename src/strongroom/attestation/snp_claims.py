"""What a genuine SEV-SNP report says about its guest and platform, as part of the claims."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.errors import FormatError
from strongroom.formats.canonical import JsonValue
from strongroom.formats.members import Members
from strongroom.formats.snp_report import (
    PLATFORM_SMT,
    POLICY_MIGRATION_AGENT,
    POLICY_SMT,
    SigningKey,
    SnpProduct,
    SnpReport,
    SnpTcb,
)

_PRODUCTS: Final[dict[str, SnpProduct]] = {"milan": "milan", "genoa": "genoa", "turin": "turin"}
_SIGNING_KEYS: Final[dict[str, SigningKey]] = {"vcek": "vcek", "vlek": "vlek"}
_TCB_PARTS: Final = ("bootloader", "tee", "snp", "microcode")


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpClaims:
    """What a report says.

    Args:
        product: Which processors.
        signing_key: VCEK: one chip signed; VLEK: one cloud.
        measurement: Of the guest at launch (on Azure: of the paravisor), 48 bytes.
        host_data: What the host said at launch, 32 bytes.
        id_key_digest: SHA-384 of the key that signed the ID block, 48 bytes.
        guest_policy: u64.
        platform_info: u64.
        vmpl: Privilege level that asked, 0 to 3.
        reported_tcb: Security versions the report was signed for.
        launch_tcb: Security versions when the guest was launched.
    """

    product: SnpProduct
    signing_key: SigningKey
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    guest_policy: int
    platform_info: int
    vmpl: int
    reported_tcb: SnpTcb
    launch_tcb: SnpTcb

    @property
    def smt(self) -> bool:
        """Whether the guest may share a core with others: its policy allows it, or the platform has SMT on."""
        return bool(self.guest_policy & POLICY_SMT or self.platform_info & PLATFORM_SMT)

    @property
    def migration_agent(self) -> bool:
        """Whether another guest may take this one's memory elsewhere."""
        return bool(self.guest_policy & POLICY_MIGRATION_AGENT)

    @classmethod
    def of(cls, report: SnpReport, product: SnpProduct) -> "SnpClaims":
        """The claims of a verified report.

        Args:
            report: Genuine.
            product: As its certificate says.
        """
        return cls(
            product=product,
            signing_key=report.signing_key,
            measurement=report.measurement,
            host_data=report.host_data,
            id_key_digest=report.id_key_digest,
            guest_policy=report.policy,
            platform_info=report.platform_info,
            vmpl=report.vmpl,
            reported_tcb=report.reported_tcb,
            launch_tcb=report.launch_tcb,
        )

    def to_json(self) -> dict[str, JsonValue]:
        """A JSON object, bytes in hexadecimal."""
        return {
            "product": self.product,
            "signing_key": self.signing_key,
            "measurement": self.measurement.hex(),
            "host_data": self.host_data.hex(),
            "id_key_digest": self.id_key_digest.hex(),
            "guest_policy": self.guest_policy,
            "platform_info": self.platform_info,
            "vmpl": self.vmpl,
            "reported_tcb": tcb_to_json(self.reported_tcb),
            "launch_tcb": tcb_to_json(self.launch_tcb),
        }

    @classmethod
    def from_json(cls, value: object, *, code: str) -> "SnpClaims":
        """Reads the JSON form.

        Args:
            value: The parsed JSON object.
            code: Code of the error.

        Raises:
            FormatError: A member is missing, unknown or malformed (`code`).
        """
        members = Members(value, what="claims.snp", code=code)
        product = parse_product(members.text("product"), code=code)
        signing_key = _SIGNING_KEYS.get(members.text("signing_key"))
        if signing_key is None:
            raise members.refuse("signing_key", "is not vcek or vlek")
        claims = cls(
            product=product,
            signing_key=signing_key,
            measurement=members.octets("measurement", 48),
            host_data=members.octets("host_data", 32),
            id_key_digest=members.octets("id_key_digest", 48),
            guest_policy=members.number("guest_policy"),
            platform_info=members.number("platform_info"),
            vmpl=members.number("vmpl", maximum=3),
            reported_tcb=tcb_from_json(members.value("reported_tcb"), product, code=code),
            launch_tcb=tcb_from_json(members.value("launch_tcb"), product, code=code),
        )
        members.finish()
        return claims


def parse_product(text: str, *, code: str) -> SnpProduct:
    """One of AMD's products.

    Raises:
        FormatError: It is not (`code`).
    """
    product = _PRODUCTS.get(text)
    if product is None:
        raise FormatError("an SEV-SNP product is milan, genoa or turin", code=code)
    return product


def tcb_to_json(tcb: SnpTcb) -> dict[str, JsonValue]:
    """Security versions as a JSON object."""
    values: dict[str, JsonValue] = {name: getattr(tcb, name) for name in _TCB_PARTS}
    return values if tcb.fmc is None else values | {"fmc": tcb.fmc}


def tcb_from_json(value: object, product: SnpProduct, *, code: str) -> SnpTcb:
    """Reads security versions; those of Turin have a first mutable code.

    Args:
        value: The parsed JSON object.
        product: Whose they are.
        code: Code of the error.

    Raises:
        FormatError: A member is missing, unknown or malformed (`code`).
    """
    members = Members(value if isinstance(value, Mapping) else None, what="snp tcb", code=code)
    parts = {name: members.number(name, maximum=0xFF) for name in _TCB_PARTS}
    fmc = members.number("fmc", maximum=0xFF) if product == "turin" else None
    members.finish()
    return SnpTcb(**parts, fmc=fmc)
