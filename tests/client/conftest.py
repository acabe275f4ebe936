"""An attested model server on a simulated machine, and what its clients believe."""

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from strongroom.attestation.claims import Claims
from strongroom.attestation.collateral import Collateral
from strongroom.attestation.policy import AppraisalPolicy, EnclaveIdentity
from strongroom.attestation.roots import TrustRoot
from strongroom.attestation.verify import verify_quote
from strongroom.client import Trust
from strongroom.platforms.simulated import SimulatedMachine, SimulatedPlatform
from strongroom.ratls.certificate import attested_certificate
from strongroom.serving.config.tls import Tls
from strongroom.serving.engines.identity import IdentityMaker
from strongroom.serving.identity import AttestedIdentity
from strongroom.serving.models.policy import ModelSettings
from strongroom.serving.models.storage import DangerousPlaintextFolder
from strongroom.serving.server import ModelServer, ServerOptions

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
MR_ENCLAVE = b"\xab" * 32
RENEW_S = 1000.0


@pytest.fixture(scope="session")
def machine() -> SimulatedMachine:
    return SimulatedMachine.build(NOW)


@pytest.fixture(scope="session")
def platform(machine: SimulatedMachine) -> SimulatedPlatform:
    return machine.platform(mr_enclave=MR_ENCLAVE, mr_signer=b"\xcd" * 32, isv_prod_id=7, isv_svn=3)


@pytest.fixture(scope="session")
def trust(machine: SimulatedMachine) -> Trust:
    collateral = Collateral.from_json(machine.collateral())
    root = TrustRoot("simulated", machine.root_der)

    def genuine(quote: bytes, now: dt.datetime) -> Claims:
        return verify_quote(quote, collateral, root, now).claims

    policy = AppraisalPolicy(
        measurements=(EnclaveIdentity(MR_ENCLAVE),),
        tees=frozenset({"sgx"}),
        tcb_statuses=frozenset({"UpToDate"}),
        advisories=(),
        min_tcb_eval_data_number=0,
        accept_simulated=True,
    )
    return Trust(genuine, policy, now=lambda: NOW)


@pytest.fixture(scope="session")
def wary(trust: Trust) -> Trust:
    """Believes another enclave only."""
    return replace(trust, policy=replace(trust.policy, measurements=(EnclaveIdentity(b"\x01" * 32),)))


@dataclass
class Site:
    """A running server, its identity, and the hand on its clock."""

    server: ModelServer
    identity: AttestedIdentity
    tls: Tls | None
    elapsed: list[float]

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.server.grpc_port}"

    @property
    def rest(self) -> str:
        return f"127.0.0.1:{self.server.rest_port}"

    def renew(self, times: int = 1) -> None:
        for _ in range(times):
            self.elapsed[0] += RENEW_S
            self.identity.material()
            if self.tls is not None:
                assert self.tls.renew()


Start = Callable[..., Site]


@pytest.fixture
def start(platform: SimulatedPlatform, tmp_path: Path) -> Iterator[Start]:
    """Start an attested server; with ``tls=False`` one behind somebody who ends TLS."""
    (tmp_path / "echo/1").mkdir(parents=True)
    (tmp_path / "echo/1/identity.toml").write_text(
        '[tensors]\nx = {datatype = "FP32", shape = [-1]}\ntext = {datatype = "BYTES", shape = [-1]}\n'
    )
    started: list[ModelServer] = []

    def make(*, tls: bool = True, client_ca: bytes = b"", **options: Any) -> Site:
        elapsed = [0.0]
        identity = AttestedIdentity(
            lambda: attested_certificate(platform, kind="p256", names=[x509.DNSName("strongroom")]),
            RENEW_S,
            lambda: elapsed[0],
        )
        over = Tls(lambda: replace(identity.material(), client_ca=client_ca)) if tls else None
        given = ServerOptions((ModelSettings("echo", "echo"),), grpc_port=0, rest_port=0, poll_wait_s=0, drain_s=5)
        server = ModelServer(
            replace(given, **options), DangerousPlaintextFolder(tmp_path), [IdentityMaker()], over, identity
        )
        started.append(server)
        server.start()
        return Site(server, identity, over, elapsed)

    yield make
    for server in started:
        server.drain()
