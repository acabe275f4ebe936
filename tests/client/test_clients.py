"""Clients against an attested server: whom they speak to, what they refuse, what a proxy sees."""

import asyncio
import datetime as dt
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from strongroom.client import AsyncGrpcClient, AsyncRestClient, GrpcClient, Prediction, Proxy, RestClient, Trust
from strongroom.errors import ConfigurationError, FormatError, PolicyRejected, UnavailableError, VerificationError
from strongroom.serving.memory_files import memory_file
from strongroom.serving.status import Refused, Status

INPUTS = {"x": np.array([1.5, -2], dtype=np.float32), "text": ["confidential applicant", b"\xff"]}
KINDS = ["grpc", "rest", "async grpc", "async rest"]
CLEAR = Proxy(dangerous_plaintext=True)


def ask(
    kind: str, site: Any, trust: Trust, address: str | None = None, model: str = "echo", **settings: Any
) -> Prediction:
    """One prediction through a client of a kind."""
    receipt, outputs = settings.pop("receipt", False), settings.pop("outputs", ())
    where = address or (site.grpc if "grpc" in kind else site.rest)
    if kind == "grpc":
        with GrpcClient(where, trust, **settings) as client:
            return client.predict(model, INPUTS, outputs=outputs, receipt=receipt)
    if kind == "rest":
        with RestClient(where, trust, **settings) as rest:
            return rest.predict(model, INPUTS, outputs=outputs, receipt=receipt)

    async def run() -> Prediction:
        made: Any = (AsyncGrpcClient if "grpc" in kind else AsyncRestClient)(where, trust, **settings)
        async with made as client:
            answer: Prediction = await client.predict(model, INPUTS, outputs=outputs, receipt=receipt)
            return answer

    return asyncio.run(run())


def check(answer: Prediction) -> None:
    assert answer.outputs["x"].tolist() == [1.5, -2]
    assert answer.outputs["text"].tolist() == [b"confidential applicant", b"\xff"]
    assert (answer.model, answer.version) == ("echo", 1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seal", [False, True])
def test_attested_tls(start: Any, trust: Trust, kind: str, seal: bool) -> None:
    site = start()
    check(ask(kind, site, trust, seal_requests=seal))
    answer = ask(kind, site, trust, seal_requests=seal, outputs=("x",), receipt=True)
    assert set(answer.outputs) == {"x"}
    assert answer.receipt is not None
    assert answer.receipt.evidence_sha256 == site.identity.current.evidence_sha256
    assert (answer.receipt.model, answer.receipt.version) == ("echo", 1)


@pytest.mark.parametrize("kind", KINDS)
def test_refuses_an_enclave_the_policy_does_not_know(start: Any, wary: Trust, kind: str) -> None:
    site = start()
    with pytest.raises(PolicyRejected):
        ask(kind, site, wary)
    with pytest.raises(PolicyRejected):
        ask(kind, site, wary, seal_requests=True)


@pytest.mark.parametrize("kind", KINDS)
def test_sealed_requests_through_somebody_who_ends_tls(start: Any, trust: Trust, wary: Trust, kind: str) -> None:
    site = start(tls=False)
    settings: dict[str, Any] = {"seal_requests": True, "proxy": CLEAR}
    check(ask(kind, site, trust, **settings))
    assert ask(kind, site, trust, receipt=True, **settings).receipt is not None
    with pytest.raises(PolicyRejected):
        ask(kind, site, wary, **settings)


@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_without_sealing_is_refused(start: Any, trust: Trust, kind: str) -> None:
    with pytest.raises(ConfigurationError, match="proxy would read"):
        ask(kind, None, trust, address="127.0.0.1:1", proxy=Proxy())


class Relay:
    """Ends nothing, reads everything, and changes what a test tells it to."""

    def __init__(self, port: int, change: Any = None) -> None:
        self._port, self._change = port, change
        self.seen = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            for source, sink, back in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(source, sink, back), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, back: bool) -> None:
        with source, sink:
            try:
                while chunk := source.recv(65536):
                    self.seen += chunk
                    sink.sendall(self._change(chunk) if back and self._change else chunk)
            except OSError:
                return

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def relay() -> Iterator[Any]:
    made: list[Relay] = []

    def make(port: int, change: Any = None) -> Relay:
        made.append(Relay(port, change))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_relay_sees_neither_request_nor_answer_nor_model(start: Any, trust: Trust, relay: Any, kind: str) -> None:
    site = start(tls=False)
    between = relay(site.server.grpc_port if "grpc" in kind else site.server.rest_port)
    check(ask(kind, site, trust, address=between.address, seal_requests=True, proxy=CLEAR))
    assert len(between.seen) > 1000
    for secret in (b"confidential", b"applicant", INPUTS["x"].tobytes(), b"models/echo", b"/Predict", b"outputs"):  # type: ignore[attr-defined]
        assert secret not in between.seen


def test_the_relay_of_these_tests_would_see_an_unsealed_request(start: Any, relay: Any) -> None:
    import httpx

    site = start(tls=False)
    between = relay(site.server.rest_port)
    body = {"instances": [{"x": 1, "text": "confidential applicant"}]}
    assert httpx.post(f"http://{between.address}/v1/models/echo:predict", json=body, timeout=60).status_code == 200
    assert b"confidential applicant" in between.seen


@pytest.mark.parametrize("kind", ["rest", "async rest"])
def test_a_relay_that_swaps_the_sealing_key_is_caught(start: Any, trust: Trust, relay: Any, kind: str) -> None:
    """The man in the middle puts his own key into the identity document."""
    import base64
    import os

    site = start(tls=False)
    honest = base64.b64encode(site.identity.current.sealing_public)
    between = relay(site.server.rest_port, lambda chunk: chunk.replace(honest, base64.b64encode(os.urandom(32))))
    with pytest.raises(VerificationError, match="not signed by the attested key"):
        ask(kind, site, trust, address=between.address, seal_requests=True, proxy=CLEAR)


@pytest.mark.parametrize("kind", ["rest", "async rest"])
def test_a_relay_that_changes_the_answer_is_caught(start: Any, trust: Trust, relay: Any, kind: str) -> None:
    site = start(tls=False)

    def flip(chunk: bytes) -> bytes:
        at = chunk.find(b"SRA1")
        return chunk if at < 0 else chunk[: at + 60] + bytes([chunk[at + 60] ^ 1]) + chunk[at + 61 :]

    between = relay(site.server.rest_port, flip)
    with pytest.raises(VerificationError, match="not made for this request"):
        ask(kind, site, trust, address=between.address, seal_requests=True, proxy=CLEAR)


@pytest.mark.parametrize("kind", KINDS)
def test_refusals_keep_their_status(start: Any, trust: Trust, kind: str) -> None:
    site = start()
    for seal in (False, True):
        with pytest.raises(Refused, match="Servable not found") as refused:
            ask(kind, site, trust, model="nobody", seal_requests=seal)
        assert refused.value.status is Status.NOT_FOUND


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_there(trust: Trust, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(UnavailableError):
        ask(kind, None, trust, address=address, timeout_s=2.0)
    with pytest.raises(UnavailableError):
        ask(kind, None, trust, address=address, seal_requests=True, proxy=CLEAR, timeout_s=2.0)


@pytest.mark.parametrize("seal", [False, True])
def test_open_client_follows_a_renewed_key(start: Any, trust: Trust, seal: bool) -> None:
    site = start()
    with (
        GrpcClient(site.grpc, trust, seal_requests=seal) as grpc,
        RestClient(site.rest, trust, seal_requests=seal) as rest,
    ):
        check(grpc.predict("echo", INPUTS))
        check(rest.predict("echo", INPUTS))
        before = site.identity.current.evidence_sha256
        site.renew(2)  # twice: the key before the last does not open requests any more
        clients: tuple[Any, ...] = (grpc, rest)
        for client in clients:  # their connections were made with the old key
            answer = client.predict("echo", INPUTS, receipt=True)
            assert answer.receipt is not None
            assert answer.receipt.evidence_sha256 == site.identity.current.evidence_sha256
        assert site.identity.current.evidence_sha256 != before
        with GrpcClient(site.grpc, trust) as fresh:
            answer = fresh.predict("echo", INPUTS, receipt=True)
            assert answer.receipt is not None
            assert answer.receipt.evidence_sha256 == site.identity.current.evidence_sha256


@pytest.mark.parametrize("kind", ["grpc", "rest"])
def test_requests_sealed_to_the_previous_key_are_opened_and_older_ones_are_sealed_again(
    start: Any, trust: Trust, kind: str
) -> None:
    site = start(tls=False)
    made: Any = GrpcClient if kind == "grpc" else RestClient
    with made(site.grpc if kind == "grpc" else site.rest, trust, seal_requests=True, proxy=CLEAR) as client:
        check(client.predict("echo", INPUTS))
        first = client._way.sealing_key
        site.renew()
        check(client.predict("echo", INPUTS))
        assert client._way.sealing_key == first
        site.renew()
        check(client.predict("echo", INPUTS))
        assert client._way.sealing_key == site.identity.current.sealing_public != first


def test_evidence_is_looked_at_again_when_its_time_is_over(start: Any, trust: Trust) -> None:
    from dataclasses import replace
    from datetime import timedelta

    moments = [trust.now()]
    looked: list[bytes] = []

    def genuine(quote: bytes, now: Any) -> Any:
        looked.append(quote)
        return trust.genuine(quote, now)

    site = start()
    watched = replace(trust, genuine=genuine, now=lambda: moments[-1], keep_s=60)
    with GrpcClient(site.grpc, watched) as client:
        client.predict("echo", INPUTS)
        client.predict("echo", INPUTS)
        assert len(looked) == 1
        moments.append(moments[-1] + timedelta(seconds=61))
        client.predict("echo", INPUTS)
        assert len(looked) == 2
        moments.append(moments[-1] + timedelta(days=400))  # the collateral is long out of date
        with pytest.raises(VerificationError):
            client.predict("echo", INPUTS)


def test_a_server_with_an_ordinary_certificate_is_refused(start: Any, trust: Trust) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "RATLS")])
    certificate = (
        x509.CertificateBuilder(
            name,
            name,
            key.public_key(),
            1,
            dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
            dt.datetime(2030, 1, 1, tzinfo=dt.UTC),
        )
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with memory_file(certificate) as chain, memory_file(private) as secret:
        context.load_cert_chain(chain, secret)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    pass

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(FormatError), GrpcClient(f"127.0.0.1:{listener.getsockname()[1]}", trust) as client:
            client.predict("echo", INPUTS)
