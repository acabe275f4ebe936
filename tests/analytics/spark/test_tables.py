"""Tables in Spark, against a real JVM: what it reads and writes is what pyarrow, Polars and the embedded engine do."""

import datetime as dt
import hashlib
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from strongroom.analytics.datakeys import DataKeys
from strongroom.analytics.embedded import EmbeddedEngine
from strongroom.analytics.kms import LocalKms
from strongroom.analytics.manifest import MANIFEST_NAME, Column, Manifest, Part, seal_manifest
from strongroom.analytics.parquet.footer import read_tail
from strongroom.analytics.spark.session import Rights, Session
from strongroom.analytics.table import Table, open_table, readers
from strongroom.analytics.writing import _PyarrowKms
from strongroom.errors import FormatError, WouldOverwrite

pytestmark = pytest.mark.slow
TRIPS, FARES = "taxi/key/trips", "taxi/key/fares"


def content(table: Table) -> Any:
    return pa.concat_tables([pq.read_table(reader) for reader in readers(table)]).replace_schema_metadata()


@pytest.mark.parametrize("column_keys", [{}, {"fare": FARES, "zone": FARES, "stops": FARES}])
def test_pyarrow_alone_reads_what_spark_writes(
    opened: Session, spark: Any, rows: Any, folder: Path, kms: LocalKms, column_keys: dict[str, str], write_table: Any
) -> None:
    write_table(folder / "trips", rows)
    manifest = opened.write(
        opened.table("trips", folder / "trips"), "copy", folder / "copy", key=TRIPS, column_keys=column_keys
    )
    factory = pe.CryptoFactory(lambda _config: _PyarrowKms(DataKeys(kms)))
    properties = factory.file_decryption_properties(pe.KmsConnectionConfig(), pe.DecryptionConfiguration())
    read = pq.ParquetFile(folder / "copy" / manifest.parts[0].name, decryption_properties=properties).read()
    assert read.replace_schema_metadata().cast(rows.schema).equals(rows)


def test_polars_reads_what_spark_writes(
    opened: Session, rights: Rights, rows: Any, folder: Path, write_table: Any
) -> None:
    flat = rows.drop_columns(["stops", "zone"])
    write_table(folder / "trips", flat)
    opened.write(
        opened.table("trips", folder / "trips"), "copy", folder / "copy", key=TRIPS, column_keys={"fare": FARES}
    )
    (part,) = open_table(folder / "copy", "copy", rights.reading).parts
    keys = rights.reading.data_keys
    properties = pl.ParquetDecryptionProperties(
        footer_key=keys(part.tail.key_metadata),
        column_keys={name: keys(metadata) for name, metadata in part.footer.column_keys.items()},
        aad_prefix=part.tail.aad_prefix,
    )
    read = pl.scan_parquet(part.path, decryption=properties).collect().to_arrow()
    assert read.cast(flat.schema).equals(flat)


def test_the_embedded_engine_reads_what_spark_writes(
    opened: Session, rights: Rights, rows: Any, folder: Path, write_table: Any
) -> None:
    write_table(folder / "trips", rows)
    opened.write(
        opened.table("trips", folder / "trips"), "copy", folder / "copy", key=TRIPS, column_keys={"fare": FARES}
    )
    table = open_table(folder / "copy", "copy", rights.reading)
    with EmbeddedEngine(threads=1) as engine:
        result = engine.query(
            "SELECT count(*) AS n, sum(fare) AS fares, max(pickup) AS last FROM copy", {"copy": table}
        )
        [row] = [row for batch in result.batches for row in batch.to_pylist()]
    assert row["n"] == 5000
    assert row["fares"] == pytest.approx(sum(rows["fare"].to_pylist()))
    assert row["last"] == max(rows["pickup"].to_pylist())


