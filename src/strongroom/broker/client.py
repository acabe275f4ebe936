"""The owner's client: signed calls to `/v1` over TLS, with the broker's own authority as the only one trusted."""

import base64
import binascii
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Self
from urllib.parse import urlsplit

import httpx

from strongroom.broker.grants import GRANT_NAME, Grant
from strongroom.broker.owner import OwnerKey, SignedRequest
from strongroom.broker.records import MAX_PAGE, Record
from strongroom.errors import (
    ConfigurationError,
    FormatError,
    KeyReleaseError,
    StrongroomError,
    UnavailableError,
    WouldOverwrite,
)
from strongroom.formats.canonical import parse_json_object
from strongroom.formats.kbs import ResourcePath
from strongroom.formats.toml import parse_toml
from strongroom.keys.envelope import SessionKey

MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
TIMEOUT_S: Final = 30.0
_NOT_UNDERSTOOD: Final = "the broker's answer is not understood"
_OWNER_HINT: Final = "`strongroom broker init DIR` writes DIR/owner; name it with --owner or STRONGROOM_OWNER"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One version of a key at the broker, without its value."""

    path: str
    version: int
    created: str
    size_bytes: int


class OwnerClient:
    """Speaks to one broker as its owner. Use it as a context manager.

    Args:
        folder: The owner's folder: ``owner.toml``, ``admin.key``, ``ca.pem``.
        url: Another address of the same broker; None: the one in ``owner.toml``.
        now_s: Unix clock.

    Raises:
        ConfigurationError: A file is absent or malformed.
    """

    def __init__(self, folder: Path, *, url: str | None = None, now_s: Callable[[], float] = time.time) -> None:
        settings = _settings(folder / "owner.toml")
        self._url = url or settings["url"]
        if urlsplit(self._url).scheme != "https":
            raise ConfigurationError("the broker's address does not start with https://", code="owner.url")
        self._broker_id = settings["broker_id"]
        self._key = OwnerKey.load(folder / "admin.key")
        self._now_s = now_s
        try:
            context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        except (OSError, ssl.SSLError):
            raise ConfigurationError(f"cannot read {folder / 'ca.pem'}", code="owner.ca", hint=_OWNER_HINT) from None
        # Nothing from the environment: no proxy, no other authority, no netrc.
        self._http = httpx.Client(base_url=self._url, verify=context, trust_env=False, timeout=TIMEOUT_S)

    def create_key(self, path: ResourcePath, *, bits: int = 128) -> int:
        """Let the broker make a key.

        Args:
            path: Its name.
            bits: 128 or 256.

        Returns:
            Its version, 1.

        Raises:
            StrongroomError: See `call`.
        """
        return _number(self.call("POST", "/v1/keys", {"path": str(path), "bits": bits}), "version")

    def store_key(self, path: ResourcePath, value: bytes) -> int:
        """Give the broker a key.

        Args:
            path: Its name.
            value: The key.

        Returns:
            Its version, 1.

        Raises:
            StrongroomError: See `call`.
        """
        value_text = base64.b64encode(value).decode()
        return _number(self.call("POST", "/v1/keys", {"path": str(path), "value": value_text}), "version")

    def list_keys(self) -> list[StoredKey]:
        """All keys, without values.

        Raises:
            FormatError: The answer is not understood.
            StrongroomError: See `call`.
        """
        answer = self.call("GET", "/v1/keys")
        try:
            return [StoredKey(**key) for key in answer["keys"]]
        except (KeyError, TypeError):
            raise FormatError(_NOT_UNDERSTOOD, code="broker.answer") from None

    def export_key(self, path: ResourcePath, *, version: int | None = None) -> bytes:
        """Fetch a key; the broker logs it.

        Args:
            path: Its name.
            version: Which; None: the newest.

        Returns:
            The key, decrypted here.

        Raises:
            StrongroomError: See `call`.
        """
        session = SessionKey.generate()
        body = {"path": str(path), "version": version, "recipient": session.public.members}
        return session.decrypt(self.call("POST", "/v1/keys/export", body).get("envelope"))

    def delete_key(self, path: ResourcePath) -> None:
        """Delete a key for good.

        Raises:
            StrongroomError: See `call`.
        """
        self.call("DELETE", f"/v1/keys/{path}")

    def add_grant(self, grant: Grant, *, replace: bool = False) -> str:
        """Store a grant.

        Args:
            grant: What is granted.
            replace: Take the place of a grant of the same name.

        Returns:
            Digest of its policy, hexadecimal.

        Raises:
            StrongroomError: See `call`.
        """
        answer = self.call("POST", "/v1/grants", {"grant": grant.to_json(), "replace": replace})
        return str(answer.get("policy_digest", ""))

    def list_grants(self) -> list[Grant]:
        """All grants.

        Raises:
            FormatError: The answer is not understood.
            StrongroomError: See `call`.
        """
        found = self.call("GET", "/v1/grants").get("grants")
        if not isinstance(found, list):
            raise FormatError(_NOT_UNDERSTOOD, code="broker.answer")
        return [Grant.from_json(grant) for grant in found]

    def revoke(self, name: str) -> None:
        """Take a grant back; it counts at once, also for tokens that are out.

        Raises:
            ConfigurationError: There is none of that name.
            StrongroomError: See `call`.
        """
        if not GRANT_NAME.fullmatch(name):
            raise ConfigurationError("not the name of a grant", code="grant.unknown")
        self.call("DELETE", f"/v1/grants/{name}")

    def read(self, after: int = 0) -> list[Record]:
        """One page of the audit log; `verified` checks it.

        Args:
            after: Sequence number before the first record wanted.

        Returns:
            At most 1000 records, in order, not checked.

        Raises:
            FormatError: The answer is not understood.
            StrongroomError: See `call`.
        """
        found = self.call("GET", f"/v1/log?after={after}&limit={MAX_PAGE}").get("records")
        try:
            return [
                Record(int(r["seq"]), base64.b64decode(r["record"], validate=True), bytes.fromhex(r["leaf_hash"]))
                for r in found or []
            ]
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise FormatError(_NOT_UNDERSTOOD, code="broker.answer") from None

    def call(self, method: str, target: str, body: object = None) -> dict[str, Any]:
        """One signed call.

        Args:
            method: HTTP method.
            target: Path and query.
            body: JSON, or None for no body.

        Returns:
            The answer, a JSON object.

        Raises:
            UnavailableError: The broker does not answer, or not now.
            WouldOverwrite: The name is taken.
            ConfigurationError: The broker knows no such name, or does not understand the request.
            KeyReleaseError: The broker does not take us for its owner.
            FormatError: The answer is not understood.
        """
        content = b"" if body is None else json.dumps(body).encode()
        request = SignedRequest(method, target, content)
        token = self._key.sign(request, broker_id=self._broker_id, now_s=int(self._now_s()))
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            with self._http.stream(method, target, content=content, headers=headers) as response:
                raw = _read_bounded(response)
        except httpx.TransportError as error:
            raise UnavailableError(
                f"the broker at {self._url} does not answer: {type(error).__name__}",
                code="broker.unreachable",
                hint="is it running (strongroom broker serve DIR), and is this its owner folder?",
            ) from None
        if not response.is_success:
            _raise(response.status_code, raw)
        return parse_json_object(raw, max_bytes=MAX_ANSWER_BYTES)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _settings(path: Path) -> dict[str, str]:
    try:
        raw = path.read_bytes()
    except OSError:
        raise ConfigurationError(f"cannot read {path}", code="owner.settings", hint=_OWNER_HINT) from None
    values = parse_toml(raw, what=str(path), code="owner.settings", hint=_OWNER_HINT)
    if values.keys() != {"url", "broker_id"} or not all(isinstance(value, str) for value in values.values()):
        raise ConfigurationError(f"{path} must hold url and broker_id, nothing else", code="owner.settings")
    return values


def _read_bounded(response: httpx.Response) -> bytes:
    raw = bytearray()
    for chunk in response.iter_bytes():
        raw += chunk
        if len(raw) > MAX_ANSWER_BYTES:
            raise FormatError("the broker's answer is too long", code="broker.answer")
    return bytes(raw)


def _raise(status: int, raw: bytes) -> NoReturn:
    """Raise what the broker's problem document says.

    Raises:
        StrongroomError: Always; which one, says `OwnerClient.call`.
    """
    try:
        problem = parse_json_object(raw, max_bytes=MAX_ANSWER_BYTES)
    except FormatError:
        problem = {}
    message = str(problem.get("detail") or f"the broker answered HTTP {status}")[:500]
    code = str(problem.get("code") or f"broker.http_{status}")[:64]
    hint = problem.get("hint")
    kinds: dict[int, type[StrongroomError]] = {401: KeyReleaseError, 403: KeyReleaseError, 409: WouldOverwrite}
    fallback = UnavailableError if status == 429 or status >= 500 else ConfigurationError
    if status == 401:
        hint = "is this the owner folder of this broker, and is the clock right?"
    raise kinds.get(status, fallback)(message, code=code, hint=hint if isinstance(hint, str) else None)


def _number(answer: dict[str, Any], name: str) -> int:
    value = answer.get(name)
    if type(value) is not int:
        raise FormatError(_NOT_UNDERSTOOD, code="broker.answer")
    return value
