"""The account of Kubeflow's steps."""

from typing import Final

from strongroom.deployment.kubernetes import parts, shared
from strongroom.deployment.kubernetes.site import Pipeline, Site
from strongroom.deployment.kubernetes.text import Object

PIPELINE: Final = "strongroom-pipeline"


def pipeline_objects(site: Site) -> list[Object]:
    """Account, rights and room of Kubeflow's steps, in Kubeflow's namespace, which is not ours to make."""
    if site.pipeline is None:
        return []
    place = site.pipeline.namespace
    # Source: Kubeflow Pipelines manifests, role `pipeline-runner`: the part that a step's launcher uses.
    rules = [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]},
    ]
    return [_pipeline_account(site.pipeline), parts.role(PIPELINE, place, rules), parts.role_binding(PIPELINE, place),
            shared.room_config(site, place)]  # fmt: skip


def _pipeline_account(pipeline: Pipeline) -> Object:
    account = parts.service_account(PIPELINE, pipeline.namespace, pipeline.client_id)
    return {**account, "automountServiceAccountToken": True}
