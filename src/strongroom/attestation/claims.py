"""Claims: what a verified quote says, with vendor names, ready for a policy, a token or a log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, get_args

from strongroom.attestation.amd_collateral import AmdDigests
from strongroom.attestation.collateral import CollateralDigests
from strongroom.attestation.snp_claims import SnpClaims
from strongroom.errors import FormatError
from strongroom.formats.canonical import JsonValue
from strongroom.formats.evidence import Tee
from strongroom.formats.members import Members, timestamp
from strongroom.formats.tpm_quote import PCR_COUNT, PCR_SIZE

# Source: Intel SGX Provisioning Certification Service API v4, tcbStatus.
TcbStatus = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
    "Revoked",
]
MAX_ADVISORIES: Final = 256
MAX_ADVISORY_LENGTH: Final = 64

_CODE: Final = "claims.malformed"
_INTEL_DIGESTS: Final = ("tcb_info", "qe_identity", "root_ca_crl", "pck_crl")
_AMD_DIGESTS: Final = ("issuer_chain", "crl")
TEES: Final[tuple[Tee, ...]] = get_args(Tee)
INTEL_TEES: Final[frozenset[Tee]] = frozenset({"sgx", "tdx", "az-tdx-vtpm"})
AMD_TEES: Final[frozenset[Tee]] = frozenset({"snp", "az-snp-vtpm"})
VTPM_TEES: Final[frozenset[Tee]] = frozenset({"az-snp-vtpm", "az-tdx-vtpm"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a verified quote says. Claims alone prove nothing: `VerifiedQuote` or a checked token carries them.

    Args:
        tee: Kind of trusted execution environment.
        simulated: True: no hardware stands behind this.
        debug: The host can read the memory.
        report_data: What the environment wanted to say, 64 bytes.
        collateral_expires: Until when the judgement holds, whole seconds, UTC.
        collateral: Which collateral was used.
        signed_sha256: SHA-256 of the evidence's signed bytes, 32 bytes: its name in logs.
        config_id: SGX CONFIGID, 64 bytes, or TDX MRCONFIGID, 48 bytes; Intel only, as the next four.
        tcb_status: Intel's judgement of the platform.
        advisories: Security advisories open on the platform, sorted.
        tcb_eval_data_number: Age of that judgement; the smaller one of TCB info and QE identity.
        fmspc: Kind of processor, 6 bytes.
        mr_enclave: SGX only, 32 bytes.
        mr_signer: SGX only, 32 bytes.
        isv_prod_id: SGX only, u16.
        isv_svn: SGX only, u16.
        mr_td: TDX only, 48 bytes; on Azure the paravisor's.
        rtmrs: TDX only, four times 48 bytes.
        snp: SEV-SNP only; on Azure the paravisor's.
        pcrs: Azure's virtual TPM only: PCRs 0 to 15, SHA-256 bank, 32 bytes each.
        ppid: Identifies the machine, 16 bytes. Never log or hand on; not part of the JSON form.
        platform_instance_id: Likewise; 16 bytes or None.
    """

    tee: Tee
    simulated: bool
    debug: bool
    report_data: bytes
    collateral_expires: datetime
    collateral: CollateralDigests | AmdDigests
    signed_sha256: bytes
    config_id: bytes | None = None
    tcb_status: TcbStatus | None = None
    advisories: tuple[str, ...] = ()
    tcb_eval_data_number: int | None = None
    fmspc: bytes | None = None
    mr_enclave: bytes | None = None
    mr_signer: bytes | None = None
    isv_prod_id: int | None = None
    isv_svn: int | None = None
    mr_td: bytes | None = None
    rtmrs: tuple[bytes, ...] | None = None
    snp: SnpClaims | None = None
    pcrs: tuple[bytes, ...] | None = None
    ppid: bytes | None = field(default=None, repr=False)
    platform_instance_id: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Checks that exactly the fields of the TEE are there.

        Raises:
            FormatError: They are not, or the TCB status is unknown (``claims.malformed``).
        """
        groups = (
            (self.tee in INTEL_TEES, (self.config_id, self.tcb_status, self.tcb_eval_data_number, self.fmspc)),
            (self.tee == "sgx", (self.mr_enclave, self.mr_signer, self.isv_prod_id, self.isv_svn)),
            (self.tee in {"tdx", "az-tdx-vtpm"}, (self.mr_td, self.rtmrs)),
            (self.tee in AMD_TEES, (self.snp,)),
            (self.tee in VTPM_TEES, (self.pcrs,)),
        )
        if any((value is not None) != own for own, values in groups for value in values):
            raise FormatError(f"claims: fields do not belong to {self.tee}", code=_CODE)
        if isinstance(self.collateral, AmdDigests) != (self.tee in AMD_TEES):
            raise FormatError(f"claims: collateral does not belong to {self.tee}", code=_CODE)
        if self.tcb_status is not None:
            parse_tcb_status(self.tcb_status)
        if len(self.report_data) != 64:
            raise FormatError("claims: report data is not 64 bytes", code=_CODE)

    def to_json(self) -> dict[str, JsonValue]:
        """A JSON object, bytes in hexadecimal, without anything that identifies the machine."""
        names = _AMD_DIGESTS if isinstance(self.collateral, AmdDigests) else _INTEL_DIGESTS
        values: dict[str, JsonValue] = {
            "tee": self.tee,
            "simulated": self.simulated,
            "debug": self.debug,
            "report_data": self.report_data.hex(),
            "collateral_expires": timestamp(self.collateral_expires),
            "collateral": {name: getattr(self.collateral, name).hex() for name in names},
            "signed_sha256": self.signed_sha256.hex(),
        }
        if self.config_id is not None and self.fmspc is not None:
            values |= {
                "config_id": self.config_id.hex(),
                "tcb_status": self.tcb_status,
                "advisories": list(self.advisories),
                "tcb_eval_data_number": self.tcb_eval_data_number,
                "fmspc": self.fmspc.hex(),
            }
        if self.mr_enclave is not None and self.mr_signer is not None:
            values |= {
                "mr_enclave": self.mr_enclave.hex(),
                "mr_signer": self.mr_signer.hex(),
                "isv_prod_id": self.isv_prod_id,
                "isv_svn": self.isv_svn,
            }
        if self.mr_td is not None and self.rtmrs is not None:
            values |= {"mr_td": self.mr_td.hex(), "rtmrs": [rtmr.hex() for rtmr in self.rtmrs]}
        if self.snp is not None:
            values |= {"snp": self.snp.to_json()}
        if self.pcrs is not None:
            values |= {"pcrs": [pcr.hex() for pcr in self.pcrs]}
        return values

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> "Claims":
        """Reads the JSON form; the machine's identifiers are None.

        Args:
            value: The parsed JSON object, e.g. a member of a token.

        Returns:
            The claims.

        Raises:
            FormatError: A member is missing, unknown or malformed (``claims.malformed``).
        """
        members = Members(value, what="claims", code=_CODE)
        tee = _tee(members)
        intel, sgx, td = tee in INTEL_TEES, tee == "sgx", tee in {"tdx", "az-tdx-vtpm"}
        claims = cls(
            tee=tee,
            simulated=members.boolean("simulated"),
            debug=members.boolean("debug"),
            report_data=members.octets("report_data", 64),
            collateral_expires=members.moment("collateral_expires"),
            collateral=_intel_digests(members) if intel else _amd_digests(members),
            signed_sha256=members.octets("signed_sha256", 32),
            config_id=members.octets("config_id", 64 if sgx else 48) if intel else None,
            tcb_status=parse_tcb_status(members.text("tcb_status")) if intel else None,
            advisories=_advisories(members) if intel else (),
            tcb_eval_data_number=members.number("tcb_eval_data_number") if intel else None,
            fmspc=members.octets("fmspc", 6) if intel else None,
            mr_enclave=members.octets("mr_enclave", 32) if sgx else None,
            mr_signer=members.octets("mr_signer", 32) if sgx else None,
            isv_prod_id=members.number("isv_prod_id", maximum=0xFFFF) if sgx else None,
            isv_svn=members.number("isv_svn", maximum=0xFFFF) if sgx else None,
            mr_td=members.octets("mr_td", 48) if td else None,
            rtmrs=_registers(members, "rtmrs", 4, 48) if td else None,
            snp=SnpClaims.from_json(members.value("snp"), code=_CODE) if tee in AMD_TEES else None,
            pcrs=_registers(members, "pcrs", PCR_COUNT, PCR_SIZE) if tee in VTPM_TEES else None,
        )
        members.finish()
        return claims


def parse_tcb_status(text: str) -> TcbStatus:
    """One of Intel's TCB statuses.

    Raises:
        FormatError: It is not (``claims.malformed``).
    """
    statuses: tuple[TcbStatus, ...] = get_args(TcbStatus)
    for status in statuses:
        if status == text:
            return status
    raise FormatError("claims: unknown TCB status", code=_CODE)


def parse_tee(text: str) -> Tee:
    """One of the kinds of trusted execution environments.

    Raises:
        FormatError: It is not (``claims.malformed``).
    """
    for tee in TEES:
        if tee == text:
            return tee
    raise FormatError(f"claims: tee is none of {', '.join(TEES)}", code=_CODE)


def _tee(members: Members) -> Tee:
    return parse_tee(members.text("tee"))


def _advisories(members: Members) -> tuple[str, ...]:
    return members.texts("advisories", max_items=MAX_ADVISORIES, max_length=MAX_ADVISORY_LENGTH)


def _intel_digests(members: Members) -> CollateralDigests:
    return CollateralDigests(*_digests(members.value("collateral"), _INTEL_DIGESTS))


def _amd_digests(members: Members) -> AmdDigests:
    return AmdDigests(*_digests(members.value("collateral"), _AMD_DIGESTS))


def _digests(value: object, names: tuple[str, ...]) -> list[bytes]:
    members = Members(value, what="claims.collateral", code=_CODE)
    digests = [members.octets(name, 32) for name in names]
    members.finish()
    return digests


def _registers(members: Members, name: str, count: int, size: int) -> tuple[bytes, ...]:
    texts = members.texts(name, max_items=count, max_length=2 * size)
    if len(texts) != count:
        raise members.refuse(name, f"are not {count}")
    indexed = Members({str(i): text for i, text in enumerate(texts)}, what=f"claims.{name}", code=_CODE)
    return tuple(indexed.octets(str(i), size) for i in range(count))
