"""`strongroom azure`: an ARM template, and the az commands around it. Nothing here talks to Azure."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from strongroom.cli.main import noun_app
from strongroom.cli.owner import Json, put, say
from strongroom.errors import ConfigurationError, WouldOverwrite

if TYPE_CHECKING:
    from strongroom.deployment.azure.settings import AzureSettings

app = noun_app("Azure: what a site stands on, as an ARM template and as az commands in order.")

Name = Annotated[str, typer.Option("--name", help="Prefix of all names, and the resource group's.")]
Location = Annotated[str, typer.Option("--location", help="Region.")]
Storage = Annotated[str, typer.Option("--storage-account", help="Unique in Azure.", show_default=False)]
Registry = Annotated[str, typer.Option("--registry", help="Unique in Azure.", show_default=False)]
Vault = Annotated[str, typer.Option("--key-vault", help="Unique in Azure.", show_default=False)]
Share = Annotated[str, typer.Option("--share", help="File share of the loan service.")]
ShareSize = Annotated[int, typer.Option("--share-gib", help="Its quota.")]
SystemSize = Annotated[str, typer.Option("--system-size", help="Machine size of the system nodes.")]
NodeSizeName = Annotated[str, typer.Option("--node-size", help="Machine size of the protected nodes.")]
Least = Annotated[int, typer.Option("--least-nodes", min=1, help="Fewest protected nodes.")]
Most = Annotated[int, typer.Option("--most-nodes", min=1, help="Most protected nodes.")]
Namespace = Annotated[str, typer.Option("--namespace", help="Kubernetes namespace of the workloads.")]


@app.command(
    help="Write an ARM template for a resource group.",
    epilog="Example: strongroom azure template --storage-account acmeloans --registry acmeimages --key-vault acme-keys",
)
def template(
    storage_account: Storage,
    registry: Registry,
    key_vault: Vault,
    name: Name = "strongroom",
    location: Location = "westeurope",
    share: Share = "loan-app-file-share",
    share_gib: ShareSize = 1024,
    system_size: SystemSize = "Standard_D4s_v5",
    node_size: NodeSizeName = "Standard_DC4as_v6",
    least_nodes: Least = 1,
    most_nodes: Most = 5,
    namespace: Namespace = "strongroom",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; else stdout.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write an ARM template for a resource group.

    Raises:
        ConfigurationError: A name or size has not the form Azure wants, or the file can't be written.
        WouldOverwrite: The file exists.
    """
    from strongroom.deployment.azure.settings import AzureSettings
    from strongroom.deployment.azure.template import render_template

    settings = AzureSettings(
        name=name, location=location, storage_account=storage_account, registry=registry, key_vault=key_vault,
        share=share, share_gib=share_gib, system_size=system_size, node_size=node_size, least_nodes=least_nodes,
        most_nodes=most_nodes, namespace=namespace,
    )  # fmt: skip
    _warn(settings)
    text = render_template(settings)
    if out is None:
        put(text.rstrip("\n"))
        return
    try:
        with out.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise WouldOverwrite(f"{out} exists", hint="--force replaces it") from None
    except OSError as error:
        raise ConfigurationError(f"can't write {out}: {error.strerror}", code="output.unwritable") from None
    say(f"wrote {out}; next: strongroom azure plan")


@app.command(
    help="Print the az commands in order, with the template's parameters; nothing is run.",
    epilog="Example: strongroom azure plan --storage-account acmeloans --registry acmeimages --key-vault acme-keys",
)
def plan(
    storage_account: Storage,
    registry: Registry,
    key_vault: Vault,
    name: Name = "strongroom",
    location: Location = "westeurope",
    share: Share = "loan-app-file-share",
    share_gib: ShareSize = 1024,
    system_size: SystemSize = "Standard_D4s_v5",
    node_size: NodeSizeName = "Standard_DC4as_v6",
    least_nodes: Least = 1,
    most_nodes: Most = 5,
    namespace: Namespace = "strongroom",
    template_file: Annotated[str, typer.Option("--template", help="What `azure template` wrote.")] = "azure.json",
    as_json: Json = False,
) -> None:
    """Print the az commands in order; nothing is run."""
    from strongroom.deployment.azure.plan import make_plan
    from strongroom.deployment.azure.settings import AzureSettings

    settings = AzureSettings(
        name=name, location=location, storage_account=storage_account, registry=registry, key_vault=key_vault,
        share=share, share_gib=share_gib, system_size=system_size, node_size=node_size, least_nodes=least_nodes,
        most_nodes=most_nodes, namespace=namespace,
    )  # fmt: skip
    _warn(settings)
    steps = make_plan(settings, template_file)
    if as_json:
        put(json.dumps([{"why": step.why, "command": list(step.command)} for step in steps], indent=2))
        return
    put("\n\n".join(map(str, steps)))


def _warn(settings: "AzureSettings") -> None:
    from strongroom.deployment.kubernetes.nodes import retirement_warning

    warning = retirement_warning(settings.size)
    if warning:
        say(f"warning: {warning}")
