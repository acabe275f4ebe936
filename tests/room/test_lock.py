"""The lock between processes that share a storage folder."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import ConfigurationError, UnavailableError
from strongroom.room.lock import exclusive_lock

HOLDER = """
import sys, time
from pathlib import Path
from strongroom.room.lock import exclusive_lock
with exclusive_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / ".lock"


def is_free(lock: Path) -> bool:
    """Whether another process would get it at once."""
    descriptor = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def test_is_held_during_the_block_and_free_afterwards(lock: Path) -> None:
    with exclusive_lock(lock):
        assert not is_free(lock)
    assert is_free(lock)
    with pytest.raises(ValueError, match="x"), exclusive_lock(lock):
        raise ValueError("x")
    assert is_free(lock)
    assert lock.read_bytes() == b""


def test_a_process_that_is_killed_lets_it_go(lock: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert not is_free(lock)
        holder.send_signal(signal.SIGKILL)
    with exclusive_lock(lock):
        assert not is_free(lock)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOLCK])
def test_goes_on_where_the_system_has_no_such_locks(lock: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with exclusive_lock(lock):
        pass


def test_a_disk_that_fails_is_an_error(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(UnavailableError), exclusive_lock(lock):
        pass


def test_refuses_a_link_or_folder_in_its_place(tmp_path: Path, lock: Path) -> None:
    lock.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError), exclusive_lock(lock):
        pass
    assert not (tmp_path / "elsewhere").exists()
    lock.unlink()
    lock.mkdir()
    with pytest.raises(ConfigurationError), exclusive_lock(lock):
        pass
