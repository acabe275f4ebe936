"""Intel TDX: quotes of a Linux guest through configfs-tsm.

Each request is a folder of its own: write ``inblob``, read ``outblob``. ``generation`` counts the writes to it, so a
stranger's write between ours and the reading shows.

Source: Linux, Documentation/ABI/testing/configfs-tsm-report (Linux 6.7); drivers/virt/coco/tdx-guest (provider
"tdx_guest").
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.errors import UnavailableError
from strongroom.platforms import check_report_data
from strongroom.platforms.evidence import about

ROOT: Final = Path("/sys/kernel/config/tsm/report")
PROVIDER: Final = "tdx_guest"
MAX_QUOTE_BYTES: Final = 16 * 1024
_MAX_TEXT_BYTES: Final = 64
_system_write = os.write  # tests put a kernel's double here


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
        try:
            with _request(self.root) as folder:
                if _text(folder / "provider") != PROVIDER:
                    raise UnavailableError("this machine is not a TDX guest", code="platform.tdx")
                before = _generation(folder)
                _write_once(folder / "inblob", report_data)
                quote = _read(folder / "outblob", MAX_QUOTE_BYTES)
                if _generation(folder) != before + 1:
                    raise UnavailableError("somebody else wrote to our report request", code="platform.tdx")
        except OSError as error:
            raise UnavailableError(
                f"{self.root} gives no quote: {os.strerror(error.errno or 0)}",
                code="platform.tdx",
                hint="it needs Linux 6.7 or newer, configfs mounted, and the right to make a folder there",
            ) from None
        return about(quote, report_data)


def answers(root: Path = ROOT) -> bool:
    """Whether this machine is a TDX guest and lets this process ask for quotes."""
    try:
        with _request(root) as folder:
            return _text(folder / "provider") == PROVIDER
    except (OSError, UnavailableError):
        return False


@contextmanager
def _request(root: Path) -> Iterator[Path]:
    folder = root / f"strongroom-{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        folder.rmdir()  # the kernel removes the attributes with it


def _generation(folder: Path) -> int:
    text = _text(folder / "generation")
    if not text.isascii() or not text.isdigit():
        raise UnavailableError("the kernel's generation is not a number", code="platform.tdx")
    return int(text)


def _text(path: Path) -> str:
    return _read(path, _MAX_TEXT_BYTES).decode("ascii", "replace").strip()


def _read(path: Path, max_bytes: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise UnavailableError(f"{path.name} is longer than {max_bytes} bytes", code="platform.tdx")
    return content


def _write_once(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if _system_write(descriptor, content) != len(content):
            raise UnavailableError(f"{path.name} took only a part", code="platform.tdx")
    finally:
        os.close(descriptor)
