"""Decides about clients of Gramine's secret provisioning: same evidence, policies, keys and log as everybody's.

Such a client names no key. It is chosen by what the evidence proves: the grants that accept it and name a key to
provision. Where several grants with different keys accept it, the first label of the name it connected to (SNI)
chooses among them; it can never choose a grant that does not accept the evidence.

The secret is protected by the connection alone here, and the connection by the key in the quote: the client's side of
the handshake is signed with it.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from strongroom.attestation.claims import Claims
from strongroom.broker.audit import AuditLog, Entry
from strongroom.broker.grant_store import Grants
from strongroom.broker.grants import GRANT_NAME, Grant, match_grants
from strongroom.broker.keyring import Keyring, UnknownKey
from strongroom.broker.limits import Gate
from strongroom.broker.release import collateral_digest, who
from strongroom.broker.verifier import Verifier
from strongroom.errors import Finding, FormatError, KeyReleaseError, UnavailableError, VerificationError
from strongroom.ratls.verify import verify_certificate

EVENT: Final = "provision"


class ProvisioningDesk:
    """Decides which secret an attested client gets.

    Args:
        verifier: Tells genuine quotes from others.
        gate: How many verifications at once.
        grants: What is granted.
        keyring: The keys.
        audit: The log.
        clock: Aware time.
    """

    def __init__(
        self,
        *,
        verifier: Verifier,
        gate: Gate,
        grants: Grants,
        keyring: Keyring,
        audit: AuditLog,
        clock: Callable[[], datetime],
    ) -> None:
        self._verifier = verifier
        self._gate = gate
        self._grants = grants
        self._keyring = keyring
        self._audit = audit
        self._clock = clock

    def provide(self, certificate: bytes, server_name: str | None) -> bytes:
        """The secret for the holder of an attested certificate. The decision is in the log when this returns.

        Args:
            certificate: DER, from a connection whose handshake proved possession of its key.
            server_name: Name the client connected to (SNI).

        Returns:
            The secret.

        Raises:
            KeyReleaseError: It gets none; the reasons are in the log.
            UnavailableError: It can't be verified or logged now.
        """
        now = self._clock()
        claims = self._genuine(certificate, now)
        label = _label(server_name)
        candidates = [grant for grant in self._grants.all() if grant.provision is not None]
        match = match_grants(candidates, claims, now, path=None, hint=label)
        if not match.accepted:
            raise self._refuse(match.findings, now, claims, match.closest)
        grant = _choose(match.accepted, label)
        if grant is None:
            names = ", ".join(grant.name for grant in match.accepted)
            finding = Finding("grant.ambiguous", f"{names} accept it with different keys, and the name chooses none")
            raise self._refuse((finding,), now, claims, match.accepted[0].name)
        return self._release(grant, claims, now)

    def _genuine(self, certificate: bytes, now: datetime) -> Claims:
        try:
            with self._gate.enter():
                return verify_certificate(certificate, self._verifier.verify, now).claims
        except (FormatError, VerificationError) as error:
            raise self._refuse((Finding(error.code, error.message),), now) from None
        except UnavailableError as error:
            self._refuse((Finding(error.code, error.message),), now)
            raise

    def _release(self, grant: Grant, claims: Claims, now: datetime) -> bytes:
        path = grant.provision
        if path is None:
            raise KeyReleaseError("this grant provisions no key", code="provision.refused")
        try:
            version, value = self._keyring.read(path)
        except UnknownKey as error:
            raise self._refuse((Finding("key.unknown", error.message),), now, claims, grant.name) from None
        self._audit.append(
            Entry(
                EVENT,
                "allow",
                name=grant.name,
                who=who(claims),
                path=f"{path}@{version}",
                policy_digest=grant.policy.digest.hex(),
                collateral_digest=collateral_digest(claims),
            ),
            now,
        )
        return value

    def _refuse(
        self, findings: Sequence[Finding], now: datetime, claims: Claims | None = None, name: str | None = None
    ) -> KeyReleaseError:
        self._audit.append(
            Entry(
                EVENT,
                "deny",
                name=name,
                who=who(claims) if claims else {},
                collateral_digest=collateral_digest(claims) if claims else None,
                findings=findings,
            ),
            now,
        )
        return KeyReleaseError(f"not provisioned: {findings[0].code}", code="provision.refused")


def _label(server_name: str | None) -> str | None:
    label = (server_name or "").split(".", 1)[0].lower()
    return label if GRANT_NAME.fullmatch(label) else None


def _choose(accepted: Sequence[Grant], label: str | None) -> Grant | None:
    named = next((grant for grant in accepted if grant.name == label), None)
    if named is not None:
        return named
    return accepted[0] if len({grant.provision for grant in accepted}) == 1 else None
