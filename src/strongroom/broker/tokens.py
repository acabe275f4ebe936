"""Attestation tokens: ES256 JWTs in the shape of an EAT attestation result (EAR), bound to the workload's key.

A token says what was proved and for whom; whoever shows it gets answers encrypted to the key inside it, so a stolen
token is of no use. This broker accepts only tokens that it remembers having issued.

Source: draft-ietf-rats-ear (EAT attestation results), RFC 9711, RFC 7800 (``cnf``); place of ``tee-pubkey`` as in
confidential-containers/trustee, kbs/src/token.
"""

import re
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from strongroom.errors import VerificationError
from strongroom.formats.canonical import JsonValue
from strongroom.formats.kbs import TeePublicKey

ALGORITHM: Final = "ES256"
MAX_TOKEN_CHARS: Final = 16 * 1024
EAT_PROFILE: Final = "tag:strongroom,2026:ear"
_BUILD: Final = "strongroom " + version("strongroom")
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Statement:
    """What a token says.

    Args:
        id: ``jti``, 32 hexadecimal digits.
        nonce: Challenge that was answered, base64.
        tee_pubkey: The workload's key.
        who: What the evidence proved.
        simulated: Whether the platform is simulated; then the status is never "affirming".
        tcb_up_to_date: Whether the platform's TCB status is UpToDate.
        policy_digests: Digests of the policies that accept the evidence, hexadecimal.
        collateral_digest: Digest of the collateral, hexadecimal.
        issued_s: Unix time.
        expires_s: Unix time.
    """

    id: str
    nonce: str
    tee_pubkey: TeePublicKey
    who: dict[str, JsonValue]
    simulated: bool
    tcb_up_to_date: bool
    policy_digests: tuple[str, ...]
    collateral_digest: str
    issued_s: int
    expires_s: int

    def claims(self, issuer: str) -> dict[str, object]:
        """The claims of the JWT."""
        return {
            "eat_profile": EAT_PROFILE,
            "iss": issuer,
            "iat": self.issued_s,
            "nbf": self.issued_s,
            "exp": self.expires_s,
            "jti": self.id,
            "eat_nonce": self.nonce,
            "cnf": {"jwk": self.tee_pubkey.members},
            "ear.verifier-id": {"developer": "strongroom", "build": _BUILD},
            "submods": {"cpu0": self._appraisal()},
        }

    def _appraisal(self) -> dict[str, object]:
        executables = 2 if not self.simulated else 96
        hardware = 96 if self.simulated else 2 if self.tcb_up_to_date else 32
        return {
            "ear.status": {2: "affirming", 32: "warning", 96: "contraindicated"}[hardware],
            "ear.trustworthiness-vector": {"executables": executables, "hardware": hardware},
            "ear.appraisal-policy-id": ",".join(self.policy_digests),
            "ear.veraison.annotated-evidence": {
                "runtime_data_claims": {"nonce": self.nonce, "tee-pubkey": self.tee_pubkey.members}
            },
            "strongroom.evidence": self.who,
            "strongroom.simulated": self.simulated,
            "strongroom.collateral-digest": self.collateral_digest,
        }


class TokenSigner:
    """Signs tokens and checks its own signature on them.

    Args:
        key: EC P-256 private key.
        issuer: Name of this broker.
    """

    def __init__(self, key: ECKey, issuer: str) -> None:
        self._key = key
        self._issuer = issuer
        self._key_id = key.thumbprint()

    def issue(self, statement: Statement) -> str:
        """Sign a token."""
        header = {"alg": ALGORITHM, "kid": self._key_id}
        return jwt.encode(header, statement.claims(self._issuer), self._key, algorithms=[ALGORITHM])

    def verify(self, token: str, *, now_s: int) -> str:
        """Check a token.

        Args:
            token: As received.
            now_s: Unix time.

        Returns:
            Its id.

        Raises:
            VerificationError: Not one of ours, altered, or expired.
        """
        if len(token) > MAX_TOKEN_CHARS:
            raise VerificationError("too long", code="token.malformed")
        try:
            decoded = jwt.decode(token, self._key, algorithms=[ALGORITHM])
        except (JoseError, ValueError):
            raise VerificationError("not a token of this broker", code="token.signature") from None
        if decoded.header != {"alg": ALGORITHM, "kid": self._key_id, "typ": "JWT"}:
            raise VerificationError("not a token of this broker", code="token.header")
        claims = decoded.claims
        token_id, expires_s = claims.get("jti"), claims.get("exp")
        if claims.get("iss") != self._issuer or not isinstance(token_id, str) or not _ID.fullmatch(token_id):
            raise VerificationError("not a token of this broker", code="token.issuer")
        if type(expires_s) is not int or expires_s <= now_s:
            raise VerificationError("the token has expired", code="token.expired")
        return token_id
