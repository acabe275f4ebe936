"""Intel TDX: quotes of a Linux guest through configfs-tsm.

Source: Linux, drivers/virt/coco/tdx-guest (provider "tdx_guest").
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.platforms import check_report_data
from strongroom.platforms.configfs import ROOT, ask_for_report, provided_by
from strongroom.platforms.evidence import about

PROVIDER: Final = "tdx_guest"


@dataclass(frozen=True, slots=True)
class TdxPlatform:
    """The trust domain this process runs in.

    Args:
        root: configfs folder of the reports.
    """

    root: Path = ROOT

    @property
    def name(self) -> str:
        """Always "tdx"."""
        return "tdx"

    @property
    def tee(self) -> str:
        """Always "tdx"."""
        return "tdx"

    @property
    def simulated(self) -> bool:
        """Always false."""
        return False

    def quote(self, report_data: bytes) -> bytes:
        """A fresh TD quote.

        Args:
            report_data: Exactly 64 bytes.

        Returns:
            The quote.

        Raises:
            ConfigurationError: `report_data` has another length (``platform.report_data``).
            UnavailableError: The kernel gives no quote (``platform.tdx``), or one about other report data
                (``platform.quote``).
        """
        check_report_data(report_data)
        return about(ask_for_report(self.root, PROVIDER, report_data, code="platform.tdx").report, report_data)


def answers(root: Path = ROOT) -> bool:
    """Whether this machine is a TDX guest and lets this process ask for quotes."""
    return provided_by(root, PROVIDER)
