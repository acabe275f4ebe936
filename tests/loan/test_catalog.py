import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import ConfigurationError, FormatError
from strongroom.loan.book import LoanBook
from strongroom.loan.bundle import Bundle
from strongroom.loan.catalog import Catalog, Version, load_model, promote, publish, read_catalog
from strongroom.loan.presets import TrainSettings
from strongroom.loan.training import train

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
VERSION = {"number": 1, "file": "v0001-00000000.bundle", "digest": "0" * 64, "created_at": "x", "note": "y"}


@pytest.fixture(scope="module")
def bundle(small_book: LoanBook) -> Bundle:
    trained = train(small_book, TrainSettings(rounds=2))
    return Bundle(trained.booster, trained.preprocessor)


def test_a_version_is_named_numbered_and_dated(storage: Any, bundle: Bundle) -> None:
    version = publish(storage, "loan", bundle, now=NOW, note="trained")
    assert (version.number, version.created_at) == (1, "2026-11-21T12:00:00+00:00")
    loaded = load_model(storage, "loan")
    assert loaded.metadata == {"name": "loan", "version": 1, "created_at": version.created_at, "note": "trained"}
    assert loaded.digest == version.digest


def test_publishing_never_writes_over_a_bundle(storage: Any, bundle: Bundle) -> None:
    first = publish(storage, "loan", bundle, now=NOW, note="a")
    before = storage.files[f"models/loan/{first.file}"]
    publish(storage, "loan", bundle, now=NOW, note="b")
    assert storage.files[f"models/loan/{first.file}"] == before
    assert len([name for name in storage.files if name.endswith(".bundle")]) == 2


def test_two_publications_at_once_lose_neither(storage: Any, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    create, others = storage.create, iter(["the other one"])

    def interrupted(path: str) -> Any:
        if path.endswith(".bundle") and next(others, None):
            publish(storage, "loan", bundle, now=NOW, note="other")
        return create(path)

    monkeypatch.setattr(storage, "create", interrupted)
    mine = publish(storage, "loan", bundle, now=NOW, note="mine")
    catalog = read_catalog(storage, "loan")
    assert [(v.number, v.note) for v in catalog.versions] == [(1, "other"), (2, "mine")]
    assert load_model(storage, "loan", 2).metadata["version"] == mine.number == 2


def test_another_process_waits_while_the_catalog_is_written(storage: Any, bundle: Bundle) -> None:
    """Two that have both read the catalog before either writes it would lose one entry."""
    lock, other_is_there = threading.Lock(), threading.Event()
    create = storage.create

    def publish_other() -> None:
        publish(storage, "loan", bundle, now=NOW, note="other")
        other_is_there.set()

    other = threading.Thread(target=publish_other)

    @contextmanager
    def locked(folder: str) -> Iterator[None]:
        assert folder == "models/loan"
        if threading.current_thread() is other:
            other_is_there.set()
        with lock:
            yield

    @contextmanager
    def slow(path: str, /) -> Iterator[Any]:
        if path.endswith("catalog.json") and not other.ident:
            other.start()
            assert other_is_there.wait(30)
        with create(path) as sink:
            yield sink

    storage.create, storage.lock = slow, locked
    publish(storage, "loan", bundle, now=NOW, note="mine")
    other.join()
    assert [(v.number, v.note) for v in read_catalog(storage, "loan").versions] == [(1, "mine"), (2, "other")]
    promote(storage, "loan", 1)
    assert read_catalog(storage, "loan").champion == 1


def test_the_first_version_is_served_even_as_a_challenger(storage: Any, bundle: Bundle) -> None:
    publish(storage, "loan", bundle, now=NOW, note="a", champion=False)
    publish(storage, "loan", bundle, now=NOW, note="b", champion=False)
    assert read_catalog(storage, "loan").champion == 1
    promote(storage, "loan", 2)
    assert read_catalog(storage, "loan").champion == 2
    with pytest.raises(ConfigurationError):
        promote(storage, "loan", 3)
    assert read_catalog(storage, "loan").champion == 2


def test_a_missing_bundle_says_so(storage: Any, bundle: Bundle) -> None:
    version = publish(storage, "loan", bundle, now=NOW, note="a")
    del storage.files[f"models/loan/{version.file}"]
    with pytest.raises(FormatError, match="is gone"):
        load_model(storage, "loan")


def test_a_good_catalog_is_read(storage: Any) -> None:
    storage.files["models/loan/catalog.json"] = json.dumps({"champion": 1, "versions": [VERSION]}).encode()
    assert read_catalog(storage, "loan") == Catalog((Version(**VERSION),), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "catalog",
    [
        [],
        {},
        {"champion": 1, "versions": []},
        {"champion": 2, "versions": [VERSION]},
        {"champion": True, "versions": [VERSION]},
        {"champion": 1, "versions": [VERSION, VERSION]},
        {"champion": 1, "versions": [VERSION], "more": 1},
        {"champion": 1, "versions": [{**VERSION, "file": "../../secrets"}]},
        {"champion": 1, "versions": [{**VERSION, "file": "v0001-00000000.bundle\n"}]},
        {"champion": 1, "versions": [{**VERSION, "digest": "0" * 63}]},
        {"champion": 1, "versions": [{**VERSION, "number": 1.0}]},
        {"champion": 1, "versions": [{**VERSION, "note": None}]},
        {"champion": 1, "versions": [{**VERSION, "note": "x" * 1_000}]},
        {"champion": 1, "versions": {"0": VERSION}},
    ],
)
def test_refuses_an_altered_catalog(storage: Any, catalog: Any) -> None:
    storage.files["models/loan/catalog.json"] = json.dumps(catalog).encode()
    with pytest.raises(FormatError) as refused:
        read_catalog(storage, "loan")
    assert refused.value.code == "loan.catalog"


class One:
    """A storage with one file."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def open(self, path: str, /) -> Any:
        import io

        return io.BytesIO(self.raw)

    def create(self, path: str, /) -> Any:
        raise NotImplementedError


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(st.sampled_from(["champion", "versions", "number", "file"]), x, max_size=4)
        ),
        max_leaves=8,
    ).map(lambda v: json.dumps(v).encode())
)
def test_any_bytes_give_a_catalog_or_the_documented_error(raw: bytes) -> None:
    try:
        read_catalog(One(raw), "loan")
    except FormatError as error:
        assert error.code == "loan.catalog"