@pytest.mark.parametrize("wrapping", ["double", "single"])
@pytest.mark.parametrize("bits", [128, 256])
def test_spark_reads_files_of_pyarrow_under_our_manifest(
    opened: Session, rows: Any, folder: Path, kms: LocalKms, signer: Any, wrapping: str, bits: int
) -> None:
    folder.mkdir()
    factory = pe.CryptoFactory(lambda _config: _PyarrowKms(DataKeys(kms)))
    configuration = pe.EncryptionConfiguration(
        footer_key=TRIPS,
        uniform_encryption=True,
        double_wrapping=wrapping == "double",
        data_key_length_bits=bits,
        cache_lifetime=timedelta(minutes=5),
    )
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), configuration)
    pq.write_table(rows, folder / "a.parquet", encryption_properties=properties)
    manifest = foreign_manifest(
        folder / "a.parquet", rows.num_rows, {item.name: str(item.type) for item in rows.schema}
    )
    (folder / MANIFEST_NAME).write_bytes(seal_manifest(manifest, kms, signer))
    assert opened.table("foreign", folder).agg({"id": "sum"}).collect()[0][0] == 5000 * 4999 // 2


STOCK = {"parquet.crypto.factory.class": "org.apache.parquet.crypto.keytools.PropertiesDrivenCryptoFactory"}


@pytest.mark.parametrize("column_keys", [{}, {"fare": FARES}])
def test_parquet_java_s_own_factory_reads_what_we_write(
    opened: Session, rows: Any, folder: Path, write_table: Any, column_keys: dict[str, str]
) -> None:
    write_table(folder / "trips", rows, column_keys=column_keys, files=2)
    read = opened.spark.read.options(**STOCK).parquet(str(folder / "trips"))
    assert read.agg({"id": "sum", "fare": "count"}).collect()[0].asDict() == {
        "sum(id)": 5000 * 4999 // 2,
        "count(fare)": 5000,
    }


def test_we_read_what_parquet_java_s_own_factory_writes(
    opened: Session, rights: Rights, folder: Path, kms: LocalKms, signer: Any
) -> None:
    numbers = opened.spark.range(1000).selectExpr("id", "id * 2 as twice").coalesce(1)
    numbers.write.options(**STOCK, **{"parquet.encryption.uniform.key": TRIPS}).parquet(str(folder))
    (path,) = folder.glob("*.parquet")
    manifest = foreign_manifest(path, 1000, {"id": "int64", "twice": "int64"})
    (folder / MANIFEST_NAME).write_bytes(seal_manifest(manifest, kms, signer))
    table = open_table(folder, "foreign", rights.reading)
    assert content(table)["twice"].to_pylist() == [2 * number for number in range(1000)]
    assert opened.table("foreign", folder).agg({"twice": "sum"}).collect()[0][0] == 999_000


def foreign_manifest(path: Path, rows: int, types: dict[str, str]) -> Manifest:
    """A manifest of ours over one file that another program wrote."""
    raw = path.read_bytes()
    tail = read_tail(lambda offset, size: raw[offset : offset + size], len(raw))
    part = Part(path.name, len(raw), rows, tail.digest, hashlib.sha256(tail.key_metadata).digest())
    columns = tuple(Column(name, kind, TRIPS) for name, kind in types.items())
    return Manifest(table="foreign", version=1, previous=b"", key=TRIPS, columns=columns, parts=(part,))


def test_every_type_comes_back(opened: Session, rights: Rights, folder: Path, write_table: Any) -> None:
    rows = pa.table(
        {
            "i8": pa.array([1, None], pa.int8()),
            "i32": pa.array([-1, 2], pa.int32()),
            "f": pa.array([1.5, None], pa.float32()),
            "yes": pa.array([True, None]),
            "day": pa.array([dt.date(2018, 1, 31), None]),
            # local, as taxi times are
            "at": pa.array([dt.datetime(2084, 11, 4, 12, 32, 24, 1), None], pa.timestamp("us")),  # noqa: DTZ001
            "utc": pa.array([dt.datetime(2018, 1, 1, tzinfo=dt.UTC), None], pa.timestamp("us", "UTC")),
            "cash": pa.array([Decimal("12.34"), None], pa.decimal128(10, 2)),
            "raw": pa.array([b"\x00\xff", None], pa.binary()),
            "text": pa.array(["ü\U0001f512", ""]),
        }
    )
    write_table(folder / "types", rows, name="types")
    opened.write(opened.table("types", folder / "types"), "back", folder / "back", key=TRIPS)
    assert content(open_table(folder / "back", "back", rights.reading)).cast(rows.schema).equals(rows)


