"""A pod on a confidential node: its own command, the relay in a process of its own, a broker on loopback.

The node is what `aks-cvm` renders; the pod finds evidence only through the folder that is lent to it. AMD and the
virtual TPM are doubles; everything between them and the key is not.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from strongroom.attestation.amd_collateral import AmdCollateral
from strongroom.attestation.claims import Claims
from strongroom.attestation.policy import ANY, SnpIdentity, VtpmIdentity
from strongroom.attestation.roots import INTEL_ROOT, AmdRoot
from strongroom.broker.amd_collateral import store_amd_collateral
from strongroom.broker.app import create_app
from strongroom.broker.grants import Grant
from strongroom.broker.parts import open_parts
from strongroom.broker.server import serving
from strongroom.broker.settings import load_settings
from strongroom.broker.setup import create_broker
from strongroom.broker.verifier import Trust, verify_with
from strongroom.cli.policy_file import load_policy
from strongroom.deployment.kubernetes.nodes import SIZES
from strongroom.deployment.kubernetes.render import render
from strongroom.deployment.kubernetes.site import Site
from strongroom.deployment.kubernetes.site_file import load_site
from strongroom.deployment.kubernetes.template import write_site
from strongroom.formats.kbs import ResourcePath
from strongroom.room.files import open_sealed

HERE = Path(__file__).parent
KEYS = {
    "results": b"results-16-bytes",
    "book": b"book-of-16-bytes",
    "model": b"model-of-16bytes",
    "processed": b"0" * 16,
}
SAID = b"written inside the room"
SCRIPT = """
import strongroom

with strongroom.enter() as room, room.create("results/said.txt") as sink:
    sink.write({said!r})
"""


class InProcess:
    """The broker's verification, without processes."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust

    def verify(self, quote: bytes, now: datetime) -> Claims:
        return verify_with(self._trust, quote, now)


