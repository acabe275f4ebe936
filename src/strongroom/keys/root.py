"""Holders of the root key, the one key under which everything a broker stores is wrapped."""

import os
import stat
from pathlib import Path
from typing import Protocol

from strongroom.errors import ConfigurationError, WouldOverwrite
from strongroom.keys.wrap import NONCE_SIZE, WRAPPING_KEY_SIZE, unwrap, wrap

_PRIVATE_MODE = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class RootKey(Protocol):
    """Wraps and unwraps secrets; the key itself need not be in this process."""

    def wrap(self, secret: bytes, aad: bytes) -> bytes:
        """Encrypt a secret, bound to `aad`."""
        ...

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        """Decrypt what `wrap` returned for the same `aad`."""
        ...


class FileRootKey:
    """A root key in a file of exactly 32 raw bytes that only its owner can read."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) != WRAPPING_KEY_SIZE:
            raise ConfigurationError("a root key has exactly 32 bytes", code="root_key.length")
        self._key = key

    @classmethod
    def create(cls, path: Path) -> "FileRootKey":
        """Make a new root key and its file, mode 0600.

        Raises:
            WouldOverwrite: The file is there already: replacing a root key loses every stored secret.
        """
        key = os.urandom(WRAPPING_KEY_SIZE)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, _PRIVATE_MODE)
        except FileExistsError:
            raise WouldOverwrite(f"a root key is there already: {path}") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(descriptor)
        return cls(key)

    @classmethod
    def load(cls, path: Path) -> "FileRootKey":
        """Read a root key file.

        Raises:
            ConfigurationError: Absent, a link, readable by others, or not 32 bytes.
        """
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:  # noqa: PTH123 -- of a descriptor
                mode = os.fstat(file.fileno()).st_mode
                key = file.read(WRAPPING_KEY_SIZE + 1)
        except OSError as error:
            raise ConfigurationError(
                f"cannot read the root key {path}: {error.strerror}", code="root_key.unreadable"
            ) from None
        if mode & _OTHERS:
            raise ConfigurationError(
                f"others may read the root key {path}", code="root_key.mode", hint=f"chmod 600 {path}"
            )
        return cls(key)

    def wrap(self, secret: bytes, aad: bytes) -> bytes:
        """Encrypt a secret, bound to `aad`, under a fresh random nonce."""
        return wrap(self._key, secret, aad, os.urandom(NONCE_SIZE))

    def unwrap(self, wrapped: bytes, aad: bytes) -> bytes:
        """Decrypt what `wrap` returned for the same `aad`.

        Raises:
            FormatError: Not a wrapped secret.
            VerificationError: Another root key, another `aad`, or altered.
        """
        return unwrap(self._key, wrapped, aad)

    def __repr__(self) -> str:
        return "FileRootKey(...)"
