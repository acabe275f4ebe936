"""Folders of a node that restricted pods may see: only those with the socket of a service that hands out evidence.

A pod that names a folder of its node has to leave Pod Security's `restricted`, and its namespace with it. Instead the
cluster's administrator makes a volume that lends exactly this folder to exactly one claim: no namespace is relaxed.
"""

from dataclasses import dataclass
from typing import Final

from strongroom.deployment.kubernetes import parts
from strongroom.deployment.kubernetes.text import Object

_SIZE: Final = "1Mi"  # a claim has to say one


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of every node.

    Args:
        name: Of the claim, and of the volume in a pod.
        path: On the node, and in pods.
    """

    name: str
    path: str

    def volume(self) -> Object:
        """The pod's volume."""
        return {"name": self.name, "persistentVolumeClaim": {"claimName": self.name, "readOnly": True}}

    def mount(self) -> Object:
        """Where containers see it. A socket in a folder that is read-only can be connected to, but not replaced."""
        return {"name": self.name, "mountPath": self.path, "readOnly": True}


QUOTE_HELPER: Final = Folder("quote-helper", "/var/run/aesmd")
"""With the socket of SGX's quoting service. Source: AKS, "SGX quote helper"; Gramine 1.9, host_platform.c."""
EVIDENCE: Final = Folder("evidence", "/run/strongroom-evidence")
"""With the socket of our relay on confidential virtual machines."""
FOLDERS: Final = (QUOTE_HELPER, EVIDENCE)


def lend(folder: Folder, namespace: str) -> list[Object]:
    """A volume that is this folder, and the one claim it is for.

    Args:
        folder: What is lent.
        namespace: Of the pods.
    """
    volume_name = f"{namespace}-{folder.name}"
    shape = {"accessModes": ["ReadOnlyMany"], "storageClassName": volume_name}
    volume: Object = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": parts.metadata(volume_name),
        "spec": {
            **shape,
            "capacity": {"storage": _SIZE},
            "persistentVolumeReclaimPolicy": "Retain",
            # Not made where it is missing: the pod waits until the service is there.
            "hostPath": {"path": folder.path, "type": "Directory"},
            "claimRef": {"namespace": namespace, "name": folder.name},
        },
    }
    claim: Object = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": parts.metadata(folder.name, namespace),
        "spec": {**shape, "resources": {"requests": {"storage": _SIZE}}, "volumeName": volume_name},
    }
    return [volume, claim]
