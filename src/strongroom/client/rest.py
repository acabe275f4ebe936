"""REST clients, sync and async: the Open Inference Protocol V2 with binary tensors, over httpx."""

import asyncio
import json
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn, Self

import httpx

from strongroom.client.questions import Prediction, Question, as_infer_request, from_infer_response, infer_path
from strongroom.client.trust import Proxy, Trust, check_way
from strongroom.client.way import Way, receipt_headers, way_from_connection, way_from_identity
from strongroom.errors import UnavailableError, VerificationError
from strongroom.ratls.address import parse_address
from strongroom.ratls.pin import attested_server, ssl_context
from strongroom.serving.http.confidential import IDENTITY, MEDIA_TYPE, SEALED
from strongroom.serving.receipts import HEADER, OTHER_KEY
from strongroom.serving.sealing import ReplyKey
from strongroom.serving.status import HTTP_STATUS, Refused, Status

_OK: Final = 200
_UNKNOWN_KEY: Final = "sealing.unknown_key"
_STATUS_OF_HTTP: Final = {http: status for status, http in reversed(HTTP_STATUS.items())}
_AWAY: Final = {502, 503, 504}


class _Steps:
    """What both clients do between their calls."""

    def __init__(
        self, address: str, trust: Trust, *, seal_requests: bool, proxy: Proxy | None, timeout_s: float
    ) -> None:
        check_way(proxy, seal_requests=seal_requests)
        self._address = parse_address(address, default_port=8501)
        self._trust = trust
        self._seal = seal_requests
        self._proxy = proxy
        self._timeout_s = timeout_s

    def _attest(self) -> Way:
        trust = self._trust
        peer = attested_server(self._address, trust.genuine, trust.policy, trust.now(), timeout_s=self._timeout_s)
        return way_from_connection(peer, trust)

    def _settings(self, way: Way | None) -> dict[str, Any]:
        """How httpx reaches the attested key, or the proxy."""
        scheme, verify = "https", ssl.create_default_context()
        if way is not None:
            verify = ssl_context(way.peer)
            if self._trust.identity is not None:
                self._trust.identity.load_into(verify)
        elif self._proxy is not None and self._proxy.dangerous_plaintext:
            scheme = "http"
        elif self._proxy is not None and self._proxy.ca is not None:
            verify = ssl.create_default_context(cadata=self._proxy.ca.decode("ascii"))
        return {
            "base_url": f"{scheme}://{self._address}",
            "verify": verify,
            "timeout": self._timeout_s,
            "trust_env": False,
            "follow_redirects": False,
        }

    def _outgoing(
        self, way: Way, question: Question, body: bytes, headers: dict[str, str]
    ) -> tuple[str, bytes, dict[str, str], ReplyKey | None]:
        path, headers = infer_path(question), headers | receipt_headers(question.receipt)
        if not self._seal:
            return path, body, headers, None
        sealed, key = way.seal("POST", path, headers, body)
        return SEALED, sealed, {"content-type": MEDIA_TYPE}, key

    def _incoming(
        self, way: Way, question: Question, body: bytes, response: httpx.Response, key: ReplyKey | None
    ) -> Prediction:
        status, headers, answer = response.status_code, dict(response.headers), response.content
        if key is not None and status == _OK:
            reply = way.unseal(answer, key)
            status, headers, answer = reply.status, dict(reply.headers), reply.body
        if status != _OK:
            _refuse(status, answer)
        receipt = way.check_receipt(headers.get(HEADER), body, answer) if question.receipt else None
        return from_infer_response(answer, headers, receipt)

    def _is_old(self, way: Way | None) -> bool:
        return way is None or self._trust.now() >= way.good_until


