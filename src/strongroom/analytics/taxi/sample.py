"""A generated table of trips, written by several threads: numpy, Arrow and AES all work outside Python's lock."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from strongroom.analytics.manifest import Part
from strongroom.analytics.taxi.generator import generate_month, rows_by_month
from strongroom.analytics.writing import FILE_ROWS, TableWriter
from strongroom.errors import ConfigurationError

MAX_ROWS: Final = 10_000_000_000


def write_sample(
    writer: TableWriter, rows: int, *, seed: int = 0, advance: Callable[[int], None] = lambda _rows: None
) -> None:
    """Fill a table with trips; the same number and seed give the same trips.

    Args:
        writer: Of a table with the schema of the taxi application.
        rows: How many.
        seed: Any number.
        advance: Called with the number of rows just made.

    Raises:
        ConfigurationError: The number of rows is out of range.
        KeyReleaseError: There is no right to a master key.
        UnavailableError: The disk is full or fails, or the key service doesn't answer.
    """
    if not 0 < rows <= MAX_ROWS:
        raise ConfigurationError(f"1 to {MAX_ROWS} rows, not {rows}", code="taxi.rows")

    def trips(months: list[tuple[int, int, int]]) -> Iterator[Any]:
        for year, month, count in months:
            for batch in generate_month(year, month, count, seed):
                advance(batch.num_rows)
                yield batch

    def write(months: list[tuple[int, int, int]]) -> Part:
        return writer.write_part(trips(months))

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        futures = [pool.submit(write, months) for months in _files(rows)]
        for future in futures:
            writer.add(future.result())


def _files(rows: int) -> list[list[tuple[int, int, int]]]:
    """The months of each file: neighbours, so that a year's query finds the others' statistics and skips them."""
    months = [month for month in rows_by_month(rows) if month[2]]
    count = min(max(-(-rows // FILE_ROWS), min(os.cpu_count() or 1, 8)), len(months))
    return [months[len(months) * i // count : len(months) * (i + 1) // count] for i in range(count)]
