"""The room's side of the key broker protocol: prove who you are, then fetch keys.

Source: confidential-containers/trustee, kbs_attestation_protocol.md (protocol version 0.4.0): request, challenge,
attestation, response. Every secret comes encrypted to a key that was made here and stands in the quote, so a broken or
relayed TLS connection gives nothing away.
"""

import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from strongroom.errors import (
    ConfigurationError,
    Finding,
    FormatError,
    KeyReleaseError,
    PolicyRejected,
    StrongroomError,
    UnavailableError,
)
from strongroom.formats import kbs
from strongroom.formats.canonical import parse_json_object
from strongroom.formats.tpm_quote import PCR_COUNT
from strongroom.keys.envelope import SessionKey
from strongroom.platforms import Platform

MAX_ANSWER_BYTES: Final = 1024 * 1024
MAX_FINDINGS: Final = 32
TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is and which CA vouches for its TLS name.

    Args:
        url: ``https://host:port``, nothing behind it.
        ca_file: PEM file; the only root trusted for this connection.
    """

    url: str
    ca_file: Path

    def __post_init__(self) -> None:
        """Refuse what is not a bare https address.

        Raises:
            ConfigurationError: Another scheme, credentials, a path or a query in the URL.
        """
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL:
            url = httpx.URL("")
        if url.scheme != "https" or not url.host or url.userinfo or url.path not in {"", "/"} or url.query:
            raise ConfigurationError(
                "the broker's address is not https://host:port", code="broker.url", hint="use TLS; a path is not needed"
            )


class BrokerClient:
    """Speaks to one broker. Use it as a context manager.

    Args:
        address: The broker and its CA.

    Raises:
        ConfigurationError: The CA file can't be read or holds no certificate.
    """

    def __init__(self, address: BrokerAddress) -> None:
        try:
            context = ssl.create_default_context(cafile=str(address.ca_file))
        except (OSError, ssl.SSLError):
            raise ConfigurationError(
                f"can't read the broker's CA certificate: {address.ca_file}", code="broker.ca"
            ) from None
        # No proxies, netrc or CA bundle from the environment: the untrusted host controls it.
        self._http = httpx.Client(
            base_url=address.url, verify=context, trust_env=False, timeout=TIMEOUT_S, follow_redirects=False
        )

    def attest(self, platform: Platform, *, workload: str) -> "BrokerSession":
        """Prove to the broker what runs here.

        Args:
            platform: Makes the quote.
            workload: Name of the workload; only helps the broker to explain a refusal.

        Returns:
            A session that can fetch keys.

        Raises:
            PolicyRejected: The evidence is genuine but no grant accepts it; one finding a reason.
            KeyReleaseError: The broker refused and did not say more.
            UnavailableError: The broker does not answer.
            FormatError: The broker's answer does not follow the protocol.
        """
        request = {"version": kbs.PROTOCOL_VERSION, "tee": platform.tee, "extra-params": {"workload": workload}}
        nonce = _nonce(self._call("POST", "/auth", json_body=request))
        key = SessionKey.generate()
        quote = platform.quote(kbs.binding(nonce, key.public))
        answer = self._call("POST", "/attest", json_body=kbs.Attestation(nonce, key.public, quote).to_json())
        token = answer.get("token")
        if not isinstance(token, str) or not token.isascii():
            raise FormatError("the broker's answer holds no token", code="broker.answer")
        return BrokerSession(self, key, token)

    def _call(self, method: str, path: str, *, json_body: object = None, token: str | None = None) -> dict[str, object]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            with self._http.stream(method, kbs.PATH_PREFIX + path, json=json_body, headers=headers) as response:
                raw = _read_bounded(response)
        except httpx.TransportError as error:
            raise UnavailableError(
                f"the broker at {self._http.base_url} does not answer: {type(error).__name__}",
                code="broker.unreachable",
                hint="is it running, and is its certificate from the CA given here?",
            ) from None
        if response.status_code != httpx.codes.OK:
            raise refusal(response.status_code, raw)
        return parse_json_object(raw, max_bytes=MAX_ANSWER_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()


@dataclass(frozen=True, slots=True)
class BrokerSession:
    """An attested session: a token and the private key that opens what the broker sends."""

    _client: BrokerClient
    _key: SessionKey
    _token: str

    def fetch(self, path: kbs.ResourcePath) -> bytes:
        """Fetch one key.

        Args:
            path: Name of the key.

        Returns:
            The key.

        Raises:
            PolicyRejected: No grant that accepts this workload names the key.
            KeyReleaseError: The broker refused and did not say more.
            UnavailableError: The broker does not answer.
            FormatError: The answer is not an envelope.
            VerificationError: The envelope was not made for this session.
        """
        return self._key.decrypt(self._client._call("GET", f"/resource/{path}", token=self._token))  # noqa: SLF001

    def __repr__(self) -> str:
        return "BrokerSession(...)"


def refusal(status: int, raw: bytes) -> StrongroomError:
    """Turn the broker's problem document (RFC 9457) into an exception. The document is not trusted to be one.

    Args:
        status: HTTP status, not 200.
        raw: Body as received.

    Returns:
        PolicyRejected with the finding codes, UnavailableError for 429 and 5xx, else KeyReleaseError.
    """
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return UnavailableError(f"the broker can't serve us now (HTTP {status})", code="broker.busy")
    try:
        problem = json.loads(raw)
        kind = str(problem["type"]).removeprefix(kbs.ERROR_TYPE_PREFIX)[:64]
        codes = [str(code)[:64] for code in problem.get("findings", [])][:MAX_FINDINGS]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return KeyReleaseError(f"the broker refused (HTTP {status})")
    if codes:
        return PolicyRejected(
            [Finding(code, EXPLANATIONS.get(code, "not accepted by any grant")) for code in codes],
            hint="if this is the code you mean to run, the owner authorizes it: strongroom authorize WORKLOAD.toml",
        )
    return KeyReleaseError(f"the broker refused: {kind} (HTTP {status})", hint="the broker's log has the reason")


# What a finding means to the person who started the workload. The broker sends codes only.
EXPLANATIONS: Final = {
    "measurement.mr_enclave": "the code measured here is not the code that was authorized",
    "measurement.mr_signer": "the signer of this code is not the one that was authorized",
    "measurement.isv_prod_id": "the product id is not the one that was authorized",
    "measurement.isv_svn": "the security version is below the minimum that was authorized",
    "measurement.mr_td": "the machine measured here is not the one that was authorized",
    "measurement.launch": "the machine measured here is not the one that was authorized",
    "measurement.tee": "what was authorized is of another kind of TEE",
    **{f"measurement.pcr_{index}": "this node did not start what was authorized" for index in range(PCR_COUNT)},
    "snp.product": "these processors were not authorized",
    "snp.reported_tcb": "the platform's firmware is older than what was authorized",
    "snp.launch_tcb": "the machine was started by firmware older than what was authorized: start it again",
    "snp.vmpl": "the evidence is of another privilege level than was authorized",
    "snp.smt": "cores shared with others were not authorized",
    "snp.migration_agent": "a machine that may be migrated is never accepted",
    "tee.type": "this kind of TEE was not authorized",
    "tcb.status": "the platform's TCB status is not accepted",
    "tcb.advisory": "the platform is affected by a security advisory that is not accepted (or no longer)",
    "debug.enabled": "a debug enclave can be read by its host",
    "simulated.refused": "a simulated platform was not authorized",
    "grant.none": "no grant names this workload or key",
    "grant.expired": "the grant has ended",
}


def _nonce(challenge: dict[str, object]) -> str:
    nonce = challenge.get("nonce")
    if not isinstance(nonce, str) or len(kbs.b64_decode(nonce)) != kbs.NONCE_SIZE:
        raise FormatError("the broker's challenge holds no nonce of 32 bytes", code="broker.answer")
    return nonce


def _read_bounded(response: httpx.Response) -> bytes:
    raw = bytearray()
    for chunk in response.iter_bytes():
        raw += chunk
        if len(raw) > MAX_ANSWER_BYTES:
            raise FormatError("the broker's answer is too long", code="broker.answer")
    return bytes(raw)
