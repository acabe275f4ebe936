"""Components: what can be added to an overlay."""

from collections.abc import Callable
from typing import Final

from strongroom.deployment.kubernetes import parts, services, shared
from strongroom.deployment.kubernetes.broker import NAME as BROKER
from strongroom.deployment.kubernetes.database import postgresql_layer
from strongroom.deployment.kubernetes.lending import QUOTE_HELPER, lend
from strongroom.deployment.kubernetes.overlays import POD, Layer, borrow, namespaces, served_workloads
from strongroom.deployment.kubernetes.patches import Operation, Patch, pointer
from strongroom.deployment.kubernetes.services import MODELS, TENSORFLOW
from strongroom.deployment.kubernetes.site import Site
from strongroom.deployment.kubernetes.text import Object
from strongroom.errors import ConfigurationError

COMPONENTS: Final = ("nginx-ingress", "gateway-tls", "quote-helper", "postgresql", "key-vault")
ROOT_KEY_VOLUME: Final = 1  # in the broker's list of volumes


def fits(name: str, overlay_name: str) -> bool:
    """Whether a component belongs to an overlay; the quote helper is SGX's."""
    return name != QUOTE_HELPER.name or overlay_name == "aks-sgx"


def component(site: Site, name: str, overlay_name: str) -> Layer:
    """A component by name.

    Args:
        site: The site.
        name: One of `COMPONENTS`.
        overlay_name: What it is put on.

    Raises:
        ConfigurationError: There is no such component, or the site or overlay does not have what it needs.
    """
    makers: dict[str, Callable[[Site, str], Layer]] = {
        "nginx-ingress": _nginx_ingress,
        "gateway-tls": _gateway_tls,
        "quote-helper": _quote_helper,
        "postgresql": lambda site, _overlay: postgresql_layer(site),
        "key-vault": _key_vault,
    }
    if name not in makers:
        raise ConfigurationError(
            f"no component {name[:60]!r}", code="deploy.component", hint=f"one of {', '.join(COMPONENTS)}"
        )
    return makers[name](site, overlay_name)


def _model_servers(site: Site, overlay_name: str) -> dict[str, str]:
    """Host names of the deployments that serve models.

    Raises:
        ConfigurationError: There is none.
    """
    tensorflow = site.tensorflow
    if tensorflow is not None and tensorflow.opener is None and overlay_name != "aks-sgx":
        tensorflow = None
    found = {MODELS: site.models, TENSORFLOW: tensorflow}
    hosts = {name: service.host for name, service in found.items() if service is not None}
    if not hosts:
        raise ConfigurationError("no model server to put an ingress before", code="deploy.component")
    return hosts


def _behind(names: dict[str, str]) -> tuple[Patch, ...]:
    """Services that are no longer load balancers of their own."""
    gone = ("externalTrafficPolicy", "loadBalancerSourceRanges")
    operations = [Operation("remove", pointer("spec", field)) for field in gone]
    return tuple(
        Patch("Service", name, (Operation("replace", "/spec/type", "ClusterIP"), *operations)) for name in names
    )


def _from_namespace(site: Site, name: str, namespace: str) -> Object:
    caller = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    spec = {
        "podSelector": {"matchLabels": parts.selector(name)},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [caller], "ports": [{"protocol": "TCP", "port": services.GRPC_PORT}]}],
    }
    return shared.policy(f"{name}-{namespace}", site.namespace, spec)


def _nginx_ingress(site: Site, overlay_name: str) -> Layer:
    """Nginx passes TLS through by server name (``--enable-ssl-passthrough``), so TLS ends inside the room."""
    hosts = _model_servers(site, overlay_name)
    objects: list[Object] = []
    for name, host in hosts.items():
        backend = {"service": {"name": name, "port": {"name": "grpc"}}}
        rule = {"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
        notes = {"nginx.ingress.kubernetes.io/ssl-passthrough": "true",
                 "nginx.ingress.kubernetes.io/backend-protocol": "GRPCS"}  # fmt: skip
        objects.append(
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "Ingress",
                "metadata": parts.metadata(name, site.namespace, annotations=notes),
                "spec": {"ingressClassName": "nginx", "rules": [rule]},
            }
        )
        objects.append(_from_namespace(site, name, "ingress-nginx"))
    return Layer("nginx-ingress", tuple(objects), _behind(hosts))


