"""Moving a table to other master keys."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from strongroom.analytics.datakeys import DataKeys
from strongroom.analytics.kms import LocalKms
from strongroom.analytics.rotation import rotate
from strongroom.analytics.table import Reading, open_table, readers
from strongroom.analytics.versions import VersionsInMemory
from strongroom.errors import ConfigurationError, KeyReleaseError, UnavailableError

TRIPS = "taxi/key/trips"
FARES = "taxi/key/fares"
OTHER = "bank/key/other"


def test_opens_with_the_new_keys_and_not_with_the_old(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any, signer: Any
) -> None:
    write_table(tmp_path / "t", rows, column_keys={"fare": FARES})
    new = {"n/key/trips": b"1" * 32, "n/key/fares": b"2" * 32}
    both = Reading(
        DataKeys(LocalKms.holding({TRIPS: b"t" * 32, FARES: b"f" * 16, **new})),
        frozenset({signer.public}),
        VersionsInMemory(),
    )
    manifest = rotate(tmp_path / "t", "trips", {TRIPS: "n/key/trips", FARES: "n/key/fares"}, both, signer)
    assert (manifest.version, manifest.key, manifest.column_keys) == (2, "n/key/trips", {"fare": "n/key/fares"})
    only_new = Reading(DataKeys(LocalKms.holding(new)), frozenset({signer.public}), VersionsInMemory())
    for reader in readers(open_table(tmp_path / "t", "trips", only_new)):
        assert pq.read_table(reader).equals(rows)
    with pytest.raises(KeyReleaseError):
        open_table(tmp_path / "t", "trips", reading())


def test_does_not_touch_data_pages(tmp_path: Path, rows: Any, write_table: Any, reading: Any, signer: Any) -> None:
    write_table(tmp_path / "t", rows, column_keys={"fare": FARES}, files=2)
    before = {
        (tmp_path / "t" / part.path.name).read_bytes()[: part.tail.start]
        for part in open_table(tmp_path / "t", "trips", reading()).parts
    }
    rotate(tmp_path / "t", "trips", {FARES: OTHER}, reading(), signer)
    after = {part.path.read_bytes()[: part.tail.start] for part in open_table(tmp_path / "t", "trips", reading()).parts}
    assert before == after


def test_one_key_alone_can_be_moved(tmp_path: Path, rows: Any, write_table: Any, reading: Any, signer: Any) -> None:
    write_table(tmp_path / "t", rows, column_keys={"fare": FARES})
    rotate(tmp_path / "t", "trips", {FARES: OTHER}, reading(), signer)
    table = open_table(tmp_path / "t", "trips", reading(FARES))
    assert "fare" in table.columns and table.manifest.column_keys == {"fare": OTHER}


def test_needs_the_old_key(tmp_path: Path, rows: Any, write_table: Any, reading: Any, signer: Any) -> None:
    write_table(tmp_path / "t", rows, column_keys={"fare": FARES})
    with pytest.raises(KeyReleaseError):
        rotate(tmp_path / "t", "trips", {FARES: OTHER}, reading(FARES), signer)
    open_table(tmp_path / "t", "trips", reading())


def test_needs_the_new_key(tmp_path: Path, rows: Any, write_table: Any, reading: Any, signer: Any) -> None:
    write_table(tmp_path / "t", rows, files=2)
    with pytest.raises(KeyReleaseError):
        rotate(tmp_path / "t", "trips", {TRIPS: OTHER}, reading(OTHER), signer)
    assert len(open_table(tmp_path / "t", "trips", reading()).parts) == 2


def test_refuses_a_key_that_the_table_does_not_use(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any, signer: Any
) -> None:
    write_table(tmp_path / "t", rows)
    with pytest.raises(ConfigurationError):
        rotate(tmp_path / "t", "trips", {OTHER: FARES}, reading(), signer)


def test_disk_full_leaves_the_table_as_it_was(
    tmp_path: Path, rows: Any, write_table: Any, reading: Any, signer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path / "t", rows, files=2)

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(UnavailableError):
        rotate(tmp_path / "t", "trips", {TRIPS: OTHER}, reading(), signer)
    monkeypatch.undo()
    assert open_table(tmp_path / "t", "trips", reading()).manifest.version == 1
