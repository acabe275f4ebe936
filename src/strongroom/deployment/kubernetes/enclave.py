"""What a pod with a Gramine enclave has that others have not."""

from typing import Final

from strongroom.deployment.kubernetes.text import Object
from strongroom.workload import Workload

EPC: Final = "sgx.intel.com/epc"
ENCLAVES_FOLDER: Final = "/opt/strongroom/enclaves"


def enclave_mounts(workload: Workload) -> list[Object]:
    """Room and storage where the manifest looks for them: beside the enclave."""
    folder = f"{ENCLAVES_FOLDER}/{workload.name}"
    storage = [
        {"name": "storage", "mountPath": f"{folder}/{mount.path}", "subPath": mount.path} for mount in workload.mounts
    ]
    return [{"name": "room", "mountPath": f"{folder}/room", "readOnly": True}, *storage]
