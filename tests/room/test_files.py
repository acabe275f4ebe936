"""Sealed files as Python files: reading and writing behave as a file of those bytes would."""

import csv
import hashlib
import io
import os
import random
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError, FormatError, SealedDataError
from strongroom.room.files import ANY_PATH, create_sealed, inspect_header, open_sealed, verify_all

KEY = bytes(range(16))
BOUNDARIES = (0, 1, 3071, 3072, 3073, 4096, 7168, 7169, 396288, 396289)


def stream(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture(scope="module")
def plain() -> bytes:
    return stream(1_300_000)


@pytest.fixture(scope="module")
def sealed(plain: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sealed") / "file"
    with create_sealed(path, KEY, sealed_path="data/file") as writer:
        writer.write(plain)
    return path


@pytest.mark.parametrize("size", BOUNDARIES)
def test_round_trip_at_boundary_sizes(tmp_path: Path, size: int) -> None:
    plain = stream(size)
    with create_sealed(tmp_path / "f", KEY) as writer:
        assert writer.write(plain) == size
        assert writer.tell() == size
    with open_sealed(tmp_path / "f", KEY) as reader:
        assert reader.read() == plain
        assert reader.read() == b""
        assert (reader.size, reader.version, reader.pin) == (size, 1, writer.pin)


@settings(max_examples=40, deadline=None)
@given(
    pieces=st.lists(
        st.one_of(st.integers(0, 9000), st.sampled_from((3072, 4096, 393215, 393216, 393217, 800_000))), max_size=6
    )
)
def test_round_trip_of_any_split_into_writes(tmp_path_factory: pytest.TempPathFactory, pieces: list[int]) -> None:
    path = tmp_path_factory.mktemp("split") / "f"
    plain = stream(sum(pieces))
    with create_sealed(path, KEY) as writer:
        at = 0
        for piece in pieces:
            writer.write(plain[at : at + piece])
            at += piece
    with open_sealed(path, KEY) as reader:
        assert reader.read() == plain


OFFSETS = st.one_of(
    st.integers(0, 1_310_000), st.sampled_from((0, 3071, 3072, 3073, 7168, 396288, 396289, 1_299_999, 1_300_000))
)
LENGTHS = st.one_of(st.integers(0, 10_000), st.sampled_from((-1, 0, 1, 4096, 393216, 1_300_000)))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(("set", "cur", "end", "read", "readinto", "read1", "line")), OFFSETS, LENGTHS),
        max_size=25,
    )
)
def test_any_sequence_of_seeks_and_reads_equals_an_ordinary_file(
    sealed: Path, plain: bytes, steps: list[tuple[str, int, int]]
) -> None:
    ordinary = io.BytesIO(plain)
    with open_sealed(sealed, KEY, sealed_path="data/file") as reader:
        for what, offset, length in steps:
            match what:
                case "set":
                    assert reader.seek(offset) == ordinary.seek(offset)
                case "cur":
                    back = min(length, ordinary.tell())
                    assert reader.seek(-back, os.SEEK_CUR) == ordinary.seek(-back, os.SEEK_CUR)
                case "end":
                    back = min(offset, len(plain))
                    assert reader.seek(-back, os.SEEK_END) == ordinary.seek(-back, os.SEEK_END)
                case "read":
                    assert reader.read(length) == ordinary.read(length)
                case "readinto":
                    ours, theirs = bytearray(abs(length)), bytearray(abs(length))
                    assert reader.readinto(ours) == ordinary.readinto(theirs)
                    assert ours == theirs
                case "read1":
                    # May be shorter than asked for, but only what is there, and something unless at the end.
                    got = reader.read1(abs(length))
                    assert got == ordinary.read(len(got))
                    assert got or not length or ordinary.tell() >= len(plain)
                case _:
                    assert reader.readline(abs(length)) == ordinary.readline(abs(length))
            assert reader.tell() == ordinary.tell()


def test_refuses_a_seek_before_the_start_or_from_nowhere(sealed: Path) -> None:
    with open_sealed(sealed, KEY, sealed_path="data/file") as reader:
        for offset, whence in ((-1, os.SEEK_SET), (-1, os.SEEK_CUR), (-1_300_001, os.SEEK_END), (0, 7)):
            with pytest.raises((ValueError, OSError)):
                reader.seek(offset, whence)
        assert reader.tell() == 0


def test_is_a_read_only_binary_file(sealed: Path) -> None:
    reader = open_sealed(sealed, KEY, sealed_path="data/file")
    assert reader.name == str(sealed)
    assert reader.readable()
    assert reader.seekable()
    assert not reader.writable()
    with pytest.raises(io.UnsupportedOperation):
        reader.write(b"x")
    reader.close()
    reader.close()
    with pytest.raises(ValueError, match="closed"):
        reader.read(1)


