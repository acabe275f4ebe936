"""`strongroom manifest`: Gramine manifests from workload definitions."""

import json
from pathlib import Path
from typing import Annotated, Final

import typer

from strongroom.cli.main import noun_app
from strongroom.cli.owner import Json, put, say
from strongroom.errors import ConfigurationError, PolicyRejected, WouldOverwrite

MAX_MANIFEST_BYTES: Final = 16 * 1024 * 1024

app = noun_app("Gramine manifests, from workload definitions.")

RENDER_EPILOG: Final = """Examples:

\b
  strongroom manifest render loan-train.toml --out loan-train.manifest.template
  strongroom manifest render tf-serving.toml --provision-ca ca.pem --out tf-serving.manifest.template
"""


@app.command(help="Render a workload as a manifest template for gramine-manifest.", epilog=RENDER_EPILOG)
def render(
    file: Annotated[Path, typer.Argument(metavar="WORKLOAD.toml", help="The workload.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="New file; else stdout.")] = None,
    provision_ca: Annotated[
        str | None,
        typer.Option(
            "--provision-ca", metavar="CA.pem", help="Let Gramine fetch the key and decrypt; beside the workload file."
        ),
    ] = None,
    interpreter: Annotated[
        str, typer.Option("--interpreter", metavar="PATH", help="Python, where the enclave will run.")
    ] = "/usr/bin/python3",
    java: Annotated[
        str | None, typer.Option("--java", metavar="DIR", help="A driver or executor of Spark: where its Java will be.")
    ] = None,
) -> None:
    """Render a workload as a manifest template.

    Raises:
        ConfigurationError: The workload can't be rendered.
        WouldOverwrite: The output exists.
    """
    from strongroom.deployment.gramine_manifest import Provisioning, render_manifest
    from strongroom.deployment.gramine_spark import SparkRuntime
    from strongroom.workload import load_workload

    provisioning = Provisioning(provision_ca) if provision_ca else None
    spark = SparkRuntime(java) if java else None
    text = render_manifest(load_workload(file), provisioning=provisioning, interpreter=interpreter, spark=spark)
    if out is None:
        put(text.rstrip("\n"))
        return
    try:
        with out.open("x", encoding="utf-8") as target:
            target.write(text)
    except FileExistsError:
        raise WouldOverwrite(f"{out} exists", hint="name another file") from None
    except OSError as error:
        raise ConfigurationError(f"cannot write {out}: {error.strerror}", code="output.unwritable") from None
    say(f"wrote {out}; the lines at its top say how to go on")


@app.command(
    help="Name the keys of a manifest (not a template) that Gramine 1.9 does not know.",
    epilog="Example: strongroom manifest check app.manifest",
)
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE.manifest", help="The manifest.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Name the keys that Gramine 1.9 does not know.

    Raises:
        ConfigurationError: The file can't be read or is not TOML.
        PolicyRejected: There are such keys.
    """
    from strongroom.deployment.gramine_keys import unknown_keys
    from strongroom.errors import Finding
    from strongroom.formats.toml import parse_toml

    try:
        with file.open("rb") as source:
            raw = source.read(MAX_MANIFEST_BYTES)
    except OSError as error:
        raise ConfigurationError(f"cannot read {file}: {error.strerror}", code="manifest.file") from None
    document = parse_toml(
        raw, what=str(file), code="manifest.file", hint="fill the template in first: gramine-manifest"
    )
    unknown = unknown_keys(document)
    if as_json:
        put(json.dumps({"unknown": list(unknown)}))
    if unknown:
        raise PolicyRejected([Finding("manifest.unknown_key", name) for name in unknown])
    say("every key is one that Gramine 1.9 knows")
