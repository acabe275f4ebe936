"""Who wraps and unwraps data keys: the port, and one over master keys held in memory.

A master key has the broker's name for it (``taxi/key/trips``). It never encrypts data: it wraps key encryption keys,
which wrap a data key for every file. A remote key service implements the same two methods.
"""

import os
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.errors import ConfigurationError, FormatError, KeyReleaseError, VerificationError, WrongKey
from strongroom.formats.kbs import ResourcePath
from strongroom.keys import wrap as wrapping

MASTER_KEY_SIZES: Final = frozenset({16, 32})
_PURPOSE: Final = b"strongroom analytics key wrapping 1"


class Kms(Protocol):
    """Wraps and unwraps under a named master key; the key itself need not be in this process."""

    def wrap(self, key_name: str, secret: bytes) -> bytes:
        """Encrypt a secret under a master key.

        Raises:
            KeyReleaseError: There is no right to this key.
            UnavailableError: The key service doesn't answer.
        """
        ...

    def unwrap(self, key_name: str, wrapped: bytes) -> bytes:
        """Decrypt what `wrap` returned for the same key.

        Raises:
            KeyReleaseError: There is no right to this key.
            WrongKey: Wrapped under another key of this name, or altered.
            UnavailableError: The key service doesn't answer.
        """
        ...


class LocalKms:
    """Master keys in memory: the keys of a room, or of an owner on a trusted machine.

    Args:
        fetch: Gets a master key of 16 or 32 bytes by its name; raises KeyReleaseError where there is none. Asked once
            for each key.
    """

    def __init__(self, fetch: Callable[[str], bytes]) -> None:
        self._fetch = fetch
        self._wrapping_keys: dict[str, bytes] = {}

    @classmethod
    def holding(cls, masters: Mapping[str, bytes]) -> "LocalKms":
        """One over keys that are here already.

        Args:
            masters: Name of each key (``repository/type/tag``) and its 16 or 32 bytes.
        """

        def fetch(name: str) -> bytes:
            if name not in masters:
                raise KeyReleaseError(f"no right to the key {name[:400]!r}", code="analytics.key_refused")
            return masters[name]

        return cls(fetch)

    def wrap(self, key_name: str, secret: bytes) -> bytes:
        """Encrypt a secret, bound to the key's name.

        Raises:
            KeyReleaseError: No key of that name is here.
            ConfigurationError: The master key has another length.
        """
        return wrapping.wrap(self._key(key_name), secret, key_name.encode(), os.urandom(wrapping.NONCE_SIZE))

    def unwrap(self, key_name: str, wrapped: bytes) -> bytes:
        """Decrypt what `wrap` returned for the same key.

        Raises:
            KeyReleaseError: No key of that name is here.
            WrongKey: Wrapped under another key of this name, or altered.
            ConfigurationError: The master key has another length.
        """
        wrapping_key = self._key(key_name)
        try:
            return wrapping.unwrap(wrapping_key, wrapped, key_name.encode())
        except (FormatError, VerificationError):
            raise WrongKey(misfit(key_name)) from None

    def _key(self, name: str) -> bytes:
        if name not in self._wrapping_keys:
            self._wrapping_keys[name] = _wrapping_key(name, self._fetch(str(ResourcePath.parse(name))))
        return self._wrapping_keys[name]

    def __repr__(self) -> str:
        return f"LocalKms({sorted(self._wrapping_keys)})"


def misfit(key_name: str) -> str:
    """What to say of a wrapped key that doesn't open."""
    return f"wrapped under another key than the {key_name[:400]!r} that is here, or altered"


def _wrapping_key(name: str, master: bytes) -> bytes:
    """A key for this purpose alone: the same master key may also seal files.

    Source: RFC 5869 (HKDF with SHA-256, empty salt).

    Raises:
        ConfigurationError: The master key has another length than 16 or 32 bytes.
    """
    if len(master) not in MASTER_KEY_SIZES:
        raise ConfigurationError(f"the master key {name} has {len(master)} bytes, not 16 or 32", code="analytics.key")
    return HKDF(algorithm=SHA256(), length=wrapping.WRAPPING_KEY_SIZE, salt=None, info=_PURPOSE).derive(master)
