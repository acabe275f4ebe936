"""The private folder: in memory, for its owner only, wiped."""

import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from strongroom.analytics.spark import private_folder
from strongroom.analytics.spark.private_folder import PrivateFolder
from strongroom.errors import ConfigurationError


def test_is_for_its_owner_only_and_gone_at_the_end() -> None:
    with PrivateFolder() as folder:
        path = folder.write("conf/secret", b"hush")
        assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not folder.path.exists()


def test_overwrites_what_it_held(tmp_path: Path) -> None:
    folder = PrivateFolder()
    path = folder.write("secret", b"hush")
    kept = tmp_path / "hard-link-elsewhere"
    try:
        kept.hardlink_to(path)
    except OSError:
        kept = folder.path.parent / f"{folder.path.name}-kept"  # another file system
        kept.hardlink_to(path)
    folder.close()
    content = kept.read_bytes()
    kept.unlink()
    assert content == bytes(4)


def test_is_removed_when_its_process_is_killed() -> None:
    program = (
        "from strongroom.analytics.spark.private_folder import PrivateFolder\n"
        "import sys\n"
        "folder = PrivateFolder(); folder.guard(); folder.write('secret', b'hush')\n"
        "print(folder.path, flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        assert (path / "secret").exists()
        process.kill()
    end = time.monotonic() + 60
    while path.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not path.exists()


def test_refuses_to_replace_a_file() -> None:
    with PrivateFolder() as folder:
        folder.write("secret", b"hush")
        with pytest.raises(FileExistsError):
            folder.write("secret", b"other")


def test_refuses_a_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_folder, "PLACES", (tmp_path,))
    with pytest.raises(ConfigurationError) as refusal:
        PrivateFolder()
    assert refusal.value.code == "spark.no_tmpfs"


def test_refuses_a_mount_that_is_not_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda /dev/shm ext4 rw 0 0\n")
    monkeypatch.setattr(private_folder, "_MOUNTS", mounts)
    with pytest.raises(ConfigurationError):
        PrivateFolder()
