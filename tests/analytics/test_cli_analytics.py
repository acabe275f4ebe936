"""`strongroom analytics`, through the real `main`."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from strongroom.cli.main import main

TRIPS = "taxi/key/trips"


class Ended(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("STRONGROOM_")]:
        monkeypatch.delenv(name)
    for key in (TRIPS, "taxi/key/fares", "taxi/key/new"):
        write_key(tmp_path / "keys" / key)
    (tmp_path / "trips.csv").write_text("id,fare,zone\n" + "".join(f"{i},{i % 7}.5,z{i % 3}\n" for i in range(300)))

    def run_main(*arguments: object, keys: str = "keys") -> Ended:
        options = ["--keys", keys, "--state", "state"]
        monkeypatch.setattr(sys, "argv", ["strongroom", "analytics", *map(str, arguments), *options])
        status = 0
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capfd.readouterr()
        return Ended(status, captured.out, captured.err)

    return run_main


def write_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(32))
    path.chmod(0o600)


def do_import(run: Run, *options: str) -> Ended:
    return run("import", "trips.csv", "tables/trips", "--key", TRIPS, *options)


def test_import_inspect_query_export(run: Run, tmp_path: Path) -> None:
    assert "300 rows, version 1" in do_import(run, "--column-key", "fare=taxi/key/fares").err
    shown = json.loads(run("inspect", "tables/trips", "--json").out)
    assert [(c["name"], c["key"]) for c in shown["columns"]] == [
        ("id", TRIPS),
        ("fare", "taxi/key/fares"),
        ("zone", TRIPS),
    ]
    asked = run(
        "query",
        "SELECT zone, count(*) n FROM trips GROUP BY 1 ORDER BY 1",
        "--table",
        "tables/trips",
        "--output",
        "csv",
    )
    assert asked.out == '"zone","n"\n"z0",100\n"z1",100\n"z2",100\n'
    assert run("export", "tables/trips", "out.csv", "--columns", "id,zone").status == 0
    assert (tmp_path / "out.csv").read_text().startswith('"id","zone"\n0,"z0"\n')


@pytest.mark.parametrize("output", ["table", "csv", "json"])
def test_receipt_is_about_the_bytes_on_stdout(run: Run, tmp_path: Path, output: str) -> None:
    do_import(run)
    sql = "SELECT count(*) n FROM trips"
    asked = run("query", sql, "--table", "tables/trips", "--output", output, "--receipt", "r.json")
    (tmp_path / "result").write_text(asked.out)
    checked = run("receipt", "r.json", "--query", sql, "--result", "result", "--table", "tables/trips")
    assert checked.status == 0 and "no hardware vouches" in checked.err
    assert json.loads(checked.out)["outputs"][0]["form"] == output
    (tmp_path / "result").write_text(asked.out.replace("3", "4"))
    assert run("receipt", "r.json", "--result", "result").status == 3


def test_receipt_of_a_sealed_result_is_compared_with_the_table(run: Run) -> None:
    do_import(run)
    sealed = ("--output", "sealed", "--key", "taxi/key/new")
    for name in ("one", "two"):
        sql = f"SELECT count(*) n FROM trips WHERE zone <> '{name}'"
        into = ("--into", f"tables/{name}", "--receipt", f"{name}.json")
        assert run("query", sql, "--table", "tables/trips", *sealed, *into).status == 0
    assert run("receipt", "one.json", "--result", "tables/one").status == 0
    assert run("receipt", "one.json", "--result", "tables/two").status == 3


def test_sealed_result_is_a_table(run: Run) -> None:
    do_import(run)
    sealed = ("--output", "sealed", "--into", "tables/zones", "--key", "taxi/key/new")
    sql = "SELECT zone, count(*) n, sum(fare) s FROM trips GROUP BY 1"
    assert run("query", sql, "--table", "tables/trips", *sealed).status == 0
    assert "100" in run("query", "SELECT max(n) FROM zones", "--table", "tables/zones").out
    again = run("query", sql, "--table", "tables/trips", *sealed)
    assert again.status == 2 and "already a table" in again.err


def test_plot(run: Run, tmp_path: Path) -> None:
    do_import(run)
    sql = "SELECT id % 5 AS k, count(*) n, avg(fare) f FROM trips GROUP BY 1 ORDER BY 1"
    assert run("query", sql, "--table", "tables/trips", "--plot", "p.png").status == 0
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    text = run("query", "SELECT zone, count(*) n FROM trips GROUP BY 1", "--table", "tables/trips", "--plot", "q.png")
    assert text.status == 0
    none = run("query", "SELECT zone FROM trips", "--table", "tables/trips", "--plot", "r.png")
    assert none.status == 2 and "no series" in none.err and not (tmp_path / "r.png").exists()


def test_rotate(run: Run, tmp_path: Path) -> None:
    do_import(run)
    assert run("rotate", "tables/trips", "--from", TRIPS, "--to", "taxi/key/new").status == 0
    (tmp_path / "keys" / TRIPS).unlink()
    assert "300" in run("query", "SELECT count(*) FROM trips", "--table", "tables/trips").out


def test_append_and_force(run: Run) -> None:
    do_import(run)
    assert do_import(run).status == 2
    assert "600 rows, version 2" in do_import(run, "--append").err
    assert "300 rows, version 3" in do_import(run, "--force").err


def test_sample_taxi_with_zones(run: Run) -> None:
    assert run("sample-taxi", "trips", "--rows", "2_400", "--key", TRIPS, "--zones", "zones").status == 0
    sql = "SELECT z.borough, count(*) FROM trips t JOIN zones z ON t.puLocationId = z.locationId GROUP BY 1"
    assert "Manhattan" in run("query", sql, "--table", "trips", "--table", "zones").out
    assert run("sample-taxi", "more", "--rows", "many", "--key", TRIPS).status == 2


def test_taxi_files(run: Run, testdata: Path) -> None:
    assert "50,000 rows" in run("import", testdata / "nyctaxi", "trips", "--taxi", "--key", TRIPS).err
    assert "2018" in run("query", "SELECT puYear, count(*) FROM trips GROUP BY 1", "--table", "trips").out


def test_an_older_copy_of_the_storage_is_refused(run: Run, tmp_path: Path) -> None:
    do_import(run)
    shutil.copytree(tmp_path / "tables", tmp_path / "yesterday")
    do_import(run, "--append")
    shutil.rmtree(tmp_path / "tables")
    (tmp_path / "yesterday").rename(tmp_path / "tables")
    refused = run("query", "SELECT 1", "--table", "tables/trips")
    assert refused.status == 3 and "table.rollback" in refused.err


def test_another_writer_must_be_trusted_by_name(run: Run, tmp_path: Path) -> None:
    do_import(run)
    (tmp_path / "state").rename(tmp_path / "other")
    refused = run("inspect", "tables/trips")
    assert refused.status == 3 and "--trust " in refused.err
    public = refused.err.rsplit("--trust ", 1)[1].strip()
    assert run("inspect", "tables/trips", "--trust", public).status == 0


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("query", "SELECT nosuch FROM trips", "--table", "tables/trips"), 2),
        (("query", "SELECT 1", "--table", "tables/trips", "--engine", "abacus"), 2),
        (("query", "SELECT 1", "--table", "tables/trips", "--output", "xml"), 2),
        (("query", "SELECT 1", "--table", "tables/trips", "--output", "sealed"), 2),
        (("query", "absent.sql", "--table", "tables/trips"), 2),
        (("query", "SELECT 1", "--table", "other=tables/trips"), 3),
        (("query", "SELECT 1", "--table", "a b=tables/trips"), 2),
        (("inspect", "nowhere"), 2),
        (("import", "trips.csv", "t", "--key", "not-a-key-name"), 3),
        (("import", "trips.csv", "t", "--key", "no/such/key"), 4),
        (("import", "trips.csv", "t", "--key", TRIPS, "--column-key", "fare"), 2),
        (("import", "trips.csv", "t", "--key", TRIPS, "--column-key", "nosuch=taxi/key/new"), 2),
        (("rotate", "tables/trips", "--from", TRIPS, "--to", TRIPS, "--to", TRIPS), 2),
        (("inspect", "tables/trips", "--trust", "xyz"), 2),
        (("receipt", "trips.csv"), 3),
    ],
)
def test_refusals_have_their_exit_status(run: Run, arguments: tuple[str, ...], status: int) -> None:
    do_import(run)
    ended = run(*arguments)
    assert ended.status == status and ended.err.startswith("error: ") and not ended.out


def test_key_files_that_others_can_read_are_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "keys" / TRIPS).chmod(0o644)
    refused = do_import(run)
    assert refused.status == 2 and "chmod 600" in refused.err


def test_no_place_for_keys(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["strongroom", "analytics", "inspect", "x"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2


def test_an_import_that_fails_leaves_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n" + "1,2\n" * 10 + "1\n")
    assert run("import", "bad.csv", "tables/bad", "--key", TRIPS).status == 3
    assert not list(tmp_path.glob("tables/bad/*"))
