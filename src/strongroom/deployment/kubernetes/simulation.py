"""What a pod on a simulated platform has: the machine that signs its evidence, as a secret."""

from typing import Final

from strongroom.deployment.kubernetes.text import Object

MACHINE: Final = "strongroom-simulated-machine"
FOLDER: Final = "/run/simulated-machine"
VARIABLE: Final = "STRONGROOM_SIMULATED_MACHINE"


def machine_volume() -> Object:
    """The machine's keys."""
    return {"name": "simulated-machine", "secret": {"secretName": MACHINE, "defaultMode": 0o440}}


def machine_mount() -> Object:
    """Where containers see `machine_volume`."""
    return {"name": "simulated-machine", "mountPath": FOLDER, "readOnly": True}


def machine_setting(settings: list[Object]) -> list[Object]:
    """A workload's environment, on a simulated machine.

    Args:
        settings: Environment elsewhere.
    """
    changed = [{**item, "value": "simulated"} if item["name"] == "STRONGROOM_PLATFORM" else item for item in settings]
    return [*changed, {"name": VARIABLE, "value": FOLDER}]
