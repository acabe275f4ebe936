"""Database, keys and grants: what is stored comes back, and nothing is stored in the clear."""

import dataclasses
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.attestation.policy import ANY, AcceptedAdvisory, AppraisalPolicy, EnclaveIdentity
from strongroom.broker import grant_store
from strongroom.broker.database_url import parse_database_url
from strongroom.broker.grants import Grant
from strongroom.broker.keyring import UnknownKey
from strongroom.broker.store import Place, Store
from strongroom.errors import ConfigurationError, FormatError, UnavailableError, VerificationError, WouldOverwrite
from strongroom.formats.canonical import JsonValue
from strongroom.formats.kbs import ResourcePath
from strongroom.keys.root import FileRootKey

if TYPE_CHECKING:
    from tests.broker.conftest import Broker, Clock

ROOT = FileRootKey(bytes(32))
on_both = pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def place(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    """Where nothing is yet."""
    if database == "sqlite":
        return tmp_path / "broker.db"
    server = request.getfixturevalue("postgresql")
    return parse_database_url(server.url(server.new_database()))


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    store = Store.create(place, ROOT, "0" * 32)
    yield store
    store.close()


class TestStore:
    def test_file_is_private_and_in_wal_mode(self, store: Store, tmp_path: Path) -> None:
        with store.writing() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
            assert connection.exec_driver_sql("PRAGMA secure_delete").scalar_one() == 1
        for file in tmp_path.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file

    def test_refuses_to_overwrite(self, store: Store, tmp_path: Path) -> None:
        with pytest.raises(WouldOverwrite):
            Store.create(tmp_path / "broker.db", ROOT, "0" * 32)

    def test_refuses_absent_and_foreign_files(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError):
            Store.open(tmp_path / "absent.db", ROOT, "0" * 32)
        (tmp_path / "text.db").write_text("not a database, but long enough to look at" * 100)
        with pytest.raises(ConfigurationError):
            Store.open(tmp_path / "text.db", ROOT, "0" * 32)

    @pytest.mark.parametrize("version", [0, 2, 99])
    def test_refuses_another_schema(self, store: Store, tmp_path: Path, version: int) -> None:
        with store.writing() as connection:
            connection.exec_driver_sql(f"PRAGMA user_version = {version}")
        with pytest.raises(ConfigurationError):
            Store.open(tmp_path / "broker.db", ROOT, "0" * 32)

    def test_row_opens_only_in_its_place(self, store: Store) -> None:
        wrapped = store.seal_row("keys", {"path": "a/b/c", "version": 1}, b"secret")
        assert store.open_row("keys", {"path": "a/b/c", "version": 1}, wrapped) == b"secret"
        others: list[tuple[str, dict[str, JsonValue]]] = [
            ("grants", {"path": "a/b/c", "version": 1}),
            ("keys", {"path": "a/b/d", "version": 1}),
            ("keys", {"path": "a/b/c", "version": 2}),
            ("keys", {"path": "a/b/c"}),
        ]
        for table, row in others:
            with pytest.raises(VerificationError):
                store.open_row(table, row, wrapped)

    @on_both
    def test_row_of_another_broker_with_the_same_root_key_does_not_open(self, store: Store, tmp_path: Path) -> None:
        wrapped = store.seal_row("keys", {"path": "a/b/c", "version": 1}, b"secret")
        other = Store.create(tmp_path / "other.db", ROOT, "1" * 32)
        try:
            with pytest.raises(VerificationError):
                other.open_row("keys", {"path": "a/b/c", "version": 1}, wrapped)
        finally:
            other.close()

    @on_both
    def test_error_of_the_database_tells_no_values(self, store: Store) -> None:
        def fail() -> None:
            with store.writing() as connection:
                connection.execute(sa.text("INSERT INTO absent VALUES (:value)"), {"value": "canary-value"})

        with pytest.raises(UnavailableError) as failure:
            fail()
        assert "canary-value" not in str(failure.value)
        assert failure.value.__suppress_context__

    @on_both
    def test_writers_take_turns(self, store: Store) -> None:
        import threading

        from strongroom.broker.audit import Entry, StoredAuditLog
        from strongroom.broker.records import verify_records

        log = StoredAuditLog(store)
        threads = [
            threading.Thread(target=lambda: [log.append(Entry("x", "allow"), datetime.now(UTC)) for _ in range(10)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert verify_records(log.read())[0] == 80


class TestKeyring:
    def test_nothing_is_stored_in_the_clear(self, broker: "Broker", clock: "Clock") -> None:
        value = b"CANARY-OF-THE-STORED-KEY"
        broker.parts.keyring.create(broker.key_path, value, clock())
        broker.add_grant()
        broker.parts.close()
        for file in broker.files.root.glob("broker.db*"):
            raw = file.read_bytes()
            assert value not in raw
            assert broker.files.root_key.read_bytes() not in raw
            assert b"mr_enclave" not in raw  # grants are wrapped too
            assert b"PRIVATE KEY" not in raw

    def test_deleted_key_leaves_nothing_behind(self, broker: "Broker", clock: "Clock") -> None:
        broker.parts.keyring.create(broker.key_path, b"x" * 32, clock())
        with broker.parts.store.reading() as connection:
            wrapped = connection.exec_driver_sql("SELECT wrapped FROM keys").scalar_one()
        broker.parts.keyring.delete(broker.key_path, clock())
        broker.parts.close()
        assert all(wrapped not in file.read_bytes() for file in broker.files.root.glob("broker.db*"))

    @on_both
    def test_versions(self, broker: "Broker", clock: "Clock") -> None:
        keyring, path = broker.parts.keyring, broker.key_path
        assert keyring.create(path, b"one", clock()) == 1
        with pytest.raises(WouldOverwrite):
            keyring.create(path, b"two", clock())
        assert keyring.create(path, b"two", clock(), new_version=True) == 2
        assert keyring.read(path) == (2, b"two")
        assert keyring.read(path, 1) == (1, b"one")
        assert [info.version for info in keyring.list()] == [1, 2]
        keyring.delete(path, clock())
        for version in (None, 1, 2):
            with pytest.raises(UnknownKey):
                keyring.read(path, version)
        with pytest.raises(UnknownKey):
            keyring.delete(path, clock())


names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
segments = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)
paths = st.builds(ResourcePath, segments, segments, segments)
policies = st.builds(
    AppraisalPolicy,
    measurements=st.lists(st.builds(EnclaveIdentity, st.binary(min_size=32, max_size=32)), min_size=1, max_size=3).map(
        tuple
    ),
    tees=st.just(frozenset({"sgx"})),
    tcb_statuses=st.frozensets(st.sampled_from(["UpToDate", "SWHardeningNeeded", "OutOfDate"]), min_size=1),
    advisories=st.one_of(
        st.just(ANY),
        st.dates().map(lambda day: (AcceptedAdvisory("INTEL-SA-00615", day),)),
        st.just(()),
    ),
    min_tcb_eval_data_number=st.one_of(st.just(ANY), st.integers(0, 1000)),
    accept_simulated=st.booleans(),
)
ends = st.none() | st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(  # noqa: DTZ001 -- zone follows
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
all_grants = st.builds(
    Grant,
    name=names,
    policy=policies,
    keys=st.lists(paths, min_size=1, max_size=5, unique=True).map(tuple),
    not_after=ends,
)


class TestGrants:
    @given(all_grants)
    @settings(max_examples=100)
    def test_parses_what_it_writes(self, grant: Grant) -> None:
        assert Grant.from_json(grant.to_json()) == grant

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["name", "policy", "keys", "operations", "not_after"]), inner)
            ),
            max_leaves=10,
        )
    )
    @settings(max_examples=200)
    def test_any_json_raises_only_documented_errors(self, value: Any) -> None:
        with pytest.raises((FormatError, ConfigurationError)):
            Grant.from_json(value)

    @on_both
    def test_stored_grant_comes_back_and_changes_count_at_once(self, broker: "Broker", clock: "Clock") -> None:
        broker.add_grant()
        (grant,) = broker.parts.grants.all()
        assert broker.parts.grants.all() == [grant]
        later = dataclasses.replace(grant, not_after=clock().replace(microsecond=0) + timedelta(days=1))
        broker.parts.grants.add(later, clock(), replace=True)
        assert broker.parts.grants.all() == [later]
        broker.parts.grants.revoke(grant.name, clock())
        assert broker.parts.grants.all() == []

    @on_both
    def test_refuses_too_many(self, broker: "Broker", monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(grant_store, "MAX_GRANTS", 2)
        broker.add_grant("a")
        broker.add_grant("b")
        broker.add_grant("b")  # replacing is not adding
        with pytest.raises(ConfigurationError):
            broker.add_grant("c")

    def test_refuses_end_without_time_zone(self, broker: "Broker") -> None:
        broker.add_grant()
        with pytest.raises(FormatError):
            dataclasses.replace(broker.parts.grants.all()[0], not_after=datetime(2026, 1, 1))  # noqa: DTZ001
