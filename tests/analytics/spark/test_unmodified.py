"""Programs written for plain Spark run over encrypted tables as they are."""

import os
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from strongroom.analytics.parquet.footer import MAGIC
from strongroom.analytics.spark.session import Rights, Session
from strongroom.analytics.spark.submit import run_application
from strongroom.analytics.spark.unmodified import Output, declared
from strongroom.analytics.table import open_table, readers
from strongroom.errors import StrongroomError

pytestmark = pytest.mark.slow
TRIPS = "taxi/key/trips"

SQL = """
    import sys
    from pyspark.sql import SparkSession
    spark = SparkSession.builder.appName("sql").getOrCreate()
    spark.read.parquet(sys.argv[1]).createOrReplaceTempView("rides")
    spark.sql('''
        SELECT vendor, count(*) AS rides, round(avg(fare), 2) AS fare, max(id) - min(id) AS span
        FROM (SELECT *, row_number() OVER (PARTITION BY vendor ORDER BY id DESC) AS place FROM rides)
        WHERE place <= 100 GROUP BY vendor ORDER BY vendor
    ''').write.mode("overwrite").parquet(sys.argv[2])
"""
DATAFRAME = """
    import sys
    from pyspark.sql import SparkSession, functions as f
    spark = SparkSession.builder.getOrCreate()
    trips = spark.read.format("parquet").load(sys.argv[1])
    hours = trips.groupBy(f.hour("pickup").alias("hour")).agg(f.count("*").alias("rides"), f.sum("fare").alias("fares"))
    names = spark.createDataFrame([(h, f"h{h}") for h in range(24)], "hour int, name string")
    joined = hours.join(names, "hour").orderBy("hour").cache()
    assert joined.count() == 24, joined.count()
    joined.write.format("parquet").mode("append").save(sys.argv[2])
"""
MLLIB = """
    import sys
    from pyspark.ml import Pipeline, PipelineModel
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.evaluation import BinaryClassificationEvaluator
    from pyspark.ml.feature import StandardScaler, VectorAssembler
    from pyspark.sql import SparkSession, functions as f
    spark = SparkSession.builder.getOrCreate()
    rows = spark.read.parquet(sys.argv[1]).withColumn("label", (f.col("fare") > 25).cast("double"))
    train, test = rows.randomSplit([0.8, 0.2], seed=1)
    assembled, scaled = VectorAssembler(inputCols=["fare", "id"], outputCol="raw"), StandardScaler(inputCol="raw")
    stages = [assembled, scaled.setOutputCol("features"), LogisticRegression(maxIter=5)]
    Pipeline(stages=stages).fit(train).write().overwrite().save(sys.argv[3])
    scored = PipelineModel.load(sys.argv[3]).transform(test)
    assert BinaryClassificationEvaluator().evaluate(scored) > 0.95
    scored.select("id", "label", "prediction").write.parquet(sys.argv[2])
"""
XGBOOST = """
    import sys
    from pyspark.ml.evaluation import BinaryClassificationEvaluator
    from pyspark.sql import SparkSession, functions as f
    from xgboost.spark import SparkXGBClassifier
    spark = SparkSession.builder.getOrCreate()
    rows = spark.read.parquet(sys.argv[1]).withColumn("label", (f.col("fare") > 25).cast("double"))
    model = SparkXGBClassifier(features_col=["fare", "id"], n_estimators=5, max_depth=2, num_workers=1).fit(rows)
    scored = model.transform(rows)
    assert BinaryClassificationEvaluator().evaluate(scored) > 0.95
    scored.select("id", "label", "prediction").write.parquet(sys.argv[2])
"""


@pytest.fixture
def trips(folder: Path, rows: Any, write_table: Any) -> Path:
    write_table(folder / "trips", rows, files=2)
    return folder / "trips"


