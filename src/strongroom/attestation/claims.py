"""Claims: what a verified quote says, with vendor names, ready for a policy, a token or a log."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, get_args

from strongroom.attestation.collateral import CollateralDigests
from strongroom.errors import FormatError
from strongroom.formats.canonical import JsonValue
from strongroom.formats.members import Members, timestamp

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
_DIGESTS: Final = ("tcb_info", "qe_identity", "root_ca_crl", "pck_crl")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a verified quote says. Claims alone prove nothing: `VerifiedQuote` or a checked token carries them.

    Args:
        tee: Kind of trusted execution environment.
        simulated: True: no hardware stands behind this.
        debug: The host can read the memory.
        report_data: What the environment wanted to say, 64 bytes.
        config_id: SGX CONFIGID, 64 bytes, or TDX MRCONFIGID, 48 bytes.
        tcb_status: Intel's judgement of the platform.
        advisories: Security advisories open on the platform, sorted.
        tcb_eval_data_number: Age of that judgement; the smaller one of TCB info and QE identity.
        fmspc: Kind of processor, 6 bytes.
        collateral_expires: Until when the judgement holds, whole seconds, UTC.
        collateral: Which collateral was used.
        signed_sha256: SHA-256 of the quote's signed bytes, 32 bytes: the evidence's name in logs.
        mr_enclave: SGX only, 32 bytes.
        mr_signer: SGX only, 32 bytes.
        isv_prod_id: SGX only, u16.
        isv_svn: SGX only, u16.
        mr_td: TDX only, 48 bytes.
        rtmrs: TDX only, four times 48 bytes.
        ppid: Identifies the machine, 16 bytes. Never log or hand on; not part of the JSON form.
        platform_instance_id: Likewise; 16 bytes or None.
    """

    tee: Literal["sgx", "tdx"]
    simulated: bool
    debug: bool
    report_data: bytes
    config_id: bytes
    tcb_status: TcbStatus
    advisories: tuple[str, ...]
    tcb_eval_data_number: int
    fmspc: bytes
    collateral_expires: datetime
    collateral: CollateralDigests
    signed_sha256: bytes
    mr_enclave: bytes | None = None
    mr_signer: bytes | None = None
    isv_prod_id: int | None = None
    isv_svn: int | None = None
    mr_td: bytes | None = None
    rtmrs: tuple[bytes, ...] | None = None
    ppid: bytes | None = field(default=None, repr=False)
    platform_instance_id: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Checks that exactly the fields of the TEE are there.

        Raises:
            FormatError: They are not, or the TCB status is unknown (``claims.malformed``).
        """
        sgx = (self.mr_enclave, self.mr_signer, self.isv_prod_id, self.isv_svn)
        tdx = (self.mr_td, self.rtmrs)
        own, other = (sgx, tdx) if self.tee == "sgx" else (tdx, sgx)
        if None in own or any(value is not None for value in other):
            raise FormatError(f"claims: fields do not belong to {self.tee}", code=_CODE)
        parse_tcb_status(self.tcb_status)
        if len(self.report_data) != 64:
            raise FormatError("claims: report data is not 64 bytes", code=_CODE)

    def to_json(self) -> dict[str, JsonValue]:
        """A JSON object, bytes in hexadecimal, without anything that identifies the machine."""
        values: dict[str, JsonValue] = {
            "tee": self.tee,
            "simulated": self.simulated,
            "debug": self.debug,
            "report_data": self.report_data.hex(),
            "config_id": self.config_id.hex(),
            "tcb_status": self.tcb_status,
            "advisories": list(self.advisories),
            "tcb_eval_data_number": self.tcb_eval_data_number,
            "fmspc": self.fmspc.hex(),
            "collateral_expires": timestamp(self.collateral_expires),
            "collateral": {name: getattr(self.collateral, name).hex() for name in _DIGESTS},
            "signed_sha256": self.signed_sha256.hex(),
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
        sgx = _is_sgx(members)
        claims = cls(
            tee="sgx" if sgx else "tdx",
            simulated=members.boolean("simulated"),
            debug=members.boolean("debug"),
            report_data=members.octets("report_data", 64),
            config_id=members.octets("config_id", 64 if sgx else 48),
            tcb_status=parse_tcb_status(members.text("tcb_status")),
            advisories=members.texts("advisories", max_items=MAX_ADVISORIES, max_length=MAX_ADVISORY_LENGTH),
            tcb_eval_data_number=members.number("tcb_eval_data_number"),
            fmspc=members.octets("fmspc", 6),
            collateral_expires=members.moment("collateral_expires"),
            collateral=_digests(members.value("collateral")),
            signed_sha256=members.octets("signed_sha256", 32),
            mr_enclave=members.octets("mr_enclave", 32) if sgx else None,
            mr_signer=members.octets("mr_signer", 32) if sgx else None,
            isv_prod_id=members.number("isv_prod_id", maximum=0xFFFF) if sgx else None,
            isv_svn=members.number("isv_svn", maximum=0xFFFF) if sgx else None,
            mr_td=None if sgx else members.octets("mr_td", 48),
            rtmrs=None if sgx else _rtmrs(members),
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


def _is_sgx(members: Members) -> bool:
    tee = members.text("tee")
    if tee not in {"sgx", "tdx"}:
        raise members.refuse("tee", "is not sgx or tdx")
    return tee == "sgx"


def _digests(value: object) -> CollateralDigests:
    members = Members(value, what="claims.collateral", code=_CODE)
    digests = CollateralDigests(*(members.octets(name, 32) for name in _DIGESTS))
    members.finish()
    return digests


def _rtmrs(members: Members) -> tuple[bytes, ...]:
    texts = members.texts("rtmrs", max_items=4, max_length=96)
    if len(texts) != 4:
        raise members.refuse("rtmrs", "are not four")
    indexed = Members({str(i): text for i, text in enumerate(texts)}, what="claims.rtmrs", code=_CODE)
    return tuple(indexed.octets(str(i), 48) for i in range(4))
