"""Where evidence comes from: each platform turns 64 bytes of report data into a quote."""

from typing import Final, Protocol

from strongroom.errors import ConfigurationError

REPORT_DATA_SIZE: Final = 64


class Platform(Protocol):
    """A trusted execution environment that can speak about itself."""

    @property
    def name(self) -> str:
        """Name for people and logs: "simulated", "gramine", "azure-snp"."""

    @property
    def tee(self) -> str:
        """Name in the key broker protocol: "sgx", "tdx", "snp", "az-snp-vtpm" or "az-tdx-vtpm"."""

    @property
    def simulated(self) -> bool:
        """Whether no hardware stands behind the quotes."""

    def quote(self, report_data: bytes) -> bytes:
        """A fresh quote about the running code.

        Args:
            report_data: Exactly 64 bytes the quote shall carry.

        Returns:
            The evidence (`strongroom.formats.evidence`): a quote as Intel lays it out, or an envelope of ours.

        Raises:
            ConfigurationError: `report_data` has another length (``platform.report_data``).
            UnavailableError: The platform doesn't answer.
        """


def check_report_data(report_data: bytes) -> bytes:
    """`report_data` if it has exactly 64 bytes; padding it silently would hide a caller's mistake.

    Raises:
        ConfigurationError: It has another length (``platform.report_data``).
    """
    if len(report_data) != REPORT_DATA_SIZE:
        raise ConfigurationError(
            f"report data has {len(report_data)} bytes, expected {REPORT_DATA_SIZE}", code="platform.report_data"
        )
    return report_data
