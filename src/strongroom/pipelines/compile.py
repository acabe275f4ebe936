"""Compiles the pipeline for a cluster: each step's image, place, resources and grants come from its workload."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from strongroom.deployment.kubernetes import simulation
from strongroom.deployment.kubernetes.enclave import EPC
from strongroom.deployment.kubernetes.lending import EVIDENCE, QUOTE_HELPER
from strongroom.deployment.kubernetes.nodes import CONFIDENTIAL_TAINT, SGX_TAINT
from strongroom.deployment.kubernetes.text import dump, load
from strongroom.errors import ConfigurationError
from strongroom.pipelines.steps import WORKLOADS
from strongroom.workload import Workload, load_workload

ROOM_FOLDER: Final = "/etc/strongroom/room"
SOURCES_FOLDER: Final = "/mnt/sources"
USER: Final = 10001
TIMEOUT_S: Final = 3600
NODES: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {"aks-sgx": {"intelvm": "sgx"}, "aks-cvm": {"agentpool": "confvm"}, "simulated": {}}
)
"""Labels of the nodes, by overlay; those of SGX are the reference pipeline's."""
QUOTE_PROVIDER: Final = "sgx.intel.com/quote-provider"
MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where and with what the steps run.

    Args:
        image: Container image with Strongroom and Kubeflow's SDK, by digest or tag.
        workloads: Folder with the steps' definitions, as they were authorized.
        container_workloads: The same folder inside the image; None: the one in the package.
        container_enclaves: Folder with the steps' signed enclaves inside the image; None: without Gramine.
        overlay: What the nodes are: ``aks-sgx``, ``aks-cvm`` or ``simulated``, as for `strongroom deploy`.
        node_selector: Labels of the nodes; None: those of the overlay.
        epc: Name of the resource that stands for protected memory on nodes with SGX.
        room: ConfigMap with the broker's address and certificate (`room.toml`, `ca.pem`).
        sources: PersistentVolumeClaim with the sealed loan books; None: no ``sealed:`` sources.
    """

    image: str
    workloads: Path = WORKLOADS
    container_workloads: str | None = None
    container_enclaves: str | None = None
    overlay: str = "aks-sgx"
    node_selector: Mapping[str, str] | None = None
    epc: str = EPC
    room: str = "strongroom-room"
    sources: str | None = None


def compile_pipeline(placement: Placement, out: Path) -> None:
    """Write the pipeline as Kubeflow's YAML: two documents, pipeline and platform.

    Args:
        placement: Where and with what the steps run.
        out: File to write; its name ends in ``.yaml``.

    Raises:
        ConfigurationError: The SDK is not installed, a workload is wrong, or a value doesn't fit.
    """
    kfp = require_kfp()
    from strongroom.pipelines.definition import STEPS, make_pipeline

    workloads = {name: load_workload(placement.workloads / name / "workload.toml") for name in STEPS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Kubeflow warns about what its local runner does not do
        pipeline = make_pipeline(lambda task, name: _place(task, workloads[name], placement))
        try:
            kfp.compiler.Compiler().compile(pipeline, str(out))
            # Written again with every text quoted: Kubeflow's readers take `n` or `1e3` for something else.
            out.write_text(dump(load(out.read_text(encoding="utf-8"))), encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"can't write {out}: {error}", code="pipeline.compile") from None


def require_kfp() -> Any:
    """Kubeflow's SDK.

    Raises:
        ConfigurationError: It is not installed, code ``pipeline.kfp``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import kfp.compiler
            import kfp.kubernetes  # noqa: F401 -- both must be there
    except ImportError:
        raise ConfigurationError(
            "Kubeflow's SDK is not installed", code="pipeline.kfp", hint="pip install 'strongroom[pipelines]'"
        ) from None
    return kfp


def _place(task: Any, workload: Workload, placement: Placement) -> None:
    """Give one task its image, nodes, resources, settings, and the names of what it may have."""
    from kfp import kubernetes

    needs = workload.resources
    task.set_container_image(placement.image)
    task.set_cpu_request(str(needs.cpus)).set_cpu_limit(str(needs.cpus))
    task.set_memory_request(f"{needs.memory_mib}Mi").set_memory_limit(f"{needs.memory_mib}Mi")
    _PLACES[placement.overlay](task, workload, placement)
    selector = NODES[placement.overlay] if placement.node_selector is None else placement.node_selector
    for label, value in sorted(selector.items()):
        kubernetes.add_node_selector(task, label, value)
    kubernetes.add_pod_label(task, "strongroom/workload", workload.name)
    kubernetes.add_pod_annotation(task, "strongroom/keys", " ".join(sorted(set(workload.keys.values()))))
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.set_timeout(task, TIMEOUT_S)
    kubernetes.use_config_map_as_volume(task, placement.room, ROOM_FOLDER)
    if placement.sources is not None and workload.name == "load-data":
        kubernetes.mount_pvc(task, placement.sources, SOURCES_FOLDER)
    for name, value in _settings(placement, workload).items():
        task.set_env_variable(name, value)


def _on_sgx(task: Any, workload: Workload, placement: Placement) -> None:
    from kfp import kubernetes

    # Kubeflow takes one custom resource a task, as a whole number; it becomes a limit, and so the request.
    task.set_accelerator_type(placement.epc).set_accelerator_limit(workload.resources.epc_mib * MIB)
    kubernetes.add_pod_annotation(task, QUOTE_PROVIDER, "intel")
    kubernetes.add_toleration(task, **SGX_TAINT)  # the pool of these nodes takes no other pods
    kubernetes.mount_pvc(task, QUOTE_HELPER.name, QUOTE_HELPER.path)


def _on_confidential(task: Any, _workload: Workload, _placement: Placement) -> None:
    from kfp import kubernetes

    kubernetes.add_toleration(task, **CONFIDENTIAL_TAINT)
    kubernetes.mount_pvc(task, EVIDENCE.name, EVIDENCE.path)


def _simulated(task: Any, _workload: Workload, _placement: Placement) -> None:
    from kfp import kubernetes

    kubernetes.use_secret_as_volume(task, simulation.MACHINE, simulation.FOLDER)
    task.set_env_variable(simulation.VARIABLE, simulation.FOLDER)


_PLACES: Final = {"aks-sgx": _on_sgx, "aks-cvm": _on_confidential, "simulated": _simulated}
"""What a task has on each kind of node, by overlay."""


def _settings(placement: Placement, workload: Workload) -> dict[str, str]:
    settings = {"STRONGROOM_ROOM": ROOM_FOLDER, "STRONGROOM_PLATFORM": "auto"}
    if placement.overlay == "simulated":
        settings["STRONGROOM_PLATFORM"] = "simulated"
    if placement.container_workloads is not None:
        settings["STRONGROOM_PIPELINE_WORKLOADS"] = placement.container_workloads
    if placement.container_enclaves is not None:
        settings["STRONGROOM_PIPELINE_ENCLAVES"] = placement.container_enclaves
    if placement.sources is not None and workload.name == "load-data":
        settings["STRONGROOM_PIPELINE_SOURCES"] = SOURCES_FOLDER
    return settings
