"""Wrapping of stored secrets: AES-256-GCM with the identity of the row as associated data.

A wrapped secret is ``0x01 || nonce (12 bytes) || ciphertext || tag (16 bytes)``. Because the identity of the place
where it is stored is authenticated with it, a wrapped secret moved to another row, table or broker does not unwrap.

Source: NIST SP 800-38D. Nonces are random, so one wrapping key serves at most 2**32 wraps (section 8.3).
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.errors import FormatError, VerificationError

WRAPPING_KEY_SIZE: Final = 32
NONCE_SIZE: Final = 12
TAG_SIZE: Final = 16
FORMAT_VERSION: Final = b"\x01"
OVERHEAD: Final = len(FORMAT_VERSION) + NONCE_SIZE + TAG_SIZE


def wrap(wrapping_key: bytes, secret: bytes, aad: bytes, nonce: bytes) -> bytes:
    """Encrypt a secret for storage.

    Args:
        wrapping_key: 32 bytes.
        secret: Any bytes.
        aad: Identity of the place where the result will be stored.
        nonce: 12 random bytes, never used before with this key.

    Returns:
        The wrapped secret, 29 bytes longer than the secret.

    Raises:
        FormatError: The wrapping key or the nonce has another length.
    """
    if len(wrapping_key) != WRAPPING_KEY_SIZE or len(nonce) != NONCE_SIZE:
        raise FormatError("wrapping key of 32 bytes and nonce of 12 bytes expected", code="wrap.length")
    return FORMAT_VERSION + nonce + AESGCM(wrapping_key).encrypt(nonce, secret, aad)


def unwrap(wrapping_key: bytes, wrapped: bytes, aad: bytes) -> bytes:
    """Decrypt a stored secret.

    Args:
        wrapping_key: 32 bytes.
        wrapped: What `wrap` returned.
        aad: Identity of the place where it was found.

    Returns:
        The secret.

    Raises:
        FormatError: Not a wrapped secret, or the wrapping key has another length.
        VerificationError: Another wrapping key, another place, or altered.
    """
    if len(wrapping_key) != WRAPPING_KEY_SIZE:
        raise FormatError("wrapping key of 32 bytes expected", code="wrap.length")
    if len(wrapped) < OVERHEAD or not wrapped.startswith(FORMAT_VERSION):
        raise FormatError("not a wrapped secret", code="wrap.malformed")
    nonce, sealed = wrapped[1 : 1 + NONCE_SIZE], wrapped[1 + NONCE_SIZE :]
    try:
        return AESGCM(wrapping_key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise VerificationError(
            "a stored secret does not unwrap: another root key, or the store was altered", code="wrap.authentication"
        ) from None
