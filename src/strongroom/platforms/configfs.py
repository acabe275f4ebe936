"""Reports of a Linux guest through configfs-tsm, whichever hardware is below.

Each request is a folder of its own: write ``inblob``, read ``outblob``. ``generation`` counts the writes to it, so a
stranger's write between ours and the reading shows.

Source: Linux, Documentation/ABI/testing/configfs-tsm-report (Linux 6.7).
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.errors import UnavailableError

ROOT: Final = Path("/sys/kernel/config/tsm/report")
MAX_REPORT_BYTES: Final = 16 * 1024
MAX_AUXILIARY_BYTES: Final = 64 * 1024
_MAX_TEXT_BYTES: Final = 64
_system_write = os.write  # tests put a kernel's double here


@dataclass(frozen=True, slots=True)
class TsmReport:
    """What the kernel gave.

    Args:
        report: ``outblob``.
        auxiliary: ``auxblob``: what the host adds, e.g. certificates; empty if nothing.
    """

    report: bytes
    auxiliary: bytes


def ask_for_report(root: Path, provider: str, report_data: bytes, *, code: str) -> TsmReport:
    """Asks for a fresh report.

    Args:
        root: configfs folder of the reports.
        provider: The driver that must answer.
        report_data: Exactly 64 bytes.
        code: Of the errors.

    Returns:
        The report and what came with it, not looked at.

    Raises:
        UnavailableError: The kernel gives no report, or another driver would answer (`code`).
    """
    try:
        with _request(root) as folder:
            if _text(folder / "provider") != provider:
                raise UnavailableError(f"the provider of reports here is not {provider}", code=code)
            before = _generation(folder)
            _write_once(folder / "inblob", report_data)
            report = _read(folder / "outblob", MAX_REPORT_BYTES)
            auxiliary = _read_if_there(folder / "auxblob", MAX_AUXILIARY_BYTES)
            if _generation(folder) != before + 1:
                raise UnavailableError("somebody else wrote to our report request", code=code)
    except _Bad as error:
        raise UnavailableError(str(error), code=code) from None
    except OSError as error:
        raise UnavailableError(
            f"{root} gives no report: {os.strerror(error.errno or 0)}",
            code=code,
            hint="it needs Linux 6.7 or newer, configfs mounted, and the right to make a folder there",
        ) from None
    return TsmReport(report, auxiliary)


def provided_by(root: Path, provider: str) -> bool:
    """Whether this driver makes reports here and lets this process ask."""
    try:
        with _request(root) as folder:
            return _text(folder / "provider") == provider
    except (OSError, _Bad):
        return False


class _Bad(Exception):
    """An attribute is not what the kernel writes."""


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
        raise _Bad("the kernel's generation is not a number")
    return int(text)


def _text(path: Path) -> str:
    return _read(path, _MAX_TEXT_BYTES).decode("ascii", "replace").strip()


def _read(path: Path, max_bytes: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise _Bad(f"{path.name} is longer than {max_bytes} bytes")
    return content


def _read_if_there(path: Path, max_bytes: int) -> bytes:
    try:
        return _read(path, max_bytes)
    except OSError:  # older kernels have no such attribute, others nothing in it
        return b""


def _write_once(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        if _system_write(descriptor, content) != len(content):
            raise _Bad(f"{path.name} took only a part")
    finally:
        os.close(descriptor)
