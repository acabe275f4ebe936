"""A site as the verbs of `strongroom deploy` take it: options, and what follows from them."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from strongroom.cli.overlay import Overlay
from strongroom.cli.owner import say

if TYPE_CHECKING:
    from strongroom.deployment.kubernetes.kubectl import Kubectl
    from strongroom.deployment.kubernetes.site import Site


class Component(StrEnum):
    """What is added."""

    NGINX_INGRESS = "nginx-ingress"
    GATEWAY_TLS = "gateway-tls"
    QUOTE_HELPER = "quote-helper"
    POSTGRESQL = "postgresql"
    KEY_VAULT = "key-vault"


SiteFile = Annotated[Path, typer.Argument(metavar="SITE.toml", help="What `deploy init` wrote.", show_default=False)]
OverlayOption = Annotated[
    Overlay | None, typer.Option("--overlay", help="Where it runs [default: what the site's nodes are for].")
]
Components = Annotated[
    list[Component] | None,
    typer.Option("--component", help="What is added to the site's own; may be repeated.", show_default=False),
]
Context = Annotated[str | None, typer.Option("--context", help="kubectl's context [default: the current one].")]


def load_site_file(path: Path) -> "Site":
    """Read a site file; says so if Azure takes its nodes away."""
    from strongroom.deployment.kubernetes.nodes import retirement_warning
    from strongroom.deployment.kubernetes.site_file import load_site

    site = load_site(path)
    warning = retirement_warning(site.nodes.size)
    if warning:
        say(f"warning: {warning}")
    return site


def rendered(site: "Site", overlay: Overlay | None, component: list[Component] | None) -> list[dict[str, Any]]:
    """The objects of a site; says so if they protect nothing."""
    from strongroom.deployment.kubernetes.render import render

    where, components = chosen(site, overlay, component)
    if where == Overlay.SIMULATED:
        say("warning: the overlay `simulated` protects nothing")
    return render(site, where, components)


def chosen(site: "Site", overlay: Overlay | None, component: list[Component] | None) -> tuple[str, list[str]]:
    """The overlay, and the components: the site's, as far as they belong to the overlay, then the caller's."""
    from strongroom.deployment.kubernetes.components import fits
    from strongroom.deployment.kubernetes.overlays import overlay_for

    where = overlay.value if overlay else overlay_for(site)
    own = [name for name in site.components if fits(name, where)]
    return where, list(dict.fromkeys([*own, *(item.value for item in component or [])]))


def kubectl(context: str | None) -> "Kubectl":
    """The caller's kubectl, for a context of its configuration; None: the current one."""
    from strongroom.deployment.kubernetes.kubectl import Kubectl

    return Kubectl(context)
