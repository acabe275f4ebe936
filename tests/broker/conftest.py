"""A broker in a temporary folder, a simulated machine it believes, and a hand-made client of its protocol."""

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp

from strongroom.attestation.claims import Claims
from strongroom.attestation.policy import ANY, AppraisalPolicy, EnclaveIdentity
from strongroom.attestation.roots import INTEL_ROOT, TrustRoot
from strongroom.broker.app import create_app
from strongroom.broker.audit import AuditLog
from strongroom.broker.client import OwnerClient
from strongroom.broker.folder import BrokerFolder
from strongroom.broker.grants import Grant
from strongroom.broker.owner import OwnerKey, SignedRequest
from strongroom.broker.parts import Parts, open_parts
from strongroom.broker.server import serving
from strongroom.broker.settings import BrokerSettings, load_settings
from strongroom.broker.setup import SimulatedTrust, create_broker
from strongroom.broker.verifier import Trust, verify_with
from strongroom.cli.trial import free_port
from strongroom.formats.kbs import Attestation, ResourcePath, binding
from strongroom.keys.envelope import SessionKey
from strongroom.platforms.simulated import SimulatedMachine, SimulatedPlatform
from strongroom.room.client import BrokerAddress, BrokerClient

# The TLS stack has no clock of its own to set: certificates are made for the real present.
NOW = datetime.now(UTC).replace(microsecond=0)
MR_ENCLAVE = bytes(range(32))
KEY_PATH = ResourcePath("loan", "key", "book")
KEY = b"SIXTEEN-BYTE-KEY"
START_S = 60.0
UNPRIVILEGED = "nobody"
"""PostgreSQL does not run as root."""