def run(opened: Session, rights: Rights, program: str, trips: Path) -> Any:
    """Run a program; what it wrote, and nothing else stands there in the clear."""
    path = trips.parent / "app.py"
    source = textwrap.dedent(program).encode()
    path.write_bytes(source)
    out, model = trips.parent / "out", trips.parent / "model"
    opened.declare("trips", trips)
    with declared(opened, [Output("out", out, TRIPS)]):
        assert run_application(path, source, [str(trips), str(out), str(model)]) == 0
    for written in [*out.rglob("*.parquet"), *model.rglob("*.parquet")]:
        assert written.read_bytes()[-4:] == MAGIC
    table = open_table(out, "out", rights.reading)
    import pyarrow.parquet as pq

    return pa.concat_tables([pq.read_table(reader) for reader in readers(table)])


def test_spark_sql(opened: Session, rights: Rights, trips: Path) -> None:
    written = run(opened, rights, SQL, trips).to_pydict()
    assert written["vendor"] == [None, "v0", "v1", "v2"]
    assert written["rides"] == [100] * 4


@pytest.mark.filterwarnings("ignore")  # of PySpark: it forgets to close a socket
def test_dataframes(opened: Session, rights: Rights, rows: Any, trips: Path) -> None:
    written = run(opened, rights, DATAFRAME, trips)
    assert written.column_names == ["hour", "rides", "fares", "name"]
    assert sum(written["rides"].to_pylist()) == 5000
    assert sum(written["fares"].to_pylist()) == pytest.approx(sum(rows["fare"].to_pylist()))


def test_mllib_trains_saves_its_model_encrypted_and_scores(opened: Session, rights: Rights, trips: Path) -> None:
    written = run(opened, rights, MLLIB, trips)
    right = np.array(written["label"]) == np.array(written["prediction"])
    assert right.mean() > 0.9
    assert list((trips.parent / "model").rglob("*.parquet"))


@pytest.mark.filterwarnings("ignore")  # of pandas and scikit-learn, which only xgboost.spark needs
def test_xgboost_on_spark(opened: Session, rights: Rights, trips: Path) -> None:
    pytest.importorskip("pandas", reason="xgboost.spark needs pandas, which nothing else here does")
    pytest.importorskip("xgboost")
    written = run(opened, rights, XGBOOST, trips)
    right = np.array(written["label"]) == np.array(written["prediction"])
    assert right.mean() > 0.95


@pytest.mark.filterwarnings("ignore")  # of PySpark: it forgets to close a socket
def test_functions_in_python_run_in_this_python_and_find_no_library_in_the_folder(
    opened: Session,
) -> None:
    def look(_: Any) -> Any:
        import os
        import sys

        return [(sys.executable, [os.path.realpath(place) for place in sys.path], os.path.realpath("."))]

    [(program, places, folder)] = opened.spark.sparkContext.parallelize([1], 1).mapPartitions(look).collect()
    assert program == sys.executable
    assert os.path.realpath(folder) not in places


def test_a_table_that_was_altered_ends_the_program_before_it_reads(
    opened: Session, rights: Rights, trips: Path
) -> None:
    (part, *_) = trips.glob("*.parquet")
    part.unlink()
    with pytest.raises(StrongroomError):
        run(opened, rights, SQL, trips)
    assert not (trips.parent / "out").exists()


def test_a_program_that_fails_leaves_no_table_and_says_where(
    opened: Session, rights: Rights, trips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = textwrap.dedent(SQL).replace("round(avg(fare), 2)", "raise_error('no')").encode()
    path = trips.parent / "app.py"
    path.write_bytes(program)
    opened.declare("trips", trips)
    with declared(opened, [Output("out", trips.parent / "out", TRIPS)]):
        assert run_application(path, program, [str(trips), str(trips.parent / "out")]) == 1
    assert "app.py" in capsys.readouterr().err
    assert not list((trips.parent / "out").glob("_strongroom*"))
    assert not list((trips.parent / "out").glob("*.parquet"))
