"""AMD SEV-SNP: reports of a Linux guest through configfs-tsm, with the VCEK or VLEK the host gives along.

Source: Linux, drivers/virt/coco/sev-guest (provider "sev_guest"); AMD GHCB specification (publication 56421),
extended guest request: the certificate table in ``auxblob``.
Tested against a double of the kernel's files; not run on SEV-SNP hardware.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.errors import FormatError, UnavailableError
from strongroom.formats.certificate_table import VCEK, VLEK, parse_certificate_table
from strongroom.formats.evidence import SnpEvidence, serialize_evidence
from strongroom.formats.snp_report import parse_snp_report
from strongroom.platforms import check_report_data
from strongroom.platforms.configfs import ROOT, TsmReport, ask_for_report, provided_by
from strongroom.platforms.evidence import about, with_certificate

PROVIDER: Final = "sev_guest"
_CODE: Final = "platform.snp"


@dataclass(frozen=True, slots=True)
class SnpPlatform:
    """The guest this process runs in.

    Args:
        root: configfs folder of the reports.
    """

    root: Path = ROOT

    @property
    def name(self) -> str:
        """Always "snp"."""
        return "snp"

    @property
    def tee(self) -> str:
        """Always "snp"."""
        return "snp"

    @property
    def simulated(self) -> bool:
        """Always false."""
        return False

    def quote(self, report_data: bytes) -> bytes:
        """A fresh report with the certificate of the key that signed it.

        Args:
            report_data: Exactly 64 bytes.

        Returns:
            The evidence (`strongroom.formats.evidence`).

        Raises:
            ConfigurationError: `report_data` has another length (``platform.report_data``).
            UnavailableError: The kernel gives no report or the host no certificate (``platform.snp``), or the report
                is about other report data (``platform.quote``).
        """
        check_report_data(report_data)
        given = ask_for_report(self.root, PROVIDER, report_data, code=_CODE)
        return about(serialize_evidence(_evidence(given)), report_data)


def answers(root: Path = ROOT) -> bool:
    """Whether this machine is an SEV-SNP guest and lets this process ask for reports."""
    return provided_by(root, PROVIDER)


def _evidence(given: TsmReport) -> SnpEvidence:
    try:
        report = parse_snp_report(given.report)
        certificates = parse_certificate_table(given.auxiliary)
    except FormatError as error:
        raise UnavailableError(f"the kernel's report is malformed: {error.message}", code=_CODE) from None
    certificate = certificates.get(VLEK if report.signing_key == "vlek" else VCEK)
    if certificate is None:
        raise UnavailableError(
            f"the host gives no {report.signing_key.upper()} certificate",
            code=_CODE,
            hint="whoever runs the host loads it into the hypervisor (`snphost import`); Azure: platform azure-snp",
        )
    return with_certificate(given.report, report, certificate, code=_CODE)
