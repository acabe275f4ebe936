"""What encryption costs: the same work over the same rows, encrypted and plain, in turns, in one run.

    python benchmarks/analytics.py --folder DIR make     [--rows 1_000_000,10_000_000,30_000_000]
    python benchmarks/analytics.py --folder DIR embedded [--rows ...] [--rounds 7]
    python benchmarks/analytics.py --folder DIR spark    [--rows ...] [--executors 1,2] [--work aggregate,write] [--add]
    python benchmarks/analytics.py attest
    python benchmarks/analytics.py chart

Each call replaces its own part of ``results/analytics.json``, so a run can be cut in pieces. The plain table is the
decrypted form of the encrypted one, file by file, so both have the same encodings, row groups and codec. An encrypted
run includes everything a query does: open the manifest, unwrap keys, check every file's tail and footer; the embedded
engine is started anew for each query, on both sides. Which side goes first alternates. "CPU" divides processor times,
the system's share included, because other work on the machine does not count there; "wall" divides medians.
"""

import argparse
import json
import os
import platform
import re
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

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

# "write" is a copy of all rows, read and written again; it is Spark's only.
WORKS = (*ASKED, "write")
FEW = 1_000_000
WARM_UPS = 4

Timing = tuple[float, float]
Times = dict[str, list[Timing]]
Measured = tuple[str, Times]


def make_tables(folder: Path, rows: int) -> tuple[dict[str, Path], float]:
    """Encrypted tables, and a plain one; rows per second of making the first."""
    folders = tables(folder, rows)
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


def tables(folder: Path, rows: int) -> dict[str, Path]:
    return {name: folder / f"{rows}-{name}" for name in (*PROTECTIONS, "plain")}


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


def in_turns(works: Mapping[str, Callable[[], Timing]], rounds: int, *, warm: bool = False) -> Times:
    """Every variant in each round, forwards and backwards in turn; a first round is not counted, unless all is warm."""
    for work in () if warm else works.values():
        work()
    times: Times = {variant: [] for variant in works}
    for number in range(rounds):
        for variant in list(works)[::-1] if number % 2 else list(works):
            times[variant].append(works[variant]())
    return times


def summaries(times: Times) -> dict[str, dict[str, object]]:
    return {variant: summary(found, times["plain"]) for variant, found in times.items()}


def summary(times: list[Timing], against: list[Timing]) -> dict[str, object]:
    def median(values: list[Timing], index: int) -> float:
        return statistics.median(value[index] for value in values)

    return {
        "wall_s": round(median(times, 0), 4),
        "wall_ratio": round(median(times, 0) / median(against, 0), 3),
        "least_wall_ratio": round(min(t[0] for t in times) / min(t[0] for t in against), 3),
        "cpu_ratio": round(median(times, 1) / max(median(against, 1), 0.01), 3),
        "rounds": len(times),
        "wall_and_cpu_s": " ".join(f"{wall:.4f}/{cpu:.2f}" for wall, cpu in times),
    }


def earlier(found: Mapping[str, Any]) -> Times:
    """The times of an earlier call, to which this one adds."""
    return {
        variant: [(float(wall), float(cpu)) for wall, _, cpu in (t.partition("/") for t in f["wall_and_cpu_s"].split())]
        for variant, f in found.items()
    }


def measure_embedded(folders: Mapping[str, Path], asked: list[str], rounds: int, threads: int) -> Iterator[Measured]:
    for name in asked:
        works = {
            variant: partial(
                timed, partial(plain if variant == "plain" else embedded, folders[variant], ASKED[name], threads)
            )
            for variant in ("plain", *PROTECTIONS)
        }
        yield name, in_turns(works, rounds)


def measure_spark(
    folders: Mapping[str, Path], out: Path, executors: int, asked: list[str], rounds: int
) -> Iterator[Measured]:
    """Ours and the plain cluster side by side; both read the table that fits. A long work comes round by round."""
    import analytics_spark  # type: ignore[import-not-found]  # it stands beside this script

    with (
        analytics_spark.room(MASTERS) as environment,
        analytics_spark.Cluster("ours", environment, executors) as ours,
        analytics_spark.Cluster("plain", environment, executors) as stock,
    ):
        print(f"  ready after: ours {ours.ready_s:.1f} s, plain {stock.ready_s:.1f} s", flush=True)

        def ask(variant: str, request: Mapping[str, str]) -> Timing:
            answer = (stock if variant == "plain" else ours).ask(**{"folder": str(folders[variant]), **request})
            return answer["wall"], answer["cpu"]

        for name in asked:
            variants = ("plain", "uniform") if name in {"wide", "write"} else ("plain", *PROTECTIONS)
            requests = {
                variant: {"out": str(out / f"out-{variant}")} if name == "write" else {"sql": ASKED[name]}
                for variant in variants
            }
            works = {v: partial(ask, v, request) for v, request in requests.items()}
            # The JVMs compile what they do often; fewer rows make them just as warm.
            few = tables(folders["plain"].parent, FEW)
            for _ in range(WARM_UPS):
                for variant, request in requests.items():
                    ask(variant, {**request, "folder": str(few[variant])})
            if name != "write":
                yield name, in_turns(works, rounds)
                continue
            for number in range(rounds):
                turn = dict(reversed(works.items())) if number % 2 else works
                yield name, in_turns(turn, 1, warm=True)


