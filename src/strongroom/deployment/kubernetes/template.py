"""What `strongroom deploy init` writes: a commented site file and the workloads it names."""

import shutil
from pathlib import Path
from typing import Final

from strongroom.errors import ConfigurationError, WouldOverwrite

WORKLOADS: Final = Path(__file__).parents[1] / "workloads"
_NO_IMAGE: Final = "@sha256:" + "0" * 64

SITE: Final = f"""# What differs from one cluster to the next. `strongroom deploy render site.toml` does the rest.
# Images are named by digest: `az acr manifest show-metadata REGISTRY.azurecr.io/NAME:TAG --query digest`.

namespace = "strongroom"                     # of the workloads; the broker's is strongroom-broker
clients = ["203.0.113.0/24"]                 # networks that may call the services; nobody else can
cluster = "10.0.0.1/32"                      # the API server: kubectl get endpoints kubernetes

[nodes]
size = "Standard_DC4s_v3"                    # SGX: DCsv3. Overlay aks-cvm: TDX only, Standard_DC4es_v6
most = 5                                     # of the autoscaler
selector = {{ agentpool = "intelsgx" }}
# evidence = "configfs-tsm"                  # aks-cvm: pods see /sys/kernel/config/tsm, which Azure's do not yet

[broker]
room = "broker/room"                         # written by `strongroom broker init`: its address and certificate
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

[tensorflow]                                 # TensorFlow Serving, unmodified, under Gramine (overlay aks-sgx only)
workload = "workloads/tensorflow-serving/workload.toml"
image = "registry.example.com/strongroom-tensorflow-serving{_NO_IMAGE}"
host = "grpc.tf-serving.service.com"

[spark]
driver = "workloads/spark-driver/workload.toml"
executor = "workloads/spark-executor/workload.toml"
image = "registry.example.com/strongroom-spark{_NO_IMAGE}"
executors = 2

[pipeline]
namespace = "kubeflow"                       # where Kubeflow Pipelines runs its steps
"""


def write_site(folder: Path) -> Path:
    """Write the site file and the workloads into a folder.

    Args:
        folder: New, or without these files.

    Returns:
        The site file.

    Raises:
        WouldOverwrite: There is a site file or workloads already.
        ConfigurationError: The folder can't be written.
    """
    site = folder / "site.toml"
    if site.exists() or (folder / "workloads").exists():
        raise WouldOverwrite(f"{folder} has a site file or workloads already", hint="name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copytree(WORKLOADS, folder / "workloads", ignore=shutil.ignore_patterns("__*__*"))
        site.write_text(SITE, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"can't write {folder}: {error.strerror}", code="deploy.init") from None
    return site
