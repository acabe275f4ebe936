"""`strongroom deploy`: Kubernetes manifests from a site file: render, validate, and bring them to a cluster."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from strongroom.cli.main import noun_app
from strongroom.cli.overlay import Overlay
from strongroom.cli.owner import Json, put, say
from strongroom.errors import ConfigurationError, PolicyRejected, UnavailableError, WouldOverwrite

if TYPE_CHECKING:
    from strongroom.deployment.kubernetes.kubectl import Kubectl
    from strongroom.deployment.kubernetes.site import Site

app = noun_app("Kubernetes manifests from a site file and workload definitions: render, validate, apply.")


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

OVERLAYS_HELP: Final = """
Overlays: aks-cvm (confidential virtual machines, SEV-SNP or TDX: a pod's evidence is about its whole node), aks-sgx
(SGX nodes; Azure closes DCsv3 on 2029-10-31 and to new subscriptions since 2026-11-01), simulated (any cluster;
protects nothing).
"""


@app.command(epilog="Example: strongroom deploy init site; then edit site/site.toml")
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to.", show_default=False)],
    size: Annotated[
        str, typer.Option("--node-size", help="Machine size of the protected nodes; SGX: Standard_DC4s_v3.")
    ] = "Standard_DC4as_v6",
) -> None:
    """Write a commented site file and the workloads it names."""
    from strongroom.deployment.kubernetes.template import write_site

    made = write_site(folder, size)
    say(f"wrote {made} and {folder}/workloads; next: fill it in, then strongroom deploy validate")


RENDER_EPILOG: Final = f"""Examples:

\b
  strongroom deploy render site/site.toml --out site.yaml
  strongroom deploy render site/site.toml --tree manifests          (base, overlays, components for Kustomize)
  strongroom deploy render site/site.toml --spark spark-conf        (pod templates, spark-defaults.conf)
{OVERLAYS_HELP}"""


@app.command(help="Render the manifests of a site.", epilog=RENDER_EPILOG)
def render(
    site: SiteFile,
    overlay: OverlayOption = None,
    component: Components = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; else stdout.")] = None,
    tree: Annotated[
        Path | None, typer.Option("--tree", metavar="DIR", help="Write a Kustomize folder instead.")
    ] = None,
    spark: Annotated[Path | None, typer.Option("--spark", metavar="DIR", help="Write Spark's files instead.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Render the manifests of a site."""
    from strongroom.deployment.kubernetes.render import kustomize_tree, spark_files
    from strongroom.deployment.kubernetes.text import dump

    loaded = _load(site)
    if tree is not None:
        _write(tree, kustomize_tree(loaded), force=force)
    if spark is not None:
        _write(spark, spark_files(loaded, *_chosen(loaded, overlay, component)), force=force)
    if tree is not None or spark is not None:
        return
    text = dump(_objects(loaded, overlay, component))
    if out is None:
        put(text.rstrip("\n"))
    else:
        _write(out.parent, {out.name: text}, force=force)


VALIDATE_EPILOG: Final = """Examples:

\b
  strongroom deploy validate site/site.toml
  strongroom deploy validate site/site.toml --manifests site.yaml
"""


@app.command(help="Find what is wrong with the manifests, without a cluster.", epilog=VALIDATE_EPILOG)
def validate(
    site: SiteFile,
    overlay: OverlayOption = None,
    component: Components = None,
    manifests: Annotated[
        list[Path] | None, typer.Option("--manifests", metavar="FILE.yaml", help="These, not what would be rendered.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find what is wrong with the manifests, without a cluster."""
    from strongroom.deployment.kubernetes.render import spark_run
    from strongroom.deployment.kubernetes.text import load

    loaded = _load(site)
    if manifests:
        objects = [item for path in manifests for item in load(_read(path))]
    else:
        objects = _objects(loaded, overlay, component)
        objects += spark_run(loaded, *_chosen(loaded, overlay, component))
    _refuse_findings(loaded, objects, as_json=as_json)
    say(f"{len(objects)} objects, no finding")


SECRETS_EPILOG: Final = """Examples:

\b
  strongroom deploy secrets site/site.toml --broker broker
  strongroom deploy secrets site/site.toml --broker broker --overlay simulated --machine machine
"""


@app.command(epilog=SECRETS_EPILOG)
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

    loaded = _load(site)
    for command in secret_commands(loaded, *_chosen(loaded, overlay, component), broker, machine):
        put(shlex.join(command))


@app.command(epilog="Example: strongroom deploy precheck site/site.toml")
def precheck(
    site: SiteFile,
    overlay: OverlayOption = None,
    component: Components = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Look whether a cluster has what the site needs; nothing is changed.

    Raises:
        UnavailableError: Something is missing.
    """
    from strongroom.deployment.kubernetes.precheck import precheck as look

    loaded = _load(site)
    checks = look(_kubectl(context), loaded, *_chosen(loaded, overlay, component))
    if as_json:
        put(json.dumps([asdict(check) for check in checks], indent=2))
    for check in () if as_json else checks:
        put(f"{'ok  ' if check.ok else 'FAIL'} {check.name}: {check.detail}")
    missing = [check.name for check in checks if not check.ok]
    if missing:
        raise UnavailableError(f"not as it must be: {', '.join(missing)}", code="deploy.precheck")


@app.command(epilog="Example: strongroom deploy apply site/site.toml --dry-run")
def apply(
    site: SiteFile,
    overlay: OverlayOption = None,
    component: Components = None,
    context: Context = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Let the server check; change nothing.")] = False,
) -> None:
    """Validate, let the server check, and bring everything to the cluster."""
    from strongroom.deployment.kubernetes.kubectl import apply as bring
    from strongroom.deployment.kubernetes.render import spark_run

    loaded = _load(site)
    objects = _objects(loaded, overlay, component)
    # Spark's pods come later and need room on the same nodes.
    _refuse_findings(loaded, [*objects, *spark_run(loaded, *_chosen(loaded, overlay, component))], as_json=False)
    put(bring(_kubectl(context), objects, dry_run=dry_run).rstrip("\n"))


@app.command(epilog="Example: strongroom deploy status site/site.toml")
def status(
    site: SiteFile,
    overlay: OverlayOption = None,
    component: Components = None,
    context: Context = None,
    as_json: Json = False,
) -> None:
    """Say how many replicas answer.

    Raises:
        UnavailableError: Fewer than asked for.
    """
    from strongroom.deployment.kubernetes.kubectl import status as look

    states = look(_kubectl(context), _objects(_load(site), overlay, component))
    if as_json:
        put(json.dumps([asdict(state) for state in states], indent=2))
    for state in () if as_json else states:
        put(f"{state.name}  {state.ready}/{state.wanted} ready{'  ' + state.why if state.why else ''}")
    waiting = [state.name for state in states if state.ready < state.wanted or not state.wanted]
    if waiting:
        raise UnavailableError(f"not ready: {', '.join(waiting)}", code="deploy.status")


@app.command(epilog="Example: strongroom deploy copy site/site.toml ssl.cfg.sealed model-server-models config/ssl.cfg")
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

    loaded = _load(site)
    objects = [*_objects(loaded, overlay, component), *spark_run(loaded, *_chosen(loaded, overlay, component))]
    for path in copy_files(_kubectl(context), objects, source, claim, target):
        put(path)


@app.command(epilog="Example: strongroom deploy delete site/site.toml --yes")
def delete(
    site: SiteFile,
    overlay: OverlayOption = None,
    component: Components = None,
    context: Context = None,
    data_too: Annotated[bool, typer.Option("--data-too", help="Also volumes and what is stored in them.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Really.")] = False,
) -> None:
    """Take everything away from the cluster; volumes stay unless --data-too says otherwise.

    Raises:
        ConfigurationError: --yes is missing.
    """
    from strongroom.deployment.kubernetes.kubectl import delete as take_away

    objects = _objects(_load(site), overlay, component)
    if not yes:
        raise ConfigurationError(f"{len(objects)} objects would be deleted", code="deploy.delete", hint="--yes")
    put(take_away(_kubectl(context), objects, data_too=data_too).rstrip("\n"))


def _load(path: Path) -> "Site":
    from strongroom.deployment.kubernetes.nodes import retirement_warning
    from strongroom.deployment.kubernetes.site_file import load_site

    site = load_site(path)
    warning = retirement_warning(site.nodes.size)
    if warning:
        say(f"warning: {warning}")
    return site


def _objects(site: "Site", overlay: Overlay | None, component: list[Component] | None) -> list[dict[str, Any]]:
    from strongroom.deployment.kubernetes.render import render as render_objects

    where, components = _chosen(site, overlay, component)
    if where == Overlay.SIMULATED:
        say("warning: the overlay `simulated` protects nothing")
    return render_objects(site, where, components)


def _chosen(site: "Site", overlay: Overlay | None, component: list[Component] | None) -> tuple[str, list[str]]:
    """The overlay, and the components: the site's, as far as they belong to the overlay, then the caller's."""
    from strongroom.deployment.kubernetes.components import fits
    from strongroom.deployment.kubernetes.overlays import overlay_for

    where = overlay.value if overlay else overlay_for(site)
    own = [name for name in site.components if fits(name, where)]
    return where, list(dict.fromkeys([*own, *(item.value for item in component or [])]))


def _refuse_findings(site: "Site", objects: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    from strongroom.deployment.kubernetes.rules import validate as find

    findings = find(objects, epc_mib=site.nodes.size.epc_gib * 1024, nodes=site.nodes.most)
    if as_json:
        put(json.dumps([asdict(finding) for finding in findings], indent=2))
    if findings:
        raise PolicyRejected(findings, code="deploy.findings", hint="correct the site file or the workloads")


def _kubectl(context: str | None) -> "Kubectl":
    from strongroom.deployment.kubernetes.kubectl import Kubectl

    return Kubectl(context)


def _read(path: Path) -> str:
    from strongroom.deployment.kubernetes.text import MAX_YAML_BYTES

    try:
        with path.open("rb") as file:
            return file.read(MAX_YAML_BYTES + 1).decode()
    except OSError as error:
        raise ConfigurationError(f"can't read {path}: {error.strerror}", code="deploy.file") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8", code="deploy.file") from None


def _write(folder: Path, files: dict[str, str], *, force: bool) -> None:
    there = [name for name in files if (folder / name).exists()]
    if there and not force:
        raise WouldOverwrite(f"{folder / there[0]} exists", hint="--force replaces it")
    try:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"can't write {error.filename}: {error.strerror}", code="output.unwritable") from None
    say(f"wrote {folder / next(iter(files))}" if len(files) == 1 else f"wrote {len(files)} files to {folder}")
