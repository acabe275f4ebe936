"""SEV-SNP attestation reports: what AMD's secure processor says about a guest.

Source: AMD SEV Secure Nested Paging Firmware ABI Specification (publication 56860), table "ATTESTATION_REPORT",
versions 2, 3 and 5, and "TCB_VERSION" (the layout of Turin and its successors differs). All integers are little-endian.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from strongroom.errors import FormatError
from strongroom.formats.layout import Field, Table, little, little_bytes, read, write

SnpProduct = Literal["milan", "genoa", "turin"]
SigningKey = Literal["vcek", "vlek"]

REPORT_SIZE: Final = 0x4A0
SIGNED_SIZE: Final = 0x2A0
POLICY_SMT: Final = 1 << 16
POLICY_MIGRATION_AGENT: Final = 1 << 18
POLICY_DEBUG: Final = 1 << 19
PLATFORM_SMT: Final = 1 << 0

_HEAD: Final[Table] = (
    Field("version", 0x000, 4),
    Field("guest_svn", 0x004, 4),
    Field("policy", 0x008, 8),
    Field("family_id", 0x010, 16),
    Field("image_id", 0x020, 16),
    Field("vmpl", 0x030, 4),
    Field("signature_algorithm", 0x034, 4),
    Field("current_tcb", 0x038, 8),
    Field("platform_info", 0x040, 8),
    Field("key_info", 0x048, 4),
    Field("reserved_4c", 0x04C, 4),
    Field("report_data", 0x050, 64),
    Field("measurement", 0x090, 48),
    Field("host_data", 0x0C0, 32),
    Field("id_key_digest", 0x0E0, 48),
    Field("author_key_digest", 0x110, 48),
    Field("report_id", 0x140, 32),
    Field("report_id_ma", 0x160, 32),
    Field("reported_tcb", 0x180, 8),
)
_NO_CPUID: Final[Table] = (Field("reserved_188", 0x188, 24),)
_CPUID: Final[Table] = (Field("cpuid", 0x188, 3), Field("reserved_18b", 0x18B, 21))
_MIDDLE: Final[Table] = (
    Field("chip_id", 0x1A0, 64),
    Field("committed_tcb", 0x1E0, 8),
    Field("current_version", 0x1E8, 3),
    Field("reserved_1eb", 0x1EB, 1),
    Field("committed_version", 0x1EC, 3),
    Field("reserved_1ef", 0x1EF, 1),
    Field("launch_tcb", 0x1F0, 8),
)
_NO_MITIGATIONS: Final[Table] = (Field("reserved_1f8", 0x1F8, 168),)
_MITIGATIONS: Final[Table] = (
    Field("launch_mit_vector", 0x1F8, 8),
    Field("current_mit_vector", 0x200, 8),
    Field("reserved_208", 0x208, 152),
)
_TAIL: Final[Table] = (
    Field("signature_r", 0x2A0, 72),
    Field("signature_s", 0x2E8, 72),
    Field("reserved_330", 0x330, 368),
)
TABLES: Final[dict[int, Table]] = {
    2: (*_HEAD, *_NO_CPUID, *_MIDDLE, *_NO_MITIGATIONS, *_TAIL),
    3: (*_HEAD, *_CPUID, *_MIDDLE, *_NO_MITIGATIONS, *_TAIL),
    5: (*_HEAD, *_CPUID, *_MIDDLE, *_MITIGATIONS, *_TAIL),
}
_TCB: Final[Table] = (
    Field("bootloader", 0, 1),
    Field("tee", 1, 1),
    Field("reserved", 2, 4),
    Field("snp", 6, 1),
    Field("microcode", 7, 1),
)
_TURIN_TCB: Final[Table] = (
    Field("fmc", 0, 1),
    Field("bootloader", 1, 1),
    Field("tee", 2, 1),
    Field("snp", 3, 1),
    Field("reserved", 4, 3),
    Field("microcode", 7, 1),
)

_WHAT: Final = "snp report"
_ECDSA_P384_SHA384: Final = 1
_MAX_VMPL: Final = 3  # a report that the host asked for says 0xFFFFFFFF
_POLICY_MUST_BE_ONE: Final = 1 << 17
_POLICY_KNOWN: Final = (1 << 26) - 1
_PLATFORM_INFO_KNOWN: Final = 0b1011_1111
_KEY_INFO_KNOWN: Final = 0b1_1111
_SIGNING_KEYS: Final[dict[int, SigningKey]] = {0: "vcek", 1: "vlek"}
# Combined family and the models of each product; others are not known to this version.
_PRODUCTS: Final[tuple[tuple[int, range, SnpProduct], ...]] = (
    (0x19, range(0x10), "milan"),
    (0x19, range(0x10, 0x20), "genoa"),
    (0x19, range(0xA0, 0xB0), "genoa"),
    (0x1A, range(0x12), "turin"),
)


@dataclass(frozen=True, slots=True)
class SnpTcb:
    """Security versions of the platform's firmware, u8 each.

    Args:
        bootloader: Of the secure processor's boot loader.
        tee: Of its operating system.
        snp: Of the SNP firmware.
        microcode: Of the cores.
        fmc: Of the first mutable code; Turin only.
    """

    bootloader: int
    tee: int
    snp: int
    microcode: int
    fmc: int | None = None

    def at_least(self, minimum: "SnpTcb") -> bool:
        """Whether no part is older than in `minimum`; parts that only one of the two has never are."""
        if (self.fmc is None) != (minimum.fmc is None):
            return False
        return all(ours >= theirs for ours, theirs in zip(_parts(self), _parts(minimum), strict=True))


@dataclass(frozen=True, kw_only=True)
class SnpReport:
    """A well-formed attestation report, nothing verified.

    Args:
        version: 2, 3 or 5.
        guest_svn: Security version of the guest's ID block, u32.
        policy: Guest policy, u64 (`POLICY_SMT` ...).
        family_id: 16 bytes.
        image_id: 16 bytes.
        vmpl: Privilege level that asked, 0 to 3.
        current_tcb: What runs now.
        platform_info: u64 (`PLATFORM_SMT` ...).
        key_info: u32; see `signing_key`.
        report_data: What the guest wanted to say, 64 bytes.
        measurement: Of the guest at launch, 48 bytes.
        host_data: What the host said at launch, 32 bytes.
        id_key_digest: SHA-384 of the key that signed the ID block, 48 bytes.
        author_key_digest: SHA-384 of the key that certified that one, 48 bytes.
        report_id: 32 bytes, one guest's.
        report_id_ma: 32 bytes, its migration agent's.
        reported_tcb: What the signing key was derived for.
        cpuid: Family, model, stepping, 3 bytes; None in version 2.
        chip_id: 64 bytes, zero where the host masks it. Identifies the machine: never log it.
        committed_tcb: What the host can't go below any more.
        current_version: Firmware's build, minor, major, 3 bytes.
        committed_version: Likewise.
        launch_tcb: What ran when the guest was launched.
        launch_mit_vector: u64; None before version 5.
        current_mit_vector: u64; None before version 5.
        signature_r: Little-endian, 72 bytes.
        signature_s: Little-endian, 72 bytes.
    """

    version: int
    guest_svn: int
    policy: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    current_tcb: SnpTcb
    platform_info: int
    key_info: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: SnpTcb
    cpuid: bytes | None
    chip_id: bytes
    committed_tcb: SnpTcb
    current_version: bytes
    committed_version: bytes
    launch_tcb: SnpTcb
    launch_mit_vector: int | None
    current_mit_vector: int | None
    signature_r: bytes
    signature_s: bytes

    @property
    def product(self) -> SnpProduct | None:
        """Which processors, as the report says; None in version 2, which does not."""
        return None if self.cpuid is None else _product(self.cpuid)

    @property
    def signing_key(self) -> SigningKey:
        """Which kind of key signed it."""
        return _SIGNING_KEYS[self.key_info >> 2 & 7]

    @property
    def debug(self) -> bool:
        """Whether the host may read the guest's memory."""
        return bool(self.policy & POLICY_DEBUG)

    @cached_property
    def signed(self) -> bytes:
        """The bytes under the signature, 672; equal to those received, for every byte was accounted for."""
        return serialize_snp_report(self)[:SIGNED_SIZE]


