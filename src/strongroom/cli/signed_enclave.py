"""What a SIGSTRUCT (``.sig``) says about the enclave it was made for."""

from pathlib import Path
from typing import TYPE_CHECKING

from strongroom.errors import ConfigurationError

if TYPE_CHECKING:
    from strongroom.formats.canonical import JsonValue
    from strongroom.workload import Workload

SIGSTRUCT_BYTES = 1808


def describe_signature(path: Path, workload: "Workload | None") -> "dict[str, JsonValue]":
    """Reads and verifies a SIGSTRUCT.

    Args:
        path: The ``.sig`` file that ``gramine-sgx-sign`` writes.
        workload: Whose product id and security version it must carry; None: not compared.

    Returns:
        Measurements in hexadecimal, numbers, and whether debug mode is possible.

    Raises:
        ConfigurationError: The file can't be read, or it was signed for another product or version.
        FormatError: Not a SIGSTRUCT.
        VerificationError: Its signature is wrong.
    """
    from strongroom.formats.sigstruct import parse_sigstruct

    try:
        with path.open("rb") as file:
            signature = parse_sigstruct(file.read(SIGSTRUCT_BYTES + 1))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}", code="workload.sigstruct") from None
    signature.verify()
    if workload is not None:
        expected = (workload.product_id, workload.security_version)
        if (signature.isv_prod_id, signature.isv_svn) != expected:
            raise ConfigurationError(
                f"{path} is signed for product {signature.isv_prod_id}, version {signature.isv_svn}; "
                f"the workload says {expected[0]}, {expected[1]}",
                code="workload.sigstruct",
                hint="render the manifest again and sign it, or correct the workload file",
            )
    return {
        "simulated": False,
        "mr_enclave": signature.mr_enclave.hex(),
        "mr_signer": signature.mr_signer.hex(),
        "isv_prod_id": signature.isv_prod_id,
        "isv_svn": signature.isv_svn,
        "debug_allowed": signature.debug_allowed,
        "date": signature.date,
    }
