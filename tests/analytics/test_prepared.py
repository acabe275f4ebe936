"""Prepared footers: the same as the footers they were made from, for the same people, and never believed unchecked."""

import contextlib
import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from strongroom.analytics import footers
from strongroom.analytics.footers import find_footer, keep_prepared, prepared_path
from strongroom.analytics.manifest import MANIFEST_NAME, Part, open_manifest, parse_manifest, seal_manifest
from strongroom.analytics.parquet import modules
from strongroom.analytics.parquet.columns import Footer, open_footer
from strongroom.analytics.parquet.decrypted import Chunk, Chunks
from strongroom.analytics.parquet.prepared import open_prepared, prepare
from strongroom.analytics.rotation import rotate
from strongroom.analytics.table import open_table, readers
from strongroom.analytics.versions import VersionsInMemory
from strongroom.errors import ConfigurationError, FormatError, KeyReleaseError, Tampered, WrongKey

TRIPS = "taxi/key/trips"
FARES = "taxi/key/fares"
OTHER = "bank/key/other"
MARK = b"SRF2"
PURPOSE = b"strongroom prepared footer 2\0"


def shown(footer: Footer) -> dict[str, Any]:
    """All that a footer says, without ciphers."""
    names = ("rows", "schema", "column_keys", "refused", "plain", "uncompressed")
    return {name: getattr(footer, name) for name in names} | {"chunks": [chunk[:-1] for chunk in footer.chunks]}


def read(table: Any) -> Any:
    return pa.concat_tables([pq.read_table(reader) for reader in readers(table)]).sort_by("id")


