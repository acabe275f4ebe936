"""TensorFlow Serving, unmodified, without Gramine: a workload of ours opens its files before it starts.

The opener attests, receives the key and writes models and ``ssl.cfg`` into memory of the pod; the server sees nothing
else. On a confidential machine that memory is as protected as the server's own. A restart of the server finds the files
still there; a new version of a model is served by new pods.
"""

from typing import Final

from strongroom.deployment.kubernetes import parts, simulation
from strongroom.deployment.kubernetes.lending import EVIDENCE
from strongroom.deployment.kubernetes.nodes import CONFIDENTIAL_TAINT
from strongroom.deployment.kubernetes.services import tensorflow_objects
from strongroom.deployment.kubernetes.site import Service, Site
from strongroom.deployment.kubernetes.text import Object
from strongroom.workload import Workload

OPENED: Final = "opened"
FOLDER: Final = "/work"
"""Where the server's measured command looks for its files, under Gramine and here."""


def opened_tensorflow(site: Site, *, confidential: bool) -> list[Object]:
    """Its objects; none where the site names no opener.

    Args:
        site: The site.
        confidential: On confidential machines; else simulated.
    """
    service = site.tensorflow
    if service is None or service.opener is None or service.opener_image is None:
        return []
    objects = tensorflow_objects(site)
    for item in objects:
        if item["kind"] == "Deployment":
            pod = item["spec"]["template"]["spec"]
            _change(site, service, service.opener, service.opener_image, pod, confidential=confidential)
    return objects


def _change(site: Site, service: Service, opener: Workload, image: str, pod: Object, *, confidential: bool) -> None:
    (server,) = pod["containers"]
    server["command"] = list(service.workload.command)
    server["env"] = [{"name": name, "value": value} for name, value in service.workload.environment.items()]
    server["volumeMounts"] = [{"name": OPENED, "mountPath": FOLDER, "readOnly": True}, parts.scratch_mount()]
    pod["initContainers"] = [_opener(opener, image, confidential=confidential)]
    memory = {"medium": "Memory", "sizeLimit": f"{service.workload.resources.memory_mib // 2}Mi"}
    pod["volumes"].append({"name": OPENED, "emptyDir": memory})
    if confidential:
        pod["nodeSelector"], pod["tolerations"] = dict(site.nodes.selector), [dict(CONFIDENTIAL_TAINT)]
        pod["volumes"].append(EVIDENCE.volume())
    else:
        pod["volumes"].append(simulation.machine_volume())


def _opener(workload: Workload, image: str, *, confidential: bool) -> Object:
    settings = parts.room_settings(workload)
    return {
        "name": "opener",
        "image": image,
        "command": parts.start_command(workload),
        "env": settings if confidential else simulation.machine_setting(settings),
        "securityContext": parts.container_security(),
        "resources": parts.resources(workload),
        "volumeMounts": [
            parts.room_mount(),
            {"name": "storage", "mountPath": parts.STORAGE_FOLDER, "readOnly": True},
            parts.scratch_mount(),
            {"name": OPENED, "mountPath": FOLDER},
            EVIDENCE.mount() if confidential else simulation.machine_mount(),
        ],
    }
