"""SQL over encrypted Parquet: embedded in DuckDB, in Spark where one machine is not enough."""