@pytest.fixture
def from_files(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Notes every footer that is opened in its file."""
    opened: list[Any] = []

    def noting(*args: Any) -> Footer:
        opened.append(args)
        return open_footer(*args)

    monkeypatch.setattr(footers, "open_footer", noting)
    return opened


@pytest.mark.parametrize("column_keys", [{}, {"fare": FARES, "zone": OTHER}, {"id": FARES, "stops": FARES}])
def test_both_ways_to_a_footer_give_the_same(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any, column_keys: dict[str, str]
) -> None:
    write_table(tmp_path / "t", rows, column_keys=column_keys, files=2)
    keys = reading().data_keys
    for part in open_table(tmp_path / "t", "trips", reading()).parts:
        raw = prepared_path(part.path).read_bytes()
        assert hashlib.sha256(raw).digest() == part.part.prepared
        assert shown(open_prepared(raw, part.tail, keys)) == shown(open_footer(part.tail, keys))


@pytest.mark.parametrize("count", [0, 5000])
def test_readers_use_what_is_prepared(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any, from_files: list[Any], count: int
) -> None:
    write_table(tmp_path / "t", rows.slice(0, count), column_keys={"fare": FARES})
    from_files.clear()
    assert read(open_table(tmp_path / "t", "trips", reading())).equals(rows.slice(0, count))
    assert not from_files


def lost(path: Path) -> None:
    path.unlink()


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def altered(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def prolonged(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def swapped(path: Path) -> None:
    other = next(p for p in path.parent.glob("_part*.footer") if p != path)
    shutil.copy(other, path)


@pytest.mark.parametrize("attack", [lost, emptied, altered, prolonged, swapped])
def test_a_prepared_footer_that_storage_changed_is_passed_over(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any, from_files: list[Any], attack: Any
) -> None:
    manifest = write_table(tmp_path / "t", rows, files=2)
    attack(prepared_path(tmp_path / "t" / manifest.parts[0].name))
    from_files.clear()
    assert read(open_table(tmp_path / "t", "trips", reading())).equals(rows)
    assert len(from_files) == 1


def test_a_reader_with_all_keys_cannot_plant_one(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any, from_files: list[Any]
) -> None:
    """Who may read has the data keys; the manifest's signature is what tells the writer's from theirs."""
    write_table(tmp_path / "t", rows)
    part = open_table(tmp_path / "t", "trips", reading()).parts[0]
    planted = replace(part.footer, chunks=Chunks.of(list(part.footer.chunks)[:1]))
    prepared_path(part.path).write_bytes(prepare(planted, reading().data_keys, os.urandom))
    from_files.clear()
    assert read(open_table(tmp_path / "t", "trips", reading())).equals(rows)
    assert len(from_files) == 1


def test_refuses_a_link_in_its_place(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    manifest = write_table(tmp_path / "t", rows)
    path = prepared_path(tmp_path / "t" / manifest.parts[0].name)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="footer"):
        open_table(tmp_path / "t", "trips", reading())


def texts_of(part: Any, keys: Any, *guards: str) -> list[bytes]:
    """Plaintext of the modules of a prepared footer: the footer's, and those of the columns that guard a group."""
    raw, position, texts = memoryview(prepared_path(part.path).read_bytes()), len(MARK), []
    for number, key in enumerate([part.tail.key_metadata, *(part.footer.column_keys[path] for path in guards)]):
        aad = PURPOSE + part.tail.digest + number.to_bytes(4, "little")
        text, position = modules.open_module(modules.cipher_for(keys(key)), raw, position, aad)
        texts.append(text)
    assert position == len(raw)
    return texts


def test_statistics_and_data_keys_of_a_column_stay_under_its_master_key(
    tmp_path: Path, write_table: Any, reading: Any
) -> None:
    rows = pa.table({"id": [1, 2], "open": ["seen-by-all"] * 2, "other": [3, 4], "secret": ["canary-5c81"] * 2})
    write_table(tmp_path / "t", rows, column_keys={"secret": FARES, "other": FARES, "open": TRIPS})
    (part,) = open_table(tmp_path / "t", "trips", reading()).parts
    keys = reading().data_keys
    texts = texts_of(part, keys, "other")
    own = {path: keys(metadata) for path, metadata in part.footer.column_keys.items()}
    assert [b"canary-5c81" in text for text in texts] == [False, True]
    assert [own["secret"] in text for text in texts] == [False, True]
    assert [own["open"] in text and own["id"] in text for text in texts] == [True, False]
    assert not any(own["other"] in text for text in texts)  # a key is never under itself


def test_one_key_is_unwrapped_for_each_master_key(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows, column_keys={"fare": FARES, "zone": OTHER, "id": FARES})
    (part,) = open_table(tmp_path / "t", "trips", reading()).parts
    asked: list[bytes] = []

    def noting(metadata: bytes) -> bytes:
        asked.append(metadata)
        return bytes(reading().data_keys(metadata))

    open_prepared(prepared_path(part.path).read_bytes(), part.tail, noting)
    assert len(asked) == 3 < len(part.footer.column_keys)


@pytest.mark.parametrize("double", [True, False], ids=["wrapped twice", "wrapped once"])
@pytest.mark.parametrize("renamed", [{TRIPS: OTHER, FARES: OTHER}, {FARES: TRIPS}])
def test_a_reader_of_before_a_rotation_learns_no_more_by_it(
    tmp_path: Path,
    write_table: Any,
    reading: Any,
    signer: Any,
    monkeypatch: pytest.MonkeyPatch,
    double: bool,
    renamed: dict[str, str],
) -> None:
    """Two owners' keys become one; who had the right to one of them still has data keys, which rotation keeps."""
    real = pe.EncryptionConfiguration
    monkeypatch.setattr(pe, "EncryptionConfiguration", lambda **given: real(**{**given, "double_wrapping": double}))
    write_table(tmp_path / "t", pa.table({"id": [1, 2], "secret": ["canary-5c81"] * 2}), column_keys={"secret": FARES})
    (before,) = open_table(tmp_path / "t", "trips", reading(FARES)).parts
    assert before.footer.refused.keys() == {"secret"}
    rotate(tmp_path / "t", "trips", renamed, reading(versions=VersionsInMemory()), signer)
    (after,) = open_table(tmp_path / "t", "trips", reading(versions=VersionsInMemory())).parts
    raw = memoryview(prepared_path(after.path).read_bytes())
    aad = PURPOSE + after.tail.digest + bytes(4)
    text, _ = modules.open_module(before.footer.cipher, raw, len(MARK), aad)
    assert b"canary-5c81" not in text and reading().data_keys(after.footer.column_keys["secret"]) not in text


def test_missing_column_key_leaves_other_columns_readable(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any
) -> None:
    write_table(tmp_path / "t", rows, column_keys={"fare": FARES})
    table = open_table(tmp_path / "t", "trips", reading(FARES))
    assert sorted(table.refused) == ["fare"] and b"fare" not in table.parts[0].footer.plain
    assert read(table).equals(rows.drop_columns(["fare"]))


def test_a_writer_without_the_right_to_read_prepares_nothing(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any
) -> None:
    write_table(tmp_path / "t", rows, column_keys={"fare": FARES})
    part = open_table(tmp_path / "t", "trips", reading()).parts[0]
    prepared_path(part.path).unlink()
    assert keep_prepared(part.path, part.tail, reading(FARES).data_keys) == b""
    assert not prepared_path(part.path).exists()
    with pytest.raises(KeyReleaseError):
        find_footer(part.path, part.tail, b"", reading(TRIPS).data_keys)


def test_none_is_left_of_files_that_were_replaced(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any, signer: Any, from_files: list[Any]
) -> None:
    first = write_table(tmp_path / "t", rows, files=3)
    write_table(tmp_path / "t", rows, previous=first, files=2)
    assert len(list((tmp_path / "t").glob("_part*"))) == 2
    rotate(tmp_path / "t", "trips", {TRIPS: OTHER}, reading(), signer)
    assert len(list((tmp_path / "t").glob("_part*"))) == 2
    from_files.clear()
    assert read(open_table(tmp_path / "t", "trips", reading(TRIPS))).equals(rows)
    assert not from_files


def test_a_table_of_a_writer_that_prepares_nothing(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any, signer: Any, kms: Any
) -> None:
    manifest = write_table(tmp_path / "t", rows)
    old = replace(manifest, parts=tuple(replace(part, prepared=b"") for part in manifest.parts))
    path = tmp_path / "t" / MANIFEST_NAME
    path.write_bytes(seal_manifest(old, kms, signer))
    assert open_manifest(path.read_bytes(), kms, frozenset({signer.public})) == old
    table = open_table(tmp_path / "t", "trips", reading(versions=VersionsInMemory()))
    assert read(table).equals(rows)


def test_a_manifest_with_half_a_digest() -> None:
    raw = (
        b'{"columns":[],"key":"a/b/c","parts":[{"key":"%b","name":"p","prepared":"00","rows":1,"size":1,"tail":"%b"}],'
        b'"previous":"","table":"t","version":1}' % (b"00" * 32, b"00" * 32)
    )
    with pytest.raises(FormatError, match="prepared"):
        parse_manifest(raw)
    assert parse_manifest(raw.replace(b'"prepared":"00",', b"")).parts[0] == Part("p", 1, 1, b"\0" * 32, b"\0" * 32)


def test_refuses_one_of_another_file(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows)
    (part,) = open_table(tmp_path / "t", "trips", reading()).parts
    other = replace(part.tail, digest=hashlib.sha256(b"other").digest())
    with pytest.raises(Tampered):
        open_prepared(prepared_path(part.path).read_bytes(), other, reading().data_keys)


def test_a_column_with_two_keys_is_not_prepared(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows)
    (part,) = open_table(tmp_path / "t", "trips", reading()).parts
    chunk = next(iter(part.footer.chunks))
    strange = Chunk(chunk.start, chunk.size, False, 1, chunk.column, modules.cipher_for(b"k" * 32))
    with pytest.raises(FormatError):
        prepare(replace(part.footer, chunks=Chunks.of([*part.footer.chunks, strange])), reading().data_keys, os.urandom)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(data=st.data())
@example(data=None)
def test_whatever_a_module_holds_only_documented_errors_come_out(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any, data: Any
) -> None:
    """Genuine modules of nonsense: mutated, cut."""
    if not (tmp_path / "t").exists():
        write_table(tmp_path / "t", rows.slice(0, 10))
    (part,) = open_table(tmp_path / "t", "trips", reading()).parts
    keys = reading().data_keys
    cipher = modules.cipher_for(keys(part.tail.key_metadata))
    (text,) = texts_of(part, keys)
    mutated = bytearray(text)
    if data is not None:
        for _ in range(data.draw(st.integers(0, 3))):
            mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
        mutated = mutated[: data.draw(st.integers(0, len(mutated)))]
    raw = MARK + modules.seal_module(cipher, bytes(mutated), PURPOSE + part.tail.digest + bytes(4), os.urandom(12))
    try:
        open_prepared(raw + b"\0" * (data is None), part.tail, keys)
    except (FormatError, Tampered):
        return
    assert data is not None


def prepared_with(part: Any, keys: Any, change: Any) -> bytes:
    """A prepared footer that its writer made wrongly: the texts of its modules, changed."""
    texts = change(texts_of(part, keys, "other"))
    guards = [part.tail.key_metadata, part.footer.column_keys["other"]]
    sealed = [
        modules.seal_module(
            modules.cipher_for(keys(guard)), text, PURPOSE + part.tail.digest + bytes([number, 0, 0, 0]), os.urandom(12)
        )
        for number, (guard, text) in enumerate(zip(guards, texts, strict=True))
    ]
    return b"".join([MARK, *sealed])


@pytest.mark.parametrize(
    "change",
    [
        lambda texts: [texts[0], b""],  # no data keys
        lambda texts: [texts[0], texts[1][:20]],  # cut inside a data key
        lambda texts: [texts[0], b"\x05" + texts[1][1:]],  # a data key of five bytes
        lambda texts: [texts[0], texts[1] + b"\0"],  # text that no piece takes
        lambda texts: [texts[0].replace(b'"group":1', b'"group":0'), texts[1]],  # a module that no column guards
        lambda texts: [texts[0].replace(b'"group":1', b'"group":2'), texts[1]],  # an empty group
        lambda texts: [texts[0].replace(b'"group":1', b'"group":x'), texts[1]],
    ],
)
def test_a_prepared_footer_whose_groups_contradict_each_other(
    tmp_path: Path, write_table: Any, reading: Any, change: Any
) -> None:
    rows = pa.table({"id": [1, 2], "other": [3, 4], "secret": ["s", "t"]})
    write_table(tmp_path / "t", rows, column_keys={"secret": FARES, "other": FARES})
    (part,) = open_table(tmp_path / "t", "trips", reading()).parts
    keys = reading().data_keys
    assert shown(open_prepared(prepared_with(part, keys, list), part.tail, keys)) == shown(part.footer)
    with pytest.raises(FormatError):
        open_prepared(prepared_with(part, keys, change), part.tail, keys)


@pytest.mark.parametrize("raw", [b"", b"SRF", b"SRF1", b"\x30\0\0\0" + bytes(48)])
def test_another_format_of_prepared_footers_is_passed_over(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any, signer: Any, kms: Any, from_files: list[Any], raw: bytes
) -> None:
    """A table that another version of Strongroom wrote stays readable."""
    manifest = write_table(tmp_path / "t", rows)
    (part,) = manifest.parts
    prepared_path(tmp_path / "t" / part.name).write_bytes(raw)
    other = replace(manifest, parts=(replace(part, prepared=hashlib.sha256(raw).digest()),))
    (tmp_path / "t" / MANIFEST_NAME).write_bytes(seal_manifest(other, kms, signer))
    from_files.clear()
    assert read(open_table(tmp_path / "t", "trips", reading(versions=VersionsInMemory()))).equals(rows)
    assert len(from_files) == 1


@pytest.mark.parametrize("fault", ["beyond the end", "not in their order"])
def test_chunks_that_cannot_be_are_refused(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any, fault: str
) -> None:
    write_table(tmp_path / "t", rows)
    (part,) = open_table(tmp_path / "t", "trips", reading()).parts
    fields = list(zip(*part.footer.chunks, strict=True))
    if fault == "beyond the end":
        fields[1] = (*fields[1][:-1], part.tail.start - fields[0][-1] + 1)
    else:
        fields = [field[::-1] for field in fields]
    raw = prepare(replace(part.footer, chunks=Chunks(*fields)), reading().data_keys, os.urandom)
    with pytest.raises(FormatError, match="outside"):
        open_prepared(raw, part.tail, reading().data_keys)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_the_groups_hold_only_documented_errors_come_out(
    tmp_path: Path, write_table: Any, reading: Any, data: Any
) -> None:
    if not (tmp_path / "t").exists():
        rows = pa.table({"id": [1, 2], "other": [3, 4], "secret": ["s", "t"]})
        write_table(tmp_path / "t", rows, column_keys={"secret": FARES, "other": FARES})
    (part,) = open_table(tmp_path / "t", "trips", reading()).parts
    keys = reading().data_keys

    def mutated(texts: list[bytes]) -> list[bytes]:
        changed = [bytearray(text) for text in texts]
        for text in changed:
            for _ in range(data.draw(st.integers(0, 2))):
                text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
        return [bytes(text[: data.draw(st.integers(0, len(text)))]) for text in changed]

    with contextlib.suppress(FormatError, Tampered, WrongKey):
        open_prepared(prepared_with(part, keys, mutated), part.tail, keys)