class Clock:
    """Time that moves only when a test says so."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def monotonic_s(self) -> float:
        return self.now.timestamp()

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class InProcessVerifier:
    """The real verification, without processes."""

    trust: Trust
    quotes: list[bytes] = field(default_factory=list)

    def verify(self, quote: bytes, now: datetime) -> Claims:
        self.quotes.append(quote)
        return verify_with(self.trust, quote, now)


class InProcess(httpx.BaseTransport):
    """Hands requests to the application without a socket, all on one event loop."""

    def __init__(self, app: ASGIApp) -> None:
        self._runner = asyncio.Runner()
        self._transport = httpx.ASGITransport(app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def exchange() -> httpx.Response:
            answer = await self._transport.handle_async_request(request)
            return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

        return self._runner.run(exchange())

    def close(self) -> None:
        self._runner.close()


@dataclass
class Broker:
    """An open broker and everything a test needs to talk to it."""

    files: BrokerFolder
    parts: Parts
    http: httpx.Client
    owner_key: OwnerKey
    verifier: InProcessVerifier
    key_path: ResourcePath = KEY_PATH
    key: bytes = KEY

    @property
    def url(self) -> str:
        return str(self.http.base_url).rstrip("/")

    def sign(
        self, method: str, target: str, body: bytes = b"", *, after_s: int = 0, key: OwnerKey | None = None
    ) -> str:
        now_s = int(self.parts.clock().timestamp()) + after_s
        signed = SignedRequest(method, target, body)
        return (key or self.owner_key).sign(signed, broker_id=self.parts.settings.broker_id, now_s=now_s)

    def add_grant(self, name: str = "loan-train", keys: tuple[ResourcePath, ...] = (KEY_PATH,), **policy: Any) -> None:
        self.parts.grants.add(make_grant(name, keys, **policy), self.parts.clock(), replace=True)

    def raw(self, request: bytes, *, after_answer: bytes = b"") -> bytes:
        """Send bytes as they are, over TLS, and read answers to the end."""
        url = self.http.base_url
        context = ssl.create_default_context(cafile=str(self.files.ca_certificate))
        plain = socket.create_connection((url.host, url.port or 443), 10)
        with context.wrap_socket(plain, server_hostname="localhost") as tls:
            tls.sendall(request)
            answer = b""
            while chunk := tls.recv(65536):
                answer += chunk
                if after_answer:
                    tls.sendall(after_answer)
                    after_answer = b""
        return answer

    def owner(self, method: str, target: str, body: bytes = b"", *, token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self.sign(method, target, body)}"}
        return self.http.request(method, target, content=body, headers=headers)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(record.record) for record in self.parts.log.read()]


@dataclass
class Kbc:
    """A client of the protocol that can be told to misbehave at every step."""

    http: httpx.Client
    platform: SimulatedPlatform
    key: SessionKey = field(default_factory=SessionKey.generate)

    def auth(self, **changes: object) -> httpx.Response:
        message: dict[str, object] = {"version": "0.4.0", "tee": "sgx", "extra-params": {}} | changes
        return self.http.post("/kbs/v0/auth", json=message)

    def nonce(self, **changes: object) -> str:
        return str(self.auth(**changes).json()["nonce"])

    def evidence(self, nonce: str, report_data: bytes | None = None) -> dict[str, Any]:
        quote = self.platform.quote(report_data or binding(nonce, self.key.public))
        return dict(Attestation(nonce, self.key.public, quote).to_json())

    def send(self, evidence: object) -> httpx.Response:
        return self.http.post("/kbs/v0/attest", json=evidence)

    def attest(self, **extra: object) -> httpx.Response:
        return self.send(self.evidence(self.nonce(**{"extra-params": extra})))

    def token(self) -> str:
        answer = self.attest()
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])

    def get(self, path: object = KEY_PATH, *, token: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self.http.get(f"/kbs/v0/resource/{path}", headers=headers)


class Service:
    """A broker process."""

    def __init__(self, folder: Path, *, environment: dict[str, str] | None = None) -> None:
        self.folder = BrokerFolder(folder)
        self.ready_file = folder.with_name(folder.name + ".ready")
        self.ready_file.unlink(missing_ok=True)
        self.log_file = folder.with_name(folder.name + ".log")
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "strongroom",
                    "broker",
                    "serve",
                    str(folder),
                    "--ready-file",
                    str(self.ready_file),
                ],
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def wait(self) -> "Service":
        deadline_s = time.monotonic() + START_S
        while not self.ready_file.exists():
            assert self.process.poll() is None, self.log_file.read_text()
            assert time.monotonic() < deadline_s, "the broker does not start"
            time.sleep(0.02)
        return self

    @property
    def url(self) -> str:
        return self.ready_file.read_text().strip()

    def owner(self) -> OwnerClient:
        return OwnerClient(self.folder.owner, url=self.url)

    def room(self) -> BrokerClient:
        return BrokerClient(BrokerAddress(self.url, self.folder.room / "ca.pem"))

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


class PostgresqlServer:
    """A PostgreSQL server of the tests' own, on a Unix socket and a loopback port; no commit waits for a disk."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs = programs
        self.folder = folder
        self._as: dict[str, Any] = {"user": UNPRIVILEGED, "extra_groups": []} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(folder, UNPRIVILEGED)
        self._run("initdb", "--pgdata", "data", "--username", "admin", "--auth", "trust", "--no-sync", "--locale", "C")
        self.port = free_port()
        self.settings: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def _run(self, program: str, *options: str) -> None:
        subprocess.run(
            [self.programs / program, *options], cwd=self.folder, check=True, capture_output=True, **self._as
        )

    def start(self) -> None:
        values = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "fsync": "off",
            **self.settings,
        }
        options = [part for name, value in values.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", "data", *options],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as,
            )
        self._watcher = end_with_us(self._process.pid)
        deadline_s = time.monotonic() + START_S
        while True:
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline_s, "PostgreSQL does not start"
            try:
                self.ask("SELECT 1")
            except OSError:
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        """End it as if its machine had lost power."""
        if self._watcher is not None:
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None

    def ask(self, *statements: str, database: str = "postgres") -> list[Any]:
        """Run statements as the database's administrator; rows of the last one.

        Raises:
            OSError: It does not answer.
        """
        import psycopg

        try:
            connection = psycopg.connect(
                host=str(self.folder),
                port=self.port,
                user="admin",
                dbname=database,
                client_encoding="utf8",
                autocommit=True,
            )
        except psycopg.OperationalError as error:
            raise OSError(str(error)) from None
        with connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def url(self, database: str, *, user: str = "admin") -> str:
        return f"postgresql://{user}@:{self.port}/{database}?host={self.folder}"

    def new_database(self, template: str = "template0") -> str:
        """Name of a new database, a copy of `template`."""
        self._databases += 1
        name = f"broker_{self._databases}"
        self.ask(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name


def end_with_us(pid: int) -> subprocess.Popen[bytes]:
    """A process that ends another one when this one ends, however it ends: its input is then closed."""
    command = ["/bin/sh", "-c", 'read _; kill -QUIT "$0"', str(pid)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)


def postgresql_programs() -> Path | None:
    """Folder of PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    initdb = found[-1] if found else Path(on_path).resolve() if on_path else None
    return initdb.parent if initdb else None


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A running server; skips, saying so, where PostgreSQL is not installed."""
    pytest.importorskip("psycopg", reason="PostgreSQL's driver is absent: install strongroom[postgresql]")
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL is absent: no initdb in /usr/lib/postgresql/*/bin or on PATH (apt install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short: a socket's path has at most 107 bytes
    try:
        server = PostgresqlServer(programs, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def new_service() -> Callable[..., Service]:
    """Starts a broker process."""
    return Service


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def machine() -> SimulatedMachine:
    return SimulatedMachine.build(NOW - timedelta(days=1))


@pytest.fixture(scope="session")
def stranger_machine() -> SimulatedMachine:
    """Another simulated machine, whose root the broker does not know."""
    return SimulatedMachine.build(NOW - timedelta(days=1))


@pytest.fixture
def platform(machine: SimulatedMachine) -> SimulatedPlatform:
    return machine.platform(mr_enclave=MR_ENCLAVE, isv_prod_id=1, isv_svn=1)


@pytest.fixture(scope="session")
def simulated_trust(machine: SimulatedMachine) -> SimulatedTrust:
    return SimulatedTrust(machine.root_der, machine.collateral().encode())


@pytest.fixture(scope="session")
def new_broker(tmp_path_factory: pytest.TempPathFactory, simulated_trust: SimulatedTrust) -> Path:
    """A broker as `create_broker` leaves it; tests work on copies."""
    return create_broker(tmp_path_factory.mktemp("new") / "broker", now=NOW, simulated=simulated_trust).root


@pytest.fixture(scope="session")
def new_shared_broker(
    tmp_path_factory: pytest.TempPathFactory, simulated_trust: SimulatedTrust, postgresql: PostgresqlServer
) -> tuple[Path, str]:
    """A broker on PostgreSQL as `create_broker` leaves it, and its database; tests work on copies of both."""
    database = postgresql.new_database()
    folder = tmp_path_factory.mktemp("new-shared") / "broker"
    create_broker(folder, now=NOW, simulated=simulated_trust, database_url=postgresql.url(database))
    return folder, database


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """Where the broker of a test has its tables: SQLite, unless the test asks for both."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def broker_folder(request: pytest.FixtureRequest, tmp_path: Path, database: str) -> Path:
    """A broker's folder in `tmp_path`, with a database of its own."""
    folder = tmp_path / "broker"
    if database == "sqlite":
        shutil.copytree(request.getfixturevalue("new_broker"), folder)
        return folder
    server: PostgresqlServer = request.getfixturevalue("postgresql")
    made, template = request.getfixturevalue("new_shared_broker")
    shutil.copytree(made, folder)
    settings = folder / "broker.toml"
    settings.write_text(settings.read_text().replace(f"/{template}?", f"/{server.new_database(template)}?"))
    return folder


OpenBroker = Callable[..., Broker]


@pytest.fixture
def open_broker(machine: SimulatedMachine, broker_folder: Path, clock: Clock) -> Iterator[OpenBroker]:
    """Opens the broker in `broker_folder`; several times: as replicas, if its database allows it."""
    with ExitStack() as stack:

        def make(
            audit: Callable[[AuditLog], AuditLog] = lambda log: log, *, wire: bool = False, **changes: object
        ) -> Broker:
            files = BrokerFolder(broker_folder)
            values = BrokerSettings(**(load_settings(files.settings).model_dump() | changes))
            simulated = (TrustRoot("simulated", machine.root_der),) if values.allow_simulated else ()
            verifier = InProcessVerifier(Trust((INTEL_ROOT, *simulated), files.collateral))
            parts = open_parts(files, values, verifier, clock=clock, monotonic_s=clock.monotonic_s, audit=audit)
            stack.callback(parts.close)
            app = create_app(parts)
            if wire:
                url = stack.enter_context(serving(app, files, values))
                context = ssl.create_default_context(cafile=str(files.ca_certificate))
                http = httpx.Client(base_url=url, verify=context, trust_env=False, timeout=60)
            else:
                http = httpx.Client(base_url="https://localhost", transport=InProcess(app))
            stack.enter_context(http)
            return Broker(files, parts, http, OwnerKey.load(files.owner / "admin.key"), verifier)

        yield make


@pytest.fixture
def wire_broker(open_broker: OpenBroker) -> Broker:
    """A broker behind TLS on a loopback port."""
    return open_broker(wire=True)


@pytest.fixture
def broker(open_broker: OpenBroker) -> Broker:
    return open_broker()


@pytest.fixture
def grant() -> Grant:
    return make_grant()


def make_policy(**changes: Any) -> AppraisalPolicy:
    values: dict[str, Any] = {
        "measurements": (EnclaveIdentity(MR_ENCLAVE),),
        "tees": frozenset({"sgx"}),
        "tcb_statuses": frozenset({"UpToDate"}),
        "advisories": (),
        "min_tcb_eval_data_number": ANY,
        "accept_simulated": True,
    }
    return AppraisalPolicy(**(values | changes))


def make_grant(name: str = "loan-train", keys: tuple[ResourcePath, ...] = (KEY_PATH,), **policy: Any) -> Grant:
    return Grant(name=name, policy=make_policy(**policy), keys=keys)


@pytest.fixture
def granted(broker: Broker, grant: Grant, clock: Clock) -> Broker:
    """A broker that holds a key and grants it to the enclave of `platform`."""
    broker.parts.keyring.create(KEY_PATH, KEY, clock())
    broker.parts.grants.add(grant, clock())
    return broker


@pytest.fixture
def kbc(granted: Broker, platform: SimulatedPlatform) -> Kbc:
    return Kbc(granted.http, platform)


@pytest.fixture
def client_of(platform: SimulatedPlatform) -> Callable[[Broker], Kbc]:
    """A client of any broker."""
    return lambda broker: Kbc(broker.http, platform)
