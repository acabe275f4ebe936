"""Receipts: the attested key signs which model answered which request how.

A receipt is a compact JWS (RFC 7515), ES256, type ``strongroom-receipt+jwt``, over JSON:

    model, version, model_sha256, signature   who answered
    request_sha256, response_sha256           of the exact bytes of the (plain) request and answer bodies
    evidence_sha256                           of the attested certificate, DER
    issued_at                                 seconds since 1970
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from strongroom.errors import FormatError, VerificationError
from strongroom.serving.identity import AttestedIdentity
from strongroom.serving.inference import Answer

HEADER: Final = "strongroom-receipt"
WANTED: Final = "1"
MAX_RECEIPT_BYTES: Final = 8 * 1024
_TYPE: Final = "strongroom-receipt+jwt"
_CODE: Final = "receipt.malformed"
OTHER_KEY: Final = "receipt.signature"


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the attested key has signed; see the module for the fields."""

    model: str
    version: int
    model_sha256: str
    signature: str
    request_sha256: str
    response_sha256: str
    evidence_sha256: str
    issued_at: int


class Receipts:
    """Issues receipts.

    Args:
        identity: Has the attested key.
        now: Aware clock.
    """

    def __init__(self, identity: AttestedIdentity, now: Callable[[], datetime]) -> None:
        self._identity = identity
        self._now = now

    def issue(self, answer: Answer, request: bytes, response: bytes) -> str:
        """The receipt of one answered request.

        Args:
            answer: Who answered.
            request: Body of the request as the caller wrote it.
            response: Body of the answer as the caller gets it.
        """
        identity = self._identity.current
        receipt = Receipt(
            answer.model,
            answer.version,
            answer.digest,
            answer.signature,
            hashlib.sha256(request).hexdigest(),
            hashlib.sha256(response).hexdigest(),
            identity.evidence_sha256,
            int(self._now().timestamp()),
        )
        payload = json.dumps(asdict(receipt), sort_keys=True, separators=(",", ":"))
        pem = identity.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return jws.serialize_compact({"alg": "ES256", "typ": _TYPE}, payload, ECKey.import_key(pem))


def verify_receipt(token: str, certificate: bytes, request: bytes, response: bytes) -> Receipt:
    """Check a receipt against the exchange it is about.

    Args:
        token: Compact JWS.
        certificate: DER of the attested certificate, its evidence already verified.
        request: Body that was sent.
        response: Body that was received.

    Raises:
        FormatError: Not a receipt, or not a certificate (``receipt.malformed``).
        VerificationError: Signed by another key (``receipt.signature``), or about another exchange
            (``receipt.mismatch``).
    """
    receipt = _receipt(_payload(token, certificate))
    found = (receipt.request_sha256, receipt.response_sha256, receipt.evidence_sha256)
    if found != tuple(hashlib.sha256(part).hexdigest() for part in (request, response, certificate)):
        raise VerificationError("the receipt is about another exchange", code="receipt.mismatch")
    return receipt


def _payload(token: str, certificate: bytes) -> bytes:
    try:
        public = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise FormatError("the certificate is malformed", code=_CODE) from None
    if not isinstance(public, ec.EllipticCurvePublicKey) or len(token) > MAX_RECEIPT_BYTES:
        raise FormatError("not a receipt", code=_CODE)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        verified = jws.deserialize_compact(token, ECKey.import_key(pem), algorithms=["ES256"])
    except (JoseError, ValueError):
        raise VerificationError("the receipt is not signed by the attested key", code=OTHER_KEY) from None
    if verified.headers().get("typ") != _TYPE:
        raise FormatError("not a receipt", code=_CODE)
    return verified.payload or b""


def _receipt(payload: bytes) -> Receipt:
    try:
        members: dict[str, Any] = json.loads(payload)
        receipt = Receipt(**members)
    except (ValueError, TypeError):
        raise FormatError("not a receipt", code=_CODE) from None
    if any(type(getattr(receipt, name)) is not kind for name, kind in Receipt.__annotations__.items()):
        raise FormatError("not a receipt", code=_CODE)
    return receipt