def parse_snp_report(raw: bytes) -> SnpReport:
    """Parses a report; every byte is accounted for.

    Args:
        raw: Exactly 1184 bytes.

    Returns:
        The report; ``serialize_snp_report`` gives `raw` back.

    Raises:
        FormatError: Codes ``snp_report.length``, ``snp_report.version``, ``snp_report.reserved``,
            ``snp_report.field``.
    """
    if len(raw) != REPORT_SIZE:
        raise FormatError(f"{_WHAT}: {len(raw)} bytes, expected {REPORT_SIZE}", code="snp_report.length")
    version = little(raw[:4])
    if version not in TABLES:
        raise FormatError(f"{_WHAT}: version {version} is not 2, 3 or 5", code="snp_report.version")
    values = read(TABLES[version], raw, what=_WHAT)
    numbers = {name: little(values[name]) for name in ("policy", "platform_info", "key_info", "vmpl")}
    _check_numbers(numbers, little(values["signature_algorithm"]))
    cpuid = values.get("cpuid")
    table = _tcb_table(cpuid)
    mitigations = {
        name: little(values[name]) if name in values else None for name in ("launch_mit_vector", "current_mit_vector")
    }
    return SnpReport(
        version=version,
        guest_svn=little(values["guest_svn"]),
        policy=numbers["policy"],
        family_id=values["family_id"],
        image_id=values["image_id"],
        vmpl=numbers["vmpl"],
        current_tcb=_parse_tcb(table, values["current_tcb"]),
        platform_info=numbers["platform_info"],
        key_info=numbers["key_info"],
        report_data=values["report_data"],
        measurement=values["measurement"],
        host_data=values["host_data"],
        id_key_digest=values["id_key_digest"],
        author_key_digest=values["author_key_digest"],
        report_id=values["report_id"],
        report_id_ma=values["report_id_ma"],
        reported_tcb=_parse_tcb(table, values["reported_tcb"]),
        cpuid=cpuid,
        chip_id=values["chip_id"],
        committed_tcb=_parse_tcb(table, values["committed_tcb"]),
        current_version=values["current_version"],
        committed_version=values["committed_version"],
        launch_tcb=_parse_tcb(table, values["launch_tcb"]),
        launch_mit_vector=mitigations["launch_mit_vector"],
        current_mit_vector=mitigations["current_mit_vector"],
        signature_r=values["signature_r"],
        signature_s=values["signature_s"],
    )


