"""From the site file to objects, and to a folder that Kustomize turns into the same objects."""

import contextlib
import json
from collections.abc import Sequence
from typing import Any, Final

from strongroom.deployment.kubernetes.broker import broker_objects
from strongroom.deployment.kubernetes.components import COMPONENTS, component
from strongroom.deployment.kubernetes.jobs import pipeline_objects
from strongroom.deployment.kubernetes.overlays import OVERLAYS, Layer, overlay
from strongroom.deployment.kubernetes.patches import Patch, apply_patches
from strongroom.deployment.kubernetes.services import loan_objects, model_objects
from strongroom.deployment.kubernetes.shared import shared_objects
from strongroom.deployment.kubernetes.site import Site
from strongroom.deployment.kubernetes.spark import spark_application, spark_defaults, spark_objects, spark_templates
from strongroom.deployment.kubernetes.text import Object, dump
from strongroom.errors import ConfigurationError

BASE: Final = {
    "shared.yaml": shared_objects,
    "broker.yaml": broker_objects,
    "loan-service.yaml": loan_objects,
    "model-server.yaml": model_objects,
    "spark.yaml": spark_objects,
    "pipeline.yaml": pipeline_objects,
}


def base_files(site: Site) -> dict[str, list[Object]]:
    """Objects of the base, by file."""
    return {name: objects for name, make in BASE.items() if (objects := make(site))}


def base_objects(site: Site) -> list[Object]:
    """All objects of the base."""
    return [item for objects in base_files(site).values() for item in objects]


def render(site: Site, overlay_name: str, components: Sequence[str] = ()) -> list[Object]:
    """The objects of a cluster, namespaces first.

    Args:
        site: The site.
        overlay_name: One of `OVERLAYS`.
        components: Some of `COMPONENTS`, in any order: one that replaces the broker goes before one that changes it.

    Raises:
        ConfigurationError: Unknown or unfit overlay or component.
    """
    objects = base_objects(site)
    added = {name: component(site, name, overlay_name) for name in components}
    stack = [overlay(site, overlay_name), *(added[name] for name in COMPONENTS if name in added)]
    for layer in stack:
        objects = apply_patches([*objects, *layer.objects], layer.patches)
    return sorted(objects, key=lambda item: item["kind"] != "Namespace")


def kustomize_tree(site: Site) -> dict[str, str]:
    """Base, overlays and components as Kustomize has them: relative path to text.

    An overlay or component that the site does not have what it needs for is left out.
    """
    files = {f"base/{name}": dump(objects) for name, objects in base_files(site).items()}
    files["base/kustomization.yaml"] = _kustomization({"resources": sorted(base_files(site))})
    for name in OVERLAYS:
        with contextlib.suppress(ConfigurationError):
            files |= _layer_files(f"overlays/{name}", overlay(site, name), ["../../base"])
            files |= _component_files(site, name)
    return files


def _component_files(site: Site, overlay_name: str) -> dict[str, str]:
    files: dict[str, str] = {}
    for name in COMPONENTS:
        with contextlib.suppress(ConfigurationError):
            layer = component(site, name, overlay_name)
            files |= _layer_files(f"components/{overlay_name}/{name}", layer, [], kind="Component")
    return files


def _layer_files(folder: str, layer: Layer, below: list[str], kind: str = "Kustomization") -> dict[str, str]:
    files, resources = {}, list(below)
    if layer.objects:
        files[f"{folder}/resources.yaml"] = dump(layer.objects)
        resources.append("resources.yaml")
    wanted: dict[str, Any] = {"resources": resources} if resources else {}
    if layer.patches:
        wanted["patches"] = [_patch(patch) for patch in layer.patches]
    files[f"{folder}/kustomization.yaml"] = _kustomization(wanted, kind)
    return files


def _patch(patch: Patch) -> Object:
    target = {"kind": patch.kind, "name": patch.name}
    if patch.operations:
        operations = json.dumps([operation.to_json() for operation in patch.operations], indent=1)
        return {"target": target, "patch": operations}
    api = {"PersistentVolume": "v1", "StatefulSet": "apps/v1"}[patch.kind]
    deleted = {"apiVersion": api, "kind": patch.kind, "metadata": {"name": patch.name}, "$patch": "delete"}
    return {"target": target, "patch": json.dumps(deleted, indent=1)}


def _kustomization(content: dict[str, Any], kind: str = "Kustomization") -> str:
    versions = {"Kustomization": "v1beta1", "Component": "v1alpha1"}
    return dump([{"apiVersion": f"kustomize.config.k8s.io/{versions[kind]}", "kind": kind, **content}])


def spark_files(site: Site, overlay_name: str, components: Sequence[str] = ()) -> dict[str, str]:
    """What starts Spark: pod templates and settings for ``spark-submit``, an object for the operator; by file name.

    Raises:
        ConfigurationError: Unknown or unfit overlay or component.
    """
    if site.spark is None:
        return {}
    templates = spark_templates(site, overlay_name, components)
    files = {name: dump([template]) for name, template in templates.items()}
    settings = spark_defaults(site, site.spark)
    files["spark-defaults.conf"] = "".join(f"{key} {value}\n" for key, value in settings.items())
    files["spark-application.yaml"] = dump(spark_run(site, overlay_name, components))
    return files


def spark_run(site: Site, overlay_name: str, components: Sequence[str] = ()) -> list[Object]:
    """Driver and executors as one object, which Spark's operator takes; none without Spark.

    Raises:
        ConfigurationError: Unknown or unfit overlay or component.
    """
    if site.spark is None:
        return []
    overlay(site, overlay_name)  # refused where nothing could attest
    for name in components:
        component(site, name, overlay_name)
    return [spark_application(site, site.spark, spark_templates(site, overlay_name, components))]
