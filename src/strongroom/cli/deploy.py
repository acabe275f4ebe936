"""`strongroom deploy`: Kubernetes manifests from a site file: render, validate, and bring them to a cluster."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from strongroom.cli import deploy_files
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
from strongroom.cli.main import noun_app
from strongroom.cli.owner import Json, put, say
from strongroom.errors import ConfigurationError, PolicyRejected, UnavailableError, WouldOverwrite

if TYPE_CHECKING:
    from strongroom.deployment.kubernetes.site import Site

app = noun_app("Kubernetes manifests from a site file and workload definitions: render, validate, apply.")


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

    loaded = load_site_file(site)
    if tree is not None:
        _write(tree, kustomize_tree(loaded), force=force)
    if spark is not None:
        _write(spark, spark_files(loaded, *chosen(loaded, overlay, component)), force=force)
    if tree is not None or spark is not None:
        return
    text = dump(rendered(loaded, overlay, component))
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

    loaded = load_site_file(site)
    if manifests:
        objects = [item for path in manifests for item in load(_read(path))]
    else:
        objects = rendered(loaded, overlay, component)
        objects += spark_run(loaded, *chosen(loaded, overlay, component))
    _refuse_findings(loaded, objects, as_json=as_json)
    say(f"{len(objects)} objects, no finding")


app.command(epilog=deploy_files.SECRETS_EPILOG)(deploy_files.secrets)


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

    loaded = load_site_file(site)
    checks = look(kubectl(context), loaded, *chosen(loaded, overlay, component))
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

    loaded = load_site_file(site)
    objects = rendered(loaded, overlay, component)
    # Spark's pods come later and need room on the same nodes.
    _refuse_findings(loaded, [*objects, *spark_run(loaded, *chosen(loaded, overlay, component))], as_json=False)
    put(bring(kubectl(context), objects, dry_run=dry_run).rstrip("\n"))


app.command(epilog=deploy_files.COPY_EPILOG)(deploy_files.copy)


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

    states = look(kubectl(context), rendered(load_site_file(site), overlay, component))
    if as_json:
        put(json.dumps([asdict(state) for state in states], indent=2))
    for state in () if as_json else states:
        put(f"{state.name}  {state.ready}/{state.wanted} ready{'  ' + state.why if state.why else ''}")
    waiting = [state.name for state in states if state.ready < state.wanted or not state.wanted]
    if waiting:
        raise UnavailableError(f"not ready: {', '.join(waiting)}", code="deploy.status")


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

    objects = rendered(load_site_file(site), overlay, component)
    if not yes:
        raise ConfigurationError(f"{len(objects)} objects would be deleted", code="deploy.delete", hint="--yes")
    put(take_away(kubectl(context), objects, data_too=data_too).rstrip("\n"))


def _refuse_findings(site: "Site", objects: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    from strongroom.deployment.kubernetes.rules import validate as find

    findings = find(objects, epc_mib=site.nodes.size.epc_gib * 1024, nodes=site.nodes.most)
    if as_json:
        put(json.dumps([asdict(finding) for finding in findings], indent=2))
    if findings:
        raise PolicyRejected(findings, code="deploy.findings", hint="correct the site file or the workloads")


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
