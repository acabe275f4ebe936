"""Who is behind an attested certificate, and is that acceptable?

1. The certificate: well formed, valid now, signed by its own key; evidence that names this key, exactly once.
2. The quote is genuine (the caller's verifier: roots, collateral, TCB).
3. The quote's report data is the one that binds this key, all 64 bytes of it.
4. The policy accepts what the quote says.

That the peer of a connection holds the certificate's key is proved by the TLS handshake, not here.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from strongroom.attestation.appraise import Rejected, appraise
from strongroom.attestation.binding import check_report_data
from strongroom.attestation.claims import Claims
from strongroom.attestation.policy import AppraisalPolicy
from strongroom.errors import PolicyRejected
from strongroom.formats.ratls import parse_ratls_certificate
from strongroom.ratls.self_signed import check_self_signed, parse_self_signed

QuoteVerifier = Callable[[bytes, datetime], Claims]


@dataclass(frozen=True, slots=True)
class AttestedPeer:
    """A key and what the hardware says about its holder. Genuine; whether acceptable, a policy says.

    Args:
        claims: What the quote says.
        certificate: DER, as it was shown.
        public_key_sha256: SHA-256 of the SubjectPublicKeyInfo, 32 bytes.
        evidence: Which form decided: TCG DICE tagged evidence, or Gramine's older one.
    """

    claims: Claims
    certificate: bytes
    public_key_sha256: bytes
    evidence: Literal["tagged", "legacy"]


def verify_certificate(certificate: bytes, genuine: QuoteVerifier, now: datetime) -> AttestedPeer:
    """Verifies an attested certificate.

    Args:
        certificate: DER, from a stranger.
        genuine: Verifies quotes: raises for one that is not genuine.
        now: Aware time.

    Returns:
        Who holds the key.

    Raises:
        FormatError: Malformed, or without evidence (``ratls.*``, ``quote.*``).
        VerificationError: The certificate or the quote is not genuine, or the quote is about another key
            (``ratls.*``, ``binding.*``, and what `genuine` raises).
        UnavailableError: `genuine` can't verify now.
    """
    parsed = parse_ratls_certificate(certificate)
    check_self_signed(parse_self_signed(certificate), now)
    evidence = parsed.evidence
    claims = genuine(evidence.quote, now)
    check_report_data(claims, evidence.report_data)
    return AttestedPeer(
        claims,
        certificate,
        hashlib.sha256(parsed.spki).digest(),
        "legacy" if evidence.claims is None else "tagged",
    )


def check_peer(peer: AttestedPeer, policy: AppraisalPolicy, now: datetime) -> None:
    """Checks that a policy accepts a peer.

    Args:
        peer: From `verify_certificate`.
        policy: What is expected.
        now: Aware time.

    Raises:
        PolicyRejected: It does not; every finding is named.
    """
    outcome = appraise(peer.claims, policy, now)
    if isinstance(outcome, Rejected):
        raise PolicyRejected(outcome.findings)
