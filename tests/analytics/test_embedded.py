"""SQL in DuckDB over encrypted tables: right answers, right refusals, and nothing else within reach."""

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from strongroom.analytics.embedded import EmbeddedEngine
from strongroom.analytics.parquet import decrypted
from strongroom.analytics.table import open_table
from strongroom.errors import ConfigurationError, KeyReleaseError, StrongroomError, Tampered, UnavailableError

TRIPS = "taxi/key/trips"
FARES = "taxi/key/fares"


def answer(engine: EmbeddedEngine, sql: str, **tables: Any) -> list[dict[str, Any]]:
    result = engine.query(sql, tables)
    rows: list[dict[str, Any]] = pa.Table.from_batches(list(result.batches), result.schema).to_pylist()
    return rows


@pytest.fixture
def engine() -> Any:
    with EmbeddedEngine(threads=2) as running:
        yield running


@pytest.fixture
def trips(tmp_path: Path, rows: Any, write_table: Any, reading: Any) -> Any:
    write_table(tmp_path / "trips", rows, column_keys={"fare": FARES}, files=3)
    return open_table(tmp_path / "trips", "trips", reading())


QUERIES = [
    "SELECT count(*) FROM trips",
    "SELECT vendor, count(*), round(sum(fare), 6) FROM trips GROUP BY 1 ORDER BY 1",
    "SELECT hour(pickup) h, max(id) FROM trips WHERE fare > 10 GROUP BY 1 ORDER BY 1",
    "SELECT id, fare FROM trips WHERE id BETWEEN 4990 AND 4995 ORDER BY id",
    "SELECT id, sum(fare) OVER (ORDER BY id ROWS 2 PRECEDING) s FROM trips ORDER BY id LIMIT 7",
    "SELECT stops, zone.id FROM trips WHERE id < 5 ORDER BY id",
    "SELECT a.id FROM trips a JOIN trips b ON a.id = b.id + 1 WHERE a.id < 4 ORDER BY 1",
    "SELECT max(vendor) FROM trips WHERE vendor IS NULL",
    "SELECT * FROM trips ORDER BY id LIMIT 3",
]


@pytest.mark.parametrize("sql", QUERIES)
def test_answers_as_duckdb_does_on_plaintext(
    tmp_path: Path, rows: Any, trips: Any, engine: EmbeddedEngine, sql: str
) -> None:
    pq.write_table(rows, tmp_path / "plain.parquet")
    plain = duckdb.connect()
    plain.execute(f"CREATE VIEW trips AS SELECT * FROM read_parquet('{tmp_path}/plain.parquet')")
    expected = plain.sql(sql).to_arrow_table().to_pylist()
    plain.close()
    assert answer(engine, sql, trips=trips) == expected


