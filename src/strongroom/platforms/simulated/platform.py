"""One enclave on a simulated machine, as a `strongroom.platforms.Platform`."""

from dataclasses import dataclass, replace

from strongroom.formats.report import SgxReport
from strongroom.platforms import check_report_data
from strongroom.platforms.simulated.quotes import QuotingEnclave


@dataclass(frozen=True, slots=True)
class SimulatedPlatform:
    """Quotes about one enclave, without hardware.

    Args:
        quoting_enclave: Who signs.
        body: What the quotes say about the enclave; its report data is replaced.
    """

    quoting_enclave: QuotingEnclave
    body: SgxReport

    @property
    def name(self) -> str:
        """Always "simulated"."""
        return "simulated"

    @property
    def tee(self) -> str:
        """Always "sgx": the quotes are SGX quotes."""
        return "sgx"

    @property
    def simulated(self) -> bool:
        """Always true."""
        return True

    def quote(self, report_data: bytes) -> bytes:
        """A fresh SGX quote, version 3.

        Args:
            report_data: Exactly 64 bytes.

        Returns:
            The quote, with the PCK chain inside.

        Raises:
            ConfigurationError: `report_data` has another length (``platform.report_data``).
        """
        return self.quoting_enclave.quote(replace(self.body, report_data=check_report_data(report_data)))
