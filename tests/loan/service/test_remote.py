"""A storage root in an object store: only ciphertext leaves, and the store can't exchange files."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import fsspec
import pytest

from strongroom.errors import ConfigurationError, MissingFile, SealedDataError, UnavailableError
from strongroom.loan.service.remote import RemoteStorage, open_remote

KEY = b"SIXTEEN-BYTE-KEY"
TELLTALE = b"person_income,MORTGAGE," * 100


@pytest.fixture
def store() -> Any:
    filesystem = fsspec.filesystem("memory", skip_instance_cache=True)
    filesystem.store.clear()
    return filesystem


@pytest.fixture
def remote(store: Any, tmp_path: Path) -> Iterator[RemoteStorage]:
    with closing(RemoteStorage(store, "/container/folder", KEY, tmp_path)) as remote:
        yield remote


def write(remote: RemoteStorage, path: str, content: bytes) -> None:
    with remote.create(path) as sink:
        sink.write(content)


def test_a_file_reads_back_and_the_store_sees_ciphertext(remote: RemoteStorage, store: Any, tmp_path: Path) -> None:
    write(remote, "data/a.csv", TELLTALE)
    with remote.open("data/a.csv") as source:
        assert source.read() == TELLTALE
    stored = store.cat_file("/container/folder/data/a.csv")
    assert b"person_income" not in stored
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_appears_whole_or_not_at_all(remote: RemoteStorage, store: Any) -> None:
    write(remote, "a", b"earlier")
    with pytest.raises(RuntimeError), remote.create("a") as sink:
        sink.write(b"later")
        raise RuntimeError
    with remote.open("a") as source:
        assert source.read() == b"earlier"


def test_a_missing_file_is_missing(remote: RemoteStorage) -> None:
    with pytest.raises(MissingFile):
        remote.open("nothing")


def test_refuses_files_that_the_store_exchanged_or_changed(remote: RemoteStorage, store: Any) -> None:
    write(remote, "a", b"one")
    write(remote, "b", b"two")
    store.pipe_file("/container/folder/b", store.cat_file("/container/folder/a"))
    with pytest.raises(SealedDataError):
        remote.open("b")
    raw = bytearray(store.cat_file("/container/folder/a"))
    raw[100] ^= 1
    store.pipe_file("/container/folder/a", bytes(raw))
    with pytest.raises(SealedDataError):
        remote.open("a")


def test_a_store_that_fails_is_unavailable_and_keeps_what_it_had(remote: RemoteStorage, store: Any) -> None:
    write(remote, "a", b"earlier")

    class Failing:
        def put_file(self, *_: str) -> None:
            raise OSError("connection to https://account/?sig=S3CRET lost")

    unavailable = pytest.raises(UnavailableError)
    failing = RemoteStorage(Failing(), "/container/folder", KEY)
    with closing(failing), unavailable as refused, failing.create("a") as sink:
        sink.write(b"later")
    assert refused.value.code == "storage.remote"
    assert "S3CRET" not in refused.value.message
    with remote.open("a") as source:
        assert source.read() == b"earlier"


def test_the_service_works_on_it(
    open_client: Any, remote: RemoteStorage, store: Any, book_csv: bytes, sample_csv: bytes
) -> None:
    client = open_client(remote)
    assert client.process(book_csv).status_code == 200
    assert client.train().status_code == 200
    answer = client.predict(sample_csv)
    assert store.exists(f"/container/folder/{answer.headers['strongroom-result']}")
    client.service.files.close()
    assert all(b"Probability" not in store.cat_file(path) for path in store.find("/container"))


@pytest.mark.parametrize("url", ["http://x/y", "file:///etc", "s3://x", "memory://x", "abfs://", "x"])
def test_refuses_other_stores(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_remote(url, KEY)
    assert refused.value.code == "loan.roots"