class RestClient(_Steps):
    """A blocking client. Use it as a context manager; threads may share it.

    Args:
        address: "host:port".
        trust: Whom to believe.
        seal_requests: Seal requests to the attested key, whatever carries them.
        proxy: Who ends TLS in front of the server; None to speak to the server itself.
        timeout_s: For each call.

    Raises:
        ConfigurationError: The address is none, or a proxy would read the requests.
    """

    def __init__(
        self,
        address: str,
        trust: Trust,
        *,
        seal_requests: bool = False,
        proxy: Proxy | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        super().__init__(address, trust, seal_requests=seal_requests, proxy=proxy, timeout_s=timeout_s)
        self._way: Way | None = None
        self._http: httpx.Client | None = None

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: int | None = None,
        signature: str = "",
        outputs: Sequence[str] = (),
        receipt: bool = False,
    ) -> Prediction:
        """Ask a model.

        Args:
            model: Its name.
            inputs: Arrays by name.
            version: Its version; None for the highest.
            signature: Its signature; empty for the default one.
            outputs: Outputs wanted; empty for all.
            receipt: Whether the answer must be signed by the attested key.

        Raises:
            Refused: The server refuses the request.
            UnavailableError: It does not answer.
            VerificationError: Its evidence, its answer or its receipt is not genuine.
            PolicyRejected: The policy does not accept it.
            FormatError: What it sends is malformed.
        """
        question = Question(model, inputs, version, signature, outputs, receipt)
        body, headers = as_infer_request(question)
        fresh = self._connect()
        try:
            return self._ask(question, body, headers)
        except (httpx.TransportError, Refused, VerificationError) as error:
            if fresh or not _worth_another_look(error):
                _raise(error)
        self.close()  # the server may have a new key: look at its evidence again, once
        self._connect()
        try:
            return self._ask(question, body, headers)
        except httpx.TransportError as error:
            _raise(error)

    def close(self) -> None:
        """End the connection."""
        if self._http is not None:
            self._http.close()
        self._http = self._way = None

    def _connect(self) -> bool:
        if not self._is_old(self._way):
            return False
        self.close()
        way = None if self._proxy is not None else self._attest()
        client = httpx.Client(**self._settings(way))
        try:
            if self._seal:
                response = client.get(IDENTITY)
                if response.status_code != _OK:
                    _refuse(response.status_code, response.content)
                way = way_from_identity(response.content, self._trust)
        except httpx.TransportError as error:
            client.close()
            _raise(error)
        except BaseException:
            client.close()
            raise
        self._http, self._way = client, way
        return True

    def _ask(self, question: Question, body: bytes, headers: dict[str, str]) -> Prediction:
        way, client = self._way, self._http
        if way is None or client is None:
            raise UnavailableError("the client is closed", code="client.closed")
        path, sent, given, key = self._outgoing(way, question, body, headers)
        return self._incoming(way, question, body, client.post(path, content=sent, headers=given), key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncRestClient(_Steps):
    """The same for asyncio; arguments and errors as for `RestClient`."""

    def __init__(
        self,
        address: str,
        trust: Trust,
        *,
        seal_requests: bool = False,
        proxy: Proxy | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        super().__init__(address, trust, seal_requests=seal_requests, proxy=proxy, timeout_s=timeout_s)
        self._way: Way | None = None
        self._http: httpx.AsyncClient | None = None
        self._lock = asyncio.Lock()

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: int | None = None,
        signature: str = "",
        outputs: Sequence[str] = (),
        receipt: bool = False,
    ) -> Prediction:
        """Ask a model; arguments and errors as for `RestClient.predict`."""
        question = Question(model, inputs, version, signature, outputs, receipt)
        body, headers = as_infer_request(question)
        fresh = await self._connect()
        try:
            return await self._ask(question, body, headers)
        except (httpx.TransportError, Refused, VerificationError) as error:
            if fresh or not _worth_another_look(error):
                _raise(error)
        await self.close()
        await self._connect()
        try:
            return await self._ask(question, body, headers)
        except httpx.TransportError as error:
            _raise(error)

    async def close(self) -> None:
        """End the connection."""
        client, self._http, self._way = self._http, None, None
        if client is not None:
            await client.aclose()

    async def _connect(self) -> bool:
        async with self._lock:
            if not self._is_old(self._way):
                return False
            await self.close()
            way = None if self._proxy is not None else await asyncio.to_thread(self._attest)
            client = httpx.AsyncClient(**self._settings(way))
            try:
                if self._seal:
                    response = await client.get(IDENTITY)
                    if response.status_code != _OK:
                        _refuse(response.status_code, response.content)
                    way = await asyncio.to_thread(way_from_identity, response.content, self._trust)
            except httpx.TransportError as error:
                await client.aclose()
                _raise(error)
            except BaseException:
                await client.aclose()
                raise
            self._http, self._way = client, way
            return True

    async def _ask(self, question: Question, body: bytes, headers: dict[str, str]) -> Prediction:
        way, client = self._way, self._http
        if way is None or client is None:
            raise UnavailableError("the client is closed", code="client.closed")
        path, sent, given, key = self._outgoing(way, question, body, headers)
        response = await client.post(path, content=sent, headers=given)
        return self._incoming(way, question, body, response, key)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _refuse(status: int, body: bytes) -> NoReturn:
    try:
        message = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = f"HTTP status {status}"
    if status in _AWAY:
        raise UnavailableError(message, code="client.unavailable")
    raise Refused(_STATUS_OF_HTTP.get(status, Status.UNKNOWN), message)


def _worth_another_look(error: Exception) -> bool:
    """A broken connection, an unknown sealing key, or a receipt of another key: the server may have a new one."""
    if isinstance(error, VerificationError):
        return error.code == OTHER_KEY
    return isinstance(error, httpx.TransportError) or _UNKNOWN_KEY in str(error)


def _raise(error: Exception) -> NoReturn:
    if isinstance(error, httpx.TransportError):
        raise UnavailableError(
            f"the server does not answer: {type(error).__name__}", code="client.unavailable"
        ) from None
    raise error
