"""Which trusted execution environment is this?"""

from pathlib import Path

from strongroom.formats.occlum import DEVICE
from strongroom.platforms import Platform, occlum, tdx
from strongroom.platforms.gramine import ATTESTATION, find_gramine


def detect(
    *,
    gramine_folder: Path = ATTESTATION,
    occlum_device: Path = Path(DEVICE),
    tdx_root: Path = tdx.ROOT,
) -> Platform | None:
    """The platform this process runs on; the innermost one where several are nested (an enclave in a TDX guest).

    A host can make these files appear. That gains it nothing: what counts is the quote.

    Args:
        gramine_folder: Gramine's pseudo-files.
        occlum_device: Occlum's device.
        tdx_root: configfs-tsm.

    Returns:
        The platform; None where there is none.
    """
    if enclave := find_gramine(gramine_folder):
        return enclave
    if occlum.answers(occlum_device):
        return occlum.OcclumPlatform(occlum_device)
    if tdx.answers(tdx_root):
        return tdx.TdxPlatform(tdx_root)
    return None
