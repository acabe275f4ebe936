"""From a file's key metadata to its data keys, and to the same metadata under other master keys."""

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.analytics.kms import Kms, misfit
from strongroom.analytics.parquet.material import KeyMaterial, decode, parse_material, serialize_material
from strongroom.errors import WrongKey

KEY_LIFETIME_S: Final = 300.0
"""How long a key encryption key is used without asking the key service again: a revocation counts after that."""
_NONCE_SIZE: Final = 12
_KEK_SIZES: Final = frozenset({16, 24, 32})


@dataclass(slots=True)
class DataKeys:
    """Unwraps data keys, asking the key service once for each key encryption key and lifetime.

    Args:
        kms: The key service.
        lifetime_s: How long an answer is used.
        clock: Monotonic seconds.
    """

    kms: Kms
    lifetime_s: float = KEY_LIFETIME_S
    clock: Callable[[], float] = time.monotonic
    _keks: dict[tuple[str, str], tuple[float, bytes]] = field(default_factory=dict, repr=False)

    def __call__(self, key_metadata: bytes) -> bytes:
        """The data key that key metadata stands for.

        Raises:
            FormatError: The metadata is not the standard key tools'.
            KeyReleaseError: There is no right to its master key.
            WrongKey: Wrapped under other keys, or altered.
            UnavailableError: The key service doesn't answer.
        """
        material = parse_material(key_metadata)
        if not material.double_wrapped:
            return self.kms.unwrap(material.master_key, decode(material.wrapped_data_key))
        wrapped = decode(material.wrapped_data_key)
        kek = self._kek(material)
        try:
            return AESGCM(kek).decrypt(wrapped[:_NONCE_SIZE], wrapped[_NONCE_SIZE:], material.kek_id)
        except (InvalidTag, ValueError):
            raise WrongKey(misfit(material.master_key)) from None

    def remember(self, master_key: str, wrapped_kek: str, kek: bytes) -> None:
        """Take a key encryption key that was just made, so that the key service need not be asked for it."""
        self._keks[master_key, wrapped_kek] = (self.clock() + self.lifetime_s, kek)

    def _kek(self, material: KeyMaterial) -> bytes:
        """The key encryption key, from memory while its lifetime lasts.

        Raises:
            WrongKey: What was wrapped is not a key.
        """
        name = (material.master_key, material.wrapped_kek)
        until, kek = self._keks.get(name, (0.0, b""))
        if not kek or self.clock() >= until:
            self._keks.pop(name, None)
            kek = self.kms.unwrap(material.master_key, decode(material.wrapped_kek))
            if len(kek) not in _KEK_SIZES:
                raise WrongKey(misfit(material.master_key))
            self.remember(*name, kek)
        return kek


class Rewrapping:
    """Moves key metadata from master keys to others; data keys stay what they are.

    Args:
        kms: Holds the old and the new master keys.
        renamed: Old master key's name to the new one's. A key may be renamed to itself, to wrap under a new version.
    """

    def __init__(self, kms: Kms, renamed: Mapping[str, str]) -> None:
        self._kms = kms
        self._renamed = renamed
        self._done: dict[tuple[str, str], str] = {}

    def __call__(self, key_metadata: bytes) -> bytes:
        """The metadata under its new master key; as it was where its key is not renamed.

        Raises:
            FormatError: The metadata is not the standard key tools'.
            KeyReleaseError: There is no right to a master key.
            WrongKey: Wrapped under other keys, or altered.
            UnavailableError: The key service doesn't answer.
        """
        material = parse_material(key_metadata)
        if material.master_key not in self._renamed:
            return key_metadata
        new = self._renamed[material.master_key]
        if material.double_wrapped:
            kek = self._move(material.master_key, new, material.wrapped_kek)
            return serialize_material(replace(material, master_key=new, wrapped_kek=kek))
        data_key = self._move(material.master_key, new, material.wrapped_data_key)
        return serialize_material(replace(material, master_key=new, wrapped_data_key=data_key))

    def _move(self, old: str, new: str, wrapped: str) -> str:
        if (old, wrapped) not in self._done:
            secret = self._kms.unwrap(old, decode(wrapped))
            self._done[old, wrapped] = base64.b64encode(self._kms.wrap(new, secret)).decode()
        return self._done[old, wrapped]