class Confidential:
    """A confidential node with its relay, and a broker that believes the double of AMD.

    Args:
        folder: New.
        node_double: The module of that name.
    """

    def __init__(self, folder: Path, node_double: Any) -> None:
        self.folder = folder
        self.socket_folder = Path(tempfile.mkdtemp(prefix="node-"))  # a socket's path is at most 107 bytes
        self._node_double = node_double
        self.parts: Any = None
        command = [sys.executable, str(HERE / "relay_process.py"), str(HERE.parent / "guest_double.py"),
                   str(self.socket_folder / "evidence.sock"), str(self.folder)]  # fmt: skip
        self.relay = subprocess.Popen(command, stdout=subprocess.PIPE)

    def start(self) -> None:
        assert self.relay.stdout is not None
        assert self.relay.stdout.readline() == b"ready\n"
        folder = self.folder
        self.facts = json.loads((folder / "facts.json").read_text())
        self.files = create_broker(folder / "broker", now=datetime.now(UTC))
        root = AmdRoot("simulated", self.facts["root"])
        collateral = AmdCollateral.from_json((folder / "collateral.json").read_bytes())
        store_amd_collateral(self.files.collateral, collateral, root, datetime.now(UTC))
        trust = Trust((INTEL_ROOT,), self.files.collateral, (root,))
        self.values = load_settings(self.files.settings)
        self.parts = open_parts(self.files, self.values, InProcess(trust), clock=lambda: datetime.now(UTC))
        for name, key in KEYS.items():
            self.parts.keyring.create(ResourcePath("loan", "key", name), key, datetime.now(UTC))

    def authorize(self, pcr: int, **changes: Any) -> None:
        """What the guide says: ask the node, pin what it said; a double is believed because the owner says so."""
        told = {"PATH": "/usr/bin:/bin", "STRONGROOM_EVIDENCE_SOCKET": str(self.socket_folder / "evidence.sock")}
        for words in (
            ["platform", "show", "--out", "evidence.bin"],
            ["policy", "pin", "evidence.bin", "--pcr", str(pcr), "--out", "node.toml"],
        ):
            command = [str(Path(sys.executable).parent / "strongroom"), *words]
            subprocess.run(command, cwd=self.folder, env=told, check=True, capture_output=True, timeout=60)
        policy = replace(load_policy(self.folder / "node.toml"), accept_simulated=True, **changes)
        keys = tuple(ResourcePath("loan", "key", name) for name in KEYS)
        self.parts.grants.add(Grant(name="loan-service", policy=policy, keys=keys), datetime.now(UTC), replace=True)

    def site(self, url: str) -> Site:
        """The site of `deploy init` with a workload that does one thing in the room."""
        path = write_site(self.folder / "site")
        room = self.folder / "room"
        room.mkdir()
        (room / "room.toml").write_text(f'url = "{url}"\n')
        shutil.copy(self.files.ca_certificate, room / "ca.pem")
        path.write_text(path.read_text().replace("0" * 64, "a" * 64).replace("../broker/room", str(room)))
        workload = path.parent / "workloads" / "loan-service"
        (workload / "say.py").write_text(textwrap.dedent(SCRIPT.format(said=SAID)))
        lines = (workload / "workload.toml").read_text().splitlines()
        changed = {"command": 'command = ["python3", "say.py"]', "packages": "",
                   "trusted_files": 'trusted_files = ["say.py", "workload.toml"]'}  # fmt: skip
        (workload / "workload.toml").write_text("\n".join(changed.get(line.split(" ")[0], line) for line in lines))
        return load_site(path)

    def run_pod(self) -> tuple[int, str]:
        """Run the loan service's pod to its end: its status, and what it said."""
        with serving(create_app(self.parts), self.files, self.values) as url:
            site = self.site(url)
            assert site.nodes.size == SIZES["Standard_DC4as_v6"]
            image = {"/opt/strongroom/workloads": self.folder / "site" / "workloads"}
            node = self._node_double.NodeDouble(self.folder / "node", render(site, "aks-cvm"), image)
            node.host("/run").joinpath("strongroom-evidence").symlink_to(self.socket_folder)
            pod = node.pod("Deployment", "loan-service")
            # In a pod the socket is where it is looked for; here the pod's mount is.
            settings = {"STRONGROOM_EVIDENCE_SOCKET": f"{pod.volumes['evidence'].resolve()}/evidence.sock"}
            process = pod.start(settings)
            status = process.wait(600)
            return status, pod.log.read_text()

    def close(self) -> None:
        self.relay.terminate()
        self.relay.communicate(timeout=30)
        if self.parts is not None:
            self.parts.close()
        shutil.rmtree(self.socket_folder)


@pytest.fixture
def confidential(tmp_path: Path, node_double: Any) -> Iterator[Confidential]:
    made = Confidential(tmp_path, node_double)
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.mark.slow
def test_a_pod_gets_its_keys_through_the_relay_of_its_node(confidential: Confidential) -> None:
    confidential.authorize(pcr=4)
    status, said = confidential.run_pod()
    assert status == 0, said
    written = confidential.folder / "node" / "claims" / "strongroom" / "loan-files" / "results" / "said.txt"
    assert SAID not in written.read_bytes()
    with open_sealed(written, KEYS["results"], sealed_path="results/said.txt") as sealed:
        assert sealed.read() == SAID


@pytest.mark.slow
def test_a_node_that_booted_something_else_gets_none(confidential: Confidential) -> None:
    hardware = SnpIdentity(bytes.fromhex(confidential.facts["measurement"]), ANY, ANY)
    confidential.authorize(pcr=4, measurements=(VtpmIdentity(hardware, {4: bytes(32)}),))
    status, said = confidential.run_pod()
    assert status == 4, said
    assert "pcr" in said


@pytest.mark.slow
def test_without_a_relay_a_pod_gets_none(confidential: Confidential) -> None:
    confidential.authorize(pcr=4)
    confidential.relay.terminate()
    confidential.relay.wait(30)
    status, said = confidential.run_pod()
    assert status == 2, said
    assert "platform.relay" in said
