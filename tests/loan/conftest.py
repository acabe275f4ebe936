"""Storages and loan books for the tests of the loan application."""

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from strongroom.loan.book import LoanBook, join
from strongroom.loan.sample import sample_book
from strongroom.loan.table import read_csv

# Threads that spin while they wait make every test slow where several run at once. Counts where XGBoost comes later.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


class MemoryStorage:
    """Files in a dictionary; a file appears when its block ends without an exception."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def open(self, path: str, /) -> BinaryIO:
        if path not in self.files:
            raise FileNotFoundError(path)
        return io.BytesIO(self.files[path])

    def exists(self, path: str) -> bool:
        return path in self.files

    @contextmanager
    def create(self, path: str, /) -> Iterator[BinaryIO]:
        sink = io.BytesIO()
        yield sink
        self.files[path] = sink.getvalue()


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def threads_reading() -> Callable[[bytes, Callable[[BinaryIO], object]], set[int]]:
    """Which threads ask a source for bytes while it is read."""

    def watch(raw: bytes, read: Callable[[BinaryIO], object]) -> set[int]:
        threads = set()

        class Watched(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                threads.add(threading.get_ident())
                return super().read(size)

        read(Watched(raw))
        return threads

    return watch


@pytest.fixture(scope="session")
def small_book() -> LoanBook:
    """3,000 generated rows."""
    return join(list(sample_book(3_000, seed=7)))


@pytest.fixture(scope="session")
def real_book(testdata: Path) -> LoanBook:
    """The public data set, 32,581 rows."""
    with (testdata / "credit_risk" / "credit_risk_dataset.csv").open("rb") as source:
        return read_csv(source)
