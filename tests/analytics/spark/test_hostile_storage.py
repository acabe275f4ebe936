"""What a hostile storage can do to Spark after the driver has checked a table, and while a table is written."""

import functools
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from strongroom.analytics.manifest import MANIFEST_NAME, seal_manifest
from strongroom.analytics.parquet.footer import read_tail
from strongroom.analytics.spark import tables
from strongroom.analytics.spark.attested import Attested, AttestedKms
from strongroom.analytics.spark.engine import SparkEngine
from strongroom.analytics.spark.evidence import Attester
from strongroom.analytics.spark.failures import explained
from strongroom.analytics.spark.session import Rights, Session
from strongroom.analytics.table import open_table
from strongroom.errors import (
    ConfigurationError,
    FormatError,
    KeyReleaseError,
    SealedDataError,
    StrongroomError,
    Tampered,
    UnavailableError,
    VerificationError,
    WrongKey,
)

pytestmark = pytest.mark.slow
TRIPS, FARES, OTHER, SCRATCH = "taxi/key/trips", "taxi/key/fares", "bank/key/other", "taxi/key/scratch"


def error_of(action: Callable[[], Any]) -> StrongroomError:
    """What an action of plain Spark ends with, as one of our errors."""
    try:
        action()
    except StrongroomError as error:
        return error
    except Exception as error:
        return explained(error, {})
    pytest.fail("it went through")


@pytest.fixture
def parts(folder: Path, rows: Any, write_table: Any) -> list[Path]:
    """Two tables under one key: the files of "trips", and after them those of "others"."""
    trips = write_table(folder / "trips", rows, files=2)
    others = write_table(folder / "others", rows, name="others", files=2)
    return [folder / "trips" / part.name for part in trips.parts] + [
        folder / "others" / part.name for part in others.parts
    ]


def test_a_file_of_another_table_is_refused_after_the_check(opened: Session, folder: Path, parts: list[Path]) -> None:
    trips = opened.table("trips", folder / "trips")
    shutil.copy(parts[2], parts[0])
    error = error_of(lambda: trips.agg({"id": "sum"}).collect())
    assert (type(error), error.code) == (VerificationError, "table.part_swapped")


def test_one_part_shown_twice_is_refused_after_the_check(opened: Session, folder: Path, parts: list[Path]) -> None:
    trips = opened.table("trips", folder / "trips")
    shutil.copy(parts[1], parts[0])
    assert error_of(lambda: trips.agg({"id": "sum"}).collect()).code == "table.part_swapped"


def test_a_plaintext_file_is_refused_after_the_check(
    opened: Session, folder: Path, parts: list[Path], rows: Any
) -> None:
    trips = opened.table("trips", folder / "trips")
    pq.write_table(rows, parts[0])
    error = error_of(lambda: trips.agg({"id": "sum"}).collect())
    assert (type(error), error.code) == (VerificationError, "parquet.plaintext")


def test_a_deleted_part_is_noticed_after_the_check(opened: Session, folder: Path, parts: list[Path]) -> None:
    trips = opened.table("trips", folder / "trips")
    parts[0].unlink()
    error = error_of(lambda: trips.agg({"id": "sum"}).collect())
    assert (type(error), error.code) == (VerificationError, "table.part_missing")


def test_a_part_added_after_the_check_is_not_read(opened: Session, folder: Path, parts: list[Path]) -> None:
    trips = opened.table("trips", folder / "trips")
    shutil.copy(parts[2], folder / "trips" / "part-99999.parquet")
    assert trips.count() == 5000
    with pytest.raises(VerificationError):
        opened.table("trips", folder / "trips")


def test_a_footer_of_another_file_is_refused(opened: Session, folder: Path, parts: list[Path]) -> None:
    trips = opened.table("trips", folder / "trips")
    mine, theirs = parts[0].read_bytes(), parts[2].read_bytes()
    start_of_mine, start_of_theirs = _tail_start(mine), _tail_start(theirs)
    parts[0].write_bytes(mine[:start_of_mine] + theirs[start_of_theirs:])
    assert error_of(lambda: trips.agg({"id": "sum"}).collect()).code == "table.part_swapped"