def test_the_columnar_reader_decrypts_with_pruning_and_push_down(
    opened: Session, rows: Any, folder: Path, write_table: Any
) -> None:
    write_table(folder / "trips", rows, column_keys={"fare": FARES})
    flat = opened.table("trips", folder / "trips").select("id", "fare").where("id > 4000")
    plan = flat._jdf.queryExecution().executedPlan().toString()
    assert "ColumnarToRow" in plan
    assert "PushedFilters: [IsNotNull(id), GreaterThan(id,4000)]" in plan
    assert "ReadSchema: struct<id:bigint,fare:double>" in plan
    assert flat.count() == 999


def test_a_scan_of_many_files_asks_the_key_server_once(
    opened: Session, switched: Any, rows: Any, folder: Path, write_table: Any
) -> None:
    write_table(folder / "trips", rows, files=8)
    before = len(switched.calls)
    assert opened.table("trips", folder / "trips").agg({"id": "max"}).collect()[0][0] == 4999
    assert len(switched.calls) - before == 1


def test_a_table_grows_and_is_replaced(opened: Session, rights: Rights, spark: Any, folder: Path) -> None:
    first = opened.write(spark.range(10), "t", folder, key=TRIPS)
    with pytest.raises(WouldOverwrite):
        opened.write(spark.range(1), "t", folder, key=TRIPS)
    second = opened.write(spark.range(5), "t", folder, key=TRIPS, append=True)
    assert (second.version, second.rows, second.previous) == (2, 15, first.digest)
    assert opened.table("t", folder).count() == 15
    third = opened.write(spark.range(3), "t", folder, key=TRIPS, replace=True)
    assert (third.version, third.rows, third.previous) == (3, 3, second.digest)
    assert opened.table("t", folder).count() == 3
    assert {path.name for path in folder.iterdir() if path.name[0] not in "._"} == {p.name for p in third.parts}


def test_an_empty_result_is_a_table(opened: Session, spark: Any, folder: Path) -> None:
    assert opened.write(spark.range(0), "none", folder, key=TRIPS).rows == 0
    assert opened.table("none", folder).columns == ["id"]


def test_refuses_rows_with_other_columns(opened: Session, spark: Any, folder: Path) -> None:
    opened.write(spark.range(10), "t", folder, key=TRIPS)
    with pytest.raises(FormatError) as refusal:
        opened.write(spark.range(10).selectExpr("cast(id as int) id"), "t", folder, key=TRIPS, append=True)
    assert refusal.value.code == "table.schema_drift"
    assert opened.table("t", folder).count() == 10  # nothing was left behind


def test_refuses_to_extend_a_table_of_another_engine(
    opened: Session, spark: Any, rows: Any, folder: Path, write_table: Any
) -> None:
    write_table(folder, rows.select(["id"]), name="t")
    with pytest.raises(FormatError):
        opened.write(spark.range(10), "t", folder, key=TRIPS, append=True)
    assert opened.table("t", folder).count() == 5000


def test_several_files_of_several_tasks(opened: Session, rights: Rights, spark: Any, folder: Path) -> None:
    manifest = opened.write(spark.range(0, 1000, 1, 7), "t", folder, key=TRIPS)
    assert len(manifest.parts) == 7
    assert sorted(content(open_table(folder, "t", rights.reading))["id"].to_pylist()) == list(range(1000))