def test_text_lines_through_the_usual_wrappers(tmp_path: Path) -> None:
    rows = [[str(n), "é" * (n % 50)] for n in range(5000)]
    with (
        create_sealed(tmp_path / "t.csv", KEY) as writer,
        io.TextIOWrapper(writer, encoding="utf-8", newline="") as text,
    ):
        csv.writer(text).writerows(rows)
    with io.TextIOWrapper(open_sealed(tmp_path / "t.csv", KEY), encoding="utf-8", newline="") as lines:
        assert list(csv.reader(lines)) == rows


@pytest.mark.slow
def test_tree_nodes_that_do_not_fit_the_cache_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strongroom.room.sealed_reader.MAX_CACHED_TREE_NODES", 2)
    plain = stream(3072 + 393216 * 40 + 5)
    with create_sealed(tmp_path / "f", KEY) as writer:
        writer.write(plain)
    with open_sealed(tmp_path / "f", KEY) as reader:
        rng = random.Random(4)
        for at in (rng.randrange(len(plain)) for _ in range(200)):
            reader.seek(at)
            assert reader.read(4096) == plain[at : at + 4096]
        reader.verify()


def test_verify_reports_its_progress_and_keeps_the_position(sealed: Path, plain: bytes) -> None:
    steps: list[int] = []
    with open_sealed(sealed, KEY, sealed_path="data/file") as reader:
        reader.seek(77)
        reader.verify(steps.append)
        assert reader.tell() == 77
    assert sum(steps) == len(plain)
    verify_all(sealed, KEY, sealed_path="data/file")


def test_pin_is_the_digest_of_the_first_node(sealed: Path) -> None:
    digest = hashlib.sha256(sealed.read_bytes()[:4096]).digest()
    with open_sealed(sealed, KEY, sealed_path=ANY_PATH, pin=digest) as reader:
        assert reader.pin == digest
        assert reader.host_size == sealed.stat().st_size
    header, host_size, pin = inspect_header(sealed)
    assert (header.version, host_size, pin) == (1, sealed.stat().st_size, digest)


def test_written_file_is_private_and_nothing_else_is_left(tmp_path: Path) -> None:
    with create_sealed(tmp_path / "f", KEY) as writer:
        writer.write(b"x" * 10_000)
        (temporary,) = tmp_path.iterdir()
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


def test_default_path_is_the_path_given_and_relative_stays_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "x").mkdir(parents=True)
    with create_sealed("./models//x/../y", KEY) as writer:
        pass
    assert writer.sealed_path == "models/y"
    for spelling in ("models/y", "models/./y", Path("models/y")):
        with open_sealed(spelling, KEY) as reader:
            assert reader.sealed_path == "models/y"
    with create_sealed(tmp_path / "z", KEY) as writer:
        pass
    assert writer.sealed_path == str(tmp_path / "z")


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=5000),
        st.binary(max_size=9000).map(lambda rest: b"GRAFS_PF\x01" + rest),
        st.binary(min_size=8183, max_size=8183).map(lambda rest: b"GRAFS_PF\x02" + rest),
    )
)
def test_arbitrary_bytes_give_documented_errors_only(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.mktemp("junk") / "f"
    path.write_bytes(raw)
    with pytest.raises((FormatError, SealedDataError)):
        open_sealed(path, KEY)


@settings(max_examples=100, deadline=None)
@given(at=st.integers(0, 106495), mask=st.integers(1, 255))
def test_any_changed_byte_is_refused_or_unused(tmp_path_factory: pytest.TempPathFactory, at: int, mask: int) -> None:
    folder = tmp_path_factory.mktemp("flip")
    plain = stream(100_000)
    with create_sealed(folder / "f", KEY, sealed_path="f") as writer:
        writer.write(plain)
    raw = bytearray((folder / "f").read_bytes())
    assert len(raw) == 106496
    raw[at] ^= mask
    (folder / "f").write_bytes(raw)
    try:
        with open_sealed(folder / "f", KEY, sealed_path="f") as reader:
            assert reader.read() == plain
        assert at == 9 or 3942 <= at < 4096, "minor version and padding are all that is not authenticated"
    except (SealedDataError, FormatError):
        assert not (at == 9 or 3942 <= at < 4096)


@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_refuses_a_key_of_another_length_before_touching_anything(tmp_path: Path, length: int) -> None:
    for act in (create_sealed, open_sealed):
        with pytest.raises(ConfigurationError) as refusal:
            act(tmp_path / "f", bytes(length))
        assert refusal.value.code == "key.length"
    assert not list(tmp_path.iterdir())