def test_foreign_pages_under_the_right_footer_are_refused(opened: Session, folder: Path, parts: list[Path]) -> None:
    trips = opened.table("trips", folder / "trips")
    mine, theirs = parts[0].read_bytes(), parts[2].read_bytes()
    start = _tail_start(mine)
    parts[0].write_bytes(theirs[:start].ljust(start, b"\0") + mine[start:])
    assert isinstance(error_of(lambda: trips.agg({"id": "sum"}).collect()), SealedDataError | UnavailableError)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_flipped_bit_in_a_page_is_refused(opened: Session, folder: Path, parts: list[Path], place: float) -> None:
    trips = opened.table("trips", folder / "trips")
    raw = bytearray(parts[0].read_bytes())
    raw[int(_tail_start(bytes(raw)) * place)] ^= 1
    parts[0].write_bytes(raw)
    error = error_of(lambda: trips.agg(dict.fromkeys(("id", "fare", "vendor", "pickup"), "count")).collect())
    assert isinstance(error, Tampered | UnavailableError)


def test_an_older_version_of_a_part_is_refused(
    opened: Session, folder: Path, rows: Any, write_table: Any, spark: Any
) -> None:
    opened.write(spark.range(10), "t", folder, key=TRIPS)
    old = {path.name: path.read_bytes() for path in folder.iterdir()}
    opened.write(spark.range(20), "t", folder, key=TRIPS, replace=True)
    current = opened.table("t", folder)
    (part,) = [path for path in folder.iterdir() if path.suffix == ".parquet"]
    part.write_bytes(next(raw for name, raw in old.items() if name.endswith(".parquet")))
    assert error_of(current.count).code == "table.part_swapped"
    for path in folder.iterdir():
        path.unlink()
    for name, raw in old.items():
        (folder / name).write_bytes(raw)
    with pytest.raises(VerificationError) as refusal:
        opened.table("t", folder)
    assert refusal.value.code == "table.rollback"


def test_reading_a_folder_past_the_session_is_refused(
    opened: Session, spark: Any, folder: Path, parts: list[Path]
) -> None:
    assert error_of(lambda: spark.read.parquet(str(folder / "trips")).count()).code == "spark.scratch_swapped"
    error = error_of(lambda: spark.sql(f"SELECT * FROM parquet.`{folder}/trips`").count())
    assert isinstance(error, ConfigurationError)


def test_wrong_master_key(opened: Session, switched: Any, folder: Path, parts: list[Path]) -> None:
    trips = opened.table("trips", folder / "trips")
    opened.spark._jvm.org.apache.parquet.crypto.keytools.KeyToolkit.removeCacheEntriesForAllTokens()
    switched.masters[TRIPS] = b"w" * 32
    error = error_of(lambda: trips.agg({"id": "sum"}).collect())
    assert isinstance(error, WrongKey)
    assert "wwww" not in str(error)


def test_a_revoked_key_counts_when_the_cache_ends(
    opened: Session, switched: Any, folder: Path, parts: list[Path]
) -> None:
    trips = opened.table("trips", folder / "trips")
    assert trips.agg({"id": "count"}).collect()[0][0] == 5000
    switched.denied.add(TRIPS)
    assert trips.agg({"id": "count"}).collect()[0][0] == 5000  # its key encryption key is kept for 300 s at most
    opened.spark._jvm.org.apache.parquet.crypto.keytools.KeyToolkit.removeCacheEntriesForAllTokens()
    assert isinstance(error_of(lambda: trips.agg({"id": "sum"}).collect()), KeyReleaseError)


def test_other_columns_stay_readable_without_a_columns_key(
    opened: Session, rights: Rights, switched: Any, rows: Any, folder: Path, write_table: Any, reading: Any
) -> None:
    write_table(folder / "trips", rows, column_keys={"fare": FARES})
    switched.denied.add(FARES)
    table = open_table(folder / "trips", "trips", reading(FARES))
    trips = tables.frame(opened.spark.read, table)
    assert trips.agg({"id": "max"}).collect()[0][0] == 4999
    error = error_of(lambda: trips.agg({"fare": "max"}).collect())
    assert isinstance(error, KeyReleaseError)
    assert "fare" in error.message


