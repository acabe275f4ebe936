"""The file of a root key: private, exact, and never replaced."""

import stat
from pathlib import Path

import pytest

from strongroom.errors import ConfigurationError, WouldOverwrite
from strongroom.keys.root import FileRootKey


@pytest.fixture
def file(tmp_path: Path) -> Path:
    FileRootKey.create(tmp_path / "root.key")
    return tmp_path / "root.key"


def test_a_loaded_key_opens_what_the_made_one_wrapped(tmp_path: Path) -> None:
    made = FileRootKey.create(tmp_path / "root.key")
    assert FileRootKey.load(tmp_path / "root.key").unwrap(made.wrap(b"secret", b"row"), b"row") == b"secret"


def test_the_file_is_private_and_is_not_replaced(file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    with pytest.raises(WouldOverwrite):
        FileRootKey.create(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_refuses_a_key_that_others_may_read_or_change(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigurationError) as refusal:
        FileRootKey.load(file)
    assert refusal.value.code == "root_key.mode"
    assert "chmod 600" in str(refusal.value.hint)


def test_refuses_a_link_a_folder_and_a_missing_file(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "folder").mkdir(mode=0o700)
    for name in ("link", "folder", "absent"):
        with pytest.raises(ConfigurationError) as refusal:
            FileRootKey.load(tmp_path / name)
        assert refusal.value.code == "root_key.unreadable", name


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_refuses_a_key_of_another_length(file: Path, size: int) -> None:
    file.write_bytes(bytes(size))
    with pytest.raises(ConfigurationError) as refusal:
        FileRootKey.load(file)
    assert refusal.value.code == "root_key.length"


def test_the_key_is_not_shown(file: Path) -> None:
    assert file.read_bytes().hex() not in repr(FileRootKey.load(file))
