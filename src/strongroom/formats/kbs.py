"""Messages of the key broker protocol (KBS) of Confidential Containers.

Source: confidential-containers/trustee, kbs/docs/kbs_attestation_protocol.md and kbs/src (protocol version 0.4.0; the
version in the prose examples is older than the one the code requires).
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from strongroom.errors import FormatError
from strongroom.formats.canonical import JsonValue, canonical_json

PROTOCOL_VERSION: Final = "0.4.0"
NONCE_SIZE: Final = 32
REPORT_DATA_SIZE: Final = 64
PATH_PREFIX: Final = "/kbs/v0"
ERROR_TYPE_PREFIX: Final = "https://github.com/confidential-containers/kbs/errors/"
SESSION_COOKIE: Final = "kbs-session-id"

_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,128}")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_EC_COORDINATE_SIZE: Final = {"P-256": 32, "P-384": 48, "P-521": 66}
_RSA_MODULUS_SIZES: Final = range(256, 513)


@dataclass(frozen=True, slots=True)
class ResourcePath:
    """Name of a key: exactly three segments of 1 to 128 characters out of ``A-Z a-z 0-9 . _ -``."""

    repository: str
    type: str
    tag: str

    def __post_init__(self) -> None:
        """Refuse what is not a plain segment.

        Raises:
            FormatError: A segment is empty, too long, has another character, or is "." or "..".
        """
        for segment in (self.repository, self.type, self.tag):
            if not _SEGMENT.fullmatch(segment) or segment in {".", ".."}:
                raise FormatError(
                    f"not a key name: {self.repository}/{self.type}/{self.tag}",
                    code="resource.path",
                    hint="three parts of letters, digits, '.', '_' or '-', e.g. loan/key/book",
                )

    @classmethod
    def parse(cls, text: str) -> "ResourcePath":
        """Parse ``repository/type/tag``.

        Raises:
            FormatError: Not three plain segments.
        """
        parts = text.split("/")
        if len(parts) != 3:
            raise FormatError(
                f"not a key name: {text[:400]}", code="resource.path", hint="three parts, e.g. loan/key/book"
            )
        return cls(*parts)

    def __str__(self) -> str:
        return f"{self.repository}/{self.type}/{self.tag}"


@dataclass(frozen=True, slots=True)
class TeePublicKey:
    """The key a TEE makes for one session; secrets are encrypted to it.

    Args:
        members: The JWK exactly as received (RFC 7517); it is hashed whole, so unknown members stay in.
    """

    members: dict[str, str]

    @classmethod
    def parse(cls, value: object) -> "TeePublicKey":
        """Check a JWK: EC P-256, P-384 or P-521 with ``ECDH-ES+A256KW``, or RSA 2048 to 4096 with ``RSA-OAEP-256``.

        Raises:
            FormatError: Another kind of key, a private member, or a member of the wrong form or length.
        """
        if not isinstance(value, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
            raise FormatError("tee-pubkey: not an object of strings", code="kbs.tee_pubkey")
        members: dict[str, str] = value
        if members.keys() & {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}:
            raise FormatError("tee-pubkey: it holds private members", code="kbs.tee_pubkey")
        if members.get("kty") == "EC" and members.get("alg") == "ECDH-ES+A256KW":
            size = _EC_COORDINATE_SIZE.get(members.get("crv", ""))
            if size is None or _size(members, "x") != size or _size(members, "y") != size:
                raise FormatError("tee-pubkey: curve or coordinates", code="kbs.tee_pubkey")
        elif members.get("kty") == "RSA" and members.get("alg") == "RSA-OAEP-256":
            if _size(members, "n") not in _RSA_MODULUS_SIZES or members.get("e") != "AQAB":
                raise FormatError("tee-pubkey: modulus or exponent", code="kbs.tee_pubkey")
        else:
            raise FormatError("tee-pubkey: key type or algorithm", code="kbs.tee_pubkey")
        return cls(dict(members))


def _size(members: dict[str, str], name: str) -> int:
    return len(b64url_decode(members.get(name, "")))


@dataclass(frozen=True, slots=True)
class Attestation:
    """Body of ``POST /attest``.

    Args:
        nonce: Base64 text of 32 bytes, as the challenge gave it.
        tee_pubkey: The session key.
        quote: The evidence, decoded.
    """

    nonce: str
    tee_pubkey: TeePublicKey
    quote: bytes

    def to_json(self) -> dict[str, JsonValue]:
        """The message as the protocol spells it, SGX and TDX evidence form."""
        return {
            "runtime-data": {"nonce": self.nonce, "tee-pubkey": self.tee_pubkey.members},
            "tee-evidence": {
                "primary_evidence": {"quote": base64.b64encode(self.quote).decode()},
                "additional_evidence": "",
            },
        }

    @classmethod
    def parse(cls, value: dict[str, object]) -> "Attestation":
        """Parse the body strictly.

        Raises:
            FormatError: A member is missing, unknown or of the wrong type; init-data is sent (not supported).
        """
        members = _members(value, required={"runtime-data", "tee-evidence"}, optional={"init-data"})
        if members.get("init-data") is not None:
            raise FormatError("init-data is not supported", code="kbs.init_data")
        runtime = _members(members["runtime-data"], required={"nonce", "tee-pubkey"})
        evidence = _members(members["tee-evidence"], required={"primary_evidence"}, optional={"additional_evidence"})
        if evidence.get("additional_evidence") not in (None, "", "{}"):  # no set: it may be a list
            raise FormatError("additional evidence is not supported", code="kbs.additional_evidence")
        primary = _members(
            evidence["primary_evidence"], required={"quote"}, optional={"cc_eventlog", "aa_eventlog", "cc_ccel"}
        )
        return cls(
            nonce=_string(runtime["nonce"], "nonce"),
            tee_pubkey=TeePublicKey.parse(runtime["tee-pubkey"]),
            quote=b64_decode(_string(primary["quote"], "quote")),
        )


def binding(nonce: str, tee_pubkey: TeePublicKey) -> bytes:
    """Report data that binds a quote to the nonce and to the session key.

    Args:
        nonce: Base64 text of the challenge.
        tee_pubkey: The session key.

    Returns:
        64 bytes: SHA-384 over canonical JSON of ``{"additional-evidence", "nonce", "tee-pubkey"}``, then 16 zeros.
    """
    runtime: dict[str, JsonValue] = {"additional-evidence": "", "nonce": nonce, "tee-pubkey": tee_pubkey.members}
    return hashlib.sha384(canonical_json(runtime)).digest().ljust(REPORT_DATA_SIZE, b"\0")


def b64_decode(text: str) -> bytes:
    """Decode standard base64 (RFC 4648 section 4) strictly.

    Raises:
        FormatError: Another alphabet, missing padding or white space.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise FormatError("not base64", code="kbs.base64") from None


def b64url_decode(text: str) -> bytes:
    """Decode base64url without padding (RFC 7515 section 2) strictly.

    Raises:
        FormatError: Another alphabet, padding, an impossible length, or bits set beyond the last byte.
    """
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise FormatError("not base64url", code="kbs.base64")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64url_encode(raw) != text:
        raise FormatError("not base64url", code="kbs.base64")
    return raw


def b64url_encode(raw: bytes) -> str:
    """Encode base64url without padding (RFC 7515 section 2)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _members(
    value: object, *, required: set[str], optional: frozenset[str] | set[str] = frozenset()
) -> dict[str, object]:
    if not isinstance(value, dict) or not required <= value.keys() <= required | optional:
        raise FormatError(f"expected an object with {', '.join(sorted(required))}", code="kbs.message")
    return value


def _string(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise FormatError(f"{name} is not a string", code="kbs.message")
    return value
