"""How many attestations and key releases a broker serves, through TLS, verification, policy, log and disk.

    python benchmarks/broker.py [--attestations 1000] [--releases 3000] [--clients 4] [--folder DIR]

The broker runs as `strongroom broker serve`, with default settings but for the rate of one address and the number of
live tokens. The clients are threads of this process on the same machine: they make a quote for each attestation and
share the processors with the broker, so requests a second are a lower bound. Milliseconds are processor time of the
broker's own processes, which other work on the machine does not change much.
"""

import argparse
import json
import os
import platform as host
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from strongroom.attestation.policy import ANY, AppraisalPolicy, EnclaveIdentity
from strongroom.broker.client import OwnerClient
from strongroom.broker.folder import BrokerFolder
from strongroom.broker.grants import Grant
from strongroom.broker.setup import SimulatedTrust, create_broker
from strongroom.formats.kbs import ResourcePath
from strongroom.platforms.simulated import SimulatedMachine, SimulatedPlatform
from strongroom.room.client import BrokerAddress, BrokerClient

RESULT = Path(__file__).parent / "results" / "broker.json"
PATH = ResourcePath("bench", "key", "one")
ENVIRONMENT = {
    "STRONGROOM_BROKER_REQUESTS_PER_S": "100000",
    "STRONGROOM_BROKER_REQUEST_BURST": "100000",
    "STRONGROOM_BROKER_MAX_TOKENS": "1000000",
}


@contextmanager
def running_broker(folder: Path, machine: SimulatedMachine) -> Iterator[tuple[BrokerFolder, str, int]]:
    trust = SimulatedTrust(machine.root_der, machine.collateral().encode())
    files = create_broker(folder / "broker", now=datetime.now(UTC), port=0, simulated=trust)
    ready = folder / "ready"
    command = [sys.executable, "-m", "strongroom", "broker", "serve", str(files.root), "--ready-file", str(ready)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env={**os.environ, **ENVIRONMENT})
    try:
        while not ready.exists():
            if process.poll() is not None:
                sys.exit((folder / "log").read_text())
            time.sleep(0.02)
        yield files, ready.read_text().strip(), process.pid
    finally:
        process.terminate()
        process.wait(30)


def cpu_s(pid: int) -> float:
    """Processor time of a process and its descendants, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(cpu_s(int(child)) for child in children)


def measure(count: int, clients: int, pid: int, work: Callable[[], Callable[[], object]]) -> dict[str, float]:
    """`count` calls by `clients` threads; each thread makes its own call with `work`."""
    calls = [work() for _ in range(clients)]
    threads = [threading.Thread(target=lambda call=call: [call() for _ in range(count // clients)]) for call in calls]
    cpu_before, started_s = cpu_s(pid), time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done, wall_s = count // clients * clients, time.perf_counter() - started_s
    return {
        "count": done,
        "per_s": round(done / wall_s, 1),
        "broker_cpu_ms_each": round((cpu_s(pid) - cpu_before) * 1000 / done, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--attestations", type=int, default=1000)
    parser.add_argument("--releases", type=int, default=3000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where the database is; default: the temporary folder"
    )
    options = parser.parse_args()
    machine = SimulatedMachine.build(datetime.now(UTC))
    platform = machine.platform(mr_enclave=bytes(32), isv_prod_id=1, isv_svn=1)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, running_broker(Path(folder), machine) as running:
        files, url, pid = running
        grant(files, url)
        result = {
            "machine": f"{host.machine()}, {os.cpu_count()} processors",
            "python": host.python_version(),
            "clients": options.clients,
            "attest": measure(options.attestations, options.clients, pid, lambda: attesting(files, url, platform)),
            "release": measure(options.releases, options.clients, pid, lambda: releasing(files, url, platform)),
        }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def grant(files: BrokerFolder, url: str) -> None:
    policy = AppraisalPolicy(
        measurements=(EnclaveIdentity(bytes(32)),),
        tees=frozenset({"sgx"}),
        tcb_statuses=frozenset({"UpToDate"}),
        advisories=(),
        min_tcb_eval_data_number=ANY,
        accept_simulated=True,
    )
    with OwnerClient(files.owner, url=url) as owner:
        owner.create_key(PATH)
        owner.add_grant(Grant(name="bench", policy=policy, keys=(PATH,)))


def attesting(files: BrokerFolder, url: str, platform: SimulatedPlatform) -> Callable[[], object]:
    """Challenge, quote, attestation: two requests."""
    client = BrokerClient(BrokerAddress(url, files.room / "ca.pem"))
    return lambda: client.attest(platform, workload="bench")


def releasing(files: BrokerFolder, url: str, platform: SimulatedPlatform) -> Callable[[], object]:
    """One request for a key and its decryption."""
    session = BrokerClient(BrokerAddress(url, files.room / "ca.pem")).attest(platform, workload="bench")
    return lambda: session.fetch(PATH)


if __name__ == "__main__":
    main()
