"""Errors on the wire: RFC 7807 documents. A stranger gets a constant text; the reason is in the audit log.

Source of the types and of their status: confidential-containers/trustee, kbs/src/error.rs and, for a policy's refusal,
kbs_attestation_protocol.md (403).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fastapi.responses import JSONResponse

from strongroom.broker.limits import TooManyRequests
from strongroom.errors import (
    ConfigurationError,
    FormatError,
    PolicyRejected,
    StrongroomError,
    UnavailableError,
    VerificationError,
    WouldOverwrite,
)
from strongroom.formats.kbs import ERROR_TYPE_PREFIX

MEDIA_TYPE: Final = "application/problem+json"
OWNER_TYPE_PREFIX: Final = "urn:strongroom:error:"
RETRY_AFTER_S: Final = 1
MAX_DETAIL_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of answer to a stranger."""

    name: str
    status: int
    detail: str


ATTESTATION: Final = Kind("AttestationError", 401, "attestation failed")
TOKEN_MISSING: Final = Kind("TokenNotFound", 401, "attest first")
TOKEN_REFUSED: Final = Kind("TokenVerifierError", 401, "the token is not valid")
POLICY: Final = Kind("PolicyDeny", 403, "access denied by policy")
PATH: Final = Kind("InvalidRequestPath", 404, "no such path")
PLUGIN: Final = Kind("PluginNotFound", 404, "no such plugin")
METHOD: Final = Kind("MethodNotAllowed", 405, "method not allowed")
ADMIN: Final = Kind("AdminAuthAccess", 401, "not signed by the owner")
TOO_LONG: Final = Kind("PayloadTooLarge", 413, "the body is too long")
TOO_SLOW: Final = Kind("RequestTimeout", 408, "the body took too long")
RATE: Final = Kind("TooManyRequests", 429, "too many requests")
UNAVAILABLE: Final = Kind("Unavailable", 503, "not available now")
INTERNAL: Final = Kind("InternalError", 500, "internal error")


class Refusal(Exception):
    """Ends a request with an answer to a stranger.

    Args:
        kind: What is said.
        code: Stable code of the reason; for our own log, not for the stranger.
        findings: Codes of the findings that may be told: only for genuine evidence.
    """

    def __init__(self, kind: Kind, *, code: str, findings: Sequence[str] = ()) -> None:
        super().__init__(kind.name)
        self.kind = kind
        self.code = code
        self.findings = tuple(dict.fromkeys(findings))


def to_stranger(refusal: Refusal) -> JSONResponse:
    """The document for a refusal."""
    document: dict[str, object] = {"type": ERROR_TYPE_PREFIX + refusal.kind.name, "detail": refusal.kind.detail}
    if refusal.findings:
        document["findings"] = list(refusal.findings)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if refusal.kind in {RATE, UNAVAILABLE} else {}
    return JSONResponse(document, refusal.kind.status, headers, MEDIA_TYPE)


# First match wins.
OWNER_STATUS: Final[tuple[tuple[type[StrongroomError], int], ...]] = (
    (TooManyRequests, 429),
    (UnavailableError, 503),
    (WouldOverwrite, 409),
    (ConfigurationError, 400),
    (FormatError, 400),
    (PolicyRejected, 403),
    (VerificationError, 500),
)
UNKNOWN_CODES: Final = frozenset({"key.unknown", "grant.unknown"})


def to_owner(error: StrongroomError) -> JSONResponse:
    """The document for the authenticated owner: code, message and hint."""
    status = next((status for kind, status in OWNER_STATUS if isinstance(error, kind)), 500)
    if error.code in UNKNOWN_CODES:
        status = 404
    # A message may quote what was sent, lone surrogates included, which JSON in UTF-8 can't carry.
    detail = error.message[:MAX_DETAIL_CHARS].encode(errors="replace").decode()
    document = {"type": OWNER_TYPE_PREFIX + error.code, "detail": detail, "code": error.code, "hint": error.hint}
    return JSONResponse(document, status, media_type=MEDIA_TYPE)
