"""The ARM template and the plan: no secret in them, everything that is named is there, least rights."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from strongroom.cli.azure import app
from strongroom.deployment.azure.check import check_template
from strongroom.deployment.azure.expressions import resolve
from strongroom.deployment.azure.plan import make_plan
from strongroom.deployment.azure.settings import AzureSettings
from strongroom.deployment.azure.template import ROLES, render_template
from strongroom.errors import ConfigurationError, FormatError, WouldOverwrite

NAMES: dict[str, Any] = {
    "storage_account": "acmeloans", "registry": "acmeimages", "key_vault": "acme-keys", "node_size": "Standard_DC4s_v3",
}  # fmt: skip
OPTIONS = ["--storage-account", "acmeloans", "--registry", "acmeimages", "--key-vault", "acme-keys"]
Template = dict[str, Any]


def template(**changes: Any) -> Template:
    made: Template = json.loads(render_template(AzureSettings(**{**NAMES, **changes})))
    return made


def deployed(**changes: Any) -> Template:
    """The template with the values of its parameters."""
    made = template(**changes)
    values = {name: parameter["defaultValue"] for name, parameter in made["parameters"].items()}
    resolved: Template = resolve(made, values)
    return resolved


def find(made: Template, kind: str) -> list[dict[str, Any]]:
    return [item for item in made["resources"] if item["type"] == kind]


@pytest.mark.parametrize("size", ["Standard_DC4s_v3", "Standard_DC4as_v6", "Standard_DC4es_v6"])
def test_nothing_is_found_in_what_is_rendered(size: str) -> None:
    assert check_template(template(node_size=size)) == []


def test_everything_that_a_site_stands_on() -> None:
    kinds = {item["type"] for item in template()["resources"]}
    assert kinds >= {
        "Microsoft.Storage/storageAccounts",
        "Microsoft.Storage/storageAccounts/fileServices/shares",
        "Microsoft.ContainerRegistry/registries",
        "Microsoft.ContainerService/managedClusters",
        "Microsoft.KeyVault/vaults",
        "Microsoft.Attestation/attestationProviders",
        "Microsoft.ManagedIdentity/userAssignedIdentities",
        "Microsoft.Authorization/roleAssignments",
    }


def test_pools_scale_and_protected_nodes_take_protected_pods_only() -> None:
    (cluster,) = find(deployed(), "Microsoft.ContainerService/managedClusters")
    system, protected = cluster["properties"]["agentPoolProfiles"]
    assert (system["mode"], protected["mode"]) == ("System", "User")
    assert (protected["minCount"], protected["maxCount"], protected["enableAutoScaling"]) == (1, 5, True)
    assert protected["nodeTaints"] == ["sgx=true:NoSchedule"]
    assert protected["name"] == "intelsgx"
    assert protected["nodeLabels"] == {"intelvm": "sgx"}
    addon = cluster["properties"]["addonProfiles"]["ACCSGXDevicePlugin"]
    assert addon == {"enabled": True, "config": {"ACCSGXQuoteHelperEnabled": "true"}}


@pytest.mark.parametrize("size", ["Standard_DC4as_v6", "Standard_DC8es_v6"])
def test_confidential_nodes_scale_and_take_our_pods_only(size: str) -> None:
    (cluster,) = find(deployed(node_size=size), "Microsoft.ContainerService/managedClusters")
    assert "ACCSGXDevicePlugin" not in cluster["properties"]["addonProfiles"]
    _, protected = cluster["properties"]["agentPoolProfiles"]
    assert (protected["vmSize"], protected["osSKU"], protected["name"]) == (size, "Ubuntu", "confvm")
    assert (protected["minCount"], protected["maxCount"]) == (1, 5)
    assert protected["nodeTaints"] == ["confidential=true:NoSchedule"]


def test_no_key_opens_the_storage_and_no_admin_the_registry() -> None:
    made = template()
    assert find(made, "Microsoft.Storage/storageAccounts")[0]["properties"]["allowSharedKeyAccess"] is False
    assert find(made, "Microsoft.ContainerRegistry/registries")[0]["properties"]["adminUserEnabled"] is False
    vault = find(made, "Microsoft.KeyVault/vaults")[0]["properties"]
    assert vault["enableRbacAuthorization"] is vault["enablePurgeProtection"] is True


def test_rights_are_least() -> None:
    rights = {
        (
            re.findall(r"'([^']+)'", item["scope"])[0],
            re.findall(r"'([^']+)'", item["properties"]["principalId"] + "'deployer'")[-2:][0],
        )
        for item in find(deployed(), "Microsoft.Authorization/roleAssignments")
    }
    assert rights == {
        ("Microsoft.Storage/storageAccounts", "strongroom-loan"),
        ("Microsoft.KeyVault/vaults", "strongroom-broker"),
        ("Microsoft.ContainerRegistry/registries", "strongroom"),
        *((kind, "deployer") for kind in ("Microsoft.Storage/storageAccounts", VAULT, CLUSTER)),
    }


def test_accounts_of_the_cluster_are_those_that_deploy_renders() -> None:
    kind = "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials"
    subjects = {item["properties"]["subject"] for item in find(deployed(), kind)}
    assert subjects == {
        "system:serviceaccount:strongroom:loan-service",
        "system:serviceaccount:strongroom-broker:broker",
    }


def test_names_and_sizes_are_parameters_and_nothing_is_written_twice() -> None:
    chosen = AzureSettings(
        **NAMES, name="acme", location="northeurope", share="loan-data", namespace="rooms", share_gib=333
    )
    made = json.loads(render_template(chosen))
    assert {name: parameter["defaultValue"] for name, parameter in made["parameters"].items()} == {
        "name": "acme", "location": "northeurope", "storageAccount": "acmeloans", "registry": "acmeimages",
        "keyVault": "acme-keys", "share": "loan-data", "namespace": "rooms", "systemSize": "Standard_D4s_v5",
        "nodeSize": "Standard_DC4s_v3", "shareGib": 333, "leastNodes": 1, "mostNodes": 5,
    }  # fmt: skip
    rest = json.dumps({name: part for name, part in made.items() if name != "parameters"})
    for value in ("acme", "northeurope", "loan-data", "rooms", "Standard_D", "333"):
        assert value not in rest, value
    for parameter in made["parameters"].values():
        assert parameter["metadata"]["description"]
        bounds = {"minLength", "maxLength", "minValue", "maxValue", "allowedValues"}
        assert parameter.keys() & bounds


def test_a_size_may_be_changed_to_one_of_the_same_kind_only() -> None:
    sgx, snp = (template(node_size=size)["parameters"]["nodeSize"]["allowedValues"]
                for size in ("Standard_DC4s_v3", "Standard_DC4as_v6"))  # fmt: skip
    assert "Standard_DC8s_v3" in sgx
    assert not set(sgx) & set(snp)


@pytest.mark.parametrize("name", ["abc", "a" * 40, "strong-room-of-a-company-with-a-long-nam"])
def test_names_made_from_names_have_the_form_that_azure_wants(name: str) -> None:
    made = deployed(name=name)
    (provider,) = find(made, "Microsoft.Attestation/attestationProviders")
    assert re.fullmatch(r"[a-zA-Z0-9]{3,24}", provider["name"])
    assert check_template(template(name=name)) == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[concat('a', parameters('x'), 'c')]", "aBc"),
        ("[take(replace('a-b-c', '-', ''), 2)]", "ab"),
        ("[parameters('n')]", 3),
        ("[resourceId('T', parameters('x'))]", "[resourceId('T', 'B')]"),
        ("[reference(resourceId('T', 'a''b')).p.q]", "[reference(resourceId('T', 'a''b')).p.q]"),
        ("[listKeys('x').keys[0].value]", "[listKeys('x').keys[0].value]"),
        ("[concat('a', subscription().id)]", "[concat('a', subscription().id)]"),
        ("plain", "plain"),
        ("[[escaped]", "[[escaped]"),
        (7, 7),
    ],
)
def test_works_out_expressions(text: Any, value: Any) -> None:
    assert resolve({"x": [text]}, {"x": "B", "n": 3}) == {"x": [value]}


@pytest.mark.parametrize(
    "text",
    ["[", "[]", "[a", "[a(]", "[a)]", "[a('b]", "[parameters('y')]", "[parameters()]", "[a() b()]", "[take('a')]",
     "[replace('a')]", "[a(,)]", "[a('b' 'c')]", "[.a]", "[a().]", "[" + "a(" * 100 + ")" * 100 + "]"],
)  # fmt: skip
def test_refuses_what_is_no_expression(text: str) -> None:
    with pytest.raises(FormatError):
        resolve(text, {"x": "B"})


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("[](),.'ab1 -"), max_size=30))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        resolve(f"[{text}", {"a": "b"})
    except FormatError:
        return


def change(path: str, value: Any) -> Callable[[Template], None]:
    def apply(made: Template) -> None:
        kind, *folders, last = path.split("|")
        target: Any = find(made, kind)[0]
        for part in folders:
            target = target[int(part)] if part.isdigit() else target[part]
        target[last] = value

    return apply


def drop(kind: str) -> Callable[[Template], None]:
    def apply(made: Template) -> None:
        made["resources"] = [item for item in made["resources"] if item["type"] != kind]

    return apply


def repeat(made: Template) -> None:
    made["resources"].append(made["resources"][0])


ROLE = "Microsoft.Authorization/roleAssignments"
CLUSTER = "Microsoft.ContainerService/managedClusters"
VAULT = "Microsoft.KeyVault/vaults"
NO_ROLE = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("code", "mistake"),
    [
        ("azure.schema", lambda made: made.update({"$schema": "x"})),
        ("azure.schema", lambda made: made.update({"resources": []})),
        ("azure.duplicate", repeat),
        ("azure.type", change(f"{VAULT}|apiVersion", "2035-01-01")),
        ("azure.type", change(f"{VAULT}|type", "Microsoft.KeyVault/vault")),
        ("azure.name", change("Microsoft.Storage/storageAccounts/fileServices/shares|name", "loans")),
        ("azure.reference", drop(CLUSTER)),
        ("azure.reference", drop("Microsoft.Attestation/attestationProviders")),
        ("azure.order", change(f"{ROLE}|dependsOn", [])),
        ("azure.role", change(f"{ROLE}|properties|roleDefinitionId", f"[x('Microsoft/roleDefinitions', '{NO_ROLE}')]")),
        ("azure.expression", change(f"{ROLE}|properties|principalId", "[reference('x'.principalId]")),
        ("azure.secret", change(f"{VAULT}|properties|secret", "[listKeys('x').keys[0].value]")),
        ("azure.secret", change(f"{VAULT}|properties|x", "-----BEGIN RSA PRIVATE KEY-----")),
        ("azure.pool", change(f"{CLUSTER}|properties|agentPoolProfiles|1|name", "intel-sgx")),
        ("azure.pool", change(f"{CLUSTER}|properties|agentPoolProfiles|1|maxCount", 0)),
        ("azure.expression", change(f"{VAULT}|properties|x", "[parameters('absent')]")),
        ("azure.parameter", lambda made: made["parameters"].update(more=made["parameters"]["share"])),
        ("azure.parameter", lambda made: made["parameters"]["shareGib"].update(defaultValue="1024")),
        ("azure.parameter", lambda made: made["parameters"]["shareGib"].update(defaultValue=1)),
        ("azure.parameter", lambda made: made["parameters"]["registry"].update(defaultValue="a")),
        ("azure.parameter", lambda made: made["parameters"]["nodeSize"].update(defaultValue="Standard_NC6")),
    ],
)  # fmt: skip
def test_finds(code: str, mistake: Callable[[Template], None]) -> None:
    made = copy.deepcopy(template())
    mistake(made)
    assert code in {finding.code for finding in check_template(made)}


@pytest.mark.parametrize(
    "changes",
    [
        {"storage_account": "Acme-Loans"},
        {"storage_account": "ab"},
        {"registry": "acme.images"},
        {"key_vault": "acme--keys"},
        {"key_vault": "1keys"},
        {"name": "strongroom'); az login"},
        {"location": "West Europe"},
        {"share": "a"},
        {"node_size": "Standard_NC6"},
        {"node_size": "Standard_D4s_v5"},
        {"least_nodes": 6},
        {"most_nodes": 0},
        {"share_gib": 1},
        {"namespace": "Strong Room"},
    ],
)
def test_refuses_names_that_azure_would_refuse(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        AzureSettings(**{**NAMES, **changes})


def test_the_plan_is_in_order_and_holds_no_secret() -> None:
    steps = make_plan(AzureSettings(**NAMES))
    commands = [" ".join(step.command[:4]) for step in steps]
    assert commands[0] == "az login"
    assert commands.index("az group create --name") < commands.index("az deployment group what-if")
    assert commands.index("az deployment group what-if") < commands.index("az deployment group create")
    assert {step.command[0] for step in steps} == {"az", "docker", "kubelogin", "kubectl"}
    text = "\n".join(map(str, steps))
    assert "--value" not in text
    assert "password" not in text.lower()


def test_the_plan_passes_every_parameter() -> None:
    chosen = AzureSettings(**NAMES, share_gib=333)
    declared = json.loads(render_template(chosen))["parameters"]
    for verb in ("what-if", "create"):
        (command,) = [
            step.command for step in make_plan(chosen) if step.command[:4] == ("az", "deployment", "group", verb)
        ]
        passed = dict(word.split("=", 1) for word in command[command.index("--parameters") + 1 :])
        assert passed == {name: str(parameter["defaultValue"]) for name, parameter in declared.items()}


def test_commands(tmp_path: Any) -> None:
    out = tmp_path / "azure.json"
    done = CliRunner().invoke(app, ["template", *OPTIONS, "--out", str(out), "--node-size", "Standard_DC4s_v3"])
    assert done.exit_code == 0, done.output
    assert check_template(json.loads(out.read_text())) == []
    assert "2029-10-31" in done.stderr
    assert "2026-11-01" in done.stderr
    again = CliRunner().invoke(app, ["template", *OPTIONS, "--out", str(out)])
    assert isinstance(again.exception, WouldOverwrite)
    plan = CliRunner().invoke(app, ["plan", *OPTIONS, "--json"])
    assert json.loads(plan.stdout)[0]["command"] == ["az", "login"]
    assert "retires" not in plan.stderr


@pytest.mark.parametrize("size", ["Standard_DC4as_v6", "Standard_DC4s_v3"])
def test_the_plan_builds_every_image_from_a_container_file_that_is_there(size: str) -> None:
    root = Path(__file__).resolve().parents[2]
    commands = [step.command for step in make_plan(AzureSettings(**{**NAMES, "node_size": size}))]
    files = [command[command.index("--file") + 1] for command in commands if "deploy/containers" in " ".join(command)]
    assert len(files) == {"Standard_DC4as_v6": 6, "Standard_DC4s_v3": 4}[size]
    assert all((root / file).is_file() for file in files), files
    assert ("deploy/containers/relay.Containerfile" in files) is (size != "Standard_DC4s_v3")


def test_roles_are_guids() -> None:
    assert all(re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", role) for role in ROLES.values())
