"""Two replicas on one PostgreSQL database, a real server of the tests' own, and what a hostile database can't do."""

import contextlib
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from strongroom.broker import postgresql as driver
from strongroom.broker.audit import Entry
from strongroom.broker.certificates import issue_client, issue_server, make_authority
from strongroom.broker.database_url import parse_database_url
from strongroom.broker.limits import Busy
from strongroom.broker.records import verified, verify_records
from strongroom.broker.sessions import Attested
from strongroom.broker.setup import create_broker
from strongroom.broker.shared_sessions import SharedAttestations, SharedSessions
from strongroom.broker.store import Store
from strongroom.broker.tables import attestations, challenges
from strongroom.errors import ConfigurationError, UnavailableError, VerificationError, WouldOverwrite
from strongroom.formats.kbs import ResourcePath
from strongroom.keys.envelope import SessionKey
from strongroom.keys.root import FileRootKey
from strongroom.platforms.simulated import SimulatedPlatform

if TYPE_CHECKING:
    from tests.broker.conftest import Broker, Clock, Kbc, OpenBroker, PostgresqlServer, Service

    from strongroom.broker.grants import Grant

ROOT = FileRootKey(bytes(32))
BROKER_ID = "0" * 32
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def database() -> str:
    """Every broker here is on PostgreSQL."""
    return "postgresql"


@pytest.fixture
def one(open_broker: "OpenBroker", grant: "Grant", clock: "Clock") -> "Broker":
    """A replica, with a key and a grant."""
    broker = open_broker()
    broker.parts.keyring.create(broker.key_path, broker.key, clock())
    broker.parts.grants.add(grant, clock())
    return broker


@pytest.fixture
def two(one: "Broker", open_broker: "OpenBroker") -> "Broker":
    """Another replica."""
    return open_broker()


Client = Callable[["Broker"], "Kbc"]


