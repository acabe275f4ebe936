"""The az commands, in order, from an empty subscription to a cluster that `strongroom deploy` can be used on."""

import shlex
from dataclasses import dataclass

from strongroom.deployment.azure.parameters import parameter_values
from strongroom.deployment.azure.settings import AzureSettings


@dataclass(frozen=True, slots=True)
class Step:
    """One command.

    Args:
        why: What it is for.
        command: Program and arguments.
    """

    why: str
    command: tuple[str, ...]

    def __str__(self) -> str:
        return f"# {self.why}\n{shlex.join(self.command)}"


def make_plan(settings: AzureSettings, template: str = "azure.json") -> list[Step]:
    """The steps.

    Args:
        settings: Names and sizes.
        template: File that `strongroom azure template` wrote.
    """
    group = ("--resource-group", settings.name)
    region = ("--location", settings.location)
    what = (
        "--template-file",
        template,
        "--parameters",
        *(f"{name}={value}" for name, value in parameter_values(settings).items()),
    )
    return [
        Step("sign in; a person's account, no secret in any file", ("az", "login")),
        Step(
            "resource providers, once a subscription",
            ("az", "provider", "register", "--namespace", "Microsoft.ContainerService", "--wait"),
        ),
        Step(
            "the same for Attestation",
            ("az", "provider", "register", "--namespace", "Microsoft.Attestation", "--wait"),
        ),
        Step(
            "is the protected size to be had here? NotAvailableForSubscription: no",
            ("az", "vm", "list-skus", *region, "--size", settings.node_size, "--output", "table"),
        ),
        Step("the resource group", ("az", "group", "create", "--name", settings.name, *region)),
        Step("what would change", ("az", "deployment", "group", "what-if", *group, *what)),
        Step(
            "storage, registry, key vault, attestation provider, identities, cluster",
            ("az", "deployment", "group", "create", *group, "--name", "strongroom", *what),
        ),
        Step(
            "client ids and addresses for site.toml",
            ("az", "deployment", "group", "show", *group, "--name", "strongroom", "--query", "properties.outputs"),
        ),
        *_images(settings),
        Step(
            "the broker's root key, made on the owner's trusted machine",
            ("az", "keyvault", "secret", "set", "--vault-name", settings.key_vault, "--name", "strongroom-root-key",
             "--encoding", "base64", "--file", "broker/root.key", "--output", "none"),
        ),
        Step(
            "kubectl's credentials: short-lived, by the same sign-in",
            ("az", "aks", "get-credentials", *group, "--name", settings.name),
        ),
        Step("kubectl, and kubelogin, which signs it in", ("az", "aks", "install-cli")),
        Step("kubectl signs in as az does", ("kubelogin", "convert-kubeconfig", "--login", "azurecli")),
        Step("the address for `cluster` in site.toml", ("kubectl", "get", "endpoints", "kubernetes")),
    ]  # fmt: skip


def _images(settings: AzureSettings) -> list[Step]:
    """Images, each from its container file: in the registry, or on the owner's machine where an enclave is signed."""
    if settings.size.tee != "sgx":
        return [_built(settings, role) for role in ("broker", "relay", "loan", "serving", "spark", "pipeline")]
    server = f"{settings.registry.lower()}.azurecr.io"
    signed = [
        ("loan", "gramine", ("--build-arg", "ROLE=loan", "--build-arg", "WORKLOAD=loan-service")),
        ("serving", "gramine", ("--build-arg", "ROLE=serving", "--build-arg", "WORKLOAD=model-server")),
        ("spark", "spark-gramine", ()),
    ]
    steps = [_built(settings, "broker"), Step("docker may push", ("az", "acr", "login", "--name", settings.registry))]
    for role, file, more in signed:
        tag = f"{server}/strongroom-{role}:1"
        what = ("--file", f"deploy/containers/{file}.Containerfile", "--build-arg", "GRAMINE_IMAGE=...", *more,
                "--secret", "id=enclave-key,src=enclave-key.pem", "--tag", tag)  # fmt: skip
        steps += [
            Step(f"the enclave of the role {role}, signed on the owner's machine", ("docker", "build", *what, ".")),
            Step("to the registry", ("docker", "push", tag)),
        ]
    return steps


def _built(settings: AzureSettings, role: str) -> Step:
    file = f"deploy/containers/{role}.Containerfile"
    digest = "PYTHON_DIGEST=sha256:..."
    return Step(
        f"the image of the role {role}, built in the registry",
        ("az", "acr", "build", "--registry", settings.registry, "--image", f"strongroom-{role}:{{{{.Run.ID}}}}",
         "--file", file, "--build-arg", digest, "."),
    )  # fmt: skip
