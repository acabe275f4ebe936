"""What encryption costs a query: the same SQL over the same rows, encrypted and plain, interleaved in one run.

    python benchmarks/analytics.py [--rows 1_000_000,10_000_000,30_000_000] [--rounds 7] [--folder DIR]

The plain table is the decrypted form of the encrypted one, file by file, so both have the same encodings, row groups
and codec. An encrypted run includes everything a job does: open the manifest, unwrap keys, check every file's tail,
open the footers, start the engine. A plain run starts the engine too. "CPU" divides processor times, the system's share
included, because other work on the machine does not count there; "wall" is the median of the rounds.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import duckdb

from strongroom.analytics.datakeys import DataKeys
from strongroom.analytics.embedded import EmbeddedEngine
from strongroom.analytics.kms import LocalKms
from strongroom.analytics.signing import Signer
from strongroom.analytics.table import Reading, open_table
from strongroom.analytics.taxi.queries import QUERIES
from strongroom.analytics.taxi.sample import write_sample
from strongroom.analytics.taxi.schema import SCHEMA
from strongroom.analytics.versions import VersionsInMemory
from strongroom.analytics.writing import Protection, TableWriter, Writing

RESULT = Path(__file__).parent / "results" / "analytics.json"
MASTERS = {"taxi/key/trips": b"t" * 32, "taxi/key/fares": b"f" * 32}
KMS = LocalKms.holding(MASTERS)
SIGNER = Signer.from_seed(b"benchmark seed of thirty-two byte")
PROTECTIONS = {
    "uniform": Protection("taxi/key/trips"),
    "columns": Protection(
        "taxi/key/trips", dict.fromkeys(("fareAmount", "tipAmount", "totalAmount"), "taxi/key/fares")
    ),
}
WIDE = "SELECT " + ", ".join(f"max({name}) AS {name}" for name in SCHEMA.names) + " FROM trips WHERE tripDistance >= 0"
ASKED = {
    "count": QUERIES["count"],
    "aggregate": "SELECT passengerCount, paymentType, count(*) AS n, avg(fareAmount) AS fare, sum(tipAmount) AS tips "
    "FROM trips GROUP BY passengerCount, paymentType",
    "hourly": QUERIES["by-hour"],
    "one year": "SELECT count(*) AS n, sum(totalAmount) AS total FROM trips WHERE puYear = 2015",
    "wide": WIDE,
}

Timing = tuple[float, float]


def make_tables(folder: Path, rows: int) -> tuple[dict[str, Path], float]:
    """Encrypted tables, and a plain one; rows per second of making the first."""
    folders = {name: folder / f"{rows}-{name}" for name in (*PROTECTIONS, "plain")}
    rate = 0.0
    for name, protection in PROTECTIONS.items():
        shutil.rmtree(folders[name], ignore_errors=True)
        start = time.perf_counter()
        writing = Writing(KMS, SIGNER, VersionsInMemory())
        with TableWriter(folders[name], "trips", SCHEMA, protection, writing=writing) as writer:
            write_sample(writer, rows)
        rate = rate or rows / (time.perf_counter() - start)
    shutil.rmtree(folders["plain"], ignore_errors=True)
    folders["plain"].mkdir()
    for part in open_table(folders["uniform"], "trips", reading()).parts:
        with part.open() as reader, (folders["plain"] / part.path.name).open("wb") as file:
            shutil.copyfileobj(reader, file, 2**26)
    return folders, rate


def reading() -> Reading:
    return Reading(DataKeys(KMS), frozenset({SIGNER.public}), VersionsInMemory())


def timed(work: Callable[[], object]) -> Timing:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def embedded(folder: Path, sql: str, threads: int) -> None:
    table = open_table(folder, "trips", reading())
    with EmbeddedEngine(threads=threads) as engine:
        for _batch in engine.query(sql, {"trips": table}).batches:
            pass


def plain(folder: Path, sql: str, threads: int) -> None:
    connection = duckdb.connect(config={"threads": threads})
    connection.execute(f"CREATE VIEW trips AS SELECT * FROM read_parquet('{folder}/*.parquet')")
    for _batch in connection.sql(sql).to_arrow_reader():
        pass
    connection.close()


def compare(folders: Mapping[str, Path], rounds: int, threads: int) -> dict[str, dict[str, dict[str, float]]]:
    results = {}
    for name, sql in ASKED.items():
        timings: dict[str, list[Timing]] = {variant: [] for variant in ("plain", *PROTECTIONS)}
        for _ in range(rounds):
            for variant, times in timings.items():
                run = plain if variant == "plain" else embedded
                times.append(timed(partial(run, folders[variant], sql, threads)))
        results[name] = {variant: summary(times, timings["plain"]) for variant, times in timings.items()}
    return results


def summary(times: list[Timing], against: list[Timing]) -> dict[str, float]:
    def median(values: list[Timing], index: int) -> float:
        return statistics.median(value[index] for value in values)

    return {
        "wall_s": round(median(times, 0), 4),
        "cpu_s": round(median(times, 1), 4),
        "wall_ratio": round(median(times, 0) / median(against, 0), 3),
        "least_wall_ratio": round(min(t[0] for t in times) / min(t[0] for t in against), 3),
        "cpu_ratio": round(median(times, 1) / median(against, 1), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="1_000_000,10_000_000,30_000_000")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, default=None, help="keep the tables here")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="strongroom-analytics-"))
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, object] = {
        "machine": {"processor": platform.processor() or platform.machine(), "cpus": os.cpu_count()},
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
        "rounds": options.rounds,
        "threads": options.threads,
        "load_before": os.getloadavg(),
    }
    for text in options.rows.split(","):
        rows = int(text)
        folders, rate = make_tables(folder, rows)
        size = sum(path.stat().st_size for path in folders["uniform"].iterdir())
        compared = compare(folders, options.rounds, options.threads)
        results[str(rows)] = {"rows_per_s_made": round(rate), "bytes": size, "embedded": compared}
        for name, variants in compared.items():
            ratios = ", ".join(f"{v}: wall {r['wall_ratio']} CPU {r['cpu_ratio']}" for v, r in variants.items())
            print(f"{rows:>11,} rows  {name:10} plain {variants['plain']['wall_s']:.3f} s  {ratios}", flush=True)
    results["load_after"] = os.getloadavg()
    RESULT.write_text(json.dumps(results, indent=1) + "\n")
    if options.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
