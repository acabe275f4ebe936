"""Attacks and accidents: every one is refused with its own error, and no earlier file is lost."""

import errno
import gc
import io
import os
from pathlib import Path

import pytest

from strongroom.errors import (
    ConfigurationError,
    FormatError,
    Tampered,
    Truncated,
    UnavailableError,
    WouldOverwrite,
    WrongKey,
    WrongPath,
)
from strongroom.room.files import ANY_PATH, create_sealed, open_sealed, verify_all
from strongroom.room.new_file import NewFile

KEY = bytes(range(16))
NODE = 4096


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    path = tmp_path / "f"
    with create_sealed(path, KEY, sealed_path="data/f") as writer:
        writer.write(bytes(range(256)) * 4000)
    return path


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0x40
    path.write_bytes(raw)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Reading


def test_four_faults_are_four_errors(sealed: Path) -> None:
    with pytest.raises(WrongKey):
        open_sealed(sealed, bytes(16), sealed_path="data/f")
    with pytest.raises(WrongPath, match=r"'data/f'.*'data/g'"):
        open_sealed(sealed, KEY, sealed_path="data/g")
    raw = sealed.read_bytes()
    sealed.write_bytes(raw[:-NODE])
    with pytest.raises(Truncated):
        open_sealed(sealed, KEY, sealed_path="data/f")
    sealed.write_bytes(raw)
    flip(sealed, len(raw) - 1)
    with open_sealed(sealed, KEY, sealed_path="data/f") as reader, pytest.raises(Tampered):
        reader.read()


def test_refuses_a_renamed_file_by_default(sealed: Path) -> None:
    with pytest.raises(WrongPath):
        open_sealed(sealed, KEY)
    open_sealed(sealed, KEY, sealed_path=ANY_PATH).close()


def test_refuses_a_rolled_back_file_when_pinned(sealed: Path) -> None:
    old = sealed.read_bytes()
    with create_sealed(sealed, KEY, sealed_path="data/f", overwrite=True) as writer:
        writer.write(b"newer")
    open_sealed(sealed, KEY, sealed_path="data/f", pin=writer.pin).close()
    sealed.write_bytes(old)
    open_sealed(sealed, KEY, sealed_path="data/f").close()  # the format alone can't tell
    with pytest.raises(Tampered) as refusal:
        open_sealed(sealed, KEY, sealed_path="data/f", pin=writer.pin)
    assert refusal.value.code == "sealed.pin"


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_refuses_a_pin_of_another_length(sealed: Path, length: int) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        open_sealed(sealed, KEY, sealed_path="data/f", pin=bytes(length))
    assert refusal.value.code == "sealed.pin"


def test_reads_up_to_the_altered_node_and_not_beyond(sealed: Path) -> None:
    flip(sealed, 50 * NODE)  # data node 48
    start = 3072 + 48 * NODE
    with open_sealed(sealed, KEY, sealed_path="data/f") as reader:
        assert len(reader.read(start)) == start
        buffer = bytearray(b"\xaa" * NODE)
        with pytest.raises(Tampered, match="node 50 "):
            reader.readinto(buffer)
        assert bytes(buffer) in {b"\xaa" * NODE, bytes(NODE)}, "no byte that nobody has authenticated"
        reader.seek(start + NODE)
        assert len(reader.read(NODE)) == NODE


def test_refuses_nodes_swapped_between_groups(sealed: Path) -> None:
    raw = bytearray(sealed.read_bytes())
    a, b = slice(2 * NODE, 98 * NODE), slice(99 * NODE, 195 * NODE)
    raw[a], raw[b] = raw[b], raw[a]
    sealed.write_bytes(raw)
    with pytest.raises(Tampered):
        verify_all(sealed, KEY, sealed_path="data/f")


def test_refuses_a_node_of_an_older_copy(sealed: Path) -> None:
    old = sealed.read_bytes()
    with create_sealed(sealed, KEY, sealed_path="data/f", overwrite=True) as writer:
        writer.write(bytes(range(256)) * 4000)
    raw = bytearray(sealed.read_bytes())
    raw[10 * NODE : 11 * NODE] = old[10 * NODE : 11 * NODE]
    sealed.write_bytes(raw)
    with pytest.raises(Tampered):
        verify_all(sealed, KEY, sealed_path="data/f")


def test_notices_a_file_cut_while_it_is_read(sealed: Path) -> None:
    with open_sealed(sealed, KEY, sealed_path="data/f") as reader:
        os.truncate(sealed, 20 * NODE)
        with pytest.raises(Truncated):
            reader.read()


