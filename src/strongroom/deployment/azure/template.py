"""An ARM template, scope resource group: storage, registry, cluster, key vault, attestation provider, identities.

Names and sizes are parameters of the template, with what the caller chose as defaults. In this module a name is an
expression of the template's language, without its brackets.

Source: Azure Resource Manager template reference of the resource types below; role ids: "Azure built-in roles".
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from strongroom.deployment.azure.parameters import template_parameters
from strongroom.deployment.azure.settings import AzureSettings
from strongroom.deployment.kubernetes.nodes import CONFIDENTIAL_TAINT, SGX_TAINT

Resource = dict[str, Any]

SCHEMA: Final = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"
VERSIONS: Final = {
    "Microsoft.Storage/storageAccounts": "2023-05-01",
    "Microsoft.Storage/storageAccounts/fileServices/shares": "2023-05-01",
    "Microsoft.ContainerRegistry/registries": "2023-07-01",
    "Microsoft.KeyVault/vaults": "2023-07-01",
    "Microsoft.Attestation/attestationProviders": "2021-06-01",
    "Microsoft.ManagedIdentity/userAssignedIdentities": "2023-01-31",
    "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials": "2023-01-31",
    "Microsoft.ContainerService/managedClusters": "2024-09-01",
    "Microsoft.Authorization/roleAssignments": "2022-04-01",
}
ROLES: Final = {
    "AcrPull": "7f951dda-4ed3-4680-a7ca-43fe172d538d",
    "Key Vault Secrets User": "4633458b-17de-408a-b874-0445c86b69e6",
    "Storage File Data SMB MI Admin": "a235d3ee-5935-4cfb-8cc5-a3303ad5995e",
    # Of whoever deploys: to fill the share and the vault, and to use kubectl. An owner's rights don't include data.
    "Storage File Data Privileged Contributor": "69566ab7-960f-475b-8e7c-b3118f30c6bd",
    "Key Vault Secrets Officer": "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
    "Azure Kubernetes Service RBAC Cluster Admin": "b1ff04bb-8a4e-4dc4-8eb5-8693973ce19b",
}
DEPLOYER: Final = "deployer().objectId"
NAME: Final = "parameters('name')"
LOCATION: Final = "parameters('location')"
STORAGE: Final = "parameters('storageAccount')"
REGISTRY: Final = "parameters('registry')"
VAULT: Final = "parameters('keyVault')"
# Letters and digits only, at most 24.
ATTESTATION: Final = f"concat(take(replace({NAME}, '-', ''), 18), 'attest')"
CLUSTER_ID: Final = f"resourceId('Microsoft.ContainerService/managedClusters', {NAME})"
ACCOUNTS: Final = {"loan": ":loan-service", "broker": "-broker:broker"}
"""Managed identities that pods use: name to what follows the namespace in the name of their service account."""


def render_template(settings: AzureSettings) -> str:
    """The template as JSON text; no secret and no subscription in it.

    Args:
        settings: Names and sizes.
    """
    resources = [
        *_storage(),
        _registry(),
        _key_vault(),
        _attestation(),
        *_identities(),
        _cluster(settings),
        *_credentials(),
        *_role_assignments(),
    ]
    attestation = _id("Microsoft.Attestation/attestationProviders", ATTESTATION)
    template = {
        "$schema": SCHEMA,
        "contentVersion": "1.0.0.0",
        "parameters": template_parameters(settings),
        "resources": resources,
        "outputs": {
            "attestationUri": _output(f"[reference({attestation}).attestUri]"),
            "oidcIssuer": _output(f"[reference({CLUSTER_ID}).oidcIssuerProfile.issuerURL]"),
            **{f"{name}ClientId": _output(f"[reference({_identity_id(name)}).clientId]") for name in ACCOUNTS},
        },
    }
    return json.dumps(template, indent=2) + "\n"


def _output(value: str) -> Resource:
    return {"type": "string", "value": value}


def _resource(type_: str, name: str, *, placed: bool = True, **more: Any) -> Resource:
    place = {"location": f"[{LOCATION}]"} if placed else {}
    return {"type": type_, "apiVersion": VERSIONS[type_], "name": f"[{name}]", **place, **more}


def _id(kind: str, *names: str) -> str:
    return f"resourceId({', '.join((repr(kind), *names))})"


def _storage() -> list[Resource]:
    kind = "Microsoft.Storage/storageAccounts"
    account = _resource(
        kind, STORAGE, sku={"name": "Standard_LRS"}, kind="StorageV2",
        properties={
            "minimumTlsVersion": "TLS1_2",
            "supportsHttpsTrafficOnly": True,
            "allowBlobPublicAccess": False,
            "allowSharedKeyAccess": False,
            "azureFilesIdentityBasedAuthentication": {
                "directoryServiceOptions": "None",
                "smbOAuthSettings": {"isSmbOAuthEnabled": True},
            },
        },
    )  # fmt: skip
    share = _resource(
        f"{kind}/fileServices/shares", f"concat({STORAGE}, '/default/', parameters('share'))", placed=False,
        dependsOn=[f"[{_id(kind, STORAGE)}]"],
        properties={"shareQuota": "[parameters('shareGib')]", "enabledProtocols": "SMB"},
    )  # fmt: skip
    return [account, share]


def _registry() -> Resource:
    return _resource(
        "Microsoft.ContainerRegistry/registries", REGISTRY, sku={"name": "Standard"},
        properties={"adminUserEnabled": False, "anonymousPullEnabled": False},
    )  # fmt: skip


def _key_vault() -> Resource:
    properties = {
        "tenantId": "[subscription().tenantId]",
        "sku": {"family": "A", "name": "premium"},
        "enableRbacAuthorization": True,
        "enableSoftDelete": True,
        "enablePurgeProtection": True,
        "softDeleteRetentionInDays": 90,
    }
    return _resource("Microsoft.KeyVault/vaults", VAULT, properties=properties)


def _attestation() -> Resource:
    return _resource("Microsoft.Attestation/attestationProviders", ATTESTATION, properties={})


def _identity_name(name: str) -> str:
    return f"concat({NAME}, '-{name}')"


def _identity_id(name: str) -> str:
    return _id("Microsoft.ManagedIdentity/userAssignedIdentities", _identity_name(name))


def _identities() -> list[Resource]:
    kind = "Microsoft.ManagedIdentity/userAssignedIdentities"
    return [_resource(kind, _identity_name(name)) for name in ACCOUNTS]


def _cluster(settings: AzureSettings) -> Resource:
    sgx = settings.size.tee == "sgx"
    protected: Resource = {
        **_pool(settings.pool, "nodeSize", "[parameters('leastNodes')]", "[parameters('mostNodes')]"),
        "mode": "User",
        # On confidential virtual machines a version of Ubuntu is taken that supports them.
        "osSKU": "Ubuntu",
        "nodeTaints": [_taint(SGX_TAINT if sgx else CONFIDENTIAL_TAINT)],
    }
    addons: Resource = {"azureKeyvaultSecretsProvider": {"enabled": True, "config": {"enableSecretRotation": "true"}}}
    if sgx:
        # Add-on `confcom`; Gramine gets its quotes from the quote helper.
        addons["ACCSGXDevicePlugin"] = {"enabled": True, "config": {"ACCSGXQuoteHelperEnabled": "true"}}
        protected |= {"nodeLabels": {"intelvm": "sgx"}}
    properties = {
        "dnsPrefix": f"[{NAME}]",
        "agentPoolProfiles": [{**_pool("system", "systemSize", 1, 3), "mode": "System"}, protected],
        "addonProfiles": addons,
        "oidcIssuerProfile": {"enabled": True},
        "securityProfile": {"workloadIdentity": {"enabled": True}},
        "disableLocalAccounts": True,
        "aadProfile": {"managed": True, "enableAzureRBAC": True},
        "networkProfile": {"networkPlugin": "azure", "networkPluginMode": "overlay", "networkDataplane": "cilium",
                           "networkPolicy": "cilium", "loadBalancerSku": "standard"},
        "storageProfile": {"fileCSIDriver": {"enabled": True}, "diskCSIDriver": {"enabled": True}},
        "autoUpgradeProfile": {"upgradeChannel": "stable", "nodeOSUpgradeChannel": "NodeImage"},
    }  # fmt: skip
    return _resource(
        "Microsoft.ContainerService/managedClusters", NAME,
        identity={"type": "SystemAssigned"}, sku={"name": "Base", "tier": "Standard"}, properties=properties,
    )  # fmt: skip


def _taint(toleration: Mapping[str, str]) -> str:
    return "{key}={value}:{effect}".format(**toleration)


def _pool(name: str, size: str, least: int | str, most: int | str) -> Resource:
    return {
        "name": name,
        "vmSize": f"[parameters('{size}')]",
        "osType": "Linux",
        "count": least,
        "enableAutoScaling": True,
        "minCount": least,
        "maxCount": most,
        "type": "VirtualMachineScaleSets",
    }


def _credentials() -> list[Resource]:
    """Which service account of the cluster is which identity: tokens are exchanged, no secret is stored."""
    kind = "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials"
    made = []
    for name, account in ACCOUNTS.items():
        properties = {
            "issuer": f"[reference({CLUSTER_ID}).oidcIssuerProfile.issuerURL]",
            "subject": f"[concat('system:serviceaccount:', parameters('namespace'), '{account}')]",
            "audiences": ["api://AzureADTokenExchange"],
        }
        needs = [f"[{_identity_id(name)}]", f"[{CLUSTER_ID}]"]
        made.append(
            _resource(
                kind, f"concat({NAME}, '-{name}/strongroom')", placed=False, dependsOn=needs, properties=properties
            )
        )
    return made


def _role_assignments() -> list[Resource]:
    storage = ("Microsoft.Storage/storageAccounts", STORAGE)
    vault = ("Microsoft.KeyVault/vaults", VAULT)
    registry = ("Microsoft.ContainerRegistry/registries", REGISTRY)
    cluster = ("Microsoft.ContainerService/managedClusters", NAME)
    loan, broker = (f"reference({_identity_id(name)}).principalId" for name in ("loan", "broker"))
    nodes = f"reference({CLUSTER_ID}).identityProfile.kubeletidentity.objectId"
    return [
        _role("Storage File Data SMB MI Admin", storage, loan, [_identity_id("loan")]),
        _role("Key Vault Secrets User", vault, broker, [_identity_id("broker")]),
        _role("AcrPull", registry, nodes, [CLUSTER_ID]),
        _role("Storage File Data Privileged Contributor", storage, DEPLOYER, []),
        _role("Key Vault Secrets Officer", vault, DEPLOYER, []),
        _role("Azure Kubernetes Service RBAC Cluster Admin", cluster, DEPLOYER, []),
    ]


def _role(role: str, scope: tuple[str, str], principal: str, needs: list[str]) -> Resource:
    kind = "Microsoft.Authorization/roleAssignments"
    # Who deploys may be a person or a service: Azure looks which.
    known = {} if principal == DEPLOYER else {"principalType": "ServicePrincipal"}
    definition = f"subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '{ROLES[role]}')"
    return _resource(
        kind, f"guid({_id(*scope)}, '{role}', resourceGroup().id)", placed=False,
        scope=f"[{_id(*scope)}]", dependsOn=[f"[{item}]" for item in (_id(*scope), *needs)],
        properties={"roleDefinitionId": f"[{definition}]", "principalId": f"[{principal}]", **known},
    )  # fmt: skip