def test_decrypts_only_the_columns_it_needs(
    trips: Any, engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: set[int] = set()
    real = decrypted.decrypt_chunk

    def watching(encrypted: Any, file_aad: bytes, chunk: Any, out: Any) -> None:
        touched.add(chunk.column)
        real(encrypted, file_aad, chunk, out)

    monkeypatch.setattr(decrypted, "decrypt_chunk", watching)
    answer(engine, "SELECT sum(fare) FROM trips", trips=trips)
    assert touched == {1}


def test_skips_row_groups_by_their_statistics(
    trips: Any, engine: EmbeddedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    real = decrypted.decrypt_chunk

    def watching(encrypted: Any, file_aad: bytes, chunk: Any, out: Any) -> None:
        reads.append(chunk.row_group)
        real(encrypted, file_aad, chunk, out)

    monkeypatch.setattr(decrypted, "decrypt_chunk", watching)
    assert answer(engine, "SELECT vendor FROM trips WHERE id = 4999", trips=trips) == [{"vendor": "v1"}]
    assert len(reads) <= 3  # of two columns in one of three files


def test_missing_column_key_is_an_error_where_the_column_is_used(
    tmp_path: Path, trips: Any, reading: Any, engine: EmbeddedEngine
) -> None:
    table = open_table(tmp_path / "trips", "trips", reading(FARES))
    assert answer(engine, "SELECT max(id) m FROM trips", trips=table) == [{"m": 4999}]
    for sql in ("SELECT sum(fare) FROM trips", "SELECT * FROM trips", "SELECT id FROM trips WHERE fare > 3"):
        with pytest.raises(KeyReleaseError):
            answer(engine, sql, trips=table)


@pytest.mark.parametrize("engine_threads", [1, 2])
def test_tampered_page_ends_the_query(tmp_path: Path, trips: Any, engine_threads: int) -> None:
    part = trips.parts[1]
    chunk = next(chunk for chunk in part.footer.chunks if chunk.column == 1)
    raw = bytearray(part.path.read_bytes())
    raw[chunk.start + chunk.size - 1] ^= 1
    part.path.write_bytes(raw)
    with EmbeddedEngine(threads=engine_threads) as engine:
        with pytest.raises(Tampered):
            answer(engine, "SELECT sum(fare) FROM trips", trips=trips)
        assert answer(engine, "SELECT max(id) m FROM trips", trips=trips) == [{"m": 4999}]


def test_part_deleted_in_mid_query_is_no_partial_result(trips: Any, engine: EmbeddedEngine) -> None:
    trips.parts[1].path.unlink()
    with pytest.raises(StrongroomError):
        answer(engine, "SELECT count(fare) FROM trips", trips=trips)


@pytest.mark.parametrize(
    ("sql", "place"),
    [
        ("SELECT nosuch FROM trips", "(line 1, column 8)"),
        ("SELECT id,\n       nosuch(id) FROM trips", "(line 2, column 8)"),
        ("SELEC 1", "(line 1, column 1)"),
        ("SELECT * FROM nosuch", "(line 1, column 15)"),
        ("SELECT id +\n\n  nosuch FROM trips", "(line 3, column 3)"),
        ("SELECT (", "(line 1, column "),
    ],
)
def test_sql_errors_say_where(trips: Any, engine: EmbeddedEngine, sql: str, place: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        answer(engine, sql, trips=trips)
    assert place in error.value.message
    assert "\n" not in error.value.message


def test_a_value_that_does_not_convert_ends_the_query(trips: Any, engine: EmbeddedEngine) -> None:
    with pytest.raises(ConfigurationError):
        answer(engine, "SELECT vendor::INTEGER FROM trips", trips=trips)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_parquet('/tmp/x.parquet')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/*')",
        "SELECT * FROM read_csv('https://example.com/x')",
        "SELECT * FROM rows",
    ],
)
def test_a_query_reaches_no_file_no_network_and_no_variable(trips: Any, engine: EmbeddedEngine, sql: str) -> None:
    rows = trips  # noqa: F841  # a Python variable that DuckDB must not find
    with pytest.raises(ConfigurationError):
        answer(engine, sql, trips=trips)


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '/tmp/leak.csv'",
        "ATTACH '/tmp/leak.db'",
        "INSTALL httpfs",
        "SET threads = 1",
        "PRAGMA database_list",
        "CREATE TABLE x AS SELECT 1",
        "DROP VIEW trips",
        "SELECT 1; SELECT 2",
        "",
        ";",
        "EXPLAIN SELECT 1",
    ],
)
def test_a_query_is_one_select(trips: Any, engine: EmbeddedEngine, sql: str) -> None:
    with pytest.raises(ConfigurationError):
        answer(engine, sql, trips=trips)
    assert not Path("/tmp/leak.csv").exists()


def test_refuses_a_query_without_end(engine: EmbeddedEngine) -> None:
    with pytest.raises(ConfigurationError, match="million"):
        answer(engine, "SELECT " + "1+" * 600_000 + "1")


def test_too_little_memory_is_an_error_and_never_spills(trips: Any) -> None:
    with EmbeddedEngine(threads=1, memory="40MB") as engine, pytest.raises(UnavailableError, match="memory"):
        answer(
            engine,
            "SELECT count(DISTINCT a.id * 5000 + b.id) FROM trips a, trips b WHERE a.id < 600",
            trips=trips,
        )


def test_two_tables_of_two_owners_in_one_query(
    tmp_path: Path, trips: Any, write_table: Any, reading: Any, engine: EmbeddedEngine
) -> None:
    write_table(
        tmp_path / "v", pa.table({"vendor": ["v0"], "title": ["Vendor 0"]}), name="vendors", key="bank/key/other"
    )
    vendors = open_table(tmp_path / "v", "vendors", reading())
    sql = "SELECT title, count(*) n FROM trips JOIN vendors USING (vendor) GROUP BY 1"
    assert answer(engine, sql, trips=trips, vendors=vendors)[0]["title"] == "Vendor 0"


def test_refuses_a_table_name_that_sql_would_need_to_quote(trips: Any, engine: EmbeddedEngine) -> None:
    with pytest.raises(ConfigurationError, match="table name"):
        answer(engine, "SELECT 1", **{'x"; DROP VIEW y; --': trips})


def test_a_column_with_a_quote_in_its_name(
    tmp_path: Path, write_table: Any, reading: Any, engine: EmbeddedEngine
) -> None:
    odd = "a\"b'c; --"
    with pytest.raises(ConfigurationError, match="column's name"):  # the key tools' mapping has no quoting
        write_table(tmp_path / "odd", pa.table({odd: [1], "x": [2]}), name="odd", column_keys={odd: FARES})
    odd = "a\"b'c --"
    write_table(tmp_path / "odd", pa.table({odd: [1], "x": [2]}), name="odd", column_keys={odd: FARES})
    assert answer(engine, "SELECT x FROM odd", odd=open_table(tmp_path / "odd", "odd", reading())) == [{"x": 2}]
    refused = open_table(tmp_path / "odd", "odd", reading(FARES))
    assert answer(engine, "SELECT x FROM odd", odd=refused) == [{"x": 2}]
    with pytest.raises(StrongroomError):
        answer(engine, "SELECT * FROM odd", odd=refused)
