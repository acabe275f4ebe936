"""The session that all tests of a process share: each test gets it as if it were the first."""

from typing import Any

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("turn", [1, 2])
def test_one_test_leaves_nothing_to_the_next(opened: Any, switched: Any, turn: int) -> None:
    """Whichever comes second would see what the other one left."""
    spark = opened.spark
    assert (opened.tables, opened._read, opened._written, switched.calls) == ({}, {}, [], [])
    assert (spark.catalog.listTables(), spark.conf.get("spark.sql.shuffle.partitions")) == ([], "1")
    rows = spark.range(turn)
    assert not rows.is_cached
    rows.cache().createOrReplaceTempView("left_behind")
    spark.conf.set("spark.sql.shuffle.partitions", "7")
