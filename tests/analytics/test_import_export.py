"""CSV, JSON lines and Parquet in and out."""

import csv
import json
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from strongroom.analytics.exporting import export, table_batches
from strongroom.analytics.importing import open_source
from strongroom.analytics.parquet.reader import PlainReader
from strongroom.analytics.table import open_table
from strongroom.errors import ConfigurationError, FormatError, KeyReleaseError, MissingFile, WouldOverwrite

FARES = "taxi/key/fares"


def imported(path: Path, **types: str) -> Any:
    source = open_source(path, types)
    return pa.Table.from_batches(list(source.batches()), source.schema)


def test_csv(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,fare,when,name\n1,2.5,2018-01-01 10:00:00,Ann\n2,,2018-01-02 11:00:00,\n")
    table = imported(tmp_path / "t.csv")
    assert [str(f.type) for f in table.schema] == ["int64", "double", "timestamp[us]", "string"]
    assert table.to_pylist()[1]["fare"] is None and table.to_pylist()[1]["name"] is None


def test_json_lines(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"id": 1, "tags": ["a"]}\n{"id": 2, "tags": null}\n')
    assert imported(tmp_path / "t.jsonl").to_pylist() == [{"id": 1, "tags": ["a"]}, {"id": 2, "tags": None}]


def test_parquet(tmp_path: Path, rows: Any) -> None:
    pq.write_table(rows, tmp_path / "t.parquet", row_group_size=700)
    assert imported(tmp_path / "t.parquet").equals(rows)


def test_types_that_some_engines_do_not_read_become_common_ones(tmp_path: Path) -> None:
    table = pa.table(
        {
            "ns": pa.array([1_000_000], pa.timestamp("ns")),
            "d": pa.array(["x"]).dictionary_encode(),
            "n": pa.nulls(1),
            "l": pa.array(["x"], pa.large_string()),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    assert [str(f.type) for f in imported(tmp_path / "t.parquet").schema] == ["timestamp[us]", *["string"] * 3]


def test_a_folder_of_files_gets_one_schema(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("id,surcharge\n1,\n")
    (tmp_path / "2.csv").write_text("id,surcharge\n2,2.5\n")
    (tmp_path / "_ignored").write_text("")
    table = imported(tmp_path)
    assert table.to_pylist() == [{"id": 1, "surcharge": None}, {"id": 2, "surcharge": 2.5}]


def test_a_type_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("zip\n01234\n")
    assert imported(tmp_path / "t.csv", zip="string").to_pylist() == [{"zip": "01234"}]


def test_schema_drift_between_files(tmp_path: Path) -> None:
    (tmp_path / "1.csv").write_text("id,fare\n1,2\n")
    (tmp_path / "2.csv").write_text("id,tip\n1,2\n")
    with pytest.raises(FormatError, match="fare, tip") as refusal:
        imported(tmp_path)
    assert refusal.value.code == "import.schema_drift"


def test_a_value_of_another_kind_far_down_says_where_and_not_what(tmp_path: Path) -> None:
    lines = "".join(f"{i},{i}\n" for i in range(1_200_000))
    (tmp_path / "t.csv").write_text("id,fare\n" + lines + "x,secret-7f\n")
    with pytest.raises(FormatError, match="CSV column #0") as refusal:
        imported(tmp_path / "t.csv")
    assert "secret-7f" not in refusal.value.message and refusal.value.hint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b"a,b\n1\n"),
        ("t.csv", b""),
        ("t.csv", b"a\n\xff\xfe\n"),
        ("t.json", b"[1]"),
        ("t.json", b'{"a":'),
        ("t.parquet", b"PAR1"),
        ("t.parquet", b""),
    ],
)
def test_refuses_malformed_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError):
        imported(tmp_path / name)


def test_refuses_nothing_mixed_or_absent(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nothing to import"):
        open_source(tmp_path)
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "b.json").write_text('{"x": 1}')
    with pytest.raises(ConfigurationError, match="several formats"):
        open_source(tmp_path)
    with pytest.raises(MissingFile):
        imported(tmp_path / "absent.csv")


@pytest.mark.parametrize("types", [{"id": "nosuchtype"}, {"nosuch": "string"}])
def test_refuses_a_wrong_type_option(tmp_path: Path, types: dict[str, str]) -> None:
    (tmp_path / "a.csv").write_text("id\n1\n")
    with pytest.raises(ConfigurationError):
        open_source(tmp_path / "a.csv", types)


@pytest.fixture
def table(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> Any:
    write_table(tmp_path / "trips", rows, column_keys={"fare": FARES}, files=2)
    return open_table(tmp_path / "trips", "trips", reading())


def test_exports_parquet(tmp_path: Path, rows: Any, table: Any) -> None:
    assert export(table_batches(table), tmp_path / "o.parquet") == rows.num_rows
    assert pq.read_table(tmp_path / "o.parquet").sort_by("id").equals(rows)


def test_no_other_thread_holds_a_table_when_an_export_ends(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # pyarrow's own threads abort the process if they let go of the reader while the interpreter ends.
    threads = set()
    read = PlainReader.read

    def watched(reader: PlainReader, size: int | None = -1, /) -> bytes:
        threads.add(threading.get_ident())
        return read(reader, size)

    monkeypatch.setattr(PlainReader, "read", watched)
    assert sum(batch.num_rows for batch in table_batches(table)) > 0
    assert threads == {threading.get_ident()}


def test_exports_json_lines(tmp_path: Path, table: Any) -> None:
    export(table_batches(table, ["zone", "id", "pickup"]), tmp_path / "o.jsonl")
    first = json.loads((tmp_path / "o.jsonl").read_text().splitlines()[0])
    assert list(first) == ["zone", "id", "pickup"] and first["pickup"].startswith("2017-07-14T02:")


def test_exports_csv(tmp_path: Path, rows: Any, table: Any) -> None:
    export(table_batches(table, ["id", "fare"]), tmp_path / "o.csv")
    with (tmp_path / "o.csv").open() as file:
        read = list(csv.DictReader(file))
    assert len(read) == rows.num_rows and read[0].keys() == {"id", "fare"}


def test_export_needs_the_right_to_every_column(tmp_path: Path, table: Any, reading: Any) -> None:
    partial = open_table(tmp_path / "trips", "trips", reading(FARES))
    with pytest.raises(KeyReleaseError) as refusal:
        export(table_batches(partial), tmp_path / "o.csv")
    assert refusal.value.hint is not None and "id,vendor" in refusal.value.hint
    assert not (tmp_path / "o.csv").exists()
    export(table_batches(partial, ["id"]), tmp_path / "o.csv")


def test_export_refuses_to_overwrite_an_unknown_format_and_column(tmp_path: Path, table: Any) -> None:
    (tmp_path / "o.csv").write_text("mine")
    with pytest.raises(WouldOverwrite):
        export(table_batches(table, ["id"]), tmp_path / "o.csv")
    with pytest.raises(ConfigurationError):
        export(table_batches(table), tmp_path / "o.xlsx")
    with pytest.raises(ConfigurationError, match="no column"):
        export(table_batches(table, ["nosuch"]), tmp_path / "p.csv")
    assert (tmp_path / "o.csv").read_text() == "mine"
