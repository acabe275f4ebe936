"""SGX report bodies and TD reports: what the CPU says about an enclave or a trust domain.

Source: Intel SGX DCAP Quote Verification Library, QuoteStructures.h (EnclaveReport, TDReport10, TDReport15); Intel 64
and IA-32 SDM volume 3D, table "REPORT". All integers are little-endian.
"""

from dataclasses import dataclass
from typing import Final

from strongroom.formats.layout import Field, Table, little, little_bytes, read, size_of, write

SGX_REPORT: Final[Table] = (
    Field("cpu_svn", 0, 16),
    Field("misc_select", 16, 4),
    Field("reserved_1", 20, 12),
    Field("isv_ext_prod_id", 32, 16),
    Field("flags", 48, 8),
    Field("xfrm", 56, 8),
    Field("mr_enclave", 64, 32),
    Field("reserved_2", 96, 32),
    Field("mr_signer", 128, 32),
    Field("reserved_3", 160, 32),
    Field("config_id", 192, 64),
    Field("isv_prod_id", 256, 2),
    Field("isv_svn", 258, 2),
    Field("config_svn", 260, 2),
    Field("reserved_4", 262, 42),
    Field("isv_family_id", 304, 16),
    Field("report_data", 320, 64),
)

TD_REPORT_10: Final[Table] = (
    Field("tee_tcb_svn", 0, 16),
    Field("mr_seam", 16, 48),
    Field("mr_signer_seam", 64, 48),
    Field("seam_attributes", 112, 8),
    Field("td_attributes", 120, 8),
    Field("xfam", 128, 8),
    Field("mr_td", 136, 48),
    Field("mr_config_id", 184, 48),
    Field("mr_owner", 232, 48),
    Field("mr_owner_config", 280, 48),
    Field("rtmr_0", 328, 48),
    Field("rtmr_1", 376, 48),
    Field("rtmr_2", 424, 48),
    Field("rtmr_3", 472, 48),
    Field("report_data", 520, 64),
)

TD_REPORT_15: Final[Table] = (*TD_REPORT_10, Field("tee_tcb_svn_2", 584, 16), Field("mr_service_td", 600, 48))

SGX_REPORT_SIZE: Final = size_of(SGX_REPORT)
TD_REPORT_10_SIZE: Final = size_of(TD_REPORT_10)
TD_REPORT_15_SIZE: Final = size_of(TD_REPORT_15)

SGX_FLAG_INIT: Final = 1 << 0
SGX_FLAG_DEBUG: Final = 1 << 1
SGX_FLAG_MODE64: Final = 1 << 2
SGX_FLAG_PROVISION_KEY: Final = 1 << 4
SGX_FLAG_EINITTOKEN_KEY: Final = 1 << 5
TD_ATTRIBUTE_DEBUG: Final = 1 << 0

