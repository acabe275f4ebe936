"""The commented template that `strongroom workload init` writes."""

import re
from typing import Final

from strongroom.errors import ConfigurationError
from strongroom.workload.definition import NAME

_TEMPLATE: Final = """\
# A Strongroom workload: what runs, of which code, and which keys it may have.
# `strongroom workload measure {name}.toml` prints its measurement; every field but comments and spacing counts.

name = "{name}"

# Program and arguments. It runs in the folder of this file. "python3" is the interpreter that has Strongroom.
command = ["python3", "{name}.py"]

# SGX product id (tells this product from the signer's others) and security version (raise it after a security fix).
product_id = 1
security_version = 1

# Code and data that are measured: files, folders or globs below this file's folder. Links are refused.
trusted_files = ["{name}.py"]

# Installed Python packages whose code is measured, named as they are imported.
packages = ["strongroom"]

# The only variables the command sees, besides STRONGROOM_*. They are measured and public: never put a secret here.
[environment]
OMP_NUM_THREADS = "1"

# Keys at the broker: a name for use in this file, and repository/type/tag. `strongroom authorize` grants them.
[keys]
data = "{name}/key/data"

# Parts of the storage and the key that opens each. Mode "read" or "read-write".
[[mounts]]
path = "data"
key = "data"
mode = "read"

[[mounts]]
path = "results"
key = "data"
mode = "read-write"

[resources]
memory = "1GiB"
cpus = 1
epc = "256MiB"
threads = 16
"""


def render_template(name: str) -> str:
    """A definition to start from.

    Args:
        name: Name of the workload.

    Raises:
        ConfigurationError: Not a workload's name (``workload.field``).
    """
    if not re.fullmatch(NAME, name):
        raise ConfigurationError(
            f"{name[:60]!r} can't name a workload",
            code="workload.field",
            hint="1 to 63 of a-z, 0-9 and '-', not '-' first or last",
        )
    return _TEMPLATE.format(name=name)
