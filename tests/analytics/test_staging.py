"""Tables carried to and from an object store: whole or not at all, and checked by whoever opens them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

fsspec = pytest.importorskip("fsspec")

from strongroom.analytics.manifest import MANIFEST_NAME  # noqa: E402
from strongroom.analytics.staging import download, open_store, upload  # noqa: E402
from strongroom.analytics.table import open_table  # noqa: E402
from strongroom.errors import ConfigurationError, MissingFile, UnavailableError, WouldOverwrite  # noqa: E402


@pytest.fixture
def store() -> Any:
    from fsspec.implementations.memory import MemoryFileSystem

    class Fresh(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
        store: dict[str, Any] = {}  # noqa: RUF012  # of this test alone; fsspec shares one among all
        pseudo_dirs = [""]  # noqa: RUF012
        cachable = False

    return Fresh()


@pytest.fixture
def table(tmp_path: Path, rows: Any, write_table: Callable[..., Any]) -> Path:
    write_table(tmp_path / "trips", rows, files=3)
    return tmp_path / "trips"


def test_a_table_comes_back_as_it_was(store: Any, table: Path, tmp_path: Path, reading: Any) -> None:
    names: list[str] = []
    assert upload(table, store, "/lake/trips", advance=names.append) == 7
    assert names[-1] == MANIFEST_NAME
    assert download(store, "/lake/trips", tmp_path / "back") == 7
    assert open_table(tmp_path / "back", "trips", reading()).manifest.rows == 5000
    assert {p.name: p.read_bytes() for p in (tmp_path / "back").iterdir()} == {
        p.name: p.read_bytes() for p in table.iterdir()
    }


def test_what_else_lies_there_is_left(store: Any, table: Path, tmp_path: Path) -> None:
    upload(table, store, "/lake/trips")
    for name in ("_SUCCESS", "notes.txt", ".part.parquet.crc", "_x.footer", "folder/inner.parquet"):
        store.pipe_file(f"/lake/trips/{name}", b"x")
    assert download(store, "/lake/trips", tmp_path / "back") == 7
    assert {path.name for path in (tmp_path / "back").iterdir()} == {path.name for path in table.iterdir()}


def test_a_download_that_was_interrupted_is_no_table(store: Any, table: Path, tmp_path: Path) -> None:
    upload(table, store, "/lake/trips")

    class Gone(Exception):
        pass

    def stop(name: str) -> None:
        raise Gone

    with pytest.raises(Gone):
        download(store, "/lake/trips", tmp_path / "back", advance=stop)
    assert not (tmp_path / "back" / MANIFEST_NAME).exists()
    assert download(store, "/lake/trips", tmp_path / "back") == 7


def test_refuses_to_replace_silently(store: Any, table: Path) -> None:
    upload(table, store, "/lake/trips")
    with pytest.raises(WouldOverwrite):
        upload(table, store, "/lake/trips")
    assert upload(table, store, "/lake/trips", overwrite=True) == 7
    with pytest.raises(WouldOverwrite):
        download(store, "/lake/trips", table)


def test_where_there_is_no_table(store: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFile):
        upload(tmp_path / "empty", store, "/lake/trips")
    with pytest.raises(MissingFile):
        download(store, "/lake/trips", tmp_path / "back")


def test_a_store_that_fails_says_so_without_its_own_words(store: Any, table: Path, monkeypatch: Any) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("credential abc")

    monkeypatch.setattr(store, "put_file", fail)
    with pytest.raises(UnavailableError) as failure:
        upload(table, store, "/lake/trips")
    assert "abc" not in failure.value.message


@pytest.mark.parametrize("url", ["tables/trips", "file:///etc", "http://x/y", "abfs://", "simplecache::abfs://a/b", ""])
def test_refuses_what_is_no_address_of_a_store(url: str) -> None:
    with pytest.raises(ConfigurationError):
        open_store(url)
