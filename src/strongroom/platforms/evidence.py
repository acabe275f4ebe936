"""The last look at evidence before it leaves a platform: is it about what was asked?"""

from strongroom.errors import FormatError, UnavailableError
from strongroom.formats.evidence import parse_evidence


def about(evidence: bytes, report_data: bytes) -> bytes:
    """`evidence`, if it is well formed and carries `report_data`. A mix-up shows here and not at a stranger's verifier.

    Args:
        evidence: What the platform gave.
        report_data: What it was asked to carry.

    Raises:
        UnavailableError: Malformed, or about other report data (``platform.quote``).
    """
    try:
        said = parse_evidence(evidence).report_data
    except FormatError:
        raise UnavailableError("the platform's quote is malformed", code="platform.quote") from None
    if said != report_data:
        raise UnavailableError("the platform's quote is about other report data", code="platform.quote")
    return evidence
