"""Which trusted execution environment is this?"""

from pathlib import Path

from strongroom.formats.occlum import DEVICE
from strongroom.platforms import Platform, configfs, occlum, snp, tdx, tpm
from strongroom.platforms.azure import find_azure
from strongroom.platforms.gramine import ATTESTATION, find_gramine
from strongroom.platforms.relay import SOCKET, find_relay


def detect(
    *,
    gramine_folder: Path = ATTESTATION,
    occlum_device: Path = Path(DEVICE),
    relay_socket: Path | None = SOCKET,
    configfs_root: Path = configfs.ROOT,
    tpm_device: Path = tpm.DEVICE,
) -> Platform | None:
    """The platform this process runs on; the innermost one where several are nested (an enclave in a TDX guest).

    A host can make these files appear. That gains it nothing: what counts is the quote.

    Args:
        gramine_folder: Gramine's pseudo-files.
        occlum_device: Occlum's device.
        relay_socket: Socket of a relay on the node; None: this process is the relay.
        configfs_root: configfs-tsm.
        tpm_device: The TPM.

    Returns:
        The platform; None where there is none.

    Raises:
        UnavailableError: A relay's socket is there, but gives no evidence (``platform.relay``).
    """
    if enclave := find_gramine(gramine_folder):
        return enclave
    if occlum.answers(occlum_device):
        return occlum.OcclumPlatform(occlum_device)
    if relay_socket is not None and (relay := find_relay(relay_socket)):
        return relay
    if tdx.answers(configfs_root):
        return tdx.TdxPlatform(configfs_root)
    if snp.answers(configfs_root):
        return snp.SnpPlatform(configfs_root)
    return find_azure(tpm_device)