def test_a_lost_broker_fails_the_query(opened: Session, switched: Any, folder: Path, parts: list[Path]) -> None:
    trips = opened.table("trips", folder / "trips")
    opened.spark._jvm.org.apache.parquet.crypto.keytools.KeyToolkit.removeCacheEntriesForAllTokens()
    switched.failure = UnavailableError("the broker does not answer", code="broker.unreachable")
    error = error_of(lambda: trips.agg({"id": "sum"}).collect())
    assert (type(error), "the broker does not answer" in error.message) == (UnavailableError, True)


def test_a_broker_lost_in_mid_job_is_asked_a_bounded_number_of_times(
    opened: Session, switched: Any, folder: Path, parts: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trips = opened.table("trips", folder / "trips")
    assert trips.count() == 5000
    pauses: list[float] = []
    asked = [0]

    def lost() -> Attested:
        asked[0] += 1
        raise UnavailableError("the broker does not answer", code="broker.unreachable")

    held = Attested({TRIPS: b"t" * 32}, None, None, None, Attester(lambda _: b"", "simulated", "trips"))
    ended = AttestedKms(lost, held, lifetime_s=0, pause=pauses.append)
    monkeypatch.setattr(switched, "_kms", lambda _: ended)
    opened.spark._jvm.org.apache.parquet.crypto.keytools.KeyToolkit.removeCacheEntriesForAllTokens()
    out = folder / "out"
    error = error_of(lambda: trips.repartition(2).write.parquet(str(out)))
    assert (type(error), "the broker does not answer" in error.message) == (UnavailableError, True)
    rounds = len(pauses) // 3
    assert pauses == [0.5, 1.0, 2.0] * rounds
    assert asked[0] == 4 * rounds
    assert 1 <= rounds <= 4  # Spark tries a task four times at most
    assert not list(out.rglob("*.parquet"))


def test_schema_drift_is_refused_before_a_row_is_read(
    opened: Session, folder: Path, rows: Any, write_table: Any, kms: Any, signer: Any
) -> None:
    first = write_table(folder / "trips", rows)
    other = write_table(folder / "others", rows.drop_columns(["fare"]), name="trips")
    shutil.copy(folder / "others" / other.parts[0].name, folder / "trips" / "drifted.parquet")
    drifted = replace(first, parts=(*first.parts, replace(other.parts[0], name="drifted.parquet")))
    (folder / "trips" / MANIFEST_NAME).write_bytes(seal_manifest(drifted, kms, signer))
    with pytest.raises(FormatError) as refusal:
        opened.table("trips", folder / "trips")
    assert refusal.value.code == "table.schema_drift"


FULL = """
    import sys
    from pathlib import Path
    from strongroom.analytics.datakeys import DataKeys
    from strongroom.analytics.kms import LocalKms
    from strongroom.analytics.signing import Signer
    from strongroom.analytics.spark.failures import explained
    from strongroom.analytics.spark.session import Rights, Session
    from strongroom.analytics.table import Reading
    from strongroom.analytics.versions import VersionsInMemory
    from strongroom.analytics.writing import Writing
    from strongroom.errors import StrongroomError
    kms, signer, versions = LocalKms.holding({"taxi/key/trips": b"t" * 32}), Signer.generate(), VersionsInMemory()
    rights = Rights(Reading(DataKeys(kms), frozenset({signer.public}), versions), Writing(kms, signer, versions))
    folder = Path(sys.argv[1])
    with Session(rights, master="local[1]", settings={"spark.driver.host": "127.0.0.1"}) as session:
        session.spark.sparkContext.setLogLevel("OFF")
        small = session.write(session.spark.range(10), "t", folder, key="taxi/key/trips")
        try:
            rows = session.spark.range(500_000).selectExpr("id", "uuid() as word")
            session.write(rows, "t", folder, key="taxi/key/trips", replace=True)
        except Exception as error:
            print(error.code if isinstance(error, StrongroomError) else explained(error, {}).code)
        files = sorted(path.name for path in folder.glob("*.parquet"))
        print(session.table("t", folder).count(), files == [part.name for part in small.parts])
"""


def test_a_full_disk_leaves_the_old_table(java: None, tmp_path: Path) -> None:
    program = tmp_path / "full.py"
    program.write_text(textwrap.dedent(FULL))
    disk = tmp_path / "disk"
    disk.mkdir()
    alone = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = 'mount -t tmpfs -o size=4m tmpfs "$1" && exec "$2" "$3" "$1/t"'
    if subprocess.run(
        [*alone, "sh", "-c", mount, "sh", disk, "true", "x"], check=False, capture_output=True
    ).returncode:
        pytest.skip("no small file system can be mounted here")
    command = [*alone, "sh", "-c", mount, "sh", str(disk), sys.executable, str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["disk.full", "10 True"]


def test_what_spark_puts_on_a_disk_meanwhile_is_encrypted(opened: Session, spark: Any, folder: Path) -> None:
    from pyspark import StorageLevel

    canary = "canary-9c2e"
    rows = spark.range(20_000).selectExpr("id", f"'{canary}' as word", "uuid() as other")
    shuffled = rows.repartition(4).persist(StorageLevel.DISK_ONLY)
    assert shuffled.count() == 20_000
    place = Path(spark.conf.get("spark.local.dir"))
    files = [path for path in place.rglob("*") if path.is_file()]
    assert any(path.name.startswith("shuffle_") for path in files)
    assert any(path.name.startswith("rdd_") for path in files)
    assert not [path for path in files if canary.encode() in path.read_bytes()]
    shuffled.unpersist()


def test_an_address_in_a_files_metadata_is_not_followed(
    opened: Session, spark: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/"
        options = {
            "parquet.encryption.kms.instance.url": url,
            "parquet.encryption.kms.instance.id": "trap",
            "parquet.encryption.uniform.key": TRIPS,
        }
        spark.range(10).write.options(**options).parquet(str(folder))
        assert any(url.encode() in path.read_bytes() for path in folder.glob("*.parquet"))
        assert spark.read.parquet(str(folder)).count() == 10
        assert spark.read.parquet(str(folder)).agg({"id": "sum"}).collect()[0][0] == 45
        with pytest.raises(TimeoutError):
            trap.accept()


# Files without a table: saved models, intermediate results.


def test_files_without_a_table_come_back_in_the_same_session(spark: Any, folder: Path) -> None:
    spark.range(100).write.parquet(str(folder / "a"))
    assert spark.read.parquet(str(folder / "a")).count() == 100
    spark.range(100).selectExpr("id", "id % 3 as part").write.partitionBy("part").parquet(str(folder / "b"))
    assert spark.read.parquet(str(folder / "b")).where("part = 1").count() == 33


def test_a_file_moved_elsewhere_is_refused(spark: Any, folder: Path) -> None:
    spark.range(100).write.parquet(str(folder / "a"))
    shutil.copytree(folder / "a", folder / "b")
    assert error_of(lambda: spark.read.parquet(str(folder / "b")).count()).code == "spark.scratch_swapped"


def test_a_file_of_another_session_is_refused(spark: Any, folder: Path) -> None:
    spark.range(100).write.option("strongroom.scratch", "another session").parquet(str(folder / "a"))
    assert error_of(lambda: spark.read.parquet(str(folder / "a")).count()).code == "spark.scratch_swapped"
    assert spark.read.option("strongroom.scratch", "another session").parquet(str(folder / "a")).count() == 100


def test_a_plaintext_file_slipped_in_is_refused(spark: Any, folder: Path) -> None:
    spark.range(100).write.parquet(str(folder / "a"))
    pq.write_table(pa.table({"id": [1, 2]}), folder / "a" / "part-99999.parquet")
    assert (
        error_of(lambda: spark.read.parquet(str(folder / "a")).agg({"id": "sum"}).collect()).code == "parquet.plaintext"
    )


def test_nothing_is_written_in_the_clear(spark: Any, folder: Path) -> None:
    error = error_of(lambda: spark.range(9).write.option("parquet.encryption.uniform.key", "").parquet(str(folder)))
    assert "nothing is written in the clear" in error.message
    assert not list(folder.rglob("*.parquet"))


@pytest.mark.parametrize(
    "option",
    [
        {"parquet.encryption.algorithm": "AES_GCM_CTR_V1"},
        {"parquet.encryption.plaintext.footer": "true"},
        {"parquet.encryption.key.material.store.internally": "false"},
        {"parquet.encryption.column.keys": f"{FARES}:id", "parquet.encryption.footer.key": TRIPS},
    ],
)
def test_every_file_is_whole_encrypted_whatever_an_option_says(
    spark: Any, folder: Path, option: dict[str, str]
) -> None:
    canary = "canary-5b1f"
    spark.range(9).selectExpr("id", f"'{canary}' as word").write.options(**option).parquet(str(folder))
    for path in folder.glob("*.parquet"):
        raw = path.read_bytes()
        assert canary.encode() not in raw
        assert read_tail(functools.partial(_slice, raw), len(raw)).aad_prefix


def _slice(raw: bytes, offset: int, size: int) -> bytes:
    return raw[offset : offset + size]


# While a table is written.


def _after_the_write(monkeypatch: pytest.MonkeyPatch, attack: Callable[[Path], None]) -> None:
    run = tables._run

    def attacked(rows: Any, folder: Path, options: Any) -> int:
        count = run(rows, folder, options)
        attack(folder)
        return count

    monkeypatch.setattr(tables, "_run", attacked)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


@pytest.mark.parametrize("attack", ["delete", "show twice", "another table's", "older", "plaintext"])
def test_a_storage_that_lies_about_a_fresh_table(
    opened: Session, spark: Any, folder: Path, attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.write(spark.range(0, 10, 1, 2), "t", folder / "t", key=TRIPS)
    older = _files(folder / "t")[0].read_bytes()
    opened.write(spark.range(0, 10, 1, 2), "u", folder / "u", key=TRIPS)
    others = _files(folder / "u")[0].read_bytes()
    kept = set(_files(folder / "t"))

    def fresh(where: Path) -> list[Path]:
        return [path for path in _files(where) if path not in kept]

    attacks: dict[str, Callable[[Path], object]] = {
        "delete": lambda where: fresh(where)[0].unlink(),
        "show twice": lambda where: shutil.copy(fresh(where)[0], fresh(where)[1]),
        "another table's": lambda where: fresh(where)[0].write_bytes(others),
        "older": lambda where: fresh(where)[0].write_bytes(older),
        "plaintext": lambda where: pq.write_table(pa.table({"id": range(5)}), fresh(where)[0]),
    }
    _after_the_write(monkeypatch, lambda where: void(attacks[attack](where)))
    with pytest.raises(StrongroomError) as refusal:
        opened.write(spark.range(0, 10, 1, 2), "t", folder / "t", key=TRIPS, replace=True)
    assert refusal.value.code in {"table.write_incomplete", "table.write_swapped", "parquet.plaintext"}
    assert set(_files(folder / "t")) == kept  # as it was
    assert opened.table("t", folder / "t").count() == 10


def void(_: object) -> None:
    """Makes a lambda's value nothing."""


def test_a_refused_key_leaves_no_table(opened: Session, switched: Any, spark: Any, folder: Path) -> None:
    switched.denied.add(OTHER)
    error = error_of(lambda: opened.write(spark.range(10), "t", folder, key=OTHER))
    assert isinstance(error, KeyReleaseError)
    assert not _files(folder)


# The engine of `query --engine spark`.


def test_errors_in_sql_tell_the_place(
    shared: Session, opened: Session, rows: Any, folder: Path, write_table: Any
) -> None:
    write_table(folder / "trips", rows)
    opened.table("trips", folder / "trips")
    table = opened.tables["trips"]
    engine = SparkEngine(opened)
    for sql, words in [
        ("SELECT nope\nFROM trips", "(line 1, column 8)"),
        ("SELECT id\nFRO trips", "line 2"),
        ("SELECT 1; SELECT 2", "(line 1, column 9)"),
        ("DROP TABLE trips", "Syntax error at or near 'DROP' (line 1, column 1)"),
        ("CREATE TABLE x AS SELECT 1", "CREATE"),
        ("SELECT reflect('java.lang.System', 'getenv', 'PATH')", "reflect"),
        ("SELECT cast(vendor AS int) FROM trips WHERE vendor IS NOT NULL", "line 1"),
    ]:
        with pytest.raises(ConfigurationError) as refusal:
            list(engine.query(sql, {"trips": table}).batches)
        assert refusal.value.code == "query.sql"
        assert words in refusal.value.message
    result = engine.query('SELECT max("id") AS last FROM trips', {"trips": table})
    assert [row for batch in result.batches for row in batch.to_pylist()] == [{"last": 4999}]
    assert result.schema.names == ["last"]


def _tail_start(raw: bytes) -> int:
    return len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
