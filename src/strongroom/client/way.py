"""What every client does around a request, whichever transport carries it: seal, ask for a receipt, check it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from strongroom.client.trust import Trust
from strongroom.errors import FormatError, VerificationError
from strongroom.ratls.verify import AttestedPeer
from strongroom.serving.identity import parse_identity
from strongroom.serving.receipts import HEADER, WANTED, Receipt, verify_receipt
from strongroom.serving.sealing import SECRET_BYTES, ReplyKey, SealedCall, SealedReply, open_reply, seal_call


@dataclass(frozen=True, slots=True)
class Way:
    """A server that was accepted, and how requests go to it.

    Args:
        peer: The server.
        good_until: When it must be looked at again.
        sealing_key: Requests are sealed to it; None when the connection itself ends in the server.
    """

    peer: AttestedPeer
    good_until: datetime
    sealing_key: bytes | None = None

    def seal(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[bytes, ReplyKey]:
        """Seal one request.

        Raises:
            FormatError: This way has no sealing key.
        """
        if self.sealing_key is None:
            raise FormatError("no sealing key", code="client.sealing")
        return seal_call(SealedCall(method, path, headers, body), self.sealing_key, os.urandom(SECRET_BYTES))

    def unseal(self, raw: bytes, key: ReplyKey) -> SealedReply:
        """Open its answer.

        Raises:
            FormatError: Not a sealed answer.
            VerificationError: Not the server's answer to this request.
        """
        return open_reply(raw, key)

    def check_receipt(self, token: str | None, request: bytes, response: bytes) -> Receipt:
        """The receipt that was asked for.

        Raises:
            VerificationError: There is none, or it is about something else.
            FormatError: It is malformed.
        """
        if not token:
            raise VerificationError("the server gave no receipt", code="receipt.missing")
        return verify_receipt(token, self.peer.certificate, request, response)


def receipt_headers(wanted: bool) -> dict[str, str]:
    """The header field that asks for a receipt."""
    return {HEADER: WANTED} if wanted else {}


def way_from_identity(document: bytes, trust: Trust) -> Way:
    """Accept a server by its identity document, which may have come through anybody.

    Raises:
        FormatError: Malformed.
        VerificationError: Not genuine, or the sealing key is not vouched for.
        PolicyRejected: The policy does not accept the server.
        UnavailableError: The evidence can't be verified now.
    """
    certificate, sealing_key = parse_identity(document)
    peer = trust.accept(certificate)
    return Way(peer, trust.good_until(peer), sealing_key)


def way_from_connection(peer: AttestedPeer, trust: Trust) -> Way:
    """A server that was accepted by its TLS certificate, whose key will be pinned."""
    return Way(peer, trust.good_until(peer))