def serialize_snp_report(report: SnpReport) -> bytes:
    """The report as bytes, the inverse of `parse_snp_report`.

    Raises:
        FormatError: A part has the wrong size, or the version is unknown (``snp_report.*``, ``format.integer``).
    """
    if report.version not in TABLES:
        raise FormatError(f"{_WHAT}: version {report.version} is not 2, 3 or 5", code="snp_report.version")
    table = TABLES[report.version]
    tcb_table = _tcb_table(report.cpuid)
    values: dict[str, bytes] = {}
    for field in table:
        if field.reserved:
            continue
        value = _ECDSA_P384_SHA384 if field.name == "signature_algorithm" else getattr(report, field.name)
        if isinstance(value, SnpTcb):
            value = _serialize_tcb(tcb_table, value)
        elif isinstance(value, int):
            value = little_bytes(value, field.size, what=field.name)
        elif not isinstance(value, bytes):
            raise FormatError(f"{_WHAT}: {field.name} is missing", code="snp_report.field")
        values[field.name] = value
    return write(table, values, what=_WHAT)


def _parts(tcb: SnpTcb) -> tuple[int, ...]:
    return (tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode, tcb.fmc or 0)


def _check_numbers(numbers: dict[str, int], signature_algorithm: int) -> None:
    if signature_algorithm != _ECDSA_P384_SHA384:
        raise _refuse("signature algorithm is not ECDSA P-384 with SHA-384")
    if numbers["vmpl"] > _MAX_VMPL:
        raise _refuse("VMPL is not 0 to 3: not a report the guest asked for")
    if numbers["policy"] & ~_POLICY_KNOWN or not numbers["policy"] & _POLICY_MUST_BE_ONE:
        raise _refuse("guest policy has reserved bits")
    if numbers["platform_info"] & ~_PLATFORM_INFO_KNOWN:
        raise _refuse("platform info has reserved bits")
    if numbers["key_info"] & ~_KEY_INFO_KNOWN or numbers["key_info"] >> 2 not in _SIGNING_KEYS:
        raise _refuse("neither a VCEK nor a VLEK signed it")


def _refuse(reason: str) -> FormatError:
    return FormatError(f"{_WHAT}: {reason}", code="snp_report.field")


def _product(cpuid: bytes) -> SnpProduct:
    for family, models, product in _PRODUCTS:
        if cpuid[0] == family and cpuid[1] in models:
            return product
    raise _refuse(f"processor family {cpuid[0]:#x}, model {cpuid[1]:#x} is not Milan, Genoa or Turin")


def _tcb_table(cpuid: bytes | None) -> Table:
    return _TURIN_TCB if cpuid is not None and _product(cpuid) == "turin" else _TCB


def _parse_tcb(table: Table, raw: bytes) -> SnpTcb:
    return SnpTcb(**{name: little(value) for name, value in read(table, raw, what=_WHAT).items()})


def _serialize_tcb(table: Table, tcb: SnpTcb) -> bytes:
    if ("fmc" in {field.name for field in table}) != (tcb.fmc is not None):
        raise _refuse("the TCB's first mutable code does not belong to the product")
    parts = {field.name: getattr(tcb, field.name) for field in table if not field.reserved}
    return write(table, {name: little_bytes(value, 1, what=name) for name, value in parts.items()}, what=_WHAT)
