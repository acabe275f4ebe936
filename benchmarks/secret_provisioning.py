"""How many attested clients are provisioned a second, beside the same machine's bare TLS handshakes, in one run.

    python benchmarks/secret_provisioning.py [--seconds 5] [--clients 1 16 64] [--rounds 3]

A provision is everything: TCP, TLS 1.2 with both certificates, request, verification of the certificate and of its
quote (in processes of their own), policy, key from the wrapped store, audit record on the disk, answer, goodbye. The
bare line is the same server and the same clients with a decision that answers at once. Clients are threads of one other
process and use a certificate made beforehand: on hardware making the quote is the client's own time. Rounds are
interleaved, so that a busy machine slows all lines alike; the median is told. Broker folder in memory (--folder).
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cryptography
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from strongroom.attestation.policy import ANY, AppraisalPolicy, EnclaveIdentity
from strongroom.broker.folder import BrokerFolder
from strongroom.broker.grants import Grant
from strongroom.broker.parts import open_parts
from strongroom.broker.provisioning_server import (
    ProvisioningLimits,
    ProvisioningServer,
    provisioning,
    provisioning_context,
)
from strongroom.broker.server import listening
from strongroom.broker.settings import BrokerSettings, load_settings
from strongroom.broker.setup import SimulatedTrust, create_broker
from strongroom.broker.verifier import VerifierPool, trust
from strongroom.formats.kbs import ResourcePath
from strongroom.formats.secret_provisioning import HEADER_SIZE, REQUEST, parse_response_header
from strongroom.platforms.simulated import SimulatedMachine
from strongroom.ratls.address import Address
from strongroom.ratls.certificate import attested_certificate
from strongroom.ratls.connection import TlsConnection
from strongroom.ratls.tls import client_context

KEY = b"SIXTEEN-BYTE-KEY"
PATH = ResourcePath("bench", "key", "wrap")
CODE = b"\xab" * 32
RESULT = Path(__file__).parent / "results" / "secret_provisioning.json"


@dataclass
class Line:
    """One line of the table."""

    what: str
    clients: int
    per_s: float
    p50_ms: float
    p99_ms: float
    failures: int


def hammer(port: int, certificate_der: bytes, key_pem: bytes, clients: int, seconds: float) -> tuple[list[float], int]:
    """What the client process does: `clients` threads, each one provision after the other. Durations in seconds."""
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    context = client_context(None, [x509.load_der_x509_certificate(certificate_der)], key)
    address = Address("localhost", port)
    durations: list[float] = []
    failures = [0] * clients
    end = time.monotonic() + seconds

    def client(number: int) -> None:
        while time.monotonic() < end:
            started = time.monotonic()
            try:
                with TlsConnection(address, context, timeout_s=60) as connection:
                    connection.write(REQUEST)
                    size = parse_response_header(connection.read_exactly(HEADER_SIZE))
                    assert connection.read_exactly(size) == KEY
                durations.append(time.monotonic() - started)
            except Exception:
                failures[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return durations, sum(failures)


def quantile(durations: list[float], share: float) -> float:
    return sorted(durations)[min(len(durations) - 1, int(len(durations) * share))] * 1000 if durations else float("nan")


def alone(work: Callable[[], object], count: int = 100) -> float:
    """Milliseconds of one call, median."""
    durations = []
    for _ in range(count):
        started = time.perf_counter()
        work()
        durations.append(time.perf_counter() - started)
    return statistics.median(durations) * 1000


def at_once(work: Callable[[], object], seconds: float) -> float:
    """Calls a second from 16 threads."""
    end = time.monotonic() + seconds
    counts = [0] * 16

    def repeat(number: int) -> None:
        while time.monotonic() < end:
            work()
            counts[number] += 1

    threads = [threading.Thread(target=repeat, args=(number,)) for number in range(len(counts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        result = run(Path(folder) / "broker", options)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    now = datetime.now(UTC)
    machine = SimulatedMachine.build(now - timedelta(days=1))
    simulated = SimulatedTrust(machine.root_der, machine.collateral().encode())
    files: BrokerFolder = create_broker(folder, now=now, simulated=simulated)
    values = load_settings(files.settings).model_dump() | {"requests_per_s": 100_000.0, "request_burst": 100_000}
    verifiers = VerifierPool(trust(files.collateral, files.simulated_root), processes=2, timeout_s=60)
    with contextlib.closing(verifiers) as pool:
        pool.warm_up()
        parts = open_parts(files, BrokerSettings(**values), pool)
        try:
            parts.keyring.create(PATH, KEY, parts.clock())
            parts.grants.add(grant(), parts.clock())
            enclave = machine.platform(mr_enclave=CODE, isv_prod_id=1, isv_svn=1)
            shown = attested_certificate(enclave)
            key = shown.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            quote = enclave.quote(bytes(64))
            costs = {
                "decision_ms": alone(lambda: parts.provisioning.provide(shown.der, None)),
                "quote_verification_ms": alone(lambda: pool.verify(quote, parts.clock())),
                "client_certificate_and_two_simulated_quotes_ms": alone(lambda: attested_certificate(enclave), 20),
            }
            decisions = {"bare TLS": lambda _certificate, _name: KEY, "provision": parts.provisioning.provide}
            costs["quote_checks_per_s"] = at_once(lambda: pool.verify(quote, parts.clock()), options.seconds)
            lines = measure(
                decisions, files, options, lambda port, clients: (port, shown.der, key, clients, options.seconds)
            )
        finally:
            parts.close()
    for line in lines:
        print(
            f"{line.what:<10} {line.clients:>3} clients  {line.per_s:>7.1f}/s  p50 {line.p50_ms:>7.1f} ms  "
            f"p99 {line.p99_ms:>7.1f} ms  failures {line.failures}"
        )
    for name, cost in costs.items():
        print(f"{name:<50} {cost:.2f}")
    return {
        "python": platform.python_version(),
        "cryptography": cryptography.__version__,
        "processors": os.cpu_count(),
        "load_average": os.getloadavg(),
        "seconds": options.seconds,
        "rounds": options.rounds,
        "one_at_a_time": costs,
        "lines": [asdict(line) for line in lines],
    }


def grant() -> Grant:
    policy = AppraisalPolicy(
        measurements=(EnclaveIdentity(CODE),),
        tees=frozenset({"sgx"}),
        tcb_statuses=frozenset({"UpToDate"}),
        advisories=(),
        min_tcb_eval_data_number=ANY,
        accept_simulated=True,
    )
    return Grant(name="bench", policy=policy, keys=(PATH,), provision=PATH)


def measure(
    decisions: dict[str, Callable[[bytes, str | None], bytes]],
    files: BrokerFolder,
    options: argparse.Namespace,
    arguments: Callable[[int, int], tuple[Any, ...]],
) -> list[Line]:
    rounds: dict[tuple[str, int], list[Line]] = {}
    limits = ProvisioningLimits(512, 60, 60, 60)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as process:
        for _ in range(options.rounds):
            for clients in options.clients:
                for what, decide in decisions.items():
                    server = ProvisioningServer(decide, lambda _address: None, provisioning_context(files), limits)
                    with listening("127.0.0.1", 0) as listener, provisioning(server, listener):
                        port = listener.getsockname()[1]
                        durations, failures = process.submit(hammer, *arguments(port, clients)).result()
                    line = Line(
                        what,
                        clients,
                        len(durations) / options.seconds,
                        quantile(durations, 0.5),
                        quantile(durations, 0.99),
                        failures,
                    )
                    rounds.setdefault((what, clients), []).append(line)
    return [
        Line(
            what,
            clients,
            statistics.median(line.per_s for line in lines),
            statistics.median(line.p50_ms for line in lines),
            statistics.median(line.p99_ms for line in lines),
            sum(line.failures for line in lines),
        )
        for (what, clients), lines in rounds.items()
    ]


if __name__ == "__main__":
    main()
