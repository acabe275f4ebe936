"""The simulated measurement of a workload (docs/reference/workload.md): what it is, and every byte of its code.

On hardware the CPU measures what is loaded. Without hardware this takes its place: SHA-256 over the definition and the
digests of the trusted files, so that one changed byte gives another measurement and the broker refuses the key.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strongroom.errors import ConfigurationError, FormatError
from strongroom.formats.canonical import JsonValue, canonical_json
from strongroom.workload.definition import Workload
from strongroom.workload.files import digest_file, find_trusted
from strongroom.workload.packages import find_package_code

DEFINITION_TYPE: Final = "strongroom.workload.v1"
MEASUREMENT_TYPE: Final = "strongroom.simulated-measurement.v1"


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a workload is, in 32 bytes, and what these are made of.

    Args:
        mr_enclave: Measurement under the simulated platform, 32 bytes.
        workload_digest: SHA-256 of the definition alone, 32 bytes.
        files: ``file:PATH`` and ``package:PATH`` to SHA-256 of the contents, 32 bytes each; sorted.
    """

    mr_enclave: bytes
    workload_digest: bytes
    files: Mapping[str, bytes]


def measure(workload: Workload) -> Measurement:
    """Measures a workload as it is on this machine now.

    Raises:
        ConfigurationError: A trusted file or package is missing, unreadable or a link (``workload.trusted_files``,
            ``workload.package``), or a file name is not Unicode (``workload.file_name``).
    """
    files = _digests("file", find_trusted(workload.folder, workload.trusted_files))
    files |= _digests("package", find_package_code(workload.packages))
    whole: JsonValue = {
        "type": MEASUREMENT_TYPE,
        "workload": definition(workload),
        "files": {name: digest.hex() for name, digest in files.items()},
    }
    return Measurement(_digest(whole), _digest(definition(workload)), files)


def definition(workload: Workload) -> JsonValue:
    """Every field of a workload as a JSON value; the order of tables and lists without meaning is gone."""
    resources = workload.resources
    return {
        "type": DEFINITION_TYPE,
        "name": workload.name,
        "command": list(workload.command),
        "product_id": workload.product_id,
        "security_version": workload.security_version,
        "trusted_files": list(workload.trusted_files),
        "packages": list(workload.packages),
        "environment": dict(workload.environment),
        "mounts": [{"path": mount.path, "key": mount.key, "mode": mount.mode} for mount in workload.mounts],
        "keys": dict(workload.keys),
        "resources": {
            "memory_mib": resources.memory_mib,
            "cpus": resources.cpus,
            "epc_mib": resources.epc_mib,
            "threads": resources.threads,
        },
        "insecure_host_arguments": workload.insecure_host_arguments,
        "broker_ca": workload.broker_ca,
    }


def _digests(kind: str, files: Mapping[str, Path]) -> dict[str, bytes]:
    return {f"{kind}:{name}": digest_file(path) for name, path in files.items()}


def _digest(value: JsonValue) -> bytes:
    try:
        return hashlib.sha256(canonical_json(value)).digest()
    except FormatError as error:
        raise ConfigurationError(
            f"can't measure: {error.message}",
            code="workload.file_name",
            hint="names of trusted files and all texts must be Unicode",
        ) from error