def _gateway_tls(site: Site, overlay_name: str) -> Layer:
    """A Gateway that passes TLS through, and a TLSRoute for each model server."""
    hosts = _model_servers(site, overlay_name)
    listeners = [
        {"name": name, "protocol": "TLS", "port": 443, "hostname": host, "tls": {"mode": "Passthrough"},
         "allowedRoutes": {"namespaces": {"from": "Same"}, "kinds": [{"kind": "TLSRoute"}]}}
        for name, host in hosts.items()
    ]  # fmt: skip
    gateway: Object = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": parts.metadata("strongroom", site.namespace),
        "spec": {"gatewayClassName": "nginx", "listeners": listeners},
    }
    routes = [
        {
            "apiVersion": "gateway.networking.k8s.io/v1alpha3",
            "kind": "TLSRoute",
            "metadata": parts.metadata(name, site.namespace),
            "spec": {
                "parentRefs": [{"name": "strongroom", "sectionName": name}],
                "hostnames": [host],
                "rules": [{"backendRefs": [{"name": name, "port": services.GRPC_PORT}]}],
            },
        }
        for name, host in hosts.items()
    ]
    policies = [_from_namespace(site, name, "nginx-gateway") for name in hosts]
    return Layer("gateway-tls", (gateway, *routes, *policies), _behind(hosts))


def _quote_helper(site: Site, overlay_name: str) -> Layer:
    """Quotes from the node's helper (AKS ``--enable-sgxquotehelper``): Gramine asks no other service for them.

    Raises:
        ConfigurationError: The overlay has no SGX.
    """
    if not fits(QUOTE_HELPER.name, overlay_name):
        raise ConfigurationError("the quote helper belongs to the overlay aks-sgx", code="deploy.component")
    lent = [item for place in namespaces(site) for item in lend(QUOTE_HELPER, place)]
    patches = tuple(Patch("Deployment", name, borrow(QUOTE_HELPER)) for name in served_workloads(site, gramine=True))
    return Layer("quote-helper", tuple(lent), patches)


def _key_vault(site: Site, overlay_name: str) -> Layer:
    """The broker's root key from Azure Key Vault by the Secrets Store CSI driver, under a workload identity.

    Raises:
        ConfigurationError: The site doesn't say which vault, or the broker runs elsewhere.
    """
    del overlay_name
    broker = site.broker
    if broker.image is None or not (broker.key_vault and broker.tenant and broker.client_id):
        raise ConfigurationError(
            "the component key-vault needs broker.image, key_vault, tenant and client_id",
            code="deploy.component",
            hint="set them in the site file's [broker]",
        )
    wanted = "array:\n  - |\n    objectName: strongroom-root-key\n    objectAlias: root.key\n"
    provider: Object = {
        "apiVersion": "secrets-store.csi.x-k8s.io/v1",
        "kind": "SecretProviderClass",
        "metadata": parts.metadata("broker-root-key", site.broker_namespace),
        "spec": {
            "provider": "azure",
            "parameters": {
                "usePodIdentity": "false",
                "clientID": broker.client_id,
                "keyvaultName": broker.key_vault,
                "tenantId": broker.tenant,
                "objects": f"{wanted}    objectType: secret\n    objectEncoding: base64\n",
            },
        },
    }
    volume = {
        "name": "root-key",
        "csi": {
            "driver": "secrets-store.csi.k8s.io",
            "readOnly": True,
            "volumeAttributes": {"secretProviderClass": "broker-root-key"},
        },
    }
    replace = Operation("replace", pointer(*POD, "volumes", ROOT_KEY_VOLUME), volume)
    return Layer("key-vault", (provider,), (Patch("StatefulSet|Deployment", BROKER, (replace,)),))
