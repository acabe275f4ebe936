import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError, FormatError
from strongroom.loan.augmentation import augment
from strongroom.loan.book import LoanBook
from strongroom.loan.processed import SCHEMA, read_processed, write_processed
from strongroom.loan.processing import ProcessSettings, process, read_manifest, read_rows
from strongroom.loan.split import row_hashes
from strongroom.loan.writing import write_csv

RUN = "0" * 64


def parquet(book: LoanBook, size: int = 0) -> bytes:
    sink = io.BytesIO()
    write_processed(augment(book, max(size, len(book)), seed=0), sink, run=RUN)
    return sink.getvalue()


@pytest.fixture
def ready(storage: Any, small_book: LoanBook) -> Any:
    sink = io.BytesIO()
    write_csv([small_book], sink)
    storage.files["data/loans.csv"] = sink.getvalue()
    return storage


def test_rows_read_back_equal_with_their_origin(small_book: LoanBook) -> None:
    rows = read_processed(io.BytesIO(parquet(small_book, 5_000)), run=RUN)
    assert rows.augmented.tolist() == [False] * 3_000 + [True] * 2_000
    real = rows.real()
    for name, values in small_book.numbers.items():
        np.testing.assert_array_equal(real.numbers[name], values)
    for name, codes in small_book.codes.items():
        np.testing.assert_array_equal(real.codes[name], codes)
    np.testing.assert_array_equal(real.target, small_book.target)


def test_no_other_thread_holds_the_rows_when_a_job_ends(small_book: LoanBook, threads_reading: Any) -> None:
    threads = threads_reading(parquet(small_book), lambda source: read_processed(source, run=RUN))
    assert threads == {threading.get_ident()}


def test_kept_columns_travel_along(small_book: LoanBook) -> None:
    groups = np.array(["é", ""] * 1_500, object)
    book = LoanBook(small_book.numbers, small_book.codes, small_book.target, {"group": groups})
    rows = read_processed(io.BytesIO(parquet(book, 4_000)), run=RUN)
    assert rows.book.extra["group"].tolist() == (groups.tolist() * 2)[:4_000]


def test_any_parquet_reader_can_read_the_file(small_book: LoanBook) -> None:
    table = pa_parquet.read_table(io.BytesIO(parquet(small_book)))
    assert table.column_names == SCHEMA.names
    assert table["loan_grade"].to_pylist()[:3] == ["ABCDEFG"[c] for c in small_book.codes["loan_grade"][:3]]


def altered(small_book: LoanBook, name: str, values: Any) -> bytes:
    table = pa_parquet.read_table(io.BytesIO(parquet(small_book)))
    sink = io.BytesIO()
    pa_parquet.write_table(table.set_column(table.column_names.index(name), name, values), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("person_age", pa.array(["x"] * 3_000)),
        ("person_age", pa.array([None] * 3_000, pa.float32())),
        ("loan_grade", pa.array(["Z"] * 3_000).dictionary_encode()),
        ("loan_status", pa.array([1.0] * 3_000)),
        ("augmented", pa.array([0] * 3_000)),
    ],
    ids=["text", "nulls", "unknown category", "another type", "number for flag"],
)
def test_refuses_columns_of_another_kind(small_book: LoanBook, name: str, values: Any) -> None:
    with pytest.raises(FormatError) as refused:
        read_processed(io.BytesIO(altered(small_book, name, values)), run=RUN)
    assert refused.value.code == "loan.processed"


def test_refuses_another_table_an_empty_one_and_a_cut_file(small_book: LoanBook) -> None:
    other = io.BytesIO()
    pa_parquet.write_table(pa.table({"a": [1]}), other)
    empty = io.BytesIO()
    pa_parquet.write_table(SCHEMA.empty_table(), empty)
    whole = parquet(small_book)
    for raw in (other.getvalue(), empty.getvalue(), whole[:-1], whole[: len(whole) // 2], whole[4:], b""):
        with pytest.raises(FormatError):
            read_processed(io.BytesIO(raw), run=RUN)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda middle: b"PAR1" + middle + b"PAR1"))
def test_any_bytes_give_the_documented_error(raw: bytes) -> None:
    with pytest.raises(FormatError):
        read_processed(io.BytesIO(raw), run=RUN)


def test_the_manifest_reads_back_equal(ready: Any) -> None:
    manifest = process(ready, "data/loans.csv", "p", ProcessSettings(size=4_000, seed=3))
    assert read_manifest(ready, "p") == manifest
    assert len(manifest.source_digest) == 64


GOOD = {
    "settings": {"size": None, "test_share": 0.25, "seed": 0, "protocol": "strongroom", "keep": []},
    "source_digest": "0" * 64,
    "source_rows": 10,
    "train_rows": 7,
    "test_rows": 3,
    "leaky": False,
}


