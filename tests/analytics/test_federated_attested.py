"""A certificate only after attestation: parties as workloads, against a real broker on a simulated machine."""

import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from strongroom.analytics.kms import LocalKms
from strongroom.analytics.receipts import verify_receipt
from strongroom.analytics.signing import Signer
from strongroom.analytics.versions import VersionsInMemory
from strongroom.analytics.writing import Protection, TableWriter, Writing
from strongroom.attestation.policy import ANY, AppraisalPolicy, EnclaveIdentity
from strongroom.attestation.roots import INTEL_ROOT, TrustRoot
from strongroom.broker.app import create_app
from strongroom.broker.grants import Grant
from strongroom.broker.parts import Parts, open_parts
from strongroom.broker.server import serving
from strongroom.broker.settings import load_settings
from strongroom.broker.setup import SimulatedTrust, create_broker
from strongroom.broker.verifier import Trust, verify_with
from strongroom.cli.trial import free_port
from strongroom.formats.kbs import ResourcePath
from strongroom.platforms.simulated import SimulatedMachine
from strongroom.workload import load_workload, measure

pytestmark = pytest.mark.slow

SECRET = "fl/key/federation"
PARTIES = 2
DEADLINE_S = 300
SIGNER = Signer.from_seed(b"s" * 32)


def keys_of(rank: int) -> dict[str, bytes]:
    return {f"p{rank}/key/rows": bytes([rank + 1]) * 32, f"p{rank}/key/model": bytes([rank + 100]) * 16}


@dataclass
class Federation:
    """A broker, a simulated machine, and one folder for every workload."""

    folder: Path
    parts: Parts
    environment: dict[str, str]
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def define(self, name: str, keys: dict[str, str]) -> None:
        """A workload that the broker accepts with exactly these keys; the last may be taken out again."""
        place = self.folder / name
        place.mkdir(exist_ok=True)
        (place / "query.sql").write_text("SELECT a, b, label FROM loans")
        aliases = "".join(f'{alias} = "{path}"\n' for alias, path in keys.items())
        text = f"""
            name = "{name}"
            command = ["strongroom", "analytics", "federate"]
            product_id = 1
            security_version = 1
            trusted_files = ["query.sql"]
            [keys]
        """
        (place / "workload.toml").write_text(textwrap.dedent(text) + aliases)

    def authorize(self, name: str, *, without: str = "") -> None:
        workload = load_workload(self.folder / name / "workload.toml")
        policy = AppraisalPolicy(
            measurements=(EnclaveIdentity(measure(workload).mr_enclave),),
            tees=frozenset({"sgx"}),
            tcb_statuses=frozenset({"UpToDate"}),
            advisories=(),
            min_tcb_eval_data_number=ANY,
            accept_simulated=True,
        )
        paths = tuple(ResourcePath.parse(path) for path in workload.keys.values() if path != without)
        self.parts.grants.add(Grant(name=name, policy=policy, keys=paths), datetime.now(UTC), replace=True)

    def start(self, name: str, *arguments: str) -> "subprocess.Popen[str]":
        place = self.folder / name
        process = subprocess.Popen(
            [sys.executable, "-m", "strongroom", "analytics", "federate", *arguments],
            env=self.environment | {"STRONGROOM_WORKLOAD": str(place / "workload.toml")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=place,
        )
        self.running.append(process)
        return process

    def start_coordinator(self, address: str) -> None:
        self.start("coordinator", "coordinator", "--coordinator", address, "--parties", "2", "--secret", SECRET)

    def start_party(self, rank: int, address: str) -> "subprocess.Popen[str]":
        options = {
            "--table": f"loans={self.folder / f'loans-{rank}'}",
            "--trust": SIGNER.public.hex(),
            "--coordinator": address,
            "--parties": str(PARTIES),
            "--rank": str(rank),
            "--secret": SECRET,
            "--model": "model.sealed",
            "--model-key": f"p{rank}/key/model",
            "--rounds": "3",
            "--receipt": "receipt.json",
            "--timeout": "120",
        }
        return self.start(f"p{rank}", "party", "query.sql", *(text for pair in options.items() for text in pair))


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    machine_folder, now = tmp_path / "machine", datetime.now(UTC)
    machine = SimulatedMachine.create(machine_folder, now)
    files = create_broker(
        tmp_path / "broker", now=now, simulated=SimulatedTrust(machine.root_der, machine.collateral().encode())
    )
    values = load_settings(files.settings)
    verifier = _InProcess(Trust((INTEL_ROOT, TrustRoot("simulated", machine.root_der)), files.collateral))
    parts = open_parts(files, values, verifier, clock=lambda: datetime.now(UTC))
    parts.keyring.create(ResourcePath.parse(SECRET), b"CANARY-federation-secret-CANARY!", now)
    for rank in range(PARTIES):
        for name, key in keys_of(rank).items():
            parts.keyring.create(ResourcePath.parse(name), key, now)
        write_rows(tmp_path / f"loans-{rank}", rank)
    with serving(create_app(parts), files, values) as url:
        room = tmp_path / "room"
        room.mkdir()
        (room / "room.toml").write_text(f'url = "{url}"\n')
        (room / "ca.pem").write_bytes(files.ca_certificate.read_bytes())
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "STRONGROOM_ROOM": str(room),
            "STRONGROOM_PLATFORM": "simulated",
            "STRONGROOM_SIMULATED_MACHINE": str(machine_folder),
        }
        made = Federation(tmp_path, parts, environment)
        for rank in range(PARTIES):
            rows, model = keys_of(rank)
            made.define(f"p{rank}", {"rows": rows, "model": model, "federation": SECRET})
            made.authorize(f"p{rank}")
        made.define("coordinator", {"federation": SECRET})
        made.authorize("coordinator")
        yield made
        for process in made.running:
            process.kill()
            process.communicate()
    parts.close()


