"""The running service: `strongroom broker serve` as a process of its own."""

import json
import os
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from strongroom.broker.client import OwnerClient
from strongroom.broker.folder import BrokerFolder
from strongroom.broker.setup import SimulatedTrust, create_broker
from strongroom.errors import StrongroomError, UnavailableError
from strongroom.formats.kbs import ResourcePath
from strongroom.platforms.simulated import SimulatedMachine, SimulatedPlatform

if TYPE_CHECKING:
    from tests.broker.conftest import Broker, Service

CANARY = b"CANARY-KEY-VALUE"


StartService = Callable[..., "Service"]


@pytest.fixture
def start(tmp_path: Path, simulated_trust: SimulatedTrust, new_service: StartService) -> Iterator[StartService]:
    with ExitStack() as stack:

        def begin(**options: Any) -> "Service":
            folder = tmp_path / "broker"
            if not folder.exists():
                create_broker(folder, now=datetime.now(UTC), port=0, simulated=simulated_trust)
            service = new_service(folder, **options)
            stack.callback(service.process.wait, 30)
            stack.callback(service.process.kill)
            return service.wait()

        yield begin


def authorize(client: OwnerClient, path: ResourcePath, broker_grant: Any) -> None:
    client.store_key(path, CANARY)
    client.add_grant(broker_grant)


@pytest.mark.slow
def test_serves_a_room_and_ends_cleanly(start: StartService, platform: SimulatedPlatform, grant: Any) -> None:
    service = start()
    path = grant.keys[0]
    with service.owner() as owner:
        authorize(owner, path, grant)
    with service.room() as room:
        assert room.attest(platform, workload=grant.name).fetch(path) == CANARY
    assert service.stop() == 0
    log = service.log_file.read_text()
    assert "SIMULATED" in log
    events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert events[-1]["event"] == "broker.stopped"
    (ready,) = [event for event in events if event["event"] == "broker.ready"]
    assert ready["simulated"] is True
    # One file, folded: no write-ahead log is left behind.
    assert sorted(file.name for file in service.folder.root.glob("broker.db*")) == ["broker.db"]


@pytest.mark.slow
def test_no_secret_reaches_the_service_log(
    start: StartService, platform: SimulatedPlatform, machine: SimulatedMachine, grant: Any
) -> None:
    service = start()
    path = grant.keys[0]
    context = ssl.create_default_context(cafile=str(service.folder.ca_certificate))
    http = httpx.Client(base_url=service.url, verify=context, trust_env=False, timeout=60)
    with service.owner() as owner, service.room() as room, http:
        authorize(owner, path, grant)
        session = room.attest(platform, workload=grant.name)
        session.fetch(path)
        owner.export_key(path)
        http.get(f"/kbs/v0/resource/{path}?CANARY-QUERY=1", headers={"Authorization": "Bearer CANARY.BEARER.TOKEN"})
        http.post("/kbs/v0/attest", content=b"CANARY-BODY", headers={"Cookie": "kbs-session-id=" + "CANARY" * 6})
        http.get("/CANARY%2fPATH")
        with pytest.raises(StrongroomError):
            room.attest(machine.platform(mr_enclave=b"\x11" * 32, isv_prod_id=1, isv_svn=1), workload="x")
        token = session._token
        challenge = http.post("/kbs/v0/auth", json={"version": "0.4.0", "tee": "sgx", "extra-params": {}})
    assert service.stop() == 0
    log = service.log_file.read_bytes()
    folder = service.folder
    secrets = [CANARY, b"CANARY", token.encode(), token.split(".")[2].encode(), folder.root_key.read_bytes()]
    secrets += [CANARY.hex().encode(), challenge.json()["nonce"].encode(), challenge.cookies["kbs-session-id"].encode()]
    secrets += [machine.facts.ppid.hex().encode(), b"eyJ"]
    assert [secret for secret in secrets if secret in log] == []
    audit_text = b"".join(record.record for record in _audit(folder))
    assert [secret for secret in secrets if secret in audit_text] == []
    assert b'"event":"release"' in audit_text


def _audit(folder: BrokerFolder) -> list[Any]:
    from strongroom.broker.parts import stored_log

    with stored_log(folder.root) as log:
        return log.read()


@pytest.mark.slow
def test_interrupt_ends_it_cleanly_too(start: StartService) -> None:
    service = start()
    assert service.stop(signal.SIGINT) == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_behind(start: StartService, number: int) -> None:
    service = start()
    children = set(_children(service.process.pid))
    assert len(children) >= 2
    service.stop(number)
    deadline_s = time.monotonic() + 15
    while time.monotonic() < deadline_s and any(Path(f"/proc/{pid}").exists() for pid in children):
        time.sleep(0.05)
    assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []


def _children(pid: int) -> Iterator[int]:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from _children(int(child))


@pytest.mark.slow
def test_acknowledged_keys_and_grants_survive_kill_9(start: StartService, grant: Any) -> None:
    import dataclasses
    import threading

    acknowledged: dict[str, bytes] = {}
    granted: set[str] = set()
    for attempt in range(5):
        service = start()

        def work(service: "Service" = service, attempt: int = attempt) -> None:
            with service.owner() as owner:
                number = 0
                try:
                    while True:
                        path = ResourcePath("durable", f"round-{attempt}", f"key-{number}")
                        value = os.urandom(16)
                        owner.store_key(path, value)
                        acknowledged[str(path)] = value
                        name = f"grant-{attempt}-{number}"
                        owner.add_grant(dataclasses.replace(grant, name=name))
                        granted.add(name)
                        number += 1
                except UnavailableError:
                    pass

        thread = threading.Thread(target=work)
        thread.start()
        deadline = time.monotonic() + 60
        while len(acknowledged) <= 3 * attempt + 2 and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.03 * attempt)  # another moment of its work each time
        os.kill(service.process.pid, signal.SIGKILL)
        service.process.wait(30)
        thread.join(60)
    assert len(acknowledged) > 10
    service = start()
    with service.owner() as owner:
        assert {key.path for key in owner.list_keys()} >= acknowledged.keys()
        assert {known.name for known in owner.list_grants()} >= granted
        for path, value in acknowledged.items():
            assert owner.export_key(ResourcePath.parse(path)) == value
    from strongroom.broker.parts import stored_log
    from strongroom.broker.records import verified

    service.stop()
    with stored_log(service.folder.root) as log:
        created = [json.loads(record.record).get("path") for record in verified(log.read)]
    assert {f"{path}@1" for path in acknowledged} <= set(created)


def test_says_that_the_address_is_taken(wire_broker: "Broker") -> None:
    from strongroom.broker.server import listening
    from strongroom.errors import ConfigurationError

    port = wire_broker.http.base_url.port or 0
    with pytest.raises(ConfigurationError) as refusal, listening("127.0.0.1", port):
        pass
    assert refusal.value.code == "broker.address"