def show(name: str, found: Any) -> None:
    ratios = ", ".join(f"{v}: wall {r['wall_ratio']} CPU {r['cpu_ratio']}" for v, r in found.items() if v != "plain")
    print(f"  {name:10} plain {found['plain']['wall_s']:.3f} s  {ratios}", flush=True)


def place(path: tuple[str, ...]) -> dict[str, Any]:
    """What stands at a place of the result file; empty if nothing does."""
    found: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name in path:
        found = found.get(name, {})
    return found


def merge(*path: str, value: object) -> None:
    """Put a value into the result file; the machine stands beside it."""
    results = place(())
    results["machine"] = {
        "processor": processor(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
        "pyspark": version("pyspark"),
    }
    inner = results
    for name in path[:-1]:
        inner = inner.setdefault(name, {})
    inner[path[-1]] = value
    RESULT.write_text(json.dumps(results, indent=1) + "\n")


def processor() -> str:
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return models[0] if models else platform.machine()


def measure_attestation(rounds: int, executors: list[int]) -> None:
    """Of a job: its driver's, then its executors', which attest side by side."""
    import analytics_spark

    with analytics_spark.room(MASTERS) as environment:
        driver = analytics_spark.attestation_s(environment, rounds, 1)
        for number in executors:
            them = analytics_spark.attestation_s(environment, rounds, number)
            job = statistics.median(map(sum, zip(driver, them, strict=True)))
            print(f"attestation and keys, {number} executors: {job:.2f} s", flush=True)
            found = {"driver_s": statistics.median(driver), "executors_s": statistics.median(them), "job_s": job}
            merge("attestation", str(number), value={n: round(s, 3) for n, s in found.items()} | {"rounds": rounds})


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that clusters are ended
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("make", "embedded", "spark", "attest", "chart"))
    parser.add_argument("--rows", default="1_000_000,10_000_000,30_000_000")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--executors", default="1,2")
    parser.add_argument("--work", default="count,aggregate,hourly,wide", help="which: " + ", ".join(WORKS))
    parser.add_argument("--add", action="store_true", help="add rounds to those of an earlier call")
    parser.add_argument("--out", type=Path, help="where Spark's copies go; else beside the tables")
    parser.add_argument("--folder", type=Path, default=Path("analytics-benchmark"), help="where the tables are")
    options = parser.parse_args()
    if options.part == "attest":
        measure_attestation(options.rounds, list(map(int, options.executors.split(","))))
    elif options.part == "chart":
        import analytics_chart  # type: ignore[import-not-found]  # it stands beside this script

        analytics_chart.draw(json.loads(RESULT.read_text()))
    else:
        for rows in map(int, options.rows.split(",")):
            run_part(options, rows)


def run_part(options: argparse.Namespace, rows: int) -> None:
    print(f"{rows:,} rows", flush=True)
    folders = tables(options.folder, rows)
    if options.part == "make":
        options.folder.mkdir(parents=True, exist_ok=True)
        folders, rate = make_tables(options.folder, rows)
        size = sum(path.stat().st_size for path in folders["uniform"].iterdir())
        merge("tables", str(rows), value={"rows_per_s_made": round(rate), "bytes": size})
        return
    asked = options.work.split(",")
    if options.part == "embedded":
        found = measure_embedded(folders, asked, options.rounds, options.threads)
        keep(found, "embedded", str(rows), add=options.add)
        return
    for executors in map(int, options.executors.split(",")):
        keep(
            measure_spark(folders, options.out or options.folder, executors, asked, options.rounds),
            "spark",
            str(rows),
            str(executors),
            add=options.add,
        )


def keep(measured: Iterator[Measured], *path: str, add: bool) -> None:
    begun = set[str]()
    for name, new in measured:
        times = new
        if (add or name in begun) and (found := place(path).get(name)):
            old = earlier(found)
            times = {variant: old.get(variant, []) + more for variant, more in new.items()}
        begun.add(name)
        merge(*path, name, value=summaries(times))
        show(name, summaries(times))


if __name__ == "__main__":
    main()