class _InProcess:
    def __init__(self, trust: Trust) -> None:
        self._trust = trust

    def verify(self, quote: bytes, now: datetime) -> Any:
        return verify_with(self._trust, quote, now)


def write_rows(folder: Path, rank: int) -> None:
    random = np.random.default_rng(rank)
    a, b = random.normal(size=500), random.normal(size=500)
    rows = pa.table({"a": a, "b": b, "label": (a * b > 0).astype(np.int64)})
    key = f"p{rank}/key/rows"
    writing = Writing(LocalKms.holding(keys_of(rank)), SIGNER, VersionsInMemory())
    with TableWriter(folder, "loans", rows.schema, Protection(key), writing=writing) as writer:
        writer.write(rows)


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


def receipt_of(file: Path) -> dict[str, Any]:
    raw = file.read_bytes()
    return verify_receipt(raw, trusted=frozenset({bytes.fromhex(json.loads(raw)["signer"])}))


def private_keys() -> set[Path]:
    """Of every process on this machine, where this part of Strongroom puts them."""
    return set(Path("/dev/shm").glob("strongroom-*/private.pem"))


@pytest.mark.parametrize("fault", ["changed code", "no grant for the federation", "deleted secret"])
def test_without_attestation_there_is_no_certificate_and_nobody_is_asked(federation: Federation, fault: str) -> None:
    before = private_keys()
    if fault == "changed code":
        (federation.folder / "p0" / "query.sql").write_text("SELECT *, 1 AS label FROM loans")
    elif fault == "no grant for the federation":
        federation.authorize("p0", without=SECRET)
    else:
        federation.parts.keyring.delete(ResourcePath.parse(SECRET), datetime.now(UTC))
    with socket.create_server(("127.0.0.1", 0)) as coordinator:
        coordinator.settimeout(0)
        status, out, err = ended(federation.start_party(0, f"127.0.0.1:{coordinator.getsockname()[1]}"))
        with pytest.raises(BlockingIOError):
            coordinator.accept()
    assert status == 4 and out == "" and "error:" in err, err
    assert private_keys() == before
    assert not (federation.folder / "p0" / "model.sealed").exists()


def test_a_coordinator_that_is_not_attested_does_not_start(federation: Federation) -> None:
    (federation.folder / "coordinator" / "query.sql").write_text("changed")
    federation.start_coordinator(f"127.0.0.1:{free_port()}")
    status, _out, err = ended(federation.running[0])
    assert status == 4 and "coordinating" not in err


def test_a_party_without_the_key_of_its_rows_does_not_train(federation: Federation) -> None:
    federation.authorize("p0", without="p0/key/rows")
    status, out, err = ended(federation.start_party(0, "127.0.0.1:1"))
    assert status == 4 and out == "" and "error:" in err


def test_attested_parties_train_one_model(federation: Federation) -> None:
    xgboost = pytest.importorskip("xgboost")
    if not xgboost.build_info().get("USE_FEDERATED"):
        pytest.skip("xgboost-cpu is built without the federated communicator; install strongroom[federated] instead")
    address = f"127.0.0.1:{free_port()}"
    federation.start_coordinator(address)
    answers = [ended(party) for party in [federation.start_party(rank, address) for rank in range(PARTIES)]]
    assert [status for status, _out, _err in answers] == [0, 0], answers
    models = {json.loads(out)["model"] for _status, out, _err in answers}
    assert len(models) == 1
    stated = [receipt_of(federation.folder / f"p{rank}" / "receipt.json") for rank in range(PARTIES)]
    assert all(worker["quote"] for statement in stated for worker in statement["workers"])
    model = models.pop()
    assert all(model in [made["digest"] for made in statement["outputs"]] for statement in stated)
    together = [statement["federation"] for statement in stated]
    assert [each.pop("rank") for each in together] == list(range(PARTIES))
    assert together[0] == together[1]
    assert (together[0]["coordinator"], together[0]["parties"], together[0]["rounds"]) == (address, PARTIES, 3)
    assert together[0]["parameters"]["objective"] == "binary:logistic"
    assert not [text for answer in answers for text in answer[1:] if "CANARY" in text]
