"""The taxi application: generated trips look like the real ones, real ones come in, and every query runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from strongroom.analytics.embedded import EmbeddedEngine
from strongroom.analytics.kms import LocalKms
from strongroom.analytics.table import open_table
from strongroom.analytics.taxi.generator import MONTHS, generate_month, rows_by_month
from strongroom.analytics.taxi.queries import QUERIES
from strongroom.analytics.taxi.real_trips import open_trips, trips
from strongroom.analytics.taxi.sample import write_sample
from strongroom.analytics.taxi.schema import SCHEMA
from strongroom.analytics.taxi.zones import zones_table
from strongroom.analytics.versions import VersionsInMemory
from strongroom.analytics.writing import Protection, TableWriter, Writing
from strongroom.errors import ConfigurationError, FormatError

TRIPS = "taxi/key/trips"


@pytest.fixture(scope="module")
def recent() -> Any:
    """Trips of 2018."""
    return pa.concat_tables(list(generate_month(2018, 5, 200_000, 1)))


def shares(column: Any) -> dict[Any, float]:
    counts = pc.value_counts(column).to_pylist()
    return {entry["values"]: 100 * entry["counts"] / len(column) for entry in counts}


def test_every_month_of_the_ten_years_and_no_row_lost() -> None:
    months = rows_by_month(1_000_003)
    assert [(year, month) for year, month, _ in months] == list(MONTHS)
    assert sum(rows for *_, rows in months) == 1_000_003


def test_the_same_seed_gives_the_same_trips() -> None:
    one, two, other = (pa.concat_tables(list(generate_month(2012, 2, 1000, seed))) for seed in (7, 7, 8))
    assert one.equals(two) and not one.equals(other)


def test_distances_and_fares_have_the_measured_quantiles(recent: Any) -> None:
    quantiles = [0.05, 0.25, 0.5, 0.75, 0.95]
    assert np.quantile(recent["tripDistance"], quantiles) == pytest.approx([0.47, 0.96, 1.6, 3.0, 11.2], rel=0.05)
    assert np.quantile(recent["fareAmount"], quantiles) == pytest.approx([4, 6.5, 9.5, 14.5, 38], rel=0.06)


def test_shares_are_the_measured_ones(recent: Any) -> None:
    passengers, payment = shares(recent["passengerCount"]), shares(recent["paymentType"])
    assert passengers[1] == pytest.approx(70.5, abs=1) and passengers[2] == pytest.approx(15, abs=1)
    assert payment["1"] == pytest.approx(70, abs=1) and payment["2"] == pytest.approx(29, abs=1)
    hours = shares(pc.hour(recent["tpepPickupDateTime"]))
    assert hours[18] == pytest.approx(6.5, abs=0.3) and hours[4] == pytest.approx(0.9, abs=0.2)
    assert 100 * pc.mean(pc.greater(recent["tollsAmount"], 0).cast(pa.int8())).as_py() == pytest.approx(5.7, abs=0.3)
    assert shares(recent["puLocationId"])["237"] == pytest.approx(4.3, abs=0.3)


def test_cash_has_no_tip(recent: Any) -> None:
    cash = recent.filter(pc.equal(recent["paymentType"], "2"))
    assert pc.sum(cash["tipAmount"]).as_py() == 0


def test_long_trips_cost_more(recent: Any) -> None:
    assert np.corrcoef(recent["tripDistance"], recent["fareAmount"])[0, 1] > 0.5


def test_eras() -> None:
    early, middle, late = (
        next(iter(generate_month(year, month, 2000, 1))) for year, month in ((2010, 1), (2016, 6), (2016, 7))
    )
    assert set(early["vendorID"].to_pylist()) == {"VTS", "CMT", "DDS"}
    assert "CSH" in early["paymentType"].to_pylist() and early["improvementSurcharge"].null_count == 2000
    assert set(middle["vendorID"].to_pylist()) <= {"1", "2", "4"} and middle["startLon"].null_count == 0
    assert middle["puLocationId"].null_count == 2000
    assert late["startLon"].null_count == 2000 and late["puLocationId"].null_count == 0


def test_dirt_is_there() -> None:
    rows = pa.concat_tables(list(generate_month(2014, 3, 200_000, 3)))
    years = set(rows["puYear"].to_pylist())
    assert 2014 in years and len(years) > 1
    assert pc.min(rows["fareAmount"]).as_py() < 0
    assert 0 in rows["tripDistance"].to_pylist()[:5000] or pc.min(rows["tripDistance"]).as_py() == 0
    assert pc.sum(pc.equal(rows["startLon"], 0).cast(pa.int32())).as_py() > 1000


@pytest.fixture
def sample(tmp_path: Path, kms: LocalKms, signer: Any, reading: Any) -> Any:
    writing = Writing(kms, signer, VersionsInMemory())
    with TableWriter(tmp_path / "trips", "trips", SCHEMA, Protection(TRIPS), writing=writing) as writer:
        write_sample(writer, 20_000, seed=1)
    return open_table(tmp_path / "trips", "trips", reading())


def test_a_sample_has_the_schema_and_the_rows(sample: Any) -> None:
    assert sample.manifest.rows == 20_000
    assert [column.name for column in sample.manifest.columns] == SCHEMA.names


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_runs(tmp_path: Path, sample: Any, write_table: Any, reading: Any, name: str) -> None:
    write_table(tmp_path / "zones", zones_table(), name="zones")
    zones = open_table(tmp_path / "zones", "zones", reading())
    with EmbeddedEngine(threads=1) as engine:
        result = engine.query(QUERIES[name], {"trips": sample, "zones": zones})
        rows = pa.Table.from_batches(list(result.batches), result.schema)
    assert rows.num_rows > 0
    if name == "count":
        assert rows.to_pylist() == [{"trips": 20_000}]


@pytest.mark.parametrize("rows", [0, -1, 10**11])
def test_refuses_no_rows(tmp_path: Path, kms: LocalKms, signer: Any, rows: int) -> None:
    writing = Writing(kms, signer, VersionsInMemory())
    writer = TableWriter(tmp_path / "t", "t", SCHEMA, Protection(TRIPS), writing=writing)
    with pytest.raises(ConfigurationError):
        write_sample(writer, rows)


def test_real_trips_come_in(testdata: Path) -> None:
    source = open_trips(testdata / "nyctaxi")
    table = pa.concat_tables(list(trips(source)))
    assert table.schema.equals(SCHEMA) and table.num_rows == 50_000
    assert set(table["vendorID"].to_pylist()) <= {"1", "2", "4", None}
    assert set(table["puYear"].to_pylist()) >= {2018, 2019, 2020}
    assert shares(table["paymentType"])["1"] == pytest.approx(70, abs=4)


def test_older_names_of_the_tlc_come_in(tmp_path: Path) -> None:
    (tmp_path / "2009.csv").write_text(
        "vendor_name,Trip_Pickup_DateTime,Trip_Dropoff_DateTime,Passenger_Count,Trip_Distance,Start_Lon,Start_Lat,"
        "Rate_Code,store_and_forward,End_Lon,End_Lat,Payment_Type,Fare_Amt,surcharge,mta_tax,Tip_Amt,Tolls_Amt,Total_Amt\n"
        "VTS,2009-01-04 02:52:00,2009-01-04 03:02:00,1,2.63,-73.99,40.72,,,-73.99,40.69,CASH,8.9,0.5,,0,0,9.4\n"
    )
    (row,) = pa.concat_tables(list(trips(open_trips(tmp_path / "2009.csv")))).to_pylist()
    assert (row["vendorID"], row["paymentType"], row["puYear"], row["startLon"]) == ("VTS", "CASH", 2009, -73.99)


def test_refuses_a_file_without_trips(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FormatError, match="holds no taxi trips"):
        open_trips(tmp_path / "x.csv")


def test_zones_are_265() -> None:
    zones = zones_table()
    assert zones.num_rows == 265 and shares(zones["borough"])["Manhattan"] == pytest.approx(100 * 69 / 265, abs=1)


@pytest.mark.parametrize("name", QUERIES)
def test_the_example_files_are_the_queries(name: str) -> None:
    file = Path(__file__).parents[2] / "examples" / "analytics" / f"{name}.sql"
    assert file.read_text().split() == QUERIES[name].split()
