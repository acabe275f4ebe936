"""What `strongroom deploy init` writes: a commented site file and the workloads it names."""

import shutil
from pathlib import Path
from string import Template
from typing import Final

from strongroom.deployment.kubernetes.nodes import SIZES
from strongroom.errors import ConfigurationError, WouldOverwrite

WORKLOADS: Final = Path(__file__).parents[1] / "workloads"
_NO_IMAGE: Final = "@sha256:" + "0" * 64

SITE: Final = f"""# What differs from one cluster to the next. `strongroom deploy render site.toml` does the rest.
# Images are named by digest: `az acr manifest show-metadata REGISTRY.azurecr.io/NAME:TAG --query digest`.

namespace = "strongroom"                     # of the workloads; the broker's is strongroom-broker
clients = ["203.0.113.0/24"]                 # networks that may call the services; nobody else can
cluster = "10.0.0.1/32"                      # the API server: kubectl get endpoints kubernetes
components = $components

$nodes

[broker]
room = "../broker/room"                      # written by `strongroom broker init`: its address and certificate
image = "registry.example.com/strongroom-broker{_NO_IMAGE}"
# address = "198.51.100.7/32"                # instead of image: the broker runs elsewhere, where you trust the machine
# key_vault = "strongroom-keys"              # component key-vault: its root key
# tenant = "00000000-0000-0000-0000-000000000000"
# client_id = "00000000-0000-0000-0000-000000000000"

# [broker.database]                          # component postgresql: two replicas instead of one on SQLite
# url = "postgresql://strongroom@db.example.com/strongroom"     # no password, no options
# network = "10.20.0.4/32"                   # of its server
# ca = "database-ca.pem"                     # CA certificate of its server
# login = "password"                         # or "certificate"; the Secret strongroom-broker-database has it

[loan]
workload = "workloads/loan-service/workload.toml"
image = "registry.example.com/strongroom-loan{_NO_IMAGE}"
host = "loans.example.com"
most = 5                                     # replicas, by processor load

[share]                                      # the loan service's files
account = "strongroomfiles"
name = "loan-app-file-share"
resource_group = "strongroom"
size_gib = 20
client_id = "00000000-0000-0000-0000-000000000000"

[models]
workload = "workloads/model-server/workload.toml"
image = "registry.example.com/strongroom-serving{_NO_IMAGE}"
host = "models.example.com"

$tensorflow[spark]
driver = "workloads/spark-driver/workload.toml"
executor = "workloads/spark-executor/workload.toml"
image = "registry.example.com/strongroom-spark{_NO_IMAGE}"
executors = 2

[pipeline]
namespace = "kubeflow"                       # where Kubeflow Pipelines runs its steps
"""
_CONFIDENTIAL: Final = {
    "components": '[]                              # always added, for example ["postgresql", "key-vault"]',
    "nodes": f"""[nodes]                                      # confidential virtual machines: SEV-SNP (as), TDX (es)
size = "$size"
most = 5                                     # of the autoscaler
selector = {{ agentpool = "confvm" }}
relay = "registry.example.com/strongroom-relay{_NO_IMAGE}"
# evidence = "configfs-tsm"                  # elsewhere than on Azure; else the relay asks the virtual TPM""",
    "tensorflow": f"""[tensorflow]                                 # unmodified; the opener opens its files
workload = "workloads/tensorflow-serving/workload.toml"
image = "docker.io/tensorflow/serving{_NO_IMAGE}"
opener = "workloads/tensorflow-opener/workload.toml"
opener_image = "registry.example.com/strongroom-serving{_NO_IMAGE}"
host = "grpc.tf-serving.service.com"

""",
}
_SGX: Final = {
    "components": '["quote-helper"]                # always added; Gramine gets its quotes from this one',
    "nodes": """[nodes]                                      # SGX
size = "$size"
most = 5                                     # of the autoscaler
selector = { agentpool = "intelsgx" }""",
    "tensorflow": f"""[tensorflow]                                 # TensorFlow Serving, unmodified, under Gramine
workload = "workloads/tensorflow-serving/workload.toml"
image = "registry.example.com/strongroom-tensorflow-serving{_NO_IMAGE}"
host = "grpc.tf-serving.service.com"

""",
}
DEFAULT_SIZE: Final = "Standard_DC4as_v6"


def render_site(size: str) -> str:
    """The site file for nodes of a machine size.

    Raises:
        ConfigurationError: The size is not known.
    """
    if size not in SIZES:
        raise ConfigurationError(
            f"no known machine size {size[:60]!r}", code="deploy.init", hint=f"one of {', '.join(sorted(SIZES))}"
        )
    chosen = _SGX if SIZES[size].tee == "sgx" else _CONFIDENTIAL
    return Template(Template(SITE).substitute(chosen)).substitute(size=size)


def write_site(folder: Path, size: str = DEFAULT_SIZE) -> Path:
    """Write the site file and the workloads into a folder.

    Args:
        folder: New, or without these files.
        size: Machine size of the protected nodes.

    Returns:
        The site file.

    Raises:
        WouldOverwrite: There is a site file or workloads already.
        ConfigurationError: The size is not known, or the folder can't be written.
    """
    text = render_site(size)
    site = folder / "site.toml"
    if site.exists() or (folder / "workloads").exists():
        raise WouldOverwrite(f"{folder} has a site file or workloads already", hint="name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(WORKLOADS, folder / "workloads", ignore=shutil.ignore_patterns("__*__*"))
        site.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"can't write {folder}: {error.strerror}", code="deploy.init") from None
    return site
