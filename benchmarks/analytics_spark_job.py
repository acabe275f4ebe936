"""The driver of one side of the Spark benchmark: `analytics_spark_job.py ours|plain MASTER EXECUTORS`, asked on stdin.

A request is one line of JSON: ``folder`` of a table, and ``sql`` to ask or ``out``, a folder to write all rows to. Ours
checks the table anew at each request: manifest, listing, every file's tail and footer.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

KEY = "taxi/key/out"
Request = dict[str, str]
SIGNER_SEED = b"benchmark seed of thirty-two byte"


def settings(executors: str) -> dict[str, str]:
    return {
        "spark.executor.memory": "1500m",
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.executor.cores": "1",
        "spark.cores.max": executors,
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    }


def ours(master: str, executors: str) -> Callable[[Request], None]:
    from strongroom.analytics.signing import Signer
    from strongroom.analytics.spark.session import Session, attested_rights
    from strongroom.analytics.spark.tables import frame
    from strongroom.analytics.table import Reading, open_table
    from strongroom.analytics.versions import VersionsInMemory

    rights = attested_rights([Signer.from_seed(SIGNER_SEED).public])
    opened = Session(rights, master=master, settings=settings(executors))

    def work(request: Request) -> None:
        # As `session().table` does, with a memory of its own: the benchmark has two tables of one name.
        reading = Reading(rights.reading.data_keys, rights.reading.trusted, VersionsInMemory())
        rows = frame(opened.spark.read, open_table(Path(request["folder"]), "trips", reading))
        if "out" in request:
            opened.write(rows, "copy", request["out"], key=KEY, replace=True)
        else:
            rows.createOrReplaceTempView("trips")
            opened.spark.sql(request["sql"]).collect()

    return work


def plain(master: str, executors: str) -> Callable[[Request], None]:
    from pyspark.sql import SparkSession

    building = SparkSession.builder.master(master).config("spark.ui.enabled", "false")
    for name, value in settings(executors).items():
        building = building.config(name, value)
    spark = building.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")

    def work(request: Request) -> None:
        rows = spark.read.parquet(request["folder"])
        if "out" in request:
            rows.write.mode("overwrite").parquet(request["out"])
        else:
            rows.createOrReplaceTempView("trips")
            spark.sql(request["sql"]).collect()

    return work


def main() -> None:
    kind, master, executors = sys.argv[1:]
    work = (ours if kind == "ours" else plain)(master, executors)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request: Request = json.loads(line)
        start = time.perf_counter()
        work(request)
        print(json.dumps({"wall": time.perf_counter() - start}), flush=True)
        if "out" in request and not request.get("keep"):
            shutil.rmtree(Path(request["out"]))


if __name__ == "__main__":
    main()