def test_notices_the_cut_at_opening_not_at_the_end(sealed: Path) -> None:
    os.truncate(sealed, sealed.stat().st_size - NODE)
    with pytest.raises(Truncated) as refusal:
        open_sealed(sealed, KEY, sealed_path="data/f")
    assert str(sealed.stat().st_size) in refusal.value.message


def test_ignores_whole_extra_nodes_as_gramine_does(sealed: Path) -> None:
    with sealed.open("ab") as file:
        file.write(os.urandom(3 * NODE))
    verify_all(sealed, KEY, sealed_path="data/f")


@pytest.mark.parametrize("size", [1, 8, 57, 4095, 4097])
def test_a_file_that_is_no_whole_number_of_nodes_is_cut(sealed: Path, size: int) -> None:
    os.truncate(sealed, size)
    with pytest.raises(FormatError if size < 8 else Truncated):
        open_sealed(sealed, KEY, sealed_path="data/f")


def test_refuses_what_is_not_a_sealed_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("hello")
    for name in ("empty", "text"):
        with pytest.raises(FormatError) as refusal:
            open_sealed(tmp_path / name, KEY)
        assert refusal.value.code == "sealed.not_sealed"
    for name, code in (("absent", "file.not_found"), (".", "file.is_folder"), ("text/x", "file.not_found")):
        with pytest.raises(ConfigurationError) as wrong:
            open_sealed(tmp_path / name, KEY, sealed_path="x")
        assert wrong.value.code == code


def test_refuses_a_device(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        open_sealed("/dev/zero", KEY)
    assert refusal.value.code == "file.not_regular"


def test_a_pipe_in_the_place_of_a_file_does_not_hold_the_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "f")
    with pytest.raises(ConfigurationError) as refusal:
        open_sealed(tmp_path / "f", KEY)
    assert refusal.value.code == "file.not_regular"


def test_pending_write_flag_of_version_2_does_not_stop_a_reader(testdata: Path, tmp_path: Path) -> None:
    raw = bytearray((testdata / "gramine" / "v2" / "size_100000.pf").read_bytes())
    raw[58] |= 1
    (tmp_path / "f").write_bytes(raw)
    key = (testdata / "gramine" / "wrap_key").read_bytes()
    with open_sealed(tmp_path / "f", key, sealed_path=ANY_PATH) as reader:
        assert reader.pending_write
        reader.verify()


