"""Component `postgresql`: two replicas of the broker on one PostgreSQL database, in the place of one on SQLite.

The server of the database is recognised by its CA and name; the broker logs in with a password file or a client
certificate from a Secret that its owner makes. Neither stands in any manifest.
"""

from typing import Final

from strongroom.broker.database_url import parse_database_url
from strongroom.deployment.kubernetes import parts, shared
from strongroom.deployment.kubernetes.broker import DATABASE_FOLDER, KEYS_FOLDER, NAME, SHARED_SETUP, broker_pod
from strongroom.deployment.kubernetes.overlays import Layer
from strongroom.deployment.kubernetes.patches import Patch
from strongroom.deployment.kubernetes.site import Database, Site
from strongroom.deployment.kubernetes.text import Object
from strongroom.errors import ConfigurationError

REPLICAS: Final = 2
CONFIG: Final = "broker-database"
"""ConfigMap with the CA certificate of the database's server."""
LOGIN: Final = "strongroom-broker-database"
"""Secret with ``pgpass``, or with ``client.pem`` and ``client.key``."""
URL_VARIABLE: Final = "STRONGROOM_BROKER_DATABASE_URL"
_LOGINS: Final = {
    "password": ("pgpass",),
    "certificate": ("client.pem", "client.key"),
}
_OPTIONS: Final = {
    "password": f"passfile={KEYS_FOLDER}/pgpass",
    "certificate": f"sslcert={KEYS_FOLDER}/client.pem&sslkey={KEYS_FOLDER}/client.key",
}


def postgresql_layer(site: Site) -> Layer:
    """The component.

    Raises:
        ConfigurationError: The broker runs elsewhere, or the site names no database.
    """
    broker = site.broker
    if broker.image is None or broker.database is None:
        raise ConfigurationError(
            "the component postgresql needs broker.image and [broker.database]",
            code="deploy.component",
            hint="url, network and ca in the site file's [broker.database]",
        )
    objects = (
        _ca(site, broker.database),
        _egress(site, broker.database),
        _deployment(site, broker.image, broker.database),
    )
    return Layer("postgresql", objects, (Patch("StatefulSet", NAME),))


def database_url(database: Database) -> str:
    """What the broker is told: the server is authenticated, and files are named as they are in the pod.

    Raises:
        ConfigurationError: The broker would refuse it.
    """
    ca = f"sslmode=verify-full&sslrootcert={DATABASE_FOLDER}/server/ca.pem"
    url = f"{database.url}?{ca}&{_OPTIONS[database.login]}"
    parse_database_url(url)
    return url


def login_files(database: Database) -> tuple[str, ...]:
    """Names of the files that the broker logs in with."""
    return _LOGINS[database.login]


def _ca(site: Site, database: Database) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": parts.metadata(CONFIG, site.broker_namespace),
        "data": {"ca.pem": database.ca},
    }


def _egress(site: Site, database: Database) -> Object:
    to = [{"ipBlock": {"cidr": database.network}}]
    spec = {
        "podSelector": {"matchLabels": parts.selector(NAME)},
        "policyTypes": ["Egress"],
        "egress": [{"to": to, "ports": [{"protocol": "TCP", "port": database.port}]}],
    }
    return shared.policy("broker-database", site.broker_namespace, spec)


def _deployment(site: Site, image: str, database: Database) -> Object:
    pod = broker_pod(site, image, SHARED_SETUP)
    login = {
        "secretName": LOGIN,
        "defaultMode": 0o440,
        "items": [{"key": name, "path": name} for name in login_files(database)],
    }
    pod["topologySpreadConstraints"] = parts.spread(NAME)
    pod["volumes"] += [
        {"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        {"name": "database-login", "secret": login},
        {"name": "database-ca", "configMap": {"name": CONFIG}},
    ]
    pod["initContainers"][0]["volumeMounts"].append(
        {"name": "database-login", "mountPath": f"{DATABASE_FOLDER}/login", "readOnly": True}
    )
    container = pod["containers"][0]
    container["env"].append({"name": URL_VARIABLE, "value": database_url(database)})
    container["volumeMounts"] += [
        {"name": "keys", "mountPath": KEYS_FOLDER, "readOnly": True},
        {"name": "database-ca", "mountPath": f"{DATABASE_FOLDER}/server", "readOnly": True},
    ]
    made = parts.deployment(NAME, site.broker_namespace, pod, {}, {})
    made["spec"] = {"replicas": REPLICAS, **made["spec"]}
    return made