@pytest.mark.parametrize(
    "change",
    [
        {"leaky": "no"},
        {"train_rows": 0},
        {"train_rows": "7"},
        {"more": 1},
        {"settings": {}},
        {"settings": {**GOOD["settings"], "protocol": "x"}},  # type: ignore[dict-item]
        {"settings": {**GOOD["settings"], "keep": 1}},  # type: ignore[dict-item]
        {"settings": None},
    ],
)
def test_refuses_an_altered_manifest(storage: Any, change: dict[str, Any]) -> None:
    storage.files["p/manifest.json"] = json.dumps(GOOD).encode()
    assert read_manifest(storage, "p").test_rows == 3
    storage.files["p/manifest.json"] = json.dumps({**GOOD, **change}).encode()
    with pytest.raises(FormatError) as refused:
        read_manifest(storage, "p")
    assert refused.value.code == "loan.manifest"


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b" " * 100_000])
def test_refuses_what_is_no_manifest(storage: Any, raw: bytes) -> None:
    storage.files["p/manifest.json"] = raw
    with pytest.raises(FormatError):
        read_manifest(storage, "p")


def test_no_held_out_row_or_copy_of_one_is_trained_on_when_grown(ready: Any) -> None:
    process(ready, "data/loans.csv", "p", ProcessSettings(size=20_000))
    train, test = (read_rows(ready, "p", side) for side in ("train", "test"))
    assert not np.isin(row_hashes(train.book), row_hashes(test.real())).any()
    sources = [
        set(pa_parquet.read_table(io.BytesIO(ready.files[f"p/{side}.parquet"]))["source_row"].to_pylist())
        for side in ("train", "test")
    ]
    assert not sources[0] & sources[1]


def test_the_reference_protocol_trains_on_copies_of_held_out_rows(ready: Any) -> None:
    process(ready, "data/loans.csv", "p", ProcessSettings(size=20_000, protocol="reference"))
    sources = [
        set(pa_parquet.read_table(io.BytesIO(ready.files[f"p/{side}.parquet"]))["source_row"].to_pylist())
        for side in ("train", "test")
    ]
    assert len(sources[0] & sources[1]) > 1_000


def test_progress_ends_at_the_total(ready: Any) -> None:
    seen: list[tuple[int, int]] = []
    process(ready, "data/loans.csv", "p", ProcessSettings(size=600_000), progress=lambda *step: seen.append(step))
    assert len(seen) > 2
    assert seen[-1] == (600_000, 600_000)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"size": 10**12},
        {"test_share": 0},
        {"test_share": 1},
        {"seed": -1},
        {"protocol": "leaky"},
        {"keep": ("loan_status",)},
        {"keep": ("augmented",)},
        {"keep": ("",)},
    ],
)
def test_refuses_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ProcessSettings(**wrong)


class TestForce:
    """A second data step into the same folder."""

    @pytest.fixture
    def first(self, ready: Any) -> dict[str, bytes]:
        process(ready, "data/loans.csv", "p", ProcessSettings(seed=1))
        return dict(ready.files)

    @pytest.mark.parametrize("after", [1, 600_000])
    def test_a_step_that_is_stopped_midway_leaves_the_files_of_the_one_before(
        self, ready: Any, first: dict[str, bytes], after: int
    ) -> None:
        def stop(done: int, _wanted: int) -> None:
            if done >= after:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            process(ready, "data/loans.csv", "p", ProcessSettings(size=600_000, seed=2), progress=stop)
        assert ready.files == first

    @pytest.mark.parametrize("name", ["train.parquet", "test.parquet", "manifest.json"])
    def test_files_of_two_steps_are_never_read_as_one(self, ready: Any, first: dict[str, bytes], name: str) -> None:
        process(ready, "data/loans.csv", "p", ProcessSettings(seed=2))
        assert all(ready.files[path] != first[path] for path in first if path.startswith("p/"))
        ready.files[f"p/{name}"] = first[f"p/{name}"]
        with pytest.raises(FormatError) as refused:
            [read_rows(ready, "p", side) for side in ("train", "test")]
        assert refused.value.code == "loan.mixed"
        assert "--force" in str(refused.value.hint)

    def test_the_manifest_takes_its_place_last(self, ready: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        placed: list[str] = []
        create = ready.create

        @contextmanager
        def noted(path: str, /) -> Iterator[Any]:
            with create(path) as sink:
                yield sink
            placed.append(path)

        monkeypatch.setattr(ready, "create", noted)
        process(ready, "data/loans.csv", "p")
        assert placed == ["p/train.parquet", "p/test.parquet", "p/manifest.json"]
