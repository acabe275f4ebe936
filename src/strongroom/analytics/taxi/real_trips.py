"""The TLC's monthly files, CSV or Parquet of any year, as trips of the open dataset's schema."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from strongroom.analytics.importing import Source, open_source
from strongroom.analytics.taxi.schema import OTHER_NAMES, SCHEMA
from strongroom.errors import FormatError

REQUIRED: Final = ("tpepPickupDateTime", "tripDistance", "fareAmount", "totalAmount")
_BY_FOLDED_NAME: Final = {name.lower(): name for name in SCHEMA.names} | OTHER_NAMES


def open_trips(path: Path) -> Source:
    """Look at the TLC's files.

    Args:
        path: A file, or a folder of files.

    Raises:
        FormatError: A file doesn't follow its format, or holds no trips.
        ConfigurationError: Nothing to import.
        UnavailableError: The disk fails.
    """
    source = open_source(path)
    found = {_known(name) for name in source.schema.names}
    if absent := [name for name in REQUIRED if name not in found]:
        raise FormatError(f"{path.name} holds no taxi trips: no column for {absent[0]}", code="taxi.columns")
    return source


def trips(source: Source) -> Iterator[Any]:
    """The rows of `open_trips` as tables of the open dataset's schema; columns it doesn't have are left out.

    Raises:
        FormatError: A value doesn't fit its column.
    """
    for batch in source.batches():
        yield _conform(batch)


def _known(name: str) -> str | None:
    return _BY_FOLDED_NAME.get(name.replace("_", "").strip().lower())


def _conform(batch: Any) -> Any:
    here = {known: batch.column(i) for i, name in enumerate(batch.schema.names) if (known := _known(name))}
    pickup = here["tpepPickupDateTime"].cast(pa.timestamp("us"))
    here |= {"puYear": pc.year(pickup), "puMonth": pc.month(pickup)}
    try:
        columns = [_column(here.get(item.name), item.type, batch.num_rows) for item in SCHEMA]
    except pa.ArrowInvalid as error:
        raise FormatError(f"a value does not fit its column: {type(error).__name__}", code="taxi.value") from None
    return pa.table(columns, schema=SCHEMA)


def _column(values: Any, wanted: Any, rows: int) -> Any:
    if values is None:
        return pa.nulls(rows, wanted)
    if pa.types.is_string(wanted) and pa.types.is_floating(values.type):
        whole = pc.all(pc.equal(pc.floor(values), values)).as_py()
        return (values.cast(pa.int64()) if whole else values).cast(wanted)  # a number with gaps was read as 1.0
    return values.cast(wanted)
