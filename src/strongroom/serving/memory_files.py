"""Paths to bytes that exist in memory only, for libraries that insist on reading files."""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from strongroom.errors import ConfigurationError

# Inside Gramine there is no memfd_create; a mount of type "tmpfs" is enclave memory there.
PRIVATE_TMPFS = Path("/dev/shm")  # noqa: S108  # checked to be a tmpfs before it is used


@contextmanager
def memory_file(content: bytes) -> Iterator[str]:
    """A path that this process can open while the block runs. Nothing reaches a disk.

    Args:
        content: What the file holds.

    Raises:
        ConfigurationError: The system has neither anonymous memory files nor a private tmpfs.
    """
    with memory_folder({"file": content}) as folder:
        yield str(folder / "file")


@contextmanager
def memory_folder(files: Mapping[str, bytes]) -> Iterator[Path]:
    """A folder of such files.

    The folder itself holds links to anonymous memory files, so only names are visible outside; where the system has no
    anonymous memory files, it is a folder of mode 0700 in a tmpfs.

    Args:
        files: Relative name to content.

    Raises:
        ConfigurationError: A name climbs, or the system has neither anonymous memory files nor a private tmpfs.
    """
    for name in files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise ConfigurationError("a model file's name leads out of its folder", code="serving.path")
    anonymous = hasattr(os, "memfd_create") and _memfd_works()
    with ExitStack() as stack:
        place = None if anonymous else _tmpfs()
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="strongroom-", dir=place)))
        for name, content in files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if anonymous:
                target.symlink_to(stack.enter_context(_memfd(content)))
            else:
                target.write_bytes(content)
        yield folder


def _memfd_works() -> bool:
    try:
        with _memfd(b""):
            return True
    except OSError:
        return False


@contextmanager
def _memfd(content: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("strongroom", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.ftruncate(descriptor, 0)
        os.close(descriptor)


def _tmpfs() -> Path:
    """The private tmpfs, if it is one.

    Raises:
        ConfigurationError: It is not: a file written there might reach a disk.
    """
    try:
        mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    except OSError:
        mounts = []
    if not any(
        len(mount) > 2 and mount[1] == str(PRIVATE_TMPFS) and mount[2] in {"tmpfs", "ramfs"} for mount in mounts
    ):
        raise ConfigurationError(
            "this system has neither memory files (memfd_create) nor a tmpfs at /dev/shm",
            code="serving.memory_file",
            hint="mount a tmpfs there; in a Gramine manifest it is enclave memory",
        )
    return PRIVATE_TMPFS
