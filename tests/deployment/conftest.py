"""A site with everything in it."""

import dataclasses
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from strongroom.deployment.kubernetes.nodes import SIZES
from strongroom.deployment.kubernetes.site import Site
from strongroom.deployment.kubernetes.site_file import load_site
from strongroom.deployment.kubernetes.template import write_site
from strongroom.workload import load_workload

ROOM_TOML = 'url = "https://broker.strongroom-broker.svc:8443"\n'
CA = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
GUID = "12345678-1234-1234-1234-123456789abc"


def make_site_folder(folder: Path) -> Path:
    """A site file as `strongroom deploy init` writes it, filled in; its path."""
    path = write_site(folder, "Standard_DC4s_v3")
    text = path.read_text().replace("0" * 64, "a" * 64).replace('"../broker/room"', '"broker/room"')
    text = text.replace('# key_vault = "strongroom-keys"', 'key_vault = "strongroom-keys"')
    for name in ("tenant", "client_id"):
        text = text.replace(f'# {name} = "00000000-0000-0000-0000-000000000000"', f'{name} = "{GUID}"')
    head, comment, rest = text.partition("# [broker.database]")
    database, loan, rest = (comment + rest).partition("[loan]")
    text = head + re.sub(r"^# ", "", database, flags=re.MULTILINE) + loan + rest
    path.write_text(text)
    (folder / "database-ca.pem").write_text(CA)
    room = folder / "broker" / "room"
    room.mkdir(parents=True)
    (room / "room.toml").write_text(ROOM_TOML)
    (room / "ca.pem").write_text(CA)
    return path


@pytest.fixture(scope="session")
def site_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site_folder(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="session")
def site(site_file: Path) -> Site:
    return load_site(site_file)


@pytest.fixture(scope="session")
def confidential_site(site: Site, site_file: Path) -> Site:
    """The same on confidential virtual machines, where an opener serves TensorFlow Serving."""
    assert site.tensorflow is not None
    opener = load_workload(site_file.parent / "workloads" / "tensorflow-opener" / "workload.toml")
    tensorflow = dataclasses.replace(site.tensorflow, opener=opener, opener_image=site.tensorflow.image)
    relay = f"registry.example.com/strongroom-relay@sha256:{'a' * 64}"
    nodes = dataclasses.replace(
        site.nodes, size=SIZES["Standard_DC4as_v6"], selector={"agentpool": "confvm"}, relay=relay
    )
    return dataclasses.replace(site, nodes=nodes, components=(), tensorflow=tensorflow)


@pytest.fixture(scope="session")
def site_for(site: Site, confidential_site: Site) -> Callable[[str], Site]:
    """The site whose nodes an overlay is for."""
    return lambda overlay: confidential_site if overlay == "aks-cvm" else site


@pytest.fixture
def fresh_site(tmp_path: Path) -> Path:
    return make_site_folder(tmp_path / "site")


@pytest.fixture(scope="session")
def node_double() -> ModuleType:
    """The module node_double.py."""
    path = Path(__file__).with_name("node_double.py")
    spec = importlib.util.spec_from_file_location("deployment_node_double", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


@pytest.fixture(scope="session")
def kustomize() -> list[str]:
    """The command that builds a Kustomize folder; skips where there is none."""
    command = ["kubectl", "kustomize"]
    try:
        subprocess.run([*command, "--help"], capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("kubectl is not installed")
    return command
