"""BigDL's calls over encrypted tables."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strongroom.analytics.spark.ppml import AES_GCM_V1, PPMLContext
from strongroom.analytics.spark.session import Session
from strongroom.errors import ConfigurationError, WouldOverwrite

pytestmark = pytest.mark.slow
TRIPS, FARES, OTHER = "taxi/key/trips", "taxi/key/fares", "bank/key/other"


def test_reads_queries_and_writes(opened: Session, folder: Path, rows: Any, write_table: Any) -> None:
    write_table(folder / "trips", rows, column_keys={"fare": FARES})
    context = PPMLContext("app", {"kms_type": "SimpleKeyManagementService"}, opened=opened)
    for key in ("", TRIPS, FARES):
        assert context.read(AES_GCM_V1, key).parquet(str(folder / "trips")).count() == 5000
    few = context.sql("SELECT id, fare FROM trips WHERE id < 10")
    out = str(folder / "out")
    context.write(few, AES_GCM_V1, TRIPS).parquet(out)
    with pytest.raises(WouldOverwrite):
        context.write(few, AES_GCM_V1, TRIPS).parquet(out)
    context.write(few, AES_GCM_V1, TRIPS).mode("append").parquet(out)
    assert context.read(AES_GCM_V1, TRIPS).parquet(out).count() == 20
    context.write(few, AES_GCM_V1, TRIPS).mode("overwrite").parquet(out)
    assert context.read(AES_GCM_V1).parquet(out).count() == 10
    with pytest.raises(ConfigurationError) as refusal:
        context.read(AES_GCM_V1, OTHER).parquet(out)
    assert refusal.value.code == "ppml.key"


@pytest.mark.parametrize("mode", ["plain_text", "AES_GCM_CTR_V1", "AES/CBC/PKCS5Padding"])
def test_weaker_modes_are_refused(opened: Session, spark: Any, mode: str) -> None:
    context = PPMLContext("app", opened=opened)
    calls: list[Callable[[], object]] = [
        lambda: context.read(mode, TRIPS),
        lambda: context.write(spark.range(1), mode, TRIPS),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError) as refusal:
            call()
        assert refusal.value.code == "ppml.mode"
