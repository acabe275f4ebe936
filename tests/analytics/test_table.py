"""What a hostile storage does to a table, attack by attack."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.analytics.kms import LocalKms
from strongroom.analytics.manifest import (
    MANIFEST_NAME,
    Column,
    Manifest,
    Part,
    open_manifest,
    parse_manifest,
    seal_manifest,
    serialize_manifest,
)
from strongroom.analytics.signing import Signer
from strongroom.analytics.table import open_table, readers
from strongroom.analytics.versions import VersionsFile, VersionsInMemory
from strongroom.analytics.writing import FILE_ROWS, Protection, TableWriter, Writing
from strongroom.errors import (
    ConfigurationError,
    FormatError,
    KeyReleaseError,
    StrongroomError,
    Tampered,
    UnavailableError,
    VerificationError,
    WrongKey,
)

TRIPS = "taxi/key/trips"
FARES = "taxi/key/fares"
OTHER = "bank/key/other"


def read(table: Any) -> Any:
    return pa.concat_tables([pq.read_table(reader) for reader in readers(table)])


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


@pytest.mark.parametrize("column_keys", [{}, {"fare": FARES, "zone": OTHER}])
def test_reads_what_was_written(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any, column_keys: dict[str, str]
) -> None:
    manifest = write_table(tmp_path / "t", rows, column_keys=column_keys, files=3)
    table = open_table(tmp_path / "t", "trips", reading())
    assert manifest.rows == rows.num_rows and len(table.parts) == 3
    assert read(table).sort_by("id").equals(rows)


def test_no_value_stands_in_the_files_in_clear(tmp_path: Path, write_table: Any) -> None:
    canary = "canary-7d1f0c"
    write_table(tmp_path / "t", pa.table({"name": [canary] * 50, "canarycolumn": [1] * 50}))
    for path in tmp_path.rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            assert canary.encode() not in raw and b"canarycolumn" not in raw


def test_files_are_encrypted_with_gcm_and_an_encrypted_footer(tmp_path: Path, rows: Any, write_table: Any) -> None:
    write_table(tmp_path / "t", rows, column_keys={"fare": FARES})
    (path,) = parts(tmp_path / "t")
    assert path.read_bytes()[:4] == path.read_bytes()[-4:] == b"PARE"


def test_a_table_without_rows(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows.slice(0, 0))
    assert read(open_table(tmp_path / "t", "trips", reading())).equals(rows.slice(0, 0))


def test_several_row_groups_and_pages(tmp_path: Path, write_table: Any, reading: Any) -> None:
    rows = pa.table({"x": pa.array(range(2_200_000), pa.int64()), "s": ["ab"] * 2_200_000})
    write_table(tmp_path / "t", rows)
    assert read(open_table(tmp_path / "t", "trips", reading())).equals(rows)
    assert FILE_ROWS > 2_200_000


# --- the wrong key -----------------------------------------------------------------------------------------------


def test_wrong_key(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows)
    wrong = reading()
    wrong.data_keys.kms = LocalKms.holding({TRIPS: b"x" * 32})
    with pytest.raises(WrongKey):
        open_table(tmp_path / "t", "trips", wrong)


def test_no_right_to_the_tables_key(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows)
    with pytest.raises(KeyReleaseError):
        open_table(tmp_path / "t", "trips", reading(TRIPS))


def test_missing_column_key_leaves_other_columns_readable(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any
) -> None:
    write_table(tmp_path / "t", rows, column_keys={"fare": FARES, "zone": OTHER})
    table = open_table(tmp_path / "t", "trips", reading(FARES, OTHER))
    assert table.columns == ("id", "vendor", "pickup", "stops")
    assert sorted(table.refused) == ["fare", "zone"]
    assert read(table).equals(rows.drop_columns(["fare", "zone"]))


# --- altered, swapped, added, removed, old -----------------------------------------------------------------------


@pytest.mark.parametrize("place", [0.001, 0.1, 0.4, 0.7])
def test_tampered_page(tmp_path: Path, rows: Any, write_table: Any, reading: Any, place: float) -> None:
    write_table(tmp_path / "t", rows)
    (path,) = parts(tmp_path / "t")
    table = open_table(tmp_path / "t", "trips", reading())
    raw = bytearray(path.read_bytes())
    raw[4 + int((table.parts[0].tail.start - 4) * place) + 4] ^= 1
    path.write_bytes(raw)
    with pytest.raises((Tampered, FormatError)):
        read(open_table(tmp_path / "t", "trips", reading()))


def test_every_flipped_byte_of_a_file_is_noticed(tmp_path: Path, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", pa.table({"x": list(range(20)), "s": ["abc"] * 20}), column_keys={"s": FARES})
    (path,) = parts(tmp_path / "t")
    raw = path.read_bytes()
    for position in range(4, len(raw), 3):
        path.write_bytes(raw[:position] + bytes([raw[position] ^ 0x10]) + raw[position + 1 :])
        with pytest.raises((Tampered, FormatError, VerificationError)):
            read(open_table(tmp_path / "t", "trips", reading()))


def test_page_moved_inside_a_file(tmp_path: Path, write_table: Any, reading: Any) -> None:
    """Two columns with equal pages, encrypted under one key: their ciphertexts are exchanged."""
    write_table(tmp_path / "t", pa.table({"a": [1, 2, 3, 4], "b": [1, 2, 3, 4]}))
    (path,) = parts(tmp_path / "t")
    table = open_table(tmp_path / "t", "trips", reading())
    first, second = table.parts[0].footer.chunks
    assert first.size == second.size
    raw = bytearray(path.read_bytes())
    one, two = slice(first.start, first.start + first.size), slice(second.start, second.start + second.size)
    raw[one], raw[two] = raw[two], raw[one]
    path.write_bytes(raw)
    with pytest.raises(Tampered):
        read(open_table(tmp_path / "t", "trips", reading()))


def test_footer_swapped_between_files(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows, files=2)
    one, two = parts(tmp_path / "t")
    tails = {part.path: part.tail for part in open_table(tmp_path / "t", "trips", reading()).parts}
    one.write_bytes(one.read_bytes()[: tails[one].start] + tails[two].raw)
    with pytest.raises(VerificationError, match="not the file"):
        open_table(tmp_path / "t", "trips", reading())


def test_files_of_a_table_exchanged(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows, files=2)
    one, two = parts(tmp_path / "t")
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    with pytest.raises(VerificationError, match="not the file"):
        open_table(tmp_path / "t", "trips", reading())


def test_file_of_another_table_under_the_same_key(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows)
    write_table(tmp_path / "other", rows, name="other")
    shutil.copy(parts(tmp_path / "other")[0], parts(tmp_path / "t")[0])
    with pytest.raises(VerificationError, match="not the file"):
        open_table(tmp_path / "t", "trips", reading())


def test_file_swapped_after_the_check(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    """Between checking and reading, a genuine file of another table takes the place: its data key is another one."""
    write_table(tmp_path / "t", rows)
    write_table(tmp_path / "other", rows, name="other")
    table = open_table(tmp_path / "t", "trips", reading())
    shutil.copy(parts(tmp_path / "other")[0], parts(tmp_path / "t")[0])
    with pytest.raises((Tampered, FormatError)):
        read(table)


def test_plain_file_among_encrypted(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows)
    pq.write_table(rows, tmp_path / "t" / "part-99999-extra.parquet")
    with pytest.raises(VerificationError, match="did not put there"):
        open_table(tmp_path / "t", "trips", reading())


def test_plain_file_in_place_of_an_encrypted_one(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows)
    pq.write_table(rows, parts(tmp_path / "t")[0])
    with pytest.raises(FormatError, match="plaintext"):
        open_table(tmp_path / "t", "trips", reading())


def test_deleted_part(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows, files=3)
    parts(tmp_path / "t")[1].unlink()
    with pytest.raises(VerificationError, match="1 of 3 files are gone"):
        open_table(tmp_path / "t", "trips", reading())


def test_part_replaced_by_a_link(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows)
    (path,) = parts(tmp_path / "t")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError):
        open_table(tmp_path / "t", "trips", reading())


@pytest.mark.parametrize("kept", [0, 3, 8, 100, -1, -8, -300])
def test_cut_file(tmp_path: Path, rows: Any, write_table: Any, reading: Any, kept: int) -> None:
    write_table(tmp_path / "t", rows)
    (path,) = parts(tmp_path / "t")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises((FormatError, VerificationError)):
        open_table(tmp_path / "t", "trips", reading())


def test_older_version(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    first = write_table(tmp_path / "t", rows.slice(0, 100))
    shutil.copytree(tmp_path / "t", tmp_path / "yesterday")
    write_table(tmp_path / "t", rows, previous=first)
    versions = VersionsInMemory()
    assert read(open_table(tmp_path / "t", "trips", reading(versions=versions))).equals(rows)
    shutil.rmtree(tmp_path / "t")
    (tmp_path / "yesterday").rename(tmp_path / "t")
    with pytest.raises(VerificationError, match="version 1 is shown, version 2 was seen") as refusal:
        open_table(tmp_path / "t", "trips", reading(versions=versions))
    assert refusal.value.code == "table.rollback"


def test_two_tables_of_one_version(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "a", rows)
    write_table(tmp_path / "b", rows)
    versions = VersionsInMemory()
    open_table(tmp_path / "a", "trips", reading(versions=versions))
    with pytest.raises(VerificationError, match="two different tables"):
        open_table(tmp_path / "b", "trips", reading(versions=versions))


def test_another_table_in_the_folder(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows, name="zones")
    with pytest.raises(VerificationError, match="holds the table 'zones'"):
        open_table(tmp_path / "t", "trips", reading())


def test_no_manifest(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows)
    (tmp_path / "t" / MANIFEST_NAME).unlink()
    with pytest.raises(VerificationError) as refusal:
        open_table(tmp_path / "t", "trips", reading())
    assert refusal.value.code == "table.no_manifest"


def test_schema_drift(tmp_path: Path, rows: Any, write_table: Any, reading: Any, kms: Any, signer: Signer) -> None:
    """A writer that puts files of two schemas under one manifest is caught when the table is opened."""
    one = write_table(tmp_path / "t", rows)
    other = write_table(tmp_path / "u", rows.drop_columns(["fare"]))
    shutil.copy(parts(tmp_path / "u")[0], tmp_path / "t")
    both = replace(one, version=2, parts=tuple(sorted([*one.parts, *other.parts], key=lambda p: p.name)))
    (tmp_path / "t" / MANIFEST_NAME).write_bytes(seal_manifest(both, kms, signer))
    with pytest.raises(FormatError, match=r"columns of .* differ") as refusal:
        open_table(tmp_path / "t", "trips", reading())
    assert refusal.value.code == "table.schema_drift"


def test_refuses_rows_of_another_schema_when_writing(tmp_path: Path, rows: Any, kms: Any, signer: Signer) -> None:
    writer = TableWriter(
        tmp_path / "t", "trips", rows.schema, Protection(TRIPS), writing=Writing(kms, signer, VersionsInMemory())
    )
    with pytest.raises(FormatError, match="another schema"), writer:
        writer.write(rows)
        writer.write(rows.drop_columns(["id"]))
    assert not list((tmp_path / "t").iterdir())


# --- the manifest ------------------------------------------------------------------------------------------------


def test_a_signer_who_is_not_trusted(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows)
    stranger = replace(reading(), trusted=frozenset({Signer.generate().public}))
    with pytest.raises(VerificationError, match="not trusted"):
        open_table(tmp_path / "t", "trips", stranger)


def test_a_manifest_that_a_reader_forged(tmp_path: Path, rows: Any, write_table: Any, reading: Any, kms: Any) -> None:
    """Who may read has the table's key, and still can't make a manifest that others believe."""
    manifest = write_table(tmp_path / "t", rows)
    (tmp_path / "t" / MANIFEST_NAME).write_bytes(seal_manifest(manifest, kms, Signer.generate()))
    with pytest.raises(VerificationError, match="not trusted"):
        open_table(tmp_path / "t", "trips", reading())


def test_every_altered_member_of_a_sealed_manifest(kms: Any, signer: Signer) -> None:
    manifest = Manifest(table="t", version=1, previous=b"", key=TRIPS, columns=(), parts=())
    envelope = json.loads(seal_manifest(manifest, kms, signer))
    for name, value in envelope.items():
        changed = envelope | {name: value[:-1] + ("0" if value[-1] != "0" else "1")}
        with pytest.raises(StrongroomError):
            open_manifest(json.dumps(changed).encode(), kms, frozenset({signer.public}))


def test_a_manifest_sealed_under_another_key_than_it_names(kms: Any, signer: Signer) -> None:
    class Renaming:
        def wrap(self, key_name: str, secret: bytes) -> bytes:
            return bytes(kms.wrap(OTHER, secret))

    manifest = Manifest(table="t", version=1, previous=b"", key=TRIPS, columns=(), parts=())
    envelope = json.loads(seal_manifest(manifest, Renaming(), signer))  # type: ignore[arg-type]  # only wraps
    envelope["key"] = OTHER
    with pytest.raises((FormatError, WrongKey)):
        open_manifest(json.dumps(envelope).encode(), kms, frozenset({signer.public}))


NAMES = st.text("abcdef0123456789-_.", min_size=1, max_size=20).filter(lambda name: name[0] not in "._")
DIGESTS = st.binary(min_size=32, max_size=32)
MANIFESTS = st.builds(
    Manifest,
    table=st.text("abc", min_size=1),
    version=st.integers(1, 2**40),
    previous=st.sampled_from([b"", b"p" * 32]),
    key=st.just(TRIPS),
    columns=st.lists(st.builds(Column, st.text(max_size=9), st.text(max_size=9), st.just(FARES)), max_size=3).map(
        tuple
    ),
    parts=st.lists(
        st.builds(Part, NAMES, st.integers(0, 2**50), st.integers(0, 2**50), DIGESTS, DIGESTS),
        max_size=3,
        unique_by=lambda part: part.name,
    ).map(tuple),
)


@settings(max_examples=100, deadline=None)
@given(MANIFESTS)
def test_a_manifest_survives_its_text(manifest: Manifest) -> None:
    try:
        raw = serialize_manifest(manifest)
    except FormatError:
        return  # a lone surrogate in a column's name has no canonical form
    assert parse_manifest(raw) == manifest


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_as_manifest_give_an_error_of_ours(raw: bytes) -> None:
    for parse in (parse_manifest, lambda r: open_manifest(r, LocalKms.holding({}), frozenset())):
        with pytest.raises(StrongroomError):
            parse(raw)


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "_SUCCESS", "", "a b", "a\n", "x" * 201])
def test_refuses_a_part_that_is_no_plain_file_name(name: str) -> None:
    part = Part(name, 1, 1, b"x" * 32, b"y" * 32)
    raw = serialize_manifest(Manifest(table="t", version=1, previous=b"", key=TRIPS, columns=(), parts=(part,)))
    with pytest.raises(FormatError):
        parse_manifest(raw)


# --- versions, faults --------------------------------------------------------------------------------------------


def test_versions_are_remembered_in_a_file(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    first = write_table(tmp_path / "t", rows)
    open_table(tmp_path / "t", "trips", replace(reading(), versions=VersionsFile(tmp_path / "seen.json")))
    assert VersionsFile(tmp_path / "seen.json").newest("trips") == (1, first.digest)


@pytest.mark.parametrize("text", ["", "[]", '{"trips": 1}', '{"trips": {"version": 1}}', '{"trips": {"version": -1}}'])
def test_a_malformed_memory_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "seen.json").write_text(text)
    with pytest.raises(FormatError):
        VersionsFile(tmp_path / "seen.json").newest("trips")


def test_append_keeps_rows_and_files(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    first = write_table(tmp_path / "t", rows.slice(0, 1000))
    second = write_table(tmp_path / "t", rows.slice(1000), previous=first, append=True)
    assert (second.version, second.previous, len(second.parts)) == (2, first.digest, 2)
    assert read(open_table(tmp_path / "t", "trips", reading())).equals(rows)


def test_replacing_removes_the_old_files(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    first = write_table(tmp_path / "t", rows)
    write_table(tmp_path / "t", rows.slice(0, 10), previous=first)
    assert len(parts(tmp_path / "t")) == 1
    assert read(open_table(tmp_path / "t", "trips", reading())).equals(rows.slice(0, 10))


def test_disk_full_leaves_the_old_table(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_table(tmp_path / "t", rows)
    real: Callable[..., int] = os.pwrite

    def full(descriptor: int, data: Any, offset: int) -> int:
        if offset > 10_000:
            raise OSError(28, "No space left on device")
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UnavailableError, match="No space left"):
        write_table(tmp_path / "t", rows, previous=first)
    monkeypatch.undo()
    assert read(open_table(tmp_path / "t", "trips", reading())).equals(rows)
    assert not [path for path in (tmp_path / "t").iterdir() if path.suffix == ".tmp"]


def test_the_key_service_does_not_answer(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    class Down:
        def wrap(self, key_name: str, secret: bytes) -> bytes:
            raise UnavailableError("no answer")

        unwrap = wrap

    write_table(tmp_path / "t", rows)
    lost = reading()
    lost.data_keys.kms = Down()
    with pytest.raises(UnavailableError):
        open_table(tmp_path / "t", "trips", lost)


def test_refuses_a_key_for_a_column_that_is_not_there(tmp_path: Path, rows: Any, write_table: Any) -> None:
    with pytest.raises(ConfigurationError, match="no column 'nosuch'"):
        write_table(tmp_path / "t", rows, column_keys={"nosuch": FARES})


def test_two_owners_keys_in_one_table(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> None:
    write_table(tmp_path / "t", rows, key=OTHER, column_keys={"fare": FARES})
    assert read(open_table(tmp_path / "t", "trips", reading(TRIPS))).equals(rows)


def test_row_groups_are_full_whatever_the_batches_are(tmp_path: Path, kms: Any, signer: Signer, reading: Any) -> None:
    schema = pa.schema([("x", pa.int64())])
    batches = [pa.table({"x": range(700_000)}) for _ in range(4)]
    with TableWriter(
        tmp_path / "t", "trips", schema, Protection(TRIPS), writing=Writing(kms, signer, VersionsInMemory())
    ) as writer:
        for batch in batches:
            writer.write(batch)
    (part,) = open_table(tmp_path / "t", "trips", reading()).parts
    with part.open() as reader:
        metadata = pq.ParquetFile(reader).metadata
        groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        assert groups == [2**18] * 10 + [2_800_000 - 10 * 2**18]
