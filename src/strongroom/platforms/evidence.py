"""The last look at a quote before it leaves a platform: is it about what was asked?"""

from strongroom.errors import FormatError, UnavailableError
from strongroom.formats.quote import parse_quote


def about(quote: bytes, report_data: bytes) -> bytes:
    """`quote`, if it is one and carries `report_data`. A mix-up shows here instead of at a stranger's verifier.

    Args:
        quote: What the platform gave.
        report_data: What it was asked to carry.

    Raises:
        UnavailableError: Malformed, or about other report data (``platform.quote``).
    """
    try:
        said = parse_quote(quote).body.report_data
    except FormatError:
        raise UnavailableError("the platform's quote is malformed", code="platform.quote") from None
    if said != report_data:
        raise UnavailableError("the platform's quote is about other report data", code="platform.quote")
    return quote
