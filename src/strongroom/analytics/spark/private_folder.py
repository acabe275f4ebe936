"""A folder in memory for what must not reach a disk: the key server's socket and the secret of Spark's own traffic."""

import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from strongroom.errors import ConfigurationError
from strongroom.platforms.gramine import find_gramine

PLACES: Final = (Path("/run/strongroom"), Path("/dev/shm"))  # noqa: S108  # memory; private by mode 0700
"""Where a pod has memory of its own, and where any Linux has."""
_REMOVE: Final = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"
_MOUNTS: Final = Path("/proc/self/mounts")


class PrivateFolder:
    """Made with mode 0700 in the TEE's own memory; overwritten and removed at the end. Use it as a context manager.

    Raises:
        ConfigurationError: There is no tmpfs at /run/strongroom or /dev/shm.
    """

    def __init__(self) -> None:
        self._guard: subprocess.Popen[bytes] | None = None
        self.path = _memory() / f"strongroom-{secrets.token_hex(8)}"
        self.path.mkdir(mode=0o700)

    def write(self, name: str, content: bytes) -> Path:
        """Write a file of mode 0600.

        Returns:
            Its path.
        """
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        return path

    def guard(self) -> None:
        """Have the folder removed even if this process is killed: by a child that waits for its end.

        In an enclave there is nothing to remove: what is outside of it is ciphertext.
        """
        if find_gramine() is not None:
            return
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _REMOVE, str(self.path)], stdin=subprocess.PIPE, start_new_session=True
        )

    def close(self) -> None:
        """Overwrite the files and remove the folder."""
        for path in self.path.rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.write_bytes(bytes(path.stat().st_size))
        shutil.rmtree(self.path, ignore_errors=True)
        if self._guard is not None:
            self._guard.communicate()
            self._guard = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _memory() -> Path:
    """The first place that is in memory.

    Raises:
        ConfigurationError: None is.
    """
    if find_gramine() is not None:
        return PLACES[0]  # Gramine shows no mounts; what is there is measured with the manifest
    for place in PLACES:
        if _is_tmpfs(place):
            return place
    raise ConfigurationError(
        f"there is no tmpfs at {' or '.join(map(str, PLACES))}, and secrets are not written to a disk",
        code="spark.no_tmpfs",
        hint=f"mount a tmpfs at {PLACES[-1]}",
    )


def _is_tmpfs(folder: Path) -> bool:
    """Whether a file system in memory is mounted there; a link to a disk is not."""
    try:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    return any(fields[1:3] == [str(folder), "tmpfs"] for fields in map(str.split, mounts)) and not folder.is_symlink()
