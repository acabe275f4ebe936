"""`strongroom broker serve` with a provisioning port, as a process of its own."""

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from strongroom.attestation.policy import ANY, AppraisalPolicy, EnclaveIdentity
from strongroom.broker.folder import BrokerFolder
from strongroom.broker.grants import Grant
from strongroom.broker.parts import open_parts
from strongroom.broker.settings import load_settings
from strongroom.broker.setup import SimulatedTrust, create_broker
from strongroom.errors import KeyReleaseError
from strongroom.formats.kbs import ResourcePath
from strongroom.platforms.simulated import SimulatedMachine
from strongroom.ratls.address import Address
from strongroom.room.provisioning import fetch_provisioned

PATH = ResourcePath("serving", "key", "model")


class Nobody:
    """Only fills the broker's database; the process that is started verifies for itself."""

    def verify(self, quote: bytes, now: datetime) -> object:
        raise AssertionError


@pytest.fixture
def machine() -> SimulatedMachine:
    return SimulatedMachine.build(datetime.now(UTC))


@pytest.fixture
def files(tmp_path: Path, machine: SimulatedMachine) -> BrokerFolder:
    simulated = SimulatedTrust(machine.root_der, machine.collateral().encode())
    made = create_broker(tmp_path / "broker", now=datetime.now(UTC), port=0, simulated=simulated)
    made.settings.write_text(made.settings.read_text() + "provisioning_port = 0\n")
    parts = open_parts(made, load_settings(made.settings), Nobody())  # type: ignore[arg-type]  # never asked
    policy = AppraisalPolicy(
        measurements=(EnclaveIdentity(b"\xab" * 32),),
        tees=frozenset({"sgx"}),
        tcb_statuses=frozenset({"UpToDate"}),
        advisories=(),
        min_tcb_eval_data_number=ANY,
        accept_simulated=True,
    )
    parts.keyring.create(PATH, b"SIXTEEN-BYTE-KEY", parts.clock())
    parts.grants.add(Grant(name="serving", policy=policy, keys=(PATH,), provision=PATH), parts.clock())
    parts.close()
    return made


def test_serves_both_ports_and_ends_cleanly(files: BrokerFolder, machine: SimulatedMachine) -> None:
    command = [sys.executable, "-m", "strongroom", "broker", "serve", str(files.root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as broker:
        assert broker.stderr is not None
        try:
            port = 0
            for line in broker.stderr:
                event = json.loads(line) if line.startswith("{") else {}
                port = event.get("port", port) if event.get("event") == "provisioning.ready" else port
                if event.get("event") == "broker.ready":
                    break
            address = Address("localhost", port)
            good = machine.platform(mr_enclave=b"\xab" * 32, isv_prod_id=1, isv_svn=1)
            bad = machine.platform(mr_enclave=b"\x01" * 32, isv_prod_id=1, isv_svn=1)
            assert fetch_provisioned(good, address, files.ca_certificate) == b"SIXTEEN-BYTE-KEY"
            with pytest.raises(KeyReleaseError):
                fetch_provisioned(bad, address, files.ca_certificate)
        finally:
            broker.send_signal(signal.SIGTERM)
            _, rest = broker.communicate(timeout=60)
    assert broker.returncode == 0, rest
    assert "SIXTEEN" not in rest
