"""Azure's confidential VMs: a virtual TPM that the hardware vouches for.

The guest can't choose what the processor's report says: the paravisor that runs beside it asked for that report when
the VM started, about the key of the virtual TPM. So evidence is a TPM quote about our report data, and that report.

Source: Microsoft, "Azure confidential VM guest attestation" (NV index 0x01400001, key 0x81000003); kinvolk/
azure-cvm-tooling. Tested against doubles and a software TPM; not run on an Azure confidential VM.
"""

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from strongroom.errors import FormatError, StrongroomError, UnavailableError
from strongroom.formats.evidence import DcapEvidence, SnpEvidence, VtpmEvidence, serialize_evidence
from strongroom.formats.hcl import MAX_HCL_REPORT_BYTES, HclReport, parse_hcl_report, report_data_of
from strongroom.formats.quote import parse_quote
from strongroom.formats.snp_report import parse_snp_report
from strongroom.formats.tpm_quote import extra_data_of
from strongroom.platforms import check_report_data
from strongroom.platforms.azure_metadata import ADDRESS, fetch_endorsement_key, fetch_td_quote
from strongroom.platforms.evidence import about, with_certificate
from strongroom.platforms.tpm import DEVICE, make_quote, read_nv

HCL_REPORT_INDEX: Final = 0x01400001
ATTESTATION_KEY: Final = 0x81000003
_TD_QUOTE_S: Final = 3600
_CODE: Final = "platform.azure"


@dataclass(frozen=True, slots=True)
class AzurePlatform:
    """The confidential VM this process runs in.

    Args:
        hardware: What is below the paravisor.
        device: The virtual TPM.
        metadata: Address of Azure's metadata service.
    """

    hardware: Literal["snp", "tdx"]
    device: Path = DEVICE
    metadata: tuple[str, int] = ADDRESS

    @property
    def name(self) -> str:
        """Either "azure-snp" or "azure-tdx"."""
        return f"azure-{self.hardware}"

    @property
    def tee(self) -> str:
        """Either "az-snp-vtpm" or "az-tdx-vtpm"."""
        return f"az-{self.hardware}-vtpm"

    @property
    def simulated(self) -> bool:
        """Always false."""
        return False

    def quote(self, report_data: bytes) -> bytes:
        """A fresh TPM quote with all that vouches for the TPM.

        Args:
            report_data: Exactly 64 bytes.

        Returns:
            The evidence (`strongroom.formats.evidence`).

        Raises:
            ConfigurationError: `report_data` has another length (``platform.report_data``).
            UnavailableError: The TPM or Azure's metadata service does not answer (``platform.tpm``,
                ``platform.azure_metadata``), or their answers do not fit together (``platform.azure``,
                ``platform.quote``).
        """
        check_report_data(report_data)
        report = _read_report(self.device)
        quoted = make_quote(self.device, ATTESTATION_KEY, extra_data_of(report_data))
        evidence = VtpmEvidence(
            hardware=_hardware_evidence(report, self.metadata),
            runtime_data=report.runtime_data,
            attest=quoted.attest,
            signature=quoted.signature,
            pcrs=quoted.pcrs,
            report_data=report_data,
        )
        return about(serialize_evidence(evidence), report_data)


# The metadata service answers a few requests a second. What it says about a report stays true as long as the report is
# the same; a TD quote is asked for again every hour, because its certificates are renewed.
@lru_cache(maxsize=4)
def _snp_evidence(raw: bytes, metadata: tuple[str, int]) -> SnpEvidence:
    report = parse_snp_report(raw)
    return with_certificate(raw, report, fetch_endorsement_key(metadata), code=_CODE)


@lru_cache(maxsize=4)
def _tdx_evidence(td_report: bytes, metadata: tuple[str, int], hour: int) -> DcapEvidence:
    raw = fetch_td_quote(td_report, metadata)
    return DcapEvidence(raw, parse_quote(raw))


def _hardware_evidence(report: HclReport, metadata: tuple[str, int]) -> SnpEvidence | DcapEvidence:
    evidence: SnpEvidence | DcapEvidence
    try:
        if report.kind == "snp":
            evidence = _snp_evidence(report.hardware_report, metadata)
        else:
            evidence = _tdx_evidence(report.hardware_report, metadata, int(time.monotonic() // _TD_QUOTE_S))
    except FormatError as error:
        raise UnavailableError(f"the hardware's report is malformed: {error.message}", code=_CODE) from None
    if evidence.report_data != report_data_of(report.runtime_data):
        raise UnavailableError("the hardware's report is about other runtime data", code=_CODE)
    return evidence


def find_azure(device: Path = DEVICE) -> AzurePlatform | None:
    """The platform, if this is an Azure confidential VM and this process may use its TPM."""
    try:
        return AzurePlatform(_read_report(device).kind, device)
    except StrongroomError:
        return None


def _read_report(device: Path) -> HclReport:
    try:
        return parse_hcl_report(read_nv(device, HCL_REPORT_INDEX, MAX_HCL_REPORT_BYTES))
    except FormatError as error:
        raise UnavailableError(f"the TPM holds no attestation report: {error.message}", code=_CODE) from None
