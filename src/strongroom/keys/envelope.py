"""Envelopes: a secret encrypted to the key that stands in a quote, as the KBS protocol carries it.

Source: RFC 7516 section 7.2.2 (flattened JWE JSON serialisation) with all headers protected, which is what
confidential-containers/trustee writes: ``epk`` stands in the protected header, not in ``header``.
"""

from dataclasses import dataclass
from typing import Final

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from strongroom.errors import FormatError, VerificationError
from strongroom.formats.kbs import TeePublicKey

CONTENT_ENCRYPTION: Final = "A256GCM"
MEMBERS: Final = ("protected", "encrypted_key", "iv", "ciphertext", "tag")
MAX_MEMBER_CHARS: Final = 4 * 1024 * 1024
_ALGORITHMS: Final = ["ECDH-ES+A256KW", "RSA-OAEP-256", CONTENT_ENCRYPTION]


def encrypt_to(recipient: TeePublicKey, secret: bytes) -> dict[str, str]:
    """Encrypt a secret to a session key.

    Args:
        recipient: EC key with ECDH-ES+A256KW, or RSA key with RSA-OAEP-256.
        secret: Any bytes.

    Returns:
        The flattened JWE: protected, encrypted_key, iv, ciphertext, tag; each base64url.

    Raises:
        FormatError: The point is not on the curve, or the key is not usable.
    """
    members = recipient.members
    header = {"alg": members["alg"], "enc": CONTENT_ENCRYPTION}
    try:
        key = _import_key(members)
        compact = jwe.encrypt_compact(header, secret, key, algorithms=_ALGORITHMS)
    except (JoseError, ValueError):
        raise FormatError("tee-pubkey: not a usable key", code="kbs.tee_pubkey") from None
    return dict(zip(MEMBERS, compact.split("."), strict=True))


def _import_key(members: dict[str, str]) -> ECKey | RSAKey:
    if members["kty"] == "EC":
        return ECKey.import_key({name: members[name] for name in ("kty", "crv", "x", "y")})
    return RSAKey.import_key({name: members[name] for name in ("kty", "n", "e")})


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A fresh P-256 key pair of one attestation session; the private half never leaves this object."""

    _key: ECKey

    @classmethod
    def generate(cls) -> "SessionKey":
        """Make a key pair."""
        return cls(ECKey.generate_key("P-256", auto_kid=False))

    @property
    def public(self) -> TeePublicKey:
        """The public half as the protocol spells it."""
        jwk = self._key.as_dict(private=False)
        return TeePublicKey.parse({"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": jwk["x"], "y": jwk["y"]})

    def decrypt(self, envelope: object) -> bytes:
        """Open an envelope made for this key.

        Args:
            envelope: The JSON object as received.

        Returns:
            The secret.

        Raises:
            FormatError: Not a flattened JWE with the five members.
            VerificationError: Made for another key, or altered.
        """
        if not isinstance(envelope, dict) or not set(MEMBERS) <= envelope.keys() <= {*MEMBERS, "aad"}:
            raise FormatError("not a flattened JWE", code="envelope.malformed")
        parts = [envelope[name] for name in MEMBERS]
        if envelope.get("aad") or not all(isinstance(p, str) and len(p) <= MAX_MEMBER_CHARS for p in parts):
            raise FormatError("not a flattened JWE", code="envelope.malformed")
        try:
            opened = jwe.decrypt_compact(".".join(parts), self._key, algorithms=["ECDH-ES+A256KW", CONTENT_ENCRYPTION])
        except (JoseError, ValueError):
            raise VerificationError("the envelope does not open with this session's key", code="envelope.key") from None
        return opened.plaintext or b""

    def __repr__(self) -> str:
        return "SessionKey(...)"