_NUMBERS: Final = {"misc_select": 4, "flags": 8, "xfrm": 8, "isv_prod_id": 2, "isv_svn": 2, "config_svn": 2}
_TD_NUMBERS: Final = {"seam_attributes": 8, "td_attributes": 8, "xfam": 8}
_RTMRS: Final = ("rtmr_0", "rtmr_1", "rtmr_2", "rtmr_3")
_WHAT: Final = "report"


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxReport:
    """An SGX report body, 384 bytes.

    Args:
        mr_enclave: Measurement of the code, 32 bytes.
        mr_signer: SHA-256 of the signer's modulus, 32 bytes.
        isv_prod_id: Product id given by the signer, u16.
        isv_svn: Security version given by the signer, u16.
        report_data: What the enclave wanted to say, 64 bytes.
        flags: Attribute flags, u64 (`SGX_FLAG_INIT`, `SGX_FLAG_DEBUG`, ...).
        xfrm: Extended features, u64.
        misc_select: u32.
        cpu_svn: 16 bytes.
        config_id: 64 bytes.
        config_svn: u16.
        isv_ext_prod_id: 16 bytes.
        isv_family_id: 16 bytes.
    """

    mr_enclave: bytes
    mr_signer: bytes
    isv_prod_id: int
    isv_svn: int
    report_data: bytes
    flags: int
    xfrm: int = 0
    misc_select: int = 0
    cpu_svn: bytes = bytes(16)
    config_id: bytes = bytes(64)
    config_svn: int = 0
    isv_ext_prod_id: bytes = bytes(16)
    isv_family_id: bytes = bytes(16)

    @property
    def debug(self) -> bool:
        """Whether the host may read the enclave's memory."""
        return bool(self.flags & SGX_FLAG_DEBUG)

    @property
    def initialized(self) -> bool:
        """Whether EINIT has run; a report of a running enclave always says so."""
        return bool(self.flags & SGX_FLAG_INIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReport:
    """A TD report, 584 bytes (TDX 1.0) or 648 bytes (TDX 1.5).

    Args:
        tee_tcb_svn: 16 bytes.
        mr_seam: Measurement of the TDX module, 48 bytes.
        mr_signer_seam: 48 bytes.
        seam_attributes: u64.
        td_attributes: u64; bit 0 is DEBUG.
        xfam: u64.
        mr_td: Measurement of the trust domain's initial contents, 48 bytes.
        mr_config_id: 48 bytes.
        mr_owner: 48 bytes.
        mr_owner_config: 48 bytes.
        rtmrs: The four run-time measurement registers, 48 bytes each.
        report_data: What the trust domain wanted to say, 64 bytes.
        tee_tcb_svn_2: 16 bytes, TDX 1.5 only, else None.
        mr_service_td: 48 bytes, TDX 1.5 only, else None.
    """

    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: int
    td_attributes: int
    xfam: int
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tee_tcb_svn_2: bytes | None = None
    mr_service_td: bytes | None = None

    @property
    def debug(self) -> bool:
        """Whether the host may read the trust domain's memory."""
        return bool(self.td_attributes & TD_ATTRIBUTE_DEBUG)

    @property
    def version_15(self) -> bool:
        """Whether this is a TDX 1.5 report."""
        return self.tee_tcb_svn_2 is not None or self.mr_service_td is not None


def parse_sgx_report(raw: bytes) -> SgxReport:
    """Parses an SGX report body.

    Args:
        raw: Exactly 384 bytes.

    Returns:
        The report.

    Raises:
        FormatError: Wrong length or a reserved field that is not zero (``report.length``, ``report.reserved``).
    """
    values = read(SGX_REPORT, raw, what=_WHAT)
    return SgxReport(
        mr_enclave=values["mr_enclave"],
        mr_signer=values["mr_signer"],
        isv_prod_id=little(values["isv_prod_id"]),
        isv_svn=little(values["isv_svn"]),
        report_data=values["report_data"],
        flags=little(values["flags"]),
        xfrm=little(values["xfrm"]),
        misc_select=little(values["misc_select"]),
        cpu_svn=values["cpu_svn"],
        config_id=values["config_id"],
        config_svn=little(values["config_svn"]),
        isv_ext_prod_id=values["isv_ext_prod_id"],
        isv_family_id=values["isv_family_id"],
    )


def serialize_sgx_report(report: SgxReport) -> bytes:
    """The report as 384 bytes.

    Raises:
        FormatError: A field has the wrong size (``report.field``) or a number does not fit (``format.integer``).
    """
    values = {field.name: getattr(report, field.name) for field in SGX_REPORT if not field.reserved}
    for name, size in _NUMBERS.items():
        values[name] = little_bytes(values[name], size, what=name)
    return write(SGX_REPORT, values, what=_WHAT)


def parse_td_report(raw: bytes) -> TdReport:
    """Parses a TD report 1.0 or 1.5, told apart by length.

    Args:
        raw: Exactly 584 or 648 bytes.

    Returns:
        The report.

    Raises:
        FormatError: Wrong length (``report.length``).
    """
    values = read(TD_REPORT_15 if len(raw) == TD_REPORT_15_SIZE else TD_REPORT_10, raw, what=_WHAT)
    return TdReport(
        tee_tcb_svn=values["tee_tcb_svn"],
        mr_seam=values["mr_seam"],
        mr_signer_seam=values["mr_signer_seam"],
        seam_attributes=little(values["seam_attributes"]),
        td_attributes=little(values["td_attributes"]),
        xfam=little(values["xfam"]),
        mr_td=values["mr_td"],
        mr_config_id=values["mr_config_id"],
        mr_owner=values["mr_owner"],
        mr_owner_config=values["mr_owner_config"],
        rtmrs=(values["rtmr_0"], values["rtmr_1"], values["rtmr_2"], values["rtmr_3"]),
        report_data=values["report_data"],
        tee_tcb_svn_2=values.get("tee_tcb_svn_2"),
        mr_service_td=values.get("mr_service_td"),
    )


def serialize_td_report(report: TdReport) -> bytes:
    """The report as 584 bytes, or 648 when both TDX 1.5 fields are there.

    Raises:
        FormatError: A field is missing or has the wrong size (``report.field``, ``format.integer``).
    """
    table = TD_REPORT_15 if report.version_15 else TD_REPORT_10
    # A TDX 1.5 field that is None becomes empty and is refused by its size.
    values = {field.name: getattr(report, field.name, None) or b"" for field in table if field.name not in _RTMRS}
    values.update(zip(_RTMRS, report.rtmrs, strict=True))
    for name, size in _TD_NUMBERS.items():
        values[name] = little_bytes(getattr(report, name), size, what=name)
    return write(table, values, what=_WHAT)
