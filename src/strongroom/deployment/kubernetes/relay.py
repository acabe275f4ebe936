"""The relay on confidential virtual machines: it hands the node's evidence to pods over a Unix socket.

Pods are unprivileged and see neither the virtual TPM nor configfs. The relay sees both, so it stands in a namespace of
its own, the only one that takes privileged pods: a device of the node is given to privileged containers only.

Source: Microsoft Learn, "Confidential VM node pools support on AKS"; Kubernetes documentation, "Volumes", hostPath.
"""

from typing import Final

from strongroom.deployment.kubernetes import parts, shared
from strongroom.deployment.kubernetes.lending import EVIDENCE
from strongroom.deployment.kubernetes.nodes import CONFIDENTIAL_TAINT
from strongroom.deployment.kubernetes.site import Site
from strongroom.deployment.kubernetes.text import Object

NAME: Final = "evidence-relay"
LEVEL: Final = "privileged"
SOCKET: Final = f"{EVIDENCE.path}/evidence.sock"
COMMAND: Final = ("strongroom", "platform", "relay", "--socket", SOCKET)
METADATA_SERVICE: Final = "169.254.169.254/32"
"""Azure's: AMD's certificate of this processor, TD quotes."""
DEVICES: Final = {
    "vtpm": ("/dev/tpmrm0", "CharDevice"),
    "configfs-tsm": ("/sys/kernel/config", "Directory"),
}
"""Where evidence comes from: path on the node, and what must be there."""
_NEEDS: Final = {"cpu": "100m", "memory": "256Mi"}


def relay_objects(site: Site, image: str) -> list[Object]:
    """Namespace, account, rules of the network and one pod on every confidential node.

    Args:
        site: The site.
        image: By digest.
    """
    place = site.evidence_namespace
    return [
        shared.namespace(place, LEVEL),
        shared.deny_everything(place),
        _egress(place),
        parts.service_account(NAME, place),
        _daemon_set(site, image),
    ]


def _egress(place: str) -> Object:
    to = [{"ipBlock": {"cidr": METADATA_SERVICE}}]
    spec = {
        "podSelector": {"matchLabels": parts.selector(NAME)},
        "policyTypes": ["Egress"],
        "egress": [{"to": to, "ports": [{"protocol": "TCP", "port": 80}]}],
    }
    return shared.policy(NAME, place, spec)


def _daemon_set(site: Site, image: str) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": parts.metadata(NAME, site.evidence_namespace),
        "spec": {
            "selector": {"matchLabels": parts.selector(NAME)},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": {"metadata": {"labels": parts.labels(NAME)}, "spec": _pod(site, image)},
        },
    }


def _pod(site: Site, image: str) -> Object:
    path, kind = DEVICES[site.nodes.evidence]
    return {
        "serviceAccountName": NAME,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": "system-node-critical",  # without it no other pod on the node can attest
        "terminationGracePeriodSeconds": parts.DRAIN_S,
        "nodeSelector": dict(site.nodes.selector),
        "tolerations": [dict(CONFIDENTIAL_TAINT)],
        "containers": [_container(image, path)],
        "volumes": [
            {"name": "device", "hostPath": {"path": path, "type": kind}},
            {"name": "socket", "hostPath": {"path": EVIDENCE.path, "type": "DirectoryOrCreate"}},
            parts.scratch_volume(),
        ],
    }


def _container(image: str, device: str) -> Object:
    there = {"exec": {"command": ["test", "-S", SOCKET]}}
    return {
        "name": NAME,
        "image": image,
        "command": list(COMMAND),
        "securityContext": {
            "privileged": True,
            "runAsUser": 0,
            "readOnlyRootFilesystem": True,
        },
        "resources": {"requests": dict(_NEEDS), "limits": dict(_NEEDS)},
        "startupProbe": {**there, "periodSeconds": 2, "failureThreshold": 30},
        "readinessProbe": {**there, "periodSeconds": 10, "failureThreshold": 3},
        "livenessProbe": {**there, "periodSeconds": 10, "failureThreshold": 6},
        "volumeMounts": [
            {"name": "device", "mountPath": device},
            {"name": "socket", "mountPath": EVIDENCE.path},
            parts.scratch_mount(),
        ],
    }
