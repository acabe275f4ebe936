"""An ARM template, scope resource group: storage, registry, cluster, key vault, attestation provider, identities.

Source: Azure Resource Manager template reference of the resource types below; role ids: "Azure built-in roles".
"""

import json
from typing import Any, Final

from strongroom.deployment.azure.settings import AzureSettings

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
}
SGX_TAINT: Final = "sgx=true:NoSchedule"


def render_template(settings: AzureSettings) -> str:
    """The template as JSON text; no secret and no subscription in it.

    Args:
        settings: Names and sizes.
    """
    resources = [
        *_storage(settings),
        _registry(settings),
        _key_vault(settings),
        _attestation(settings),
        *_identities(settings),
        _cluster(settings),
        *_credentials(settings),
        *_role_assignments(settings),
    ]
    attestation = _id("Microsoft.Attestation/attestationProviders", _attestation_name(settings))
    template = {
        "$schema": SCHEMA,
        "contentVersion": "1.0.0.0",
        "parameters": {},
        "resources": resources,
        "outputs": {
            "attestationUri": _output(f"[reference({attestation}).attestUri]"),
            "oidcIssuer": _output(f"[reference({_cluster_id(settings)}).oidcIssuerProfile.issuerURL]"),
            **{f"{name}ClientId": _output(f"[reference({_identity_id(settings, name)}).clientId]")
               for name in settings.identities},
        },
    }  # fmt: skip
    return json.dumps(template, indent=2) + "\n"


def _output(value: str) -> Resource:
    return {"type": "string", "value": value}


def _resource(type_: str, name: str, settings: AzureSettings | None, **more: Any) -> Resource:
    place = {"location": settings.location} if settings else {}
    return {"type": type_, "apiVersion": VERSIONS[type_], "name": name, **place, **more}


def _id(kind: str, *names: str) -> str:
    return f"resourceId({', '.join(repr(part) for part in (kind, *names))})"


def _storage(settings: AzureSettings) -> list[Resource]:
    kind = "Microsoft.Storage/storageAccounts"
    account = _resource(
        kind, settings.storage_account, settings, sku={"name": "Standard_LRS"}, kind="StorageV2",
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
        f"{kind}/fileServices/shares", f"{settings.storage_account}/default/{settings.share}", None,
        dependsOn=[f"[{_id(kind, settings.storage_account)}]"],
        properties={"shareQuota": settings.share_gib, "enabledProtocols": "SMB"},
    )  # fmt: skip
    return [account, share]


def _registry(settings: AzureSettings) -> Resource:
    return _resource(
        "Microsoft.ContainerRegistry/registries", settings.registry, settings, sku={"name": "Standard"},
        properties={"adminUserEnabled": False, "anonymousPullEnabled": False},
    )  # fmt: skip


def _key_vault(settings: AzureSettings) -> Resource:
    properties = {
        "tenantId": "[subscription().tenantId]",
        "sku": {"family": "A", "name": "premium"},
        "enableRbacAuthorization": True,
        "enableSoftDelete": True,
        "enablePurgeProtection": True,
        "softDeleteRetentionInDays": 90,
    }
    return _resource("Microsoft.KeyVault/vaults", settings.key_vault, settings, properties=properties)


def _attestation_name(settings: AzureSettings) -> str:
    return f"{settings.name.replace('-', '')[:20]}attest"


def _attestation(settings: AzureSettings) -> Resource:
    kind = "Microsoft.Attestation/attestationProviders"
    return _resource(kind, _attestation_name(settings), settings, properties={})


def _identity_name(settings: AzureSettings, name: str) -> str:
    return f"{settings.name}-{name}"


def _identity_id(settings: AzureSettings, name: str) -> str:
    return _id("Microsoft.ManagedIdentity/userAssignedIdentities", _identity_name(settings, name))


def _cluster_id(settings: AzureSettings) -> str:
    return _id("Microsoft.ContainerService/managedClusters", settings.name)


