"""The key broker inside the cluster: one replica on SQLite, its files brought by the owner. Several replicas on
PostgreSQL: `strongroom.deployment.kubernetes.database`.

The owner runs `strongroom broker init` on a trusted machine and stores the files as two Secrets (or the root key in a
key vault): nothing secret is rendered. The keys are copied to memory, never to the volume of the database.
"""

from typing import Final

from strongroom.deployment.kubernetes import parts, shared
from strongroom.deployment.kubernetes.site import Site
from strongroom.deployment.kubernetes.text import Object

NAME: Final = shared.BROKER
FOLDER: Final = "/var/lib/strongroom/broker"
KEYS_FOLDER: Final = "/run/strongroom/keys"
DATABASE_FOLDER: Final = "/run/strongroom/database"
FILES: Final = "strongroom-broker"
"""Secret with the broker's files except the root key."""
ROOT_KEY: Final = "strongroom-broker-root-key"
"""Secret with ``root.key``."""
CPU: Final = "500m"
MEMORY: Final = "512Mi"

# Links are followed: a Secret's files are links. What the owner brought anew (a renewed certificate) replaces what is
# there; a database that is there is kept. Keys go to memory every time.
_FILES: Final = f"""set -eu
umask 077
for name in broker.toml ca.pem server.pem admin.pub; do
  cp -L "/run/strongroom/files/$name" "{FOLDER}/$name"
done
mkdir -p "{FOLDER}/collateral/intel" "{FOLDER}/collateral/amd" "{FOLDER}/collateral/simulated" "{FOLDER}/roots"
for path in /run/strongroom/files/collateral.*.*.json; do
  test -e "$path" || continue
  name="${{path##*/collateral.}}"
  cp -L "$path" "{FOLDER}/collateral/${{name%%.*}}/${{name#*.}}"
done
if test -e /run/strongroom/files/simulated.der; then
  cp -L /run/strongroom/files/simulated.der "{FOLDER}/roots/simulated.der"
fi
cp -L /run/strongroom/files/server.key {KEYS_FOLDER}/server.key
cp -L /run/strongroom/root-key/root.key {KEYS_FOLDER}/root.key
"""
SETUP: Final = f"""{_FILES}test -e "{FOLDER}/broker.db" || cp -L /run/strongroom/files/broker.db "{FOLDER}/broker.db"
"""
SHARED_SETUP: Final = f"""{_FILES}for path in {DATABASE_FOLDER}/login/*; do
  cp -L "$path" "{KEYS_FOLDER}/${{path##*/}}"
done
"""
"""For replicas on PostgreSQL: no database here, but what they log in with; only we may read it, or libpq would not."""


def broker_objects(site: Site) -> list[Object]:
    """Everything of the broker; nothing if it runs elsewhere."""
    if site.broker.image is None:
        return []
    place = site.broker_namespace
    return [
        shared.namespace(place),
        *shared.default_deny(place),
        _from_workloads(site),
        parts.service_account(NAME, place, site.broker.client_id),
        _service(site),
        _stateful_set(site, site.broker.image),
        parts.disruption_budget(NAME, place),
    ]


def _from_workloads(site: Site) -> Object:
    places = [site.namespace, *([site.pipeline.namespace] if site.pipeline else [])]
    callers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}} for name in places]
    blocks = [{"ipBlock": {"cidr": network}} for network in site.clients]
    ports = [{"protocol": "TCP", "port": port} for port in (site.broker.port, shared.PROVISIONING_PORT)]
    spec = {
        "podSelector": {"matchLabels": parts.selector(NAME)},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": [*callers, *blocks], "ports": ports}],
    }
    return shared.policy("broker-callers", site.broker_namespace, spec)


def _service(site: Site) -> Object:
    ports = [
        {"name": "https", "port": site.broker.port, "targetPort": "https", "protocol": "TCP"},
        {"name": "provisioning", "port": shared.PROVISIONING_PORT, "targetPort": "provisioning", "protocol": "TCP"},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": parts.metadata(NAME, site.broker_namespace),
        "spec": {"type": "ClusterIP", "selector": parts.selector(NAME), "ports": ports},
    }


def _stateful_set(site: Site, image: str) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": parts.metadata(NAME, site.broker_namespace),
        "spec": {
            "replicas": 1,  # SQLite has one writer
            "serviceName": NAME,
            "selector": {"matchLabels": parts.selector(NAME)},
            "template": {"metadata": {"labels": parts.labels(NAME)}, "spec": broker_pod(site, image, SETUP)},
            "volumeClaimTemplates": [
                {
                    "metadata": {"name": "data", "labels": parts.labels(NAME)},
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "4Gi"}}},
                }
            ],
        },
    }


def broker_pod(site: Site, image: str, setup: str) -> Object:
    """Specification of a broker's pod, but for the volume `data` with its folder.

    Args:
        site: The site.
        image: By digest.
        setup: Script that lays out the folder.
    """
    secret = {"defaultMode": 0o440}
    return {
        "serviceAccountName": NAME,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": parts.pod_security(),
        "terminationGracePeriodSeconds": parts.DRAIN_S,
        "initContainers": [_setup(image, setup)],
        "containers": [_container(site, image)],
        "volumes": [
            {"name": "files", "secret": {"secretName": FILES, **secret}},
            {"name": "root-key", "secret": {"secretName": ROOT_KEY, **secret}},
            {"name": "keys", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            parts.scratch_volume(),
        ],
    }


def _setup(image: str, script: str) -> Object:
    return {
        "name": "setup",
        "image": image,
        "command": ["sh", "-c", script],
        "securityContext": parts.container_security(),
        "resources": _resources(),
        "volumeMounts": [
            {"name": "files", "mountPath": "/run/strongroom/files", "readOnly": True},
            {"name": "root-key", "mountPath": "/run/strongroom/root-key", "readOnly": True},
            {"name": "keys", "mountPath": KEYS_FOLDER},
            {"name": "data", "mountPath": FOLDER, "subPath": "broker"},
        ],
    }


def _container(site: Site, image: str) -> Object:
    keys = [
        {"name": "keys", "mountPath": f"{FOLDER}/{name}", "subPath": name, "readOnly": True}
        for name in ("root.key", "server.key")
    ]
    settings = {
        "STRONGROOM_BROKER_HOST": "0.0.0.0",  # noqa: S104 -- the pod's own address; the network policy says who may call
        "STRONGROOM_BROKER_PORT": str(site.broker.port),
        "STRONGROOM_BROKER_PROVISIONING_PORT": str(shared.PROVISIONING_PORT),
    }
    return {
        "name": NAME,
        "image": image,
        "command": ["strongroom", "broker", "serve", FOLDER],
        "env": [{"name": name, "value": value} for name, value in settings.items()],
        "ports": [
            {"name": "https", "containerPort": site.broker.port, "protocol": "TCP"},
            {"name": "provisioning", "containerPort": shared.PROVISIONING_PORT, "protocol": "TCP"},
        ],
        "securityContext": parts.container_security(),
        "resources": _resources(),
        **parts.https_probes("https"),
        "lifecycle": parts.draining(),
        "volumeMounts": [{"name": "data", "mountPath": FOLDER, "subPath": "broker"}, *keys, parts.scratch_mount()],
    }


def _resources() -> Object:
    needs = {"cpu": CPU, "memory": MEMORY}
    return {"requests": dict(needs), "limits": dict(needs)}
