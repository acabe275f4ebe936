"""Overlays: where it runs, as objects and patches on top of the base."""

from dataclasses import dataclass
from typing import Final

from strongroom.deployment.kubernetes import parts, services, shared, simulation
from strongroom.deployment.kubernetes.enclave import ENCLAVES_FOLDER, EPC, enclave_mounts
from strongroom.deployment.kubernetes.lending import EVIDENCE, Folder, lend
from strongroom.deployment.kubernetes.nodes import CONFIDENTIAL_TAINT, SGX_TAINT
from strongroom.deployment.kubernetes.opened import opened_tensorflow
from strongroom.deployment.kubernetes.patches import Operation, Patch, pointer
from strongroom.deployment.kubernetes.relay import relay_objects
from strongroom.deployment.kubernetes.services import LOAN, MODELS, TENSORFLOW
from strongroom.deployment.kubernetes.site import Site
from strongroom.deployment.kubernetes.spark import STORAGE
from strongroom.deployment.kubernetes.text import Object
from strongroom.errors import ConfigurationError
from strongroom.workload import Workload

# Where `strongroom.deployment.gramine_manifest` mounts the enclave's folder and the room inside the enclave.
ENCLAVE_WORK: Final = "/work"
ENCLAVE_ROOM: Final = "/room"
SPARK: Final = "spark"
OVERLAYS: Final = ("aks-sgx", "aks-cvm", "simulated")

POD: Final = ("spec", "template", "spec")
"""Where a deployment has its pod."""
CONTAINER: Final = (*POD, "containers", 0)


@dataclass(frozen=True, slots=True)
class Layer:
    """What an overlay or component does.

    Args:
        name: Folder in the Kustomize tree.
        objects: Added.
        patches: Applied to what is below.
    """

    name: str
    objects: tuple[Object, ...] = ()
    patches: tuple[Patch, ...] = ()


def served_workloads(site: Site, *, gramine: bool) -> dict[str, Workload]:
    """Deployments that enter the room, by name."""
    found = {LOAN: site.loan, MODELS: site.models, TENSORFLOW: site.tensorflow if gramine else None}
    return {name: service.workload for name, service in found.items() if service is not None}


def overlay(site: Site, name: str) -> Layer:
    """An overlay by name.

    Raises:
        ConfigurationError: There is no such overlay, or nothing could attest on the site's nodes.
    """
    makers = {"aks-sgx": _aks_sgx, "aks-cvm": _aks_cvm, "simulated": _simulated}
    if name not in makers:
        raise ConfigurationError(
            f"no overlay {name[:60]!r}", code="deploy.overlay", hint=f"one of {', '.join(OVERLAYS)}"
        )
    return makers[name](site)


def _aks_sgx(site: Site) -> Layer:
    """AKS with SGX nodes: every workload under Gramine, with the protected memory it asks for."""
    patches = [Patch("Deployment", name, sgx_operations(site, workload, name))
               for name, workload in served_workloads(site, gramine=True).items()]  # fmt: skip
    return Layer("aks-sgx", tuple(services.tensorflow_objects(site)), tuple(patches))


def sgx_operations(site: Site, workload: Workload, name: str) -> tuple[Operation, ...]:
    """What turns a deployment's pods into pods with an enclave."""
    epc, folder = f"{workload.resources.epc_mib}Mi", f"{ENCLAVES_FOLDER}/{workload.name}"
    settings = {
        "STRONGROOM_WORKLOAD": f"{ENCLAVE_WORK}/workload.toml",
        "STRONGROOM_ROOM": ENCLAVE_ROOM,
        "STRONGROOM_STORAGE": ENCLAVE_WORK,
    }
    if name == TENSORFLOW:
        settings = {"SECRET_PROVISION_SERVERS": _provisioning_server(site)}
    return (
        *_on_nodes(site, [dict(SGX_TAINT)]),
        *(Operation("add", pointer(*CONTAINER, "resources", side, EPC), epc) for side in ("requests", "limits")),
        Operation("replace", pointer(*CONTAINER, "command"), ["gramine-sgx", workload.name]),
        Operation("add", pointer(*CONTAINER, "workingDir"), folder),
        Operation("replace", pointer(*CONTAINER, "env"), [{"name": k, "value": v} for k, v in settings.items()]),
        Operation("replace", pointer(*CONTAINER, "volumeMounts"), [*enclave_mounts(workload), parts.scratch_mount()]),
    )


