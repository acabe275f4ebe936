"""Evidence of every platform as one string of bytes: a DCAP quote as it is, or an envelope around what others give.

    envelope     magic 16 | u16 kind | parts, each u32 length and as many bytes
    snp          report | VCEK or VLEK
    az-snp-vtpm  report | VCEK or VLEK | runtime data | TPMS_ATTEST | RSA signature | PCRs 0 to 15 | report data
    az-tdx-vtpm  TD quote |              runtime data | TPMS_ATTEST | RSA signature | PCRs 0 to 15 | report data

Integers are little-endian. What evidence is, its first bytes say; nothing is tried. The issuers of a VCEK or VLEK and
revocation lists are no part of evidence: they must not come from the attested party.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from strongroom.errors import FormatError
from strongroom.formats.certificate import MAX_CERTIFICATE_BYTES
from strongroom.formats.hcl import MAX_RUNTIME_DATA_BYTES
from strongroom.formats.layout import Reader, little_bytes
from strongroom.formats.quote import MAX_QUOTE_BYTES, Quote, parse_quote
from strongroom.formats.snp_report import REPORT_SIZE, SnpReport, parse_snp_report
from strongroom.formats.tpm_quote import MAX_ATTEST_BYTES, PCR_COUNT, PCR_SIZE, RSA_2048_SIZE

Tee = Literal["sgx", "tdx", "snp", "az-snp-vtpm", "az-tdx-vtpm"]

MAGIC: Final = b"strongroom-tee-1"
MAX_EVIDENCE_BYTES: Final = MAX_QUOTE_BYTES
REPORT_DATA_SIZE: Final = 64

_WHAT: Final = "evidence"
_SNP: Final = 1
_AZURE_SNP: Final = 2
_AZURE_TDX: Final = 3


@dataclass(frozen=True, slots=True)
class DcapEvidence:
    """A DCAP quote.

    Args:
        raw: The quote as received.
        quote: The same, parsed.
    """

    raw: bytes
    quote: Quote

    @property
    def tee(self) -> Tee:
        """Which kind of trusted execution environment."""
        return self.quote.tee

    @property
    def report_data(self) -> bytes:
        """What the environment wanted to say, 64 bytes."""
        return self.quote.body.report_data


@dataclass(frozen=True, slots=True)
class SnpEvidence:
    """An SEV-SNP report and who signed it.

    Args:
        raw: The report as received, 1184 bytes.
        report: The same, parsed.
        endorsement_key: DER of the VCEK or VLEK certificate, not looked at.
    """

    raw: bytes
    report: SnpReport
    endorsement_key: bytes

    @property
    def tee(self) -> Tee:
        """Always "snp"."""
        return "snp"

    @property
    def report_data(self) -> bytes:
        """What the guest wanted to say, 64 bytes."""
        return self.report.report_data


@dataclass(frozen=True, slots=True, kw_only=True)
class VtpmEvidence:
    """Evidence of an Azure confidential VM: hardware vouches for a virtual TPM, which vouches for the guest.

    Args:
        hardware: The paravisor's, whose report data is the hash of `runtime_data`.
        runtime_data: JSON that names the virtual TPM's key.
        attest: TPMS_ATTEST of a quote, as it was signed.
        signature: RSASSA-PKCS1-v1_5 with SHA-256, 256 bytes.
        pcrs: Values of PCRs 0 to 15, SHA-256 bank.
        report_data: What the guest wanted to say, 64 bytes; the quote holds its hash.
    """

    hardware: DcapEvidence | SnpEvidence
    runtime_data: bytes
    attest: bytes
    signature: bytes
    pcrs: tuple[bytes, ...]
    report_data: bytes

    @property
    def tee(self) -> Tee:
        """Which kind of trusted execution environment."""
        return "az-snp-vtpm" if isinstance(self.hardware, SnpEvidence) else "az-tdx-vtpm"


Evidence = DcapEvidence | SnpEvidence | VtpmEvidence


def parse_evidence(raw: bytes) -> Evidence:
    """Parses evidence of any platform.

    Args:
        raw: At most 16 KiB.

    Returns:
        The evidence; nothing is verified. ``serialize_evidence`` gives `raw` back.

    Raises:
        FormatError: Malformed (``evidence.*``, ``quote.*``, ``report.*``, ``snp_report.*``).
    """
    if not raw.startswith(MAGIC):
        return DcapEvidence(raw, parse_quote(raw))
    if len(raw) > MAX_EVIDENCE_BYTES:
        raise FormatError(f"evidence: {len(raw)} bytes, at most {MAX_EVIDENCE_BYTES}", code="evidence.length")
    reader = Reader(raw, what=_WHAT)
    reader.take(len(MAGIC), "magic")
    kind = reader.number(2, "kind")
    if kind not in {_SNP, _AZURE_SNP, _AZURE_TDX}:
        raise FormatError(f"evidence: kind {kind} is unknown", code="evidence.kind")
    hardware = _parse_td_quote(reader) if kind == _AZURE_TDX else _parse_snp(reader)
    evidence = hardware if kind == _SNP else _parse_vtpm(reader, hardware)
    reader.finish()
    return evidence


def serialize_evidence(evidence: Evidence) -> bytes:
    """The evidence as bytes, the inverse of `parse_evidence`.

    Raises:
        FormatError: It would be too long (``evidence.length``), or a part has no place (``evidence.part``).
    """
    if isinstance(evidence, DcapEvidence):
        return evidence.raw
    raw = MAGIC + _serialize_parts(evidence)
    if len(raw) > MAX_EVIDENCE_BYTES:
        raise FormatError(f"evidence: {len(raw)} bytes, at most {MAX_EVIDENCE_BYTES}", code="evidence.length")
    return raw


def _serialize_parts(evidence: SnpEvidence | VtpmEvidence) -> bytes:
    if isinstance(evidence, SnpEvidence):
        return _joined(_SNP, (evidence.raw, evidence.endorsement_key))
    hardware = evidence.hardware
    kind, first = (
        (_AZURE_SNP, (hardware.raw, hardware.endorsement_key))
        if isinstance(hardware, SnpEvidence)
        else (_AZURE_TDX, (hardware.raw,))
    )
    pcrs = b"".join(evidence.pcrs)
    rest = (evidence.runtime_data, evidence.attest, evidence.signature, pcrs, evidence.report_data)
    return _joined(kind, (*first, *rest))


def _joined(kind: int, parts: Sequence[bytes]) -> bytes:
    return little_bytes(kind, 2, what="kind") + b"".join(
        little_bytes(len(part), 4, what="length") + part for part in parts
    )


def _part(reader: Reader, name: str, *, size: int | None = None, max_bytes: int = 0) -> bytes:
    found = reader.number(4, name)
    if (found != size) if size is not None else (found > max_bytes):
        raise FormatError(f"evidence: {name} of {found} bytes", code="evidence.part")
    return reader.take(found, name)


def _parse_snp(reader: Reader) -> SnpEvidence:
    raw = _part(reader, "report", size=REPORT_SIZE)
    return SnpEvidence(raw, parse_snp_report(raw), _part(reader, "endorsement key", max_bytes=MAX_CERTIFICATE_BYTES))


def _parse_td_quote(reader: Reader) -> DcapEvidence:
    raw = _part(reader, "TD quote", max_bytes=MAX_QUOTE_BYTES)
    quote = parse_quote(raw)
    if quote.tee != "tdx":
        raise FormatError("evidence: the quote is not a TD's", code="evidence.part")
    return DcapEvidence(raw, quote)


def _parse_vtpm(reader: Reader, hardware: DcapEvidence | SnpEvidence) -> VtpmEvidence:
    runtime_data = _part(reader, "runtime data", max_bytes=MAX_RUNTIME_DATA_BYTES)
    attest = _part(reader, "TPM quote", max_bytes=MAX_ATTEST_BYTES)
    signature = _part(reader, "TPM signature", size=RSA_2048_SIZE)
    pcrs = _part(reader, "PCRs", size=PCR_COUNT * PCR_SIZE)
    return VtpmEvidence(
        hardware=hardware,
        runtime_data=runtime_data,
        attest=attest,
        signature=signature,
        pcrs=tuple(pcrs[start : start + PCR_SIZE] for start in range(0, len(pcrs), PCR_SIZE)),
        report_data=_part(reader, "report data", size=REPORT_DATA_SIZE),
    )
