"""Brings sealed files to a claim: through a pod that mounts it and does nothing else, for as long as that takes.

Storage of a cluster is not trusted, so nothing that is not sealed is brought there.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from strongroom.deployment.kubernetes import parts
from strongroom.deployment.kubernetes.kubectl import Kubectl
from strongroom.deployment.kubernetes.rules.cluster import Cluster, Pod, mapping, mappings
from strongroom.deployment.kubernetes.text import Object, dump
from strongroom.errors import ConfigurationError
from strongroom.room.files import inspect_header

NAME: Final = "strongroom-copy"
DEADLINE_S: Final = 600
READY_S: Final = 100
IDENTITY_LABEL: Final = f"{parts.IDENTITY}/use"
ENCRYPTED_PARQUET: Final = b"PARE"
"""Source: Apache Parquet, "Parquet Modular Encryption", encrypted footer mode."""
_NEEDS: Final = {"cpu": "100m", "memory": "64Mi"}


def copy_files(kubectl: Kubectl, objects: Sequence[Object], source: Path, claim: str, target: str) -> list[str]:
    """Copy a sealed file, or a folder of sealed files.

    Args:
        kubectl: For the cluster, to which the site was applied.
        objects: What was applied, and Spark's pods.
        source: File or folder here.
        claim: Name of the claim in the workloads' namespace.
        target: Path on it, as the workload's mounts say: ``config/ssl.cfg``.

    Returns:
        Paths on the claim.

    Raises:
        ConfigurationError: There is no such claim, a path is wrong, or kubectl is not installed.
        FormatError: A file is not sealed.
        UnavailableError: The cluster does not do it.
    """
    borrowed = _mounting(Cluster(objects), claim)
    files = _files(source, target)
    for path in files.values():
        _refuse_plaintext(path)
    pod = copy_pod(borrowed, claim)
    place = ("--namespace", borrowed.namespace)
    kubectl.run("apply", "--filename", "-", stdin=dump([pod]))
    try:
        kubectl.run("wait", *place, "--for=condition=Ready", f"--timeout={READY_S}s", f"pod/{NAME}")
        for folder in sorted({str(PurePosixPath(name).parent) for name in files}):
            kubectl.run("exec", *place, NAME, "--", "mkdir", "-p", f"{parts.STORAGE_FOLDER}/{folder}")
        for name, path in files.items():
            kubectl.run("cp", *place, str(path), f"{NAME}:{parts.STORAGE_FOLDER}/{name}")
    finally:
        kubectl.run("delete", "pod", NAME, *place, "--ignore-not-found", "--wait=false")
    return list(files)


def _mounting(cluster: Cluster, claim: str) -> Pod:
    """A pod that mounts the claim: its account may.

    Raises:
        ConfigurationError: There is none.
    """
    for pod in cluster.pods:
        for volume in mappings(pod.spec.get("volumes")):
            wanted = mapping(volume.get("persistentVolumeClaim"))
            if wanted.get("claimName") == claim and not wanted.get("readOnly"):
                return pod
    raise ConfigurationError(f"no pod of the site mounts a claim {claim[:60]!r}", code="deploy.claim")


def _files(source: Path, target: str) -> dict[str, Path]:
    path = PurePosixPath(target)
    if path.is_absolute() or ".." in path.parts or not path.parts or not target.isprintable():
        raise ConfigurationError("the path on the claim is relative, without ..", code="deploy.copy")
    if source.is_file():
        return {str(path): source}
    found = sorted(file for file in source.rglob("*") if file.is_file())
    if not found:
        raise ConfigurationError(f"there is nothing at {source}", code="deploy.copy")
    return {str(path / file.relative_to(source).as_posix()): file for file in found}


def _refuse_plaintext(path: Path) -> None:
    """A sealed file, or Parquet whose footer is encrypted, as the tables of the analytics are."""
    with path.open("rb") as file:
        if file.read(len(ENCRYPTED_PARQUET)) == ENCRYPTED_PARQUET:
            return
    inspect_header(path)


def copy_pod(borrowed: Pod, claim: str) -> Object:
    """The pod that mounts the claim: as restricted as the one whose account it borrows.

    Args:
        borrowed: A pod that mounts it too.
        claim: The claim.
    """
    identity = borrowed.labels.get(IDENTITY_LABEL)
    (image, *_) = [str(container.get("image")) for container in borrowed.containers(all_of_them=False)]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": NAME,
            "namespace": borrowed.namespace,
            "labels": {**parts.labels(NAME), **({IDENTITY_LABEL: identity} if identity else {})},
        },
        "spec": {
            "serviceAccountName": borrowed.spec.get("serviceAccountName"),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": DEADLINE_S,
            "terminationGracePeriodSeconds": 1,
            "securityContext": parts.pod_security(),
            "containers": [
                {
                    "name": NAME,
                    "image": image,
                    "command": ["sleep", str(DEADLINE_S)],
                    "securityContext": parts.container_security(),
                    "resources": {"requests": dict(_NEEDS), "limits": dict(_NEEDS)},
                    "volumeMounts": [{"name": "storage", "mountPath": parts.STORAGE_FOLDER}],
                }
            ],
            "volumes": [{"name": "storage", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }
