"""gRPC clients, sync and async."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn, Self

import grpc
import grpc.aio

from strongroom.client.questions import PREDICT, Prediction, Question, as_predict_request, from_predict_response
from strongroom.client.trust import Proxy, Trust, check_way
from strongroom.client.way import Way, receipt_headers, way_from_connection, way_from_identity
from strongroom.errors import UnavailableError, VerificationError
from strongroom.ratls.address import parse_address
from strongroom.ratls.pin import attested_server, grpc_options, pem
from strongroom.serving.receipts import HEADER, OTHER_KEY
from strongroom.serving.rpc.confidential import RPC, SERVICE
from strongroom.serving.sealing import ReplyKey
from strongroom.serving.status import Refused, Status

IDENTITY: Final = f"/{SERVICE}/Identity"
SEALED: Final = f"/{SERVICE}/Call"
MAX_MESSAGE_BYTES: Final = 256 * 1024 * 1024
_LIMITS: Final = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
]
_UNKNOWN_KEY: Final = "sealing.unknown_key"
Metadata = Sequence[tuple[str, str]]


class _Steps:
    """What both clients do between their calls."""

    def __init__(
        self, address: str, trust: Trust, *, seal_requests: bool, proxy: Proxy | None, timeout_s: float
    ) -> None:
        check_way(proxy, seal_requests=seal_requests)
        self._address = parse_address(address, default_port=8500)
        self._trust = trust
        self._seal = seal_requests
        self._proxy = proxy
        self._timeout_s = timeout_s

    def _attest(self) -> Way:
        """Look at the evidence the server shows in its handshake."""
        trust = self._trust
        peer = attested_server(self._address, trust.genuine, trust.policy, trust.now(), timeout_s=self._timeout_s)
        return way_from_connection(peer, trust)

    def _channel(self, way: Way | None, module: Any) -> Any:
        """A channel to the attested key, or to the proxy."""
        target = str(self._address)
        if way is None:
            proxy = self._proxy or Proxy()
            if proxy.dangerous_plaintext:
                return module.insecure_channel(target, options=_LIMITS)
            return module.secure_channel(target, grpc.ssl_channel_credentials(proxy.ca), options=_LIMITS)
        own = self._trust.identity
        credentials = grpc.ssl_channel_credentials(
            pem(way.peer).encode("ascii"), own.key if own else None, own.chain if own else None
        )
        return module.secure_channel(target, credentials, options=[*_LIMITS, *grpc_options(way.peer)])

    def _outgoing(self, way: Way, raw: bytes, receipt: bool) -> tuple[str, bytes, Metadata, ReplyKey | None]:
        """Method, body and metadata of what is really sent."""
        headers = receipt_headers(receipt)
        if not self._seal:
            return PREDICT, raw, tuple(headers.items()), None
        sealed, key = way.seal(RPC, PREDICT, headers, raw)
        return SEALED, sealed, (), key

    def _incoming(
        self, way: Way, question: Question, raw: bytes, answer: bytes, trailing: Mapping[str, str], key: ReplyKey | None
    ) -> Prediction:
        token = trailing.get(HEADER)
        if key is not None:
            reply = way.unseal(answer, key)
            if reply.status:
                raise Refused(_status(reply.status), reply.body.decode("utf-8", "replace"))
            answer, token = reply.body, reply.headers.get(HEADER)
        receipt = way.check_receipt(token, raw, answer) if question.receipt else None
        return from_predict_response(answer, receipt)

    def _is_old(self, way: Way | None) -> bool:
        return way is None or self._trust.now() >= way.good_until


class GrpcClient(_Steps):
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
        self._open: grpc.Channel | None = None

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
        raw = as_predict_request(question)
        fresh = self._connect()
        try:
            return self._ask(question, raw)
        except (grpc.RpcError, VerificationError) as error:
            if fresh or not _worth_another_look(error):
                _raise(error)
        self.close()  # the server may have a new key: look at its evidence again, once
        self._connect()
        try:
            return self._ask(question, raw)
        except grpc.RpcError as error:
            _raise(error)

    def close(self) -> None:
        """End the connection."""
        if self._open is not None:
            self._open.close()
        self._open = self._way = None

    def _connect(self) -> bool:
        if not self._is_old(self._way):
            return False
        self.close()
        way = None if self._proxy is not None else self._attest()
        channel = self._channel(way, grpc)
        try:
            if self._seal:
                document = _unary(channel, IDENTITY)(b"", timeout=self._timeout_s)
                way = way_from_identity(document, self._trust)
        except grpc.RpcError as error:
            channel.close()
            _raise(error)
        except BaseException:
            channel.close()
            raise
        self._open, self._way = channel, way
        return True

    def _ask(self, question: Question, raw: bytes) -> Prediction:
        way, channel = self._way, self._open
        if way is None or channel is None:
            raise UnavailableError("the client is closed", code="client.closed")
        method, body, metadata, key = self._outgoing(way, raw, question.receipt)
        answer, call = _unary(channel, method).with_call(body, timeout=self._timeout_s, metadata=metadata)
        return self._incoming(way, question, raw, answer, dict(call.trailing_metadata() or ()), key)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncGrpcClient(_Steps):
    """The same for asyncio; arguments and errors as for `GrpcClient`."""

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
        self._open: grpc.aio.Channel | None = None
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
        """Ask a model; arguments and errors as for `GrpcClient.predict`."""
        question = Question(model, inputs, version, signature, outputs, receipt)
        raw = as_predict_request(question)
        fresh = await self._connect()
        try:
            return await self._ask(question, raw)
        except (grpc.RpcError, VerificationError) as error:
            if fresh or not _worth_another_look(error):
                _raise(error)
        await self.close()
        await self._connect()
        try:
            return await self._ask(question, raw)
        except grpc.RpcError as error:
            _raise(error)

    async def close(self) -> None:
        """End the connection."""
        channel, self._open, self._way = self._open, None, None
        if channel is not None:
            await channel.close()

    async def _connect(self) -> bool:
        async with self._lock:
            if not self._is_old(self._way):
                return False
            await self.close()
            way = None if self._proxy is not None else await asyncio.to_thread(self._attest)
            channel = self._channel(way, grpc.aio)
            try:
                if self._seal:
                    document = await _unary(channel, IDENTITY)(b"", timeout=self._timeout_s)
                    way = await asyncio.to_thread(way_from_identity, document, self._trust)
            except grpc.RpcError as error:
                await channel.close()
                _raise(error)
            except BaseException:
                await channel.close()
                raise
            self._open, self._way = channel, way
            return True

    async def _ask(self, question: Question, raw: bytes) -> Prediction:
        way, channel = self._way, self._open
        if way is None or channel is None:
            raise UnavailableError("the client is closed", code="client.closed")
        method, body, metadata, key = self._outgoing(way, raw, question.receipt)
        call = _unary(channel, method)(body, timeout=self._timeout_s, metadata=metadata)
        answer = await call
        return self._incoming(way, question, raw, answer, dict(await call.trailing_metadata()), key)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _unary(channel: Any, method: str) -> Any:
    return channel.unary_unary(method, request_serializer=None, response_deserializer=None)


def _worth_another_look(error: Any) -> bool:
    """A broken handshake, an unknown sealing key, or a receipt of another key: the server may have a new one."""
    if isinstance(error, VerificationError):
        return error.code == OTHER_KEY
    code = error.code()
    return code is grpc.StatusCode.UNAVAILABLE or (
        code is grpc.StatusCode.FAILED_PRECONDITION and _UNKNOWN_KEY in (error.details() or "")
    )


def _raise(error: Any) -> NoReturn:
    if isinstance(error, VerificationError):
        raise error
    code = error.code()
    if code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
        raise UnavailableError(f"the server does not answer: {error.details()}", code="client.unavailable") from None
    raise Refused(_status(code.value[0]), str(error.details())) from None


def _status(number: int) -> Status:
    return Status(number) if number in set(Status) else Status.UNKNOWN
