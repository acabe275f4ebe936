"""What Azure's host tells a confidential VM: VCEK certificates and TD quotes. None of it is trusted; it is verified.

Source: Microsoft, "Trusted Hardware Identity Management" (``/metadata/THIM/amd/certification``); kinvolk/
azure-cvm-tooling, az-tdx-vtpm (``/acc/tdquote``).
"""

import base64
import binascii
import http.client
import json
from typing import Final

from strongroom.errors import FormatError, UnavailableError
from strongroom.formats.canonical import parse_json_object
from strongroom.formats.members import Members
from strongroom.formats.pem import parse_certificates_pem
from strongroom.formats.quote import MAX_QUOTE_BYTES, parse_quote

ADDRESS: Final = ("169.254.169.254", 80)
TIMEOUT_S: Final = 20.0
MAX_ANSWER_BYTES: Final = 64 * 1024
_MAX_PEM_BYTES: Final = 16 * 1024
_CODE: Final = "platform.azure_metadata"
_ELSE: Final = "Azure's metadata service answers something else"
_HEADERS: Final = {"Metadata": "true", "Accept": "application/json", "Connection": "close"}


def fetch_endorsement_key(address: tuple[str, int] = ADDRESS) -> bytes:
    """The VCEK certificate of this machine.

    Args:
        address: Of the metadata service.

    Returns:
        DER, not looked at.

    Raises:
        UnavailableError: No answer, or not a certificate (``platform.azure_metadata``).
    """
    answer = _call(address, "GET", "/metadata/THIM/amd/certification")
    try:
        pem = Members(answer, what="THIM", code=_CODE).text("vcekCert", max_length=_MAX_PEM_BYTES).strip() + "\n"
        return parse_certificates_pem(pem.encode(), what="thim", max_certificates=1, max_bytes=_MAX_PEM_BYTES)[0]
    except FormatError as error:
        raise UnavailableError(f"{_ELSE}: {error.message}", code=_CODE) from None


def fetch_td_quote(td_report: bytes, address: tuple[str, int] = ADDRESS) -> bytes:
    """A TD quote of a TDREPORT.

    Args:
        td_report: 1024 bytes.
        address: Of the metadata service.

    Returns:
        The quote, without padding.

    Raises:
        UnavailableError: No answer, or not a quote (``platform.azure_metadata``).
    """
    body = json.dumps({"report": base64.urlsafe_b64encode(td_report).rstrip(b"=").decode()})
    answer = _call(address, "POST", "/acc/tdquote", body)
    try:
        text = Members(answer, what="tdquote", code=_CODE).text("quote", max_length=2 * MAX_QUOTE_BYTES).rstrip("=")
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return raw[: len(raw) - parse_quote(raw).padding]
    except FormatError as error:
        raise UnavailableError(f"{_ELSE}: {error.message}", code=_CODE) from None
    except (binascii.Error, ValueError):
        raise UnavailableError("Azure's TD quote is not base64", code=_CODE) from None


def _call(address: tuple[str, int], method: str, path: str, body: str | None = None) -> dict[str, object]:
    # Plain: no proxy of the environment, no redirect, one short answer.
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT_S)
    headers = _HEADERS if body is None else {**_HEADERS, "Content-Type": "application/json"}
    try:
        connection.request(method, path, body, headers)
        with connection.getresponse() as response:
            raw = response.read(MAX_ANSWER_BYTES + 1)
        if response.status != http.client.OK:
            raise UnavailableError(f"Azure's metadata service answers {response.status}", code=_CODE)
        return parse_json_object(raw, max_bytes=MAX_ANSWER_BYTES)
    except FormatError as error:
        raise UnavailableError(f"{_ELSE}: {error.message}", code=_CODE) from None
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(
            f"Azure's metadata service does not answer: {type(error).__name__}",
            code=_CODE,
            hint="the process needs a route to 169.254.169.254 (in a pod: hostNetwork)",
        ) from None
    finally:
        connection.close()
