"""SQL over encrypted Parquet: embedded in DuckDB, in Spark where one machine is not enough."""

from typing import TYPE_CHECKING

__all__ = ["session"]

if TYPE_CHECKING:
    from strongroom.analytics.spark.session import session


def __getattr__(name: str) -> object:
    # Lazy: the embedded engine needs no Spark.
    if name == "session":
        from strongroom.analytics.spark.session import session

        return session
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
