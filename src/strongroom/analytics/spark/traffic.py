"""Spark's own traffic: how a driver and its executors get the secret by which they recognise each other.

On Kubernetes a driver reads the secret from a file (``spark.authenticate.secret.file``); an executor does so only when
it has the driver's settings, which it needs the secret for. For a standalone cluster Spark refuses that file and wants
a setting, which would show the secret to the cluster. Where the file does not do, the secret is read from a file of
Hadoop credentials, which Spark asks first; the setting that it wants gets a random text that opens nothing.

Source: Apache Spark 4, org.apache.spark.SecurityManager (getSecretKey, secretKeyFromFile, initializeAuth; secret
"sparkCookie"); Apache Hadoop, org.apache.hadoop.security.Credentials (writeTokenStorageToStream, version 0).
"""

import base64
import re
import secrets
from pathlib import Path
from typing import Final

from strongroom.analytics.spark.private_folder import PrivateFolder
from strongroom.errors import ConfigurationError, FormatError

SECRET_NAME: Final = b"sparkCookie"
SECRET_FILE_SETTING: Final = "spark.authenticate.secret.file"  # noqa: S105  # a setting's name
_MAGIC: Final = b"HDTS\0"
_MAX_SHORT: Final = 127
_LOCAL: Final = re.compile(r"local(\[(\d+|\*)(,\s*\d+)?\])?")
_STANDALONE: Final = re.compile(r"spark://[A-Za-z0-9.:_,\[\]-]+")
_KUBERNETES: Final = re.compile(r"k8s://https?://[A-Za-z0-9.:_\[\]-]+")


def credentials(secret: str) -> bytes:
    """A file of Hadoop credentials that holds the secret and nothing else.

    Args:
        secret: At most 127 characters of ASCII.

    Raises:
        FormatError: It is longer.
    """
    value = secret.encode("ascii")
    if len(value) > _MAX_SHORT:
        raise FormatError("the secret of Spark's traffic is too long", code="spark.secret")
    tokens, keys = b"\0", b"\1"
    return _MAGIC + tokens + keys + bytes([len(SECRET_NAME)]) + SECRET_NAME + bytes([len(value)]) + value


def as_read_from_file(secret: str) -> str:
    """What Spark makes of a secret that it reads from ``spark.authenticate.secret.file``: base64 of the file."""
    return base64.b64encode(secret.encode("ascii")).decode()


def traffic(master: str, secret: str | None, folder: PrivateFolder) -> tuple[dict[str, str], Path | None]:
    """What a driver needs so that its traffic is authenticated.

    Args:
        master: ``local[*]``, ``spark://HOST:PORT`` or ``k8s://https://HOST:PORT``.
        secret: The secret, None in local mode, where Spark makes one.
        folder: Private folder for the file.

    Returns:
        Settings, and the file of Hadoop credentials where there is one.

    Raises:
        ConfigurationError: There is no secret for a cluster, or the master is none of the three.
    """
    if _LOCAL.fullmatch(master):
        return {}, None
    standalone, kubernetes = _STANDALONE.fullmatch(master), _KUBERNETES.fullmatch(master)
    if not standalone and not kubernetes:
        raise ConfigurationError(
            f"not a master: {master[:200]!r}",
            code="spark.master",
            hint="local[*], spark://HOST:PORT or k8s://https://...",
        )
    if secret is None:
        raise ConfigurationError(
            "a cluster needs a secret that only attested processes have",
            code="spark.no_secret",
            hint='run as a workload whose keys name one: spark = "taxi/key/spark"',
        )
    if kubernetes:
        return {SECRET_FILE_SETTING: str(folder.write("secret", secret.encode("ascii")))}, None
    file = folder.write("credentials", credentials(secret))
    return {"spark.authenticate.secret": f"see the credentials file; not {secrets.token_hex(32)}"}, file