def moved(kbc: "Kbc", broker: "Broker") -> None:
    """From now on the client talks to another replica, with the cookies it has."""
    broker.http.cookies.update(kbc.http.cookies)
    kbc.http = broker.http


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Start all at the same moment; results, or the errors."""
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        barrier.wait(30)
        try:
            return work()
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


class TestReplicas:
    def test_challenge_of_one_is_answered_at_the_other(self, one: "Broker", two: "Broker", client_of: Client) -> None:
        kbc = client_of(one)
        nonce = kbc.nonce()
        moved(kbc, two)
        token = kbc.send(kbc.evidence(nonce)).json()["token"]
        for broker in (one, two):
            moved(kbc, broker)
            assert kbc.key.decrypt(kbc.get(token=token).json()) == one.key
            assert kbc.key.decrypt(kbc.get().json()) == one.key  # by the cookie

    def test_refuses_replayed_nonce_at_the_other(self, one: "Broker", two: "Broker", client_of: Client) -> None:
        kbc = client_of(one)
        evidence = kbc.evidence(kbc.nonce())
        assert kbc.send(evidence).status_code == 200
        moved(kbc, two)
        assert kbc.send(evidence).status_code == 401

    def test_of_two_answers_at_the_same_moment_one_counts(self, one: "Broker", two: "Broker") -> None:
        for _ in range(20):
            session = one.parts.sessions.open("sgx", None)
            results = at_once(*(partial(broker.parts.sessions.take, session.id) for broker in (one, two)))
            assert sorted(type(result).__name__ for result in results) == ["Session", "VerificationError"]

    def test_forged_token_is_not_remembered_anywhere(self, one: "Broker", two: "Broker", client_of: Client) -> None:
        for broker in (one, two):
            with pytest.raises(VerificationError):
                broker.parts.attestations.by_id("0" * 32, int(NOW.timestamp()))

    def test_revoked_grant_counts_at_the_other_at_once(
        self, one: "Broker", two: "Broker", client_of: Client, clock: "Clock"
    ) -> None:
        kbc = client_of(two)
        token = kbc.token()
        one.parts.grants.revoke("loan-train", clock())
        answer = kbc.get(token=token)
        assert answer.status_code == 403
        assert one.key not in answer.content

    def test_refuses_owners_statement_used_at_the_other(self, one: "Broker", two: "Broker") -> None:
        token = one.sign("GET", "/v1/keys")
        assert one.owner("GET", "/v1/keys", token=token).status_code == 200
        assert two.owner("GET", "/v1/keys", token=token).status_code == 401
        fresh = one.sign("GET", "/v1/keys")
        answers = at_once(*(partial(broker.owner, "GET", "/v1/keys", token=fresh) for broker in (one, two)))
        assert sorted(answer.status_code for answer in answers) == [200, 401]

    def test_key_is_created_once(self, one: "Broker", two: "Broker", clock: "Clock") -> None:
        path = ResourcePath("a", "b", "c")
        results = at_once(*(partial(b.parts.keyring.create, path, b"x" * 16, clock()) for b in (one, two)))
        assert sorted(type(result).__name__ for result in results) == ["WouldOverwrite", "int"]

    def test_concurrent_appends_make_one_log_without_gaps(self, one: "Broker", two: "Broker", clock: "Clock") -> None:
        before = len(one.parts.log.read())

        def append(broker: "Broker", name: str) -> None:
            for number in range(15):
                broker.parts.log.append(Entry("release", "allow", name=f"{name}-{number}"), clock())

        works = [partial(append, *work) for work in ((one, "a"), (one, "b"), (two, "c"), (two, "d"))]
        assert at_once(*works) == [None] * 4
        records = two.parts.log.read()
        assert verify_records(records)[0] == before + 60
        names = [json.loads(record.record)["name"] for record in records[before:]]
        assert len(set(names)) == 60
        for author in "abcd":  # what one thread appended stands in its order
            own = [int(name[2:]) for name in names if name[0] == author]
            assert own == sorted(own)

    def test_provisioning_desk_uses_the_same_tables(self, one: "Broker", two: "Broker", client_of: Client) -> None:
        assert two.parts.keyring.read(one.key_path) == (1, one.key)
        assert two.parts.grants.all() == one.parts.grants.all()


class TestBounds:
    @pytest.fixture
    def store(self, postgresql: "PostgresqlServer") -> Iterator[Store]:
        store = Store.create(parse_database_url(postgresql.url(postgresql.new_database())), ROOT, BROKER_ID)
        yield store
        store.close()

    def test_open_challenges_are_bounded_and_purged(self, store: Store) -> None:
        now_s = [1000.0]
        sessions = SharedSessions(store, 90, 3, lambda: now_s[0])
        first = [sessions.open("sgx", "w") for _ in range(3)]
        with pytest.raises(Busy):
            sessions.open("sgx", None)
        assert sessions.take(first[0].id) == first[0]
        sessions.open("tdx", None)
        now_s[0] += 90
        with pytest.raises(VerificationError) as refusal:
            sessions.take(first[1].id)
        assert refusal.value.code == "session.stale"
        sessions.open("sgx", None)
        with store.reading() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(challenges)).scalar_one() == 1

    def test_live_tokens_are_bounded_and_purged(self, store: Store, one: "Broker", client_of: Client) -> None:
        attested = self.attested(one, client_of)
        live = SharedAttestations(store, 1)
        live.add(attested, attested.expires_s - 10)
        assert live.by_id(attested.id, attested.expires_s - 1) == attested
        with pytest.raises(Busy):
            live.add(attested, attested.expires_s - 10)
        with pytest.raises(VerificationError) as refusal:
            live.by_id(attested.id, attested.expires_s)
        assert refusal.value.code == "token.expired"
        live.add(attested, attested.expires_s)  # the old one made room

    @staticmethod
    def attested(one: "Broker", client_of: Client) -> Attested:
        kbc = client_of(one)
        kbc.token()
        now_s = int(one.parts.clock().timestamp())
        return one.parts.attestations.by_session(kbc.http.cookies["kbs-session-id"], now_s)


class TestHostileDatabase:
    def test_learns_neither_nonces_nor_cookies_nor_tokens(
        self, one: "Broker", client_of: Client, postgresql: "PostgresqlServer"
    ) -> None:
        kbc = client_of(one)
        token = kbc.token()
        session = one.parts.sessions.open("sgx", "loan-train")
        with one.parts.store.reading() as connection:
            rows = [tuple(row) for table in (challenges, attestations) for row in connection.execute(sa.select(table))]
        assert len(rows) == 2
        raw = b"|".join(value for row in rows for value in row if isinstance(value, bytes))
        jti = one.parts.signer.verify(token, now_s=int(NOW.timestamp()))
        for secret in (session.id, session.nonce, "loan-train", jti, kbc.http.cookies["kbs-session-id"]):
            assert secret.encode() not in raw
        assert bytes(range(32)) not in raw  # the measurement

    def test_can_not_lengthen_the_life_of_a_challenge(self, one: "Broker", clock: "Clock") -> None:
        session = one.parts.sessions.open("sgx", None)
        with one.parts.store.writing() as connection:
            connection.execute(sa.update(challenges).values(expires_s=challenges.c.expires_s + 10_000))
        clock.advance(91)
        with pytest.raises(VerificationError) as refusal:
            one.parts.sessions.take(session.id)
        assert refusal.value.code == "session.stale"

    def test_can_not_lengthen_the_life_of_a_token(self, one: "Broker", client_of: Client, clock: "Clock") -> None:
        kbc = client_of(one)
        kbc.token()
        with one.parts.store.writing() as connection:
            connection.execute(sa.update(attestations).values(expires_s=attestations.c.expires_s + 10_000))
        clock.advance(301)
        assert kbc.get().status_code == 401

    def test_can_not_exchange_rows(self, one: "Broker", platform: SimulatedPlatform, client_of: Client) -> None:
        first, second = (one.parts.sessions.open("sgx", None) for _ in range(2))
        with one.parts.store.writing() as connection:
            rows = connection.execute(sa.select(challenges.c.digest, challenges.c.wrapped)).all()
            for row, other in zip(rows, reversed(rows), strict=True):
                changed = sa.update(challenges).where(challenges.c.digest == row.digest)
                connection.execute(changed.values(wrapped=other.wrapped))
        for session in (first, second):
            with pytest.raises(VerificationError):
                one.parts.sessions.take(session.id)

    def test_can_not_give_a_strangers_attestation_to_a_cookie(
        self, one: "Broker", client_of: Client, open_broker: "OpenBroker"
    ) -> None:
        victim, thief = client_of(one), client_of(open_broker())
        victim.token()
        thief.auth()
        cookie = hashlib.sha256(thief.http.cookies["kbs-session-id"].encode()).digest()
        with one.parts.store.writing() as connection:
            connection.execute(sa.update(attestations).values(session_digest=cookie))
        assert thief.get().status_code == 401

    def test_commit_is_durable_whatever_the_server_was_told(
        self, one: "Broker", postgresql: "PostgresqlServer", open_broker: "OpenBroker", grant: Any
    ) -> None:
        name = parse_database_url(str(one.parts.settings.database_url)).database
        postgresql.ask(f"ALTER DATABASE {name} SET synchronous_commit = off")
        postgresql.ask(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
        with open_broker().parts.store.writing() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
            assert connection.exec_driver_sql("SHOW transaction_isolation").scalar_one() == "read committed"

    @pytest.mark.parametrize("deferred", ["", "DEFERRABLE INITIALLY DEFERRED"], ids=["insert", "commit"])
    def test_releases_nothing_when_the_record_is_not_committed(
        self, one: "Broker", client_of: Client, deferred: str
    ) -> None:
        kbc = client_of(one)
        token = kbc.token()
        with one.parts.store.writing() as connection:
            connection.exec_driver_sql(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$"
            )
            kind = "CONSTRAINT TRIGGER refuse AFTER" if deferred else "TRIGGER refuse BEFORE"
            connection.exec_driver_sql(
                f"CREATE {kind} INSERT ON audit {deferred} FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        answer = kbc.get(token=token)
        assert answer.status_code == 503
        assert answer.json().keys() == {"type", "detail"}


class TestOutage:
    def test_database_gone_in_the_middle_and_back(
        self, one: "Broker", client_of: Client, postgresql: "PostgresqlServer"
    ) -> None:
        kbc = client_of(one)
        token = kbc.token()
        assert kbc.get(token=token).status_code == 200
        challenge = kbc.evidence(kbc.nonce())
        records = one.parts.log.read()
        postgresql.stop()
        try:
            answers = [
                kbc.get(token=token),
                kbc.send(challenge),
                kbc.auth(),
                one.http.get("/readyz"),
                one.owner("GET", "/v1/keys"),
            ]
            assert [answer.status_code for answer in answers] == [503] * 5
            assert all(one.key not in answer.content for answer in answers)
            assert answers[0].headers["retry-after"] == "1"
            assert one.http.get("/healthz").status_code == 200
        finally:
            postgresql.start()
        assert one.http.get("/readyz").status_code == 200
        assert kbc.get(token=token).status_code == 401  # the server crashed: what replicas shared is forgotten
        assert kbc.key.decrypt(kbc.get(token=kbc.token()).json()) == one.key
        after = one.parts.log.read()
        assert after[: len(records)] == records
        assert verify_records(after)[0] == len(after)

    def test_no_free_connection_is_answered_in_time(
        self, postgresql: "PostgresqlServer", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(driver, "SILENCE_TIMEOUT_S", 0.1)
        place = parse_database_url(postgresql.url(postgresql.new_database()))
        Store.create(place, ROOT, BROKER_ID).close()
        store = Store.open(place, ROOT, BROKER_ID, connections=1)
        try:
            with store.reading(), pytest.raises(UnavailableError), store.reading():
                pass
        finally:
            store.close()

    @pytest.mark.slow
    def test_replica_that_stops_in_a_transaction_does_not_stop_the_others(self, one: "Broker", two: "Broker") -> None:
        before = two.parts.log.read()[-1].seq
        with pytest.raises(UnavailableError), one.parts.store.writing() as connection:
            one.parts.log.append_within(connection, Entry("lost", "allow"), NOW)
            began_s = time.monotonic()
            assert two.parts.log.append(Entry("kept", "allow"), NOW) == before + 1
            assert time.monotonic() - began_s < driver.SILENCE_TIMEOUT_S
        assert b'"kept"' in one.parts.log.read()[-1].record


class TestInit:
    def test_second_init_is_refused_and_leaves_nothing(self, postgresql: "PostgresqlServer", tmp_path: Path) -> None:
        url = postgresql.url(postgresql.new_database())
        create_broker(tmp_path / "a", now=NOW, database_url=url)
        with pytest.raises(WouldOverwrite):
            create_broker(tmp_path / "b", now=NOW, database_url=url)
        assert list((tmp_path / "b").iterdir()) == []
        assert not (tmp_path / "a" / "broker.db").exists()

    def test_of_two_inits_at_the_same_moment_one_wins(self, postgresql: "PostgresqlServer", tmp_path: Path) -> None:
        url = postgresql.url(postgresql.new_database())
        makers = [partial(create_broker, tmp_path / name, now=NOW, database_url=url) for name in ("a", "b")]
        results = at_once(*makers)
        assert sorted(type(result).__name__ for result in results) == ["BrokerFolder", "WouldOverwrite"]

    def test_foreign_table_is_not_taken_over(self, postgresql: "PostgresqlServer", tmp_path: Path) -> None:
        name = postgresql.new_database()
        postgresql.ask("CREATE TABLE keys (mine text)", database=name)
        with pytest.raises(WouldOverwrite):
            create_broker(tmp_path / "a", now=NOW, database_url=postgresql.url(name))
        assert [
            row[0]
            for row in postgresql.ask("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", database=name)
        ] == ["keys"]

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE schema_version SET version = 2",
            "DROP TABLE schema_version",
            "DELETE FROM schema_version",
            "INSERT INTO schema_version VALUES (2)",
        ],
    )
    def test_another_schema_is_refused(self, postgresql: "PostgresqlServer", change: str) -> None:
        name = postgresql.new_database()
        place = parse_database_url(postgresql.url(name))
        Store.create(place, ROOT, BROKER_ID).close()
        Store.open(place, ROOT, BROKER_ID).close()
        postgresql.ask(change, database=name)
        with pytest.raises(ConfigurationError):
            Store.open(place, ROOT, BROKER_ID)

    def test_another_root_key_is_refused(self, broker_folder: Path, open_broker: "OpenBroker") -> None:
        (broker_folder / "root.key").write_bytes(os.urandom(32))
        with pytest.raises(VerificationError):
            open_broker()

    def test_absent_database_and_dead_server_are_told(self, postgresql: "PostgresqlServer", tmp_path: Path) -> None:
        with pytest.raises(UnavailableError) as refusal:
            create_broker(tmp_path / "a", now=NOW, database_url=postgresql.url("absent"))
        assert 'database "absent" does not exist' in refusal.value.message
        with pytest.raises(UnavailableError):
            create_broker(tmp_path / "a", now=NOW, database_url=f"postgresql://u@/d?host={tmp_path}")
        assert list((tmp_path / "a").iterdir()) == []

    def test_missing_driver_is_told(
        self, postgresql: "PostgresqlServer", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import sys

        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(ConfigurationError) as refusal:
            create_broker(tmp_path / "a", now=NOW, database_url=postgresql.url("postgres"))
        assert "strongroom[postgresql]" in str(refusal.value.hint)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = make_authority("database CA", NOW), make_authority("another CA", NOW)
    client = issue_client(authority, "certified", NOW)
    for name, content in {
        "ca.pem": authority.certificate,
        "stranger.pem": stranger.certificate,
        "client.pem": client.certificate,
        "client.key": client.private_key,
        "pgpass": b"*:*:*:secretive:CANARY-PASSWORD\n",
        "wrong": b"*:*:*:secretive:WRONG\n",
    }.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    server = issue_server(authority, ["localhost"], NOW)
    (folder / "server.pem").write_bytes(server.certificate)
    (folder / "server.key").write_bytes(server.private_key)
    return folder


@pytest.fixture(scope="module")
def tls(files: Path, postgresql: "PostgresqlServer") -> Iterator["PostgresqlServer"]:
    place = postgresql.folder
    owner = place.stat()
    for name in ("ca.pem", "server.pem", "server.key"):
        shutil.copyfile(files / name, place / name)
        (place / name).chmod(0o600)
        os.chown(place / name, owner.st_uid, owner.st_gid)
    (place / "hba").write_text(
        "local all admin trust\nlocal all secretive scram-sha-256\nhostssl all secretive all scram-sha-256\n"
        "hostssl all certified all cert\n"
    )
    postgresql.ask("CREATE ROLE secretive LOGIN PASSWORD 'CANARY-PASSWORD'", "CREATE ROLE certified LOGIN")
    for role in ("secretive", "certified"):
        postgresql.ask(f"CREATE DATABASE {role} OWNER {role}")
    postgresql.stop()
    postgresql.settings = {
        "ssl": "on",
        **{f"ssl_{kind}_file": str(place / name) for kind, name in
           {"cert": "server.pem", "key": "server.key", "ca": "ca.pem"}.items()},
        "hba_file": str(place / "hba"),
    }  # fmt: skip
    postgresql.start()
    yield postgresql
    postgresql.stop()
    postgresql.settings = {}
    postgresql.start()


class TestCredentials:
    def make(self, tls: "PostgresqlServer", folder: Path, user: str, host: str = "localhost", **files: object) -> None:
        options = "&".join(f"{name}={value}" for name, value in files.items())
        url = f"postgresql://{user}@{host}:{tls.port}/{user}?sslmode=verify-full&{options}"
        create_broker(folder, now=NOW, database_url=url)

    def test_password_from_a_file_over_authenticated_tls(
        self, tls: "PostgresqlServer", files: Path, tmp_path: Path
    ) -> None:
        ca = files / "ca.pem"
        with pytest.raises(UnavailableError) as refusal:
            self.make(tls, tmp_path / "a", "secretive", sslrootcert=ca, passfile=files / "wrong")
        assert "WRONG" not in str(refusal.value)
        with pytest.raises(UnavailableError):
            self.make(tls, tmp_path / "a", "secretive", sslrootcert=ca)
        self.make(tls, tmp_path / "a", "secretive", sslrootcert=ca, passfile=files / "pgpass")
        assert "CANARY" not in (tmp_path / "a" / "broker.toml").read_text()

    def test_client_certificate(self, tls: "PostgresqlServer", files: Path, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError):
            self.make(tls, tmp_path / "a", "certified", sslrootcert=files / "ca.pem")
        self.make(tls, tmp_path / "b", "certified", sslrootcert=files / "ca.pem", sslcert=files / "client.pem",
                  sslkey=files / "client.key")  # fmt: skip

    def test_refuses_a_server_with_another_ca_or_name(
        self, tls: "PostgresqlServer", files: Path, tmp_path: Path
    ) -> None:
        passfile = files / "pgpass"
        for host, ca in (("localhost", "stranger.pem"), ("127.0.0.1", "ca.pem")):
            with pytest.raises(UnavailableError) as refusal:
                self.make(tls, tmp_path / "a", "secretive", host, sslrootcert=files / ca, passfile=passfile)
            assert "certificate" in refusal.value.message


@contextmanager
def replicas(new_service: Callable[..., "Service"], folder: Path, count: int) -> "Iterator[list[Service]]":
    """Processes on copies of one folder, as two machines would have them."""
    with ExitStack() as stack:
        services = []
        for number in range(count):
            copy = folder.with_name(f"replica-{number}")
            shutil.copytree(folder, copy)
            service = new_service(copy)
            stack.callback(service.process.wait, 30)
            stack.callback(service.process.kill)
            services.append(service)
        yield [service.wait() for service in services]


@pytest.mark.slow
def test_two_servers_serve_as_one(
    broker_folder: Path,
    new_service: Callable[..., "Service"],
    platform: SimulatedPlatform,
    grant: "Grant",
    postgresql: "PostgresqlServer",
) -> None:
    import ssl

    import httpx

    toml = broker_folder / "broker.toml"
    toml.write_text(toml.read_text().replace("port = 8443", "port = 0"))
    path, key = grant.keys[0], b"CANARY-KEY-VALUE"
    with replicas(new_service, broker_folder, 2) as services, ExitStack() as stack:
        with services[0].owner() as owner:
            owner.store_key(path, key)
            owner.add_grant(grant)
        context = ssl.create_default_context(cafile=str(broker_folder / "ca.pem"))
        first, second = (
            stack.enter_context(httpx.Client(base_url=s.url, verify=context, trust_env=False, timeout=60))
            for s in services
        )

        def release() -> httpx.Response:
            """`/auth` at the first, `/attest` at the second, the key from the first."""
            from strongroom.formats.kbs import Attestation, binding

            session = SessionKey.generate()
            challenge = first.post("/kbs/v0/auth", json={"version": "0.4.0", "tee": "sgx", "extra-params": {}})
            if challenge.status_code != 200:
                return challenge
            nonce = challenge.json()["nonce"]
            cookie = {"Cookie": "kbs-session-id=" + first.cookies.pop("kbs-session-id")}
            evidence = Attestation(nonce, session.public, platform.quote(binding(nonce, session.public))).to_json()
            answer = second.post("/kbs/v0/attest", json=evidence, headers=cookie)
            if answer.status_code != 200:
                return answer
            assert first.post("/kbs/v0/attest", json=evidence, headers=cookie).status_code == 401
            token = {"Authorization": f"Bearer {answer.json()['token']}"}
            released = first.get(f"/kbs/v0/resource/{path}", headers=token)
            assert released.status_code != 200 or session.decrypt(released.json()) == key
            return released

        assert release().status_code == 200
        postgresql.stop()
        try:
            assert release().status_code == 503
            assert second.get("/readyz").status_code == 503
        finally:
            postgresql.start()
        assert release().status_code == 200
        with services[1].owner() as owner:
            records = list(verified(owner.read))
        assert [json.loads(r.record)["event"] for r in records].count("release") == 2
        assert [service.stop() for service in services] == [0, 0]


KILLED_RUN = """
import importlib.util, os, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("broker_conftest", sys.argv[1])
conftest = importlib.util.module_from_spec(spec)
sys.modules["broker_conftest"] = conftest
spec.loader.exec_module(conftest)
server = conftest.PostgresqlServer(Path(sys.argv[2]), Path(sys.argv[3]))
server.start()
print(server._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_tests_own_server_ends_with_a_run_that_is_killed(postgresql: "PostgresqlServer") -> None:
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    try:
        command: list[str | Path] = [
            sys.executable,
            "-c",
            KILLED_RUN,
            Path(__file__).with_name("conftest.py"),
            postgresql.programs,
            folder,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == -signal.SIGKILL, done.stderr
        with contextlib.suppress(ProcessLookupError):  # it has ended already
            handle = os.pidfd_open(int(done.stdout))
            try:
                assert select.select([handle], [], [], 30)[0], "PostgreSQL goes on without its tests"
            finally:
                os.close(handle)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
