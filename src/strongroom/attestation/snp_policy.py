"""What a policy expects of an SEV-SNP platform, beside the measurement of its guest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from strongroom.attestation.measurements import ANY, Anything
from strongroom.attestation.snp_claims import SnpClaims, parse_product, tcb_from_json, tcb_to_json
from strongroom.errors import ConfigurationError, Finding
from strongroom.formats.canonical import JsonValue
from strongroom.formats.members import Members
from strongroom.formats.snp_report import SnpProduct, SnpTcb

_CODE: Final = "policy.malformed"
_WHAT: Final = "policy.snp"
_MAX_VMPL: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpExpectations:
    """What an SEV-SNP platform must be.

    Args:
        min_tcb: For each product that is accepted, the smallest security versions, or `ANY`. They must hold for what
            the report was signed for and for what measured the guest at its launch.
        vmpl: The privilege level the report must come from; 0 unless something runs between guest and hardware.
        accept_smt: Whether the guest may share a core with others.
    """

    min_tcb: Mapping[SnpProduct, SnpTcb | Anything]
    vmpl: int
    accept_smt: bool

    def __post_init__(self) -> None:
        """Checks that the expectations are complete and can be met.

        Raises:
            ConfigurationError: No product is accepted (``policy.unset``), or a value is out of range
                (``policy.invalid``).
        """
        if not self.min_tcb:
            raise ConfigurationError(
                "the policy accepts no SEV-SNP product",
                code="policy.unset",
                hint="[snp.min_tcb] names each, e.g. milan = { bootloader = 4, tee = 0, snp = 24, microcode = 219 }",
            )
        if not 0 <= self.vmpl <= _MAX_VMPL:
            raise ConfigurationError("vmpl is 0 to 3", code="policy.invalid")
        for product, tcb in self.min_tcb.items():
            if isinstance(tcb, SnpTcb) and (tcb.fmc is not None) != (product == "turin"):
                raise ConfigurationError(f"min_tcb of {product} has other parts", code="policy.invalid")

    def findings(self, claims: SnpClaims) -> Iterator[Finding]:
        """Why the platform is not acceptable; a guest with a migration agent never is."""
        minimum = self.min_tcb.get(claims.product)
        if minimum is None:
            yield Finding("snp.product", f"found {claims.product}, expected {' or '.join(sorted(self.min_tcb))}")
        if isinstance(minimum, SnpTcb):
            for name, found in (("reported", claims.reported_tcb), ("launch", claims.launch_tcb)):
                if not found.at_least(minimum):
                    yield Finding(f"snp.{name}_tcb", f"found {_shown(found)}, expected at least {_shown(minimum)}")
        if claims.vmpl != self.vmpl:
            yield Finding("snp.vmpl", f"found {claims.vmpl}, expected {self.vmpl}")
        if claims.smt and not self.accept_smt:
            yield Finding("snp.smt", "the guest may share a core with others")
        if claims.migration_agent:
            yield Finding("snp.migration_agent", "another guest may take this one's memory elsewhere")

    def to_json(self) -> dict[str, JsonValue]:
        """A JSON object (also representable in TOML)."""
        minimums: dict[str, JsonValue] = {
            product: "any" if isinstance(tcb, Anything) else tcb_to_json(tcb)
            for product, tcb in sorted(self.min_tcb.items())
        }
        return {"min_tcb": minimums, "vmpl": self.vmpl, "accept_smt": self.accept_smt}

    @classmethod
    def from_json(cls, value: object) -> "SnpExpectations":
        """Reads the JSON form; nothing may be left out.

        Raises:
            FormatError: A member is missing, unknown or malformed (``policy.malformed``).
            ConfigurationError: An expectation makes no sense (``policy.*``).
        """
        members = Members(value, what=_WHAT, code=_CODE)
        minimums = members.value("min_tcb")
        if not isinstance(minimums, Mapping):
            raise members.refuse("min_tcb", "is not a table of products")
        products = {parse_product(str(name), code=_CODE): tcb for name, tcb in minimums.items()}
        expectations = cls(
            min_tcb={
                product: ANY if tcb == "any" else tcb_from_json(tcb, product, code=_CODE)
                for product, tcb in products.items()
            },
            vmpl=members.number("vmpl", maximum=_MAX_VMPL),
            accept_smt=members.boolean("accept_smt"),
        )
        members.finish()
        return expectations


def _shown(tcb: SnpTcb) -> str:
    return " ".join(f"{name} {value}" for name, value in tcb_to_json(tcb).items())
