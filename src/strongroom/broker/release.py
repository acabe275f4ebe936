"""The decision: who is attested, and who gets a key. Every decision is logged before its answer exists for anybody."""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from strongroom.attestation.binding import check_report_data
from strongroom.attestation.claims import Claims
from strongroom.broker.audit import AuditLog, Entry
from strongroom.broker.grant_store import Grants
from strongroom.broker.grants import Grant, Match, match_grants
from strongroom.broker.keyring import Keyring, UnknownKey
from strongroom.broker.limits import Gate
from strongroom.broker.problems import ATTESTATION, POLICY, Refusal
from strongroom.broker.sessions import Attestations, Attested, Session
from strongroom.broker.tokens import Statement, TokenSigner
from strongroom.broker.verifier import Verifier
from strongroom.errors import Finding, FormatError, StrongroomError, UnavailableError, VerificationError
from strongroom.formats.canonical import JsonValue, canonical_json
from strongroom.formats.kbs import Attestation, ResourcePath, binding
from strongroom.keys.envelope import encrypt_to

# What the log and the token say about the evidence: all of its JSON form but what identifies nothing further.
_NOT_SAID: Final = frozenset({"report_data", "config_id", "collateral"})


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the decision.

    Args:
        token_ttl_s: Life of a token, unless the collateral ends before.
        max_quote_bytes: Longest quote.
    """

    token_ttl_s: int
    max_quote_bytes: int


class ReleaseDesk:
    """Decides about evidence and keys.

    Args:
        verifier: Tells genuine from not.
        gate: How many verifications at once.
        grants: What is granted.
        keyring: The keys.
        audit: The log.
        signer: Signs tokens.
        attestations: Remembers who is attested.
        limits: Bounds.
        clock: Aware time.
    """

    def __init__(  # noqa: PLR0913 -- it is where the parts meet
        self,
        *,
        verifier: Verifier,
        gate: Gate,
        grants: Grants,
        keyring: Keyring,
        audit: AuditLog,
        signer: TokenSigner,
        attestations: Attestations,
        limits: Limits,
        clock: Callable[[], datetime],
    ) -> None:
        self._verifier = verifier
        self._gate = gate
        self._grants = grants
        self._keyring = keyring
        self._audit = audit
        self._signer = signer
        self._attestations = attestations
        self._limits = limits
        self._clock = clock

    def attest(self, session: Session, attestation: Attestation) -> str:
        """Answer evidence with a token.

        Args:
            session: The challenge, already used up.
            attestation: The client's message.

        Returns:
            The token.

        Raises:
            Refusal: 401 if the evidence is not genuine or not for this challenge; 403, with the codes of the findings,
                if no grant accepts it.
            UnavailableError: It can't be verified or logged now.
        """
        now = self._clock()
        claims = self._genuine(session, attestation, now)
        match = match_grants(self._grants.all(), claims, now, path=None, hint=session.workload)
        if not match.accepted:
            raise self._refuse("attest", claims, match, now, path=None)
        attested, token = self._statement(session, attestation, claims, match.accepted, now)
        names = " ".join(grant.name for grant in match.accepted)
        self._audit.append(_entry("attest", claims, match.accepted[0], name=names), now)
        self._attestations.add(attested, int(now.timestamp()))
        return token

    def _genuine(self, session: Session, attestation: Attestation, now: datetime) -> Claims:
        try:
            return self._verify(session, attestation, now)
        except (FormatError, VerificationError) as error:
            self._log_unproven(session, error, now)
            raise Refusal(ATTESTATION, code=error.code) from None
        except UnavailableError as error:
            self._log_unproven(session, error, now)
            raise

    def _verify(self, session: Session, attestation: Attestation, now: datetime) -> Claims:
        if not hmac.compare_digest(attestation.nonce.encode(errors="replace"), session.nonce.encode()):
            raise VerificationError("the nonce is not the one of this session", code="evidence.nonce")
        if len(attestation.quote) > self._limits.max_quote_bytes:
            raise FormatError("the quote is too long", code="quote.length")
        encrypt_to(attestation.tee_pubkey, b"")  # a key nothing can be encrypted to is refused now, not at the release
        with self._gate.enter():
            claims = self._verifier.verify(attestation.quote, now)
        if claims.tee != session.tee:
            raise VerificationError("another TEE than the session was opened for", code="evidence.tee")
        check_report_data(claims, binding(session.nonce, attestation.tee_pubkey))
        return claims

    def _log_unproven(self, session: Session, error: StrongroomError, now: datetime) -> None:
        findings = (Finding(error.code, error.message),)
        self._audit.append(Entry("attest", "deny", name=session.workload, findings=findings), now)

    def _statement(
        self, session: Session, attestation: Attestation, claims: Claims, accepted: Sequence[Grant], now: datetime
    ) -> tuple[Attested, str]:
        ends = min(now + timedelta(seconds=self._limits.token_ttl_s), claims.collateral_expires)
        statement = Statement(
            id=secrets.token_hex(16),
            nonce=session.nonce,
            tee_pubkey=attestation.tee_pubkey,
            who=who(claims),
            simulated=claims.simulated,
            tcb_up_to_date=claims.tcb_status == "UpToDate",
            policy_digests=tuple(grant.policy.digest.hex() for grant in accepted),
            collateral_digest=collateral_digest(claims),
            issued_s=int(now.timestamp()),
            expires_s=int(ends.timestamp()),
        )
        attested = Attested(
            id=statement.id,
            session_id=session.id,
            claims=claims,
            tee_pubkey=attestation.tee_pubkey,
            workload=session.workload,
            expires_s=statement.expires_s,
        )
        return attested, self._signer.issue(statement)

    def release(self, attested: Attested, path: ResourcePath) -> dict[str, str]:
        """Hand out a key, encrypted to the attested workload.

        Args:
            attested: Who asks; the evidence is appraised again, with the grants of this moment.
            path: Which key.

        Returns:
            A flattened JWE.

        Raises:
            Refusal: 403, with the codes of the findings.
            UnavailableError: The key can't be read or the decision can't be logged.
            VerificationError: The stored key was altered.
            FormatError: The stored key was altered.
        """
        now = self._clock()
        match = match_grants(self._grants.all(), attested.claims, now, path=path, hint=attested.workload)
        if not match.accepted:
            raise self._refuse("release", attested.claims, match, now, path=path)
        try:
            version, value = self._keyring.read(path)
        except UnknownKey as error:
            missing = Match((), match.accepted[0].name, (Finding("key.unknown", error.message),))
            raise self._refuse("release", attested.claims, missing, now, path=path) from None
        envelope = encrypt_to(attested.tee_pubkey, value)
        grant = match.accepted[0]
        self._audit.append(_entry("release", attested.claims, grant, name=grant.name, path=f"{path}@{version}"), now)
        return envelope

    def _refuse(self, event: str, claims: Claims, match: Match, now: datetime, *, path: ResourcePath | None) -> Refusal:
        entry = Entry(
            event,
            "deny",
            name=match.closest,
            who=who(claims),
            path=str(path) if path else None,
            collateral_digest=collateral_digest(claims),
            findings=match.findings,
        )
        self._audit.append(entry, now)
        return Refusal(POLICY, code="policy.rejected", findings=[finding.code for finding in match.findings])


def _entry(event: str, claims: Claims, grant: Grant, *, name: str, path: str | None = None) -> Entry:
    return Entry(
        event,
        "allow",
        name=name,
        who=who(claims),
        path=path,
        policy_digest=grant.policy.digest.hex(),
        collateral_digest=collateral_digest(claims),
    )


def who(claims: Claims) -> dict[str, JsonValue]:
    """What the log and the token say about the evidence; nothing in it identifies the machine."""
    return {name: value for name, value in claims.to_json().items() if name not in _NOT_SAID}


def collateral_digest(claims: Claims) -> str:
    """SHA-256 over the digests of the collateral's parts, hexadecimal."""
    return hashlib.sha256(canonical_json(claims.to_json()["collateral"])).hexdigest()
