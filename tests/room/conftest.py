"""A real broker on loopback, a simulated machine and a workload: what a room needs."""

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from strongroom.attestation.claims import Claims
from strongroom.attestation.policy import ANY, AppraisalPolicy, EnclaveIdentity
from strongroom.attestation.roots import INTEL_ROOT, TrustRoot
from strongroom.broker.app import create_app
from strongroom.broker.grants import Grant
from strongroom.broker.parts import Parts, open_parts
from strongroom.broker.server import serving
from strongroom.broker.settings import load_settings
from strongroom.broker.setup import SimulatedTrust, create_broker
from strongroom.broker.verifier import Trust, verify_with
from strongroom.formats.kbs import ResourcePath
from strongroom.platforms import Platform
from strongroom.platforms.simulated import SimulatedMachine
from strongroom.room import BrokerAddress, Room, enter_room
from strongroom.workload import load_workload, measure
from strongroom.workload.definition import Workload

DATA_KEY = b"data-key-16bytes"
OUT_KEY = b"outs-key-16bytes"
DEFINITION = """
    name = "hello"
    command = ["python3", "hello.py"]
    product_id = 1
    security_version = 1
    trusted_files = ["hello.py"]
    [keys]
    data = "hello/key/data"
    out = "hello/key/out"
    [[mounts]]
    path = "data"
    key = "data"
    mode = "read"
    [[mounts]]
    path = "out"
    key = "out"
    mode = "read-write"
"""


@dataclass
class World:
    """Everything around a room."""

    parts: Parts
    address: BrokerAddress
    machine: SimulatedMachine
    workload: Workload
    storage: Path

    def platform(self, workload: Workload | None = None) -> Platform:
        of = workload or self.workload
        return self.machine.platform(
            mr_enclave=measure(of).mr_enclave, isv_prod_id=of.product_id, isv_svn=of.security_version
        )

    def authorize(self, *, simulated: bool = True, keys: tuple[str, ...] = ("data", "out")) -> None:
        policy = AppraisalPolicy(
            measurements=(EnclaveIdentity(measure(self.workload).mr_enclave),),
            tees=frozenset({"sgx"}),
            tcb_statuses=frozenset({"UpToDate"}),
            advisories=(),
            min_tcb_eval_data_number=ANY,
            accept_simulated=simulated,
        )
        paths = tuple(ResourcePath("hello", "key", name) for name in keys)
        self.parts.grants.add(Grant(name="hello", policy=policy, keys=paths), datetime.now(UTC), replace=True)

    def enter(self) -> Room:
        return enter_room(self.platform(), self.address, self.workload, self.storage)


class InProcess:
    """The real verification, without processes."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust

    def verify(self, quote: bytes, now: datetime) -> Claims:
        return verify_with(self._trust, quote, now)


@pytest.fixture(scope="session")
def machine() -> SimulatedMachine:
    return SimulatedMachine.build(datetime.now(UTC).replace(microsecond=0) - timedelta(days=1))


@pytest.fixture
def world(tmp_path: Path, machine: SimulatedMachine) -> Iterator[World]:
    folder = tmp_path / "workload"
    folder.mkdir()
    (folder / "hello.py").write_text("print('hello')\n")
    (folder / "hello.toml").write_text(textwrap.dedent(DEFINITION))
    trust = SimulatedTrust(machine.root_der, machine.collateral().encode())
    now = datetime.now(UTC)
    files = create_broker(tmp_path / "broker", now=now, simulated=trust)
    values = load_settings(files.settings)
    roots = (INTEL_ROOT, TrustRoot("simulated", machine.root_der))
    parts = open_parts(files, values, InProcess(Trust(roots, files.collateral)), clock=lambda: datetime.now(UTC))
    parts.keyring.create(ResourcePath.parse("hello/key/data"), DATA_KEY, now)
    parts.keyring.create(ResourcePath.parse("hello/key/out"), OUT_KEY, now)
    storage = tmp_path / "storage"
    storage.mkdir()
    with serving(create_app(parts), files, values) as url:
        address = BrokerAddress(url, files.ca_certificate)
        yield World(parts, address, machine, load_workload(folder / "hello.toml"), storage)
    parts.close()


@pytest.fixture
def authorized(world: World) -> World:
    world.authorize()
    return world


ChangeCode = Callable[[], None]


@pytest.fixture
def change_code(world: World) -> ChangeCode:
    """Appends one line to the workload's code."""

    def change() -> None:
        script = world.workload.folder / "hello.py"
        script.write_text(script.read_text() + "print('more')\n")

    return change
