"""`strongroom deploy secrets` and `copy`: how files get to a cluster."""

import shlex
from pathlib import Path
from typing import Annotated, Final

import typer

from strongroom.cli.deploy_site import (
    Components,
    Context,
    OverlayOption,
    SiteFile,
    chosen,
    kubectl,
    load_site_file,
    rendered,
)
from strongroom.cli.owner import put

SECRETS_EPILOG: Final = """Examples:

\b
  strongroom deploy secrets site/site.toml --broker broker
  strongroom deploy secrets site/site.toml --broker broker --overlay simulated --machine machine
"""


def secrets(
    site: SiteFile,
    broker: Annotated[Path, typer.Option("--broker", metavar="DIR", help="Folder that `broker init` wrote.")],
    overlay: OverlayOption = None,
    component: Components = None,
    machine: Annotated[
        Path | None, typer.Option("--machine", metavar="DIR", help="Simulated machine, with --overlay simulated.")
    ] = None,
) -> None:
    """Print the kubectl commands that bring the broker's files to the cluster; no secret is in them."""
    from strongroom.deployment.kubernetes.secrets import secret_commands

    loaded = load_site_file(site)
    for command in secret_commands(loaded, *chosen(loaded, overlay, component), broker, machine):
        put(shlex.join(command))


COPY_EPILOG: Final = "Example: strongroom deploy copy site/site.toml ssl.cfg.sealed model-server-models config/ssl.cfg"


def copy(
    site: SiteFile,
    source: Annotated[Path, typer.Argument(metavar="SEALED", help="A sealed file, or a folder of them.")],
    claim: Annotated[str, typer.Argument(metavar="CLAIM", help="Claim of a workload.")],
    target: Annotated[str, typer.Argument(metavar="PATH", help="Where, on the claim.")],
    overlay: OverlayOption = None,
    component: Components = None,
    context: Context = None,
) -> None:
    """Copy sealed files to a claim of a site that was applied."""
    from strongroom.deployment.kubernetes.copying import copy_files
    from strongroom.deployment.kubernetes.render import spark_run

    loaded = load_site_file(site)
    objects = [*rendered(loaded, overlay, component), *spark_run(loaded, *chosen(loaded, overlay, component))]
    for path in copy_files(kubectl(context), objects, source, claim, target):
        put(path)
