"""Ed25519 keys that sign table manifests and receipts, each kind of statement under its own name.

Source: RFC 8032 (Ed25519). The signed text starts with the kind of statement and a zero byte, so that a signature of
one kind is never one of another kind.
"""

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.errors import ConfigurationError, VerificationError

PUBLIC_KEY_SIZE: Final = 32
SIGNATURE_SIZE: Final = 64
MIN_SEED_SIZE: Final = 32
_PURPOSE: Final = b"strongroom analytics signer 1"


class Signer:
    """Signs statements. The private half never leaves this object.

    Args:
        key: The private key.
    """

    __slots__ = ("_key", "public")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> "Signer":
        """A fresh key, for the length of a session."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> "Signer":
        """The signer that belongs to a secret of at least 32 bytes, e.g. a key that the broker holds.

        Raises:
            ConfigurationError: The secret is shorter.
        """
        if len(seed) < MIN_SEED_SIZE:
            raise ConfigurationError(f"a signer needs a secret of {MIN_SEED_SIZE} bytes", code="analytics.signer")
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(seed)
        return cls(Ed25519PrivateKey.from_private_bytes(derived))

    def sign(self, kind: str, payload: bytes) -> bytes:
        """Sign a statement.

        Args:
            kind: Which kind of statement it is.
            payload: The statement.

        Returns:
            64 bytes.
        """
        return self._key.sign(_signed_text(kind, payload))

    def __repr__(self) -> str:
        return f"Signer({self.public.hex()})"


def verify_signature(public: bytes, kind: str, payload: bytes, signature: bytes) -> None:
    """Check a signature.

    Raises:
        VerificationError: It was not made by this key over this statement of this kind.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _signed_text(kind, payload))
    except (InvalidSignature, ValueError):
        raise VerificationError(f"the signature of the {kind} is wrong", code="analytics.signature") from None


def _signed_text(kind: str, payload: bytes) -> bytes:
    return kind.encode() + b"\0" + payload
