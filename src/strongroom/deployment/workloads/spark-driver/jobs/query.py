"""Trips and fares by month: an ordinary PySpark program."""

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

spark = SparkSession.builder.appName("monthly").getOrCreate()
trips = spark.read.parquet("tables/trips")
monthly = trips.groupBy("puYear", "puMonth").agg(f.count("*").alias("trips"), f.sum("fareAmount").alias("fares"))
monthly.write.mode("overwrite").parquet("results/monthly")
spark.stop()
