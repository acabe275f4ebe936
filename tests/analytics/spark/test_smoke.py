"""The one test of a JVM in the fast suite: a table of the embedded engine in, a table for it out."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from strongroom.analytics.spark.session import Rights, Session
from strongroom.analytics.table import open_table, readers

TRIPS, FARES = "taxi/key/trips", "taxi/key/fares"


def test_spark_reads_what_pyarrow_wrote_and_the_reverse(
    opened: Session, rights: Rights, write_table: Any, rows: Any, folder: Path
) -> None:
    write_table(folder / "trips", rows, column_keys={"fare": FARES}, files=3)
    opened.table("trips", folder / "trips")
    [row] = opened.spark.sql("SELECT count(*) n, sum(id) ids, count(vendor) vendors FROM trips").collect()
    assert (row.n, row.ids, row.vendors) == (5000, 5000 * 4999 // 2, 5000 - 455)
    manifest = opened.write(
        opened.spark.table("trips"), "copy", folder / "copy", key=TRIPS, column_keys={"fare": FARES, "zone": FARES}
    )
    assert manifest.rows == 5000
    assert manifest.column_keys == {"fare": FARES, "zone": FARES}
    copy = open_table(folder / "copy", "copy", rights.reading)
    back = pa.concat_tables([pq.read_table(reader) for reader in readers(copy)])
    assert back.sort_by("id").replace_schema_metadata().cast(rows.schema).equals(rows)
