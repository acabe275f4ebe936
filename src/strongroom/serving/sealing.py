"""Requests sealed to a server's attested key, answers sealed back: whatever is in between learns lengths and nothing.

    request = "SRQ1" || key id (8) || HPKE(server's sealing key, call)            RFC 9180, base mode
    answer  = "SRA1" || salt (32) || AES-256-GCM(key, reply)
    key     = HKDF-SHA256(secret, salt = SHA-256(request) || salt, info)

The caller draws the 32-byte secret and sends it inside the sealed request, so only who could open the request can make
its answer; the salt keeps the key single-use when a request is replayed (as in RFC 9458, section 4.4). A call and a
reply are 4 bytes length of a JSON head, the head, and the body.

HPKE suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.errors import FormatError, VerificationError

SECRET_BYTES: Final = 32
SALT_BYTES: Final = 32
KEY_ID_BYTES: Final = 8
MAX_HEAD_BYTES: Final = 16 * 1024
_REQUEST: Final = b"SRQ1"
_ANSWER: Final = b"SRA1"
_REQUEST_INFO: Final = b"strongroom sealed request v1"
_ANSWER_INFO: Final = b"strongroom sealed answer v1"
_ZERO_NONCE: Final = bytes(12)  # each key encrypts one answer only
_CODE: Final = "sealing.malformed"
_SUITE: Final = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


@dataclass(frozen=True, slots=True)
class SealedCall:
    """What is inside a sealed request.

    Args:
        method: "GET" or "POST"; "RPC" for a gRPC method.
        path: Path, or full name of the gRPC method.
        headers: Header fields that matter to the server, lower-case.
        body: The plain request.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealedReply:
    """What is inside a sealed answer.

    Args:
        status: HTTP status, or gRPC status code.
        headers: Header fields of the answer, lower-case.
        body: The plain answer; the error text when gRPC's status is not 0.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReplyKey:
    """What both sides derive the answer's key from.

    Args:
        secret: 32 random bytes of the caller.
        request_digest: SHA-256 of the sealed request.
    """

    secret: bytes = field(repr=False)
    request_digest: bytes


def key_id(public_key: bytes) -> bytes:
    """The 8 bytes by which a sealed request names the key it was sealed to.

    Args:
        public_key: X25519, 32 bytes.
    """
    return hashlib.sha256(public_key).digest()[:KEY_ID_BYTES]


def seal_call(call: SealedCall, public_key: bytes, secret: bytes) -> tuple[bytes, ReplyKey]:
    """Seal a request.

    Args:
        call: What to ask.
        public_key: The server's sealing key, verified; X25519, 32 bytes.
        secret: 32 random bytes, fresh for each call.

    Returns:
        The sealed request and what its answer is opened with.

    Raises:
        FormatError: The key or the secret has another length.
    """
    if len(public_key) != 32 or len(secret) != SECRET_BYTES:
        raise FormatError("a sealing key and a secret have 32 bytes each", code=_CODE)
    head = {"method": call.method, "path": call.path, "headers": dict(call.headers), "secret": secret.hex()}
    sealed = _SUITE.encrypt(_pack(head, call.body), X25519PublicKey.from_public_bytes(public_key), _REQUEST_INFO)
    raw = _REQUEST + key_id(public_key) + sealed
    return raw, ReplyKey(secret, hashlib.sha256(raw).digest())


def open_call(raw: bytes, keys: Mapping[bytes, X25519PrivateKey]) -> tuple[SealedCall, ReplyKey]:
    """Open a request.

    Args:
        raw: From a stranger.
        keys: Key id to sealing key; those still accepted.

    Raises:
        FormatError: Not a sealed request (``sealing.malformed``).
        VerificationError: Sealed to a key we no longer have (``sealing.unknown_key``), or it does not open
            (``sealing.tampered``).
    """
    start = len(_REQUEST) + KEY_ID_BYTES
    if len(raw) < start or not raw.startswith(_REQUEST):
        raise FormatError("not a sealed request", code=_CODE)
    key = keys.get(raw[len(_REQUEST) : start])
    if key is None:
        raise VerificationError("sealed to a key this server does not have", code="sealing.unknown_key")
    try:
        plain = _SUITE.decrypt(raw[start:], key, _REQUEST_INFO)
    except InvalidTag:
        raise VerificationError("the sealed request does not open", code="sealing.tampered") from None
    head, body = _unpack(plain, {"method", "path", "headers", "secret"})
    secret = _secret(head["secret"])
    call = SealedCall(_text(head["method"]), _text(head["path"]), _headers(head["headers"]), body)
    return call, ReplyKey(secret, hashlib.sha256(raw).digest())


def seal_reply(reply: SealedReply, key: ReplyKey, salt: bytes) -> bytes:
    """Seal an answer.

    Args:
        reply: What to answer.
        key: Of the request.
        salt: 32 random bytes, fresh for each answer.

    Raises:
        FormatError: The salt has another length.
    """
    if len(salt) != SALT_BYTES:
        raise FormatError("a salt has 32 bytes", code=_CODE)
    head = {"status": reply.status, "headers": dict(reply.headers)}
    sealed = AESGCM(_derive(key, salt)).encrypt(_ZERO_NONCE, _pack(head, reply.body), _ANSWER_INFO)
    return _ANSWER + salt + sealed


def open_reply(raw: bytes, key: ReplyKey) -> SealedReply:
    """Open an answer.

    Raises:
        FormatError: Not a sealed answer (``sealing.malformed``).
        VerificationError: Not made by the server for this very request (``sealing.tampered``).
    """
    start = len(_ANSWER) + SALT_BYTES
    if len(raw) < start or not raw.startswith(_ANSWER):
        raise FormatError("not a sealed answer", code=_CODE)
    try:
        plain = AESGCM(_derive(key, raw[len(_ANSWER) : start])).decrypt(_ZERO_NONCE, raw[start:], _ANSWER_INFO)
    except InvalidTag:
        raise VerificationError("the answer was not made for this request", code="sealing.tampered") from None
    head, body = _unpack(plain, {"status", "headers"})
    if type(head["status"]) is not int:
        raise FormatError("a sealed answer without a status", code=_CODE)
    return SealedReply(head["status"], _headers(head["headers"]), body)


def _derive(key: ReplyKey, salt: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, key.request_digest + salt, _ANSWER_INFO).derive(key.secret)


def _pack(head: Mapping[str, Any], body: bytes) -> bytes:
    raw = json.dumps(head, separators=(",", ":")).encode()
    return len(raw).to_bytes(4, "big") + raw + body


def _unpack(plain: bytes, members: set[str]) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(plain[:4], "big")
    if len(plain) < 4 or length > MAX_HEAD_BYTES or length > len(plain) - 4:
        raise FormatError("a sealed message without a head", code=_CODE)
    try:
        head = json.loads(plain[4 : 4 + length])
    except (ValueError, RecursionError):
        raise FormatError("a sealed message whose head is not JSON", code=_CODE) from None
    if not isinstance(head, dict) or head.keys() != members:
        raise FormatError("a sealed message with another head", code=_CODE)
    return head, plain[4 + length :]


def _secret(value: Any) -> bytes:
    try:
        secret = bytes.fromhex(_text(value))
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise FormatError("a sealed request without a secret", code=_CODE)
    return secret


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise FormatError("a sealed message with another head", code=_CODE)
    return value


def _headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise FormatError("a sealed message with another head", code=_CODE)
    return {name: _text(text) for name, text in value.items()}
