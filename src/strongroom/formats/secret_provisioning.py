"""Messages of Gramine's secret provisioning, which run inside mutual TLS.

The client sends one fixed request; the server answers a fixed header, the length of the secret and the secret. Nothing
in the request names a key: one connection carries one secret, chosen by the server.

Source: Gramine, tools/sgx/ra-tls: secret_prov.h and the functions that send and receive it; the same bytes in every
release from 1.0 to 1.9. The length is big-endian (a comment there speaks of eight bytes; four are sent).
"""

from typing import Final

from strongroom.errors import FormatError

REQUEST: Final = b"SECRET_PROVISION_RA_TLS_REQUEST_V1\0"
RESPONSE: Final = b"SECRET_PROVISION_RA_TLS_RESPONSE_V1:\0"
LENGTH_SIZE: Final = 4
HEADER_SIZE: Final = len(RESPONSE) + LENGTH_SIZE
DEFAULT_PORT: Final = 4433

# What Gramine's client takes: it refuses lengths from 2**31 on; its servers refuse an empty secret, and so does
# its preloaded client.
MAX_SECRET_BYTES: Final = 0x7FFF_FFFF


def parse_request(raw: bytes) -> None:
    """Checks the client's only message.

    Args:
        raw: Exactly 35 bytes.

    Raises:
        FormatError: Anything else (``provisioning.request``).
    """
    if raw != REQUEST:
        raise FormatError("not a secret-provisioning request", code="provisioning.request")


def serialize_response(secret: bytes) -> bytes:
    """The server's answer: header, length and secret, 41 bytes and the secret's.

    Args:
        secret: 1 to 2**31 - 1 bytes.

    Raises:
        FormatError: The secret is empty or too long (``provisioning.length``).
    """
    return RESPONSE + _checked(len(secret)).to_bytes(LENGTH_SIZE, "big") + secret


def parse_response_header(raw: bytes, *, max_secret_bytes: int = MAX_SECRET_BYTES) -> int:
    """Reads the first 41 bytes of the server's answer.

    Args:
        raw: Exactly 41 bytes.
        max_secret_bytes: A longer secret is refused before any of it is read.

    Returns:
        Length of the secret that follows, in bytes, at least 1.

    Raises:
        FormatError: Another header (``provisioning.response``), or an empty or too long secret
            (``provisioning.length``).
    """
    if len(raw) != HEADER_SIZE or not raw.startswith(RESPONSE):
        raise FormatError("not a secret-provisioning response", code="provisioning.response")
    return _checked(int.from_bytes(raw[len(RESPONSE) :], "big"), max_secret_bytes)


def _checked(size: int, maximum: int = MAX_SECRET_BYTES) -> int:
    if not 0 < size <= min(maximum, MAX_SECRET_BYTES):
        raise FormatError(f"provisioned secret of {size} bytes", code="provisioning.length")
    return size