def _identities(settings: AzureSettings) -> list[Resource]:
    kind = "Microsoft.ManagedIdentity/userAssignedIdentities"
    return [_resource(kind, _identity_name(settings, name), settings) for name in settings.identities]


def _cluster(settings: AzureSettings) -> Resource:
    protected: Resource = {
        **_pool(settings, settings.pool, settings.node_size, settings.least_nodes, settings.most_nodes),
        "mode": "User",
    }
    addons: Resource = {"azureKeyvaultSecretsProvider": {"enabled": True, "config": {"enableSecretRotation": "true"}}}
    if settings.size.tee == "sgx":
        # Add-on `confcom`; quotes are made in the pod, so the quote helper stays off.
        addons["ACCSGXDevicePlugin"] = {"enabled": True, "config": {"ACCSGXQuoteHelperEnabled": "false"}}
        protected |= {"nodeTaints": [SGX_TAINT], "nodeLabels": {"intelvm": "sgx"}}
    properties = {
        "dnsPrefix": settings.name,
        "agentPoolProfiles": [{**_pool(settings, "system", settings.system_size, 1, 3), "mode": "System"}, protected],
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
        "Microsoft.ContainerService/managedClusters", settings.name, settings,
        identity={"type": "SystemAssigned"}, sku={"name": "Base", "tier": "Standard"}, properties=properties,
    )  # fmt: skip


def _pool(settings: AzureSettings, name: str, size: str, least: int, most: int) -> Resource:
    del settings
    return {
        "name": name,
        "vmSize": size,
        "osType": "Linux",
        "count": least,
        "enableAutoScaling": True,
        "minCount": least,
        "maxCount": most,
        "type": "VirtualMachineScaleSets",
    }


def _credentials(settings: AzureSettings) -> list[Resource]:
    """Which service account of the cluster is which identity: tokens are exchanged, no secret is stored."""
    kind = "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials"
    made = []
    for name, (namespace, account) in settings.identities.items():
        properties = {
            "issuer": f"[reference({_cluster_id(settings)}).oidcIssuerProfile.issuerURL]",
            "subject": f"system:serviceaccount:{namespace}:{account}",
            "audiences": ["api://AzureADTokenExchange"],
        }
        needs = [f"[{_identity_id(settings, name)}]", f"[{_cluster_id(settings)}]"]
        made.append(
            _resource(
                kind, f"{_identity_name(settings, name)}/strongroom", None, dependsOn=needs, properties=properties
            )
        )
    return made


def _role_assignments(settings: AzureSettings) -> list[Resource]:
    storage = ("Microsoft.Storage/storageAccounts", settings.storage_account)
    vault = ("Microsoft.KeyVault/vaults", settings.key_vault)
    registry = ("Microsoft.ContainerRegistry/registries", settings.registry)
    loan, broker = (f"reference({_identity_id(settings, name)}).principalId" for name in ("loan", "broker"))
    nodes = f"reference({_cluster_id(settings)}).identityProfile.kubeletidentity.objectId"
    return [
        _role("Storage File Data SMB MI Admin", storage, loan, [_identity_id(settings, "loan")]),
        _role("Key Vault Secrets User", vault, broker, [_identity_id(settings, "broker")]),
        _role("AcrPull", registry, nodes, [_cluster_id(settings)]),
    ]


def _role(role: str, scope: tuple[str, str], principal: str, needs: list[str]) -> Resource:
    kind = "Microsoft.Authorization/roleAssignments"
    definition = f"subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '{ROLES[role]}')"
    return _resource(
        kind, f"[guid({_id(*scope)}, '{role}', resourceGroup().id)]", None,
        scope=f"[{_id(*scope)}]", dependsOn=[f"[{item}]" for item in (_id(*scope), *needs)],
        properties={"roleDefinitionId": f"[{definition}]", "principalId": f"[{principal}]",
                    "principalType": "ServicePrincipal"},
    )  # fmt: skip
