"""The commands that bring the broker's files, and a simulated machine, to a cluster as Secrets.

Only paths stand in them: no secret is read here, and none is in any argument.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from strongroom.deployment.kubernetes.broker import FILES, ROOT_KEY
from strongroom.deployment.kubernetes.database import LOGIN, login_files
from strongroom.deployment.kubernetes.overlays import namespaces
from strongroom.deployment.kubernetes.simulation import MACHINE
from strongroom.deployment.kubernetes.site import Site
from strongroom.errors import ConfigurationError

_NAMES: Final = ("broker.toml", "ca.pem", "server.pem", "server.key", "admin.pub")
_DATABASE: Final = "broker.db"

Command = tuple[str, ...]


def secret_commands(
    site: Site, overlay: str, components: Sequence[str], broker: Path, machine: Path | None
) -> list[Command]:
    """Kubectl's commands, in order.

    Args:
        site: The site.
        overlay: Where it runs.
        components: What is added.
        broker: Folder that `strongroom broker init` wrote; the login of its database lies beside it.
        machine: Simulated machine, for the overlay `simulated`.

    Raises:
        ConfigurationError: A folder is not what it should be.
    """
    commands = _of_the_broker(site, components, broker) if site.broker.image is not None else []
    if overlay == "simulated":
        if machine is None or not machine.is_dir():
            raise ConfigurationError(
                "the overlay simulated needs a simulated machine",
                code="deploy.machine",
                hint="--machine DIR, which `strongroom platform simulate DIR` makes",
            )
        for place in namespaces(site):
            if place == site.namespace:
                commands.append(("kubectl", "create", "namespace", place))
            commands.append(_secret(place, MACHINE, {"": machine}))
    return commands


def _of_the_broker(site: Site, components: Sequence[str], broker: Path) -> list[Command]:
    if not (broker / _NAMES[0]).is_file():
        raise ConfigurationError(
            f"{broker} is no broker's folder", code="deploy.broker", hint="`strongroom broker init DIR` makes one"
        )
    shared = "postgresql" in components
    files = {name: broker / name for name in (*_NAMES, *(() if shared else (_DATABASE,)))}
    for path in sorted((broker / "collateral").glob("*/*.json")):
        files[f"collateral.{path.parent.name}.{path.name}"] = path
    for path in sorted((broker / "roots").glob("simulated.der")):
        files[path.name] = path
    place = site.broker_namespace
    commands: list[Command] = [("kubectl", "create", "namespace", place), _secret(place, FILES, files)]
    if "key-vault" not in components:
        commands.append(_secret(place, ROOT_KEY, {"root.key": broker / "root.key"}))
    if shared and site.broker.database is not None:
        beside = {name: broker.parent / name for name in login_files(site.broker.database)}
        commands.append(_secret(place, LOGIN, beside))
    return commands


def _secret(namespace: str, name: str, files: dict[str, Path]) -> Command:
    """With the file's own name as key where that is it."""
    parts = [f"--from-file={path}" if key in {"", path.name} else f"--from-file={key}={path}"
             for key, path in files.items()]  # fmt: skip
    return ("kubectl", "--namespace", namespace, "create", "secret", "generic", name, *parts)