def test_no_descriptor_stays_open_after_a_refusal(sealed: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for key, path in ((bytes(16), "data/f"), (KEY, "x")):
        for _ in range(20):
            with pytest.raises((WrongKey, WrongPath)):
                open_sealed(sealed, key, sealed_path=path)
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_errors_carry_no_key_and_no_plaintext(sealed: Path) -> None:
    flip(sealed, 60 * NODE)
    with pytest.raises(Tampered) as refusal:
        verify_all(sealed, KEY, sealed_path="data/f")
    shown = f"{refusal.value!r} {refusal.value.hint} {refusal.value.__cause__!r}"
    assert KEY.hex() not in shown
    assert repr(KEY)[2:-1] not in shown


# Writing


def test_refuses_to_overwrite_unless_told_to(sealed: Path) -> None:
    before = sealed.read_bytes()
    with pytest.raises(WouldOverwrite):
        create_sealed(sealed, KEY)
    assert sealed.read_bytes() == before
    assert names(sealed.parent) == ["f"]


def test_refuses_a_file_that_appeared_meanwhile(tmp_path: Path) -> None:
    writer = create_sealed(tmp_path / "f", KEY)
    writer.write(b"ours")
    (tmp_path / "f").write_bytes(b"theirs")
    with pytest.raises(WouldOverwrite):
        writer.close()
    assert (tmp_path / "f").read_bytes() == b"theirs"
    assert names(tmp_path) == ["f"]


@pytest.mark.parametrize("taken", [False, True])
def test_no_hard_links_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    writer = create_sealed(tmp_path / "f", KEY)
    if taken:
        (tmp_path / "f").write_bytes(b"theirs")
        with pytest.raises(WouldOverwrite):
            writer.close()
        assert (tmp_path / "f").read_bytes() == b"theirs"
    else:
        writer.close()
        verify_all(tmp_path / "f", KEY)
    assert names(tmp_path) == ["f"]


def test_overwriting_replaces_a_link_not_what_it_points_to(sealed: Path) -> None:
    before = sealed.read_bytes()
    link = sealed.with_name("link")
    link.symlink_to(sealed)
    with create_sealed(link, KEY, overwrite=True) as writer:
        writer.write(b"new")
    assert sealed.read_bytes() == before
    assert not link.is_symlink()


def test_an_exception_leaves_the_earlier_file_and_nothing_else(sealed: Path) -> None:
    before = sealed.read_bytes()

    def crash() -> None:
        with create_sealed(sealed, KEY, overwrite=True) as writer:
            writer.write(os.urandom(900_000))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crash()
    assert sealed.read_bytes() == before
    assert names(sealed.parent) == ["f"]


def test_an_exception_after_a_wrapper_closed_the_file_does_not_put_half_of_it_in_place(tmp_path: Path) -> None:
    def crash() -> None:
        with create_sealed(tmp_path / "f", KEY) as writer, io.TextIOWrapper(writer, encoding="utf-8") as text:
            text.write("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crash()
    assert names(tmp_path) == []


def test_a_wrapper_that_closes_early_does_not_lose_the_file(tmp_path: Path) -> None:
    with create_sealed(tmp_path / "f", KEY) as writer, io.TextIOWrapper(writer, encoding="utf-8") as text:
        text.write("whole")
    with open_sealed(tmp_path / "f", KEY) as reader:
        assert reader.read() == b"whole"


def test_a_forgotten_writer_puts_nothing_in_place(tmp_path: Path) -> None:
    writer = create_sealed(tmp_path / "f", KEY)
    writer.write(b"half")
    del writer
    gc.collect()
    assert names(tmp_path) == []


def test_abort_inside_the_block_ends_quietly(tmp_path: Path) -> None:
    with create_sealed(tmp_path / "f", KEY) as writer:
        writer.abort()
    assert names(tmp_path) == []
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"x")


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    writer = create_sealed(tmp_path / "f", KEY)
    writer.close()
    writer.close()
    verify_all(tmp_path / "f", KEY)


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_full_disk_leaves_the_earlier_file(sealed: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sealed.read_bytes()
    monkeypatch.setattr(os, call, full)
    with pytest.raises(UnavailableError, match="No space left"), create_sealed(sealed, KEY, overwrite=True) as writer:
        writer.write(bytes(900_000))
    monkeypatch.undo()
    assert sealed.read_bytes() == before
    assert names(sealed.parent) == ["f"]


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: whole(fd, bytes(data)[:1000], offset))
    with create_sealed(tmp_path / "f", KEY) as writer:
        writer.write(bytes(20_000))
    monkeypatch.undo()
    verify_all(tmp_path / "f", KEY)


def test_short_reads_are_completed(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: whole(fd, [buffers[0][:1000]], offset))
    verify_all(sealed, KEY, sealed_path="data/f")


def test_a_disk_that_changes_a_tree_node_while_we_write_is_noticed(tmp_path: Path) -> None:
    writer = create_sealed(tmp_path / "f", KEY)
    writer.write(bytes(800_000))  # three groups: the root will be read back to get its children
    (temporary,) = tmp_path.iterdir()
    with temporary.open("r+b") as file:
        file.seek(NODE)
        file.write(bytes(16))
    with pytest.raises(Tampered):
        writer.close()
    assert names(tmp_path) == []


def test_plaintext_never_reaches_the_disk(tmp_path: Path) -> None:
    marker = b"very secret words"
    with create_sealed(tmp_path / "f", KEY) as writer:
        writer.write(marker * 60_000)
        (temporary,) = tmp_path.iterdir()
        assert temporary.stat().st_size > 0
        assert marker not in temporary.read_bytes()
    assert marker not in (tmp_path / "f").read_bytes()


@pytest.mark.parametrize(
    ("name", "code"), [("no/f", "file.not_found"), (".", "file.is_folder"), ("x/", "file.is_folder")]
)
def test_refuses_an_output_that_can_not_be(tmp_path: Path, name: str, code: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        create_sealed(f"{tmp_path}/{name}", KEY, sealed_path="x")
    assert refusal.value.code == code


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    with create_sealed(tmp_path / ("n" * 255), KEY, sealed_path="x") as writer:
        writer.write(b"x")
    with pytest.raises(ConfigurationError) as refusal:
        create_sealed(tmp_path / ("n" * 256), KEY, sealed_path="x").close()
    assert refusal.value.code == "file.path"


def test_new_file_can_not_be_put_in_place_twice(tmp_path: Path) -> None:
    file = NewFile(tmp_path / "f")
    file.commit()
    with pytest.raises(ValueError, match="in place already"):
        file.commit()