def _provisioning_server(site: Site) -> str:
    host = site.broker.room_toml.partition("https://")[2].partition(":")[0].partition("/")[0].partition('"')[0]
    return f"{host}:{shared.PROVISIONING_PORT}"


def _on_nodes(site: Site, tolerations: list[Object]) -> tuple[Operation, ...]:
    return (
        Operation("add", pointer(*POD, "nodeSelector"), dict(site.nodes.selector)),
        Operation("add", pointer(*POD, "tolerations"), tolerations),
    )


def overlay_for(site: Site) -> str:
    """The overlay that the site's nodes are for."""
    return {"sgx": "aks-sgx", "snp": "aks-cvm", "tdx": "aks-cvm"}.get(site.nodes.size.tee, "simulated")


def _aks_cvm(site: Site) -> Layer:
    """AKS with confidential nodes: the whole node is protected, and is what the evidence is about.

    Raises:
        ConfigurationError: The site's nodes are no such machines, or nothing would hand out their evidence.
    """
    size = site.nodes.size
    if size.tee not in {"snp", "tdx"}:
        raise ConfigurationError(f"{size.name} is no confidential virtual machine", code="deploy.evidence")
    if site.nodes.relay is None:
        raise ConfigurationError(
            "the site file names no image of the relay: no pod could attest",
            code="deploy.evidence",
            hint='[nodes] relay = "REGISTRY/strongroom-relay@sha256:..."',
        )
    lent = [item for place in namespaces(site) for item in lend(EVIDENCE, place)]
    operations = (*_on_nodes(site, [dict(CONFIDENTIAL_TAINT)]), *borrow(EVIDENCE))
    patches = tuple(Patch("Deployment", name, operations) for name in served_workloads(site, gramine=False))
    objects = (*relay_objects(site, site.nodes.relay), *lent, *opened_tensorflow(site, confidential=True))
    return Layer("aks-cvm", objects, patches)


def namespaces(site: Site) -> list[str]:
    """Namespaces with pods that attest."""
    return [site.namespace, *([site.pipeline.namespace] if site.pipeline else [])]


def borrow(folder: Folder) -> tuple[Operation, ...]:
    """What lets a deployment's pods see a folder of their node."""
    return (
        Operation("add", pointer(*POD, "volumes", "-"), folder.volume()),
        Operation("add", pointer(*CONTAINER, "volumeMounts", "-"), folder.mount()),
    )


def _simulated(site: Site) -> Layer:
    """Any cluster, for trials: nothing is protected, and everything says so."""
    patches = [Patch("Deployment", name, _simulated_operations()) for name in served_workloads(site, gramine=False)]
    claims = {LOAN: services.SHARE, MODELS: f"{MODELS}-models", SPARK: STORAGE}
    for name in [*served_workloads(site, gramine=False), *([SPARK] if site.spark else [])]:
        operations = [Operation("remove", pointer("spec", "storageClassName"))]
        if name == LOAN:
            operations.append(Operation("remove", pointer("spec", "volumeName")))
            patches.append(Patch("PersistentVolume", f"{site.namespace}-{services.SHARE}"))
        operations.append(Operation("replace", pointer("spec", "accessModes"), ["ReadWriteOnce"]))
        patches.append(Patch("PersistentVolumeClaim", claims[name], tuple(operations)))
    opened = opened_tensorflow(site, confidential=False)
    for item in opened:
        if item["kind"] == "PersistentVolumeClaim":
            del item["spec"]["storageClassName"]
            item["spec"]["accessModes"] = ["ReadWriteOnce"]
    return Layer("simulated", tuple(opened), tuple(patches))


def _simulated_operations() -> tuple[Operation, ...]:
    setting = {"name": simulation.VARIABLE, "value": simulation.FOLDER}
    platform = len(("STRONGROOM_WORKLOAD", "STRONGROOM_ROOM", "STRONGROOM_STORAGE"))
    return (
        Operation("replace", pointer(*CONTAINER, "env", platform, "value"), "simulated"),
        Operation("add", pointer(*CONTAINER, "env", "-"), setting),
        Operation("add", pointer(*POD, "volumes", "-"), simulation.machine_volume()),
        Operation("add", pointer(*CONTAINER, "volumeMounts", "-"), simulation.machine_mount()),
    )
