"""Pinned connections: the very key that was attested is spoken to, by ssl, httpx and grpcio."""

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.attestation.policy import AppraisalPolicy
from strongroom.errors import ConfigurationError, PolicyRejected, StrongroomError, UnavailableError
from strongroom.platforms import Platform
from strongroom.platforms.simulated import SimulatedMachine, SimulatedPlatform
from strongroom.ratls.address import Address
from strongroom.ratls.certificate import AttestedCertificate, attested_certificate
from strongroom.ratls.connection import TlsConnection
from strongroom.ratls.pin import attested_server, fetch_certificate, grpc_options, pem, ssl_context
from strongroom.ratls.tls import client_context
from strongroom.ratls.verify import AttestedPeer, QuoteVerifier, verify_certificate

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nserved"
Serve = Callable[[bytes], Address]
PrivatePem = Callable[[AttestedCertificate], bytes]


@contextmanager
def https_server(pem_file: Path) -> Iterator[Address]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem_file)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                with plain:
                    try:
                        with context.wrap_socket(plain, server_side=True) as tls:
                            if tls.recv(4096):
                                tls.sendall(ANSWER)
                    except OSError:
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address("localhost", listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(20)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(certificate_and_key: bytes) -> Address:
            file = tmp_path / f"{len(list(tmp_path.iterdir()))}.pem"
            file.write_bytes(certificate_and_key)
            return stack.enter_context(https_server(file))

        yield start


@pytest.fixture(scope="session")
def shown(platform: SimulatedPlatform) -> AttestedCertificate:
    return attested_certificate(platform)


def both(certificate: AttestedCertificate, private_pem: PrivatePem) -> bytes:
    return certificate.certificate.public_bytes(Encoding.PEM) + private_pem(certificate)


def test_httpx_speaks_to_the_attested_key_and_to_no_other(
    serve: Serve,
    shown: AttestedCertificate,
    platform: SimulatedPlatform,
    private_pem: PrivatePem,
    genuine: QuoteVerifier,
    policy: AppraisalPolicy,
    now: dt.datetime,
) -> None:
    honest = serve(both(shown, private_pem))
    peer = attested_server(honest, genuine, policy, now)
    assert peer.certificate == shown.der
    with httpx.Client(verify=ssl_context(peer), trust_env=False, timeout=60) as client:
        assert client.get(f"https://{honest}/").text == "served"
        # Another key of the very same enclave, with evidence as good: not the one that was looked at.
        restarted = serve(both(attested_certificate(platform), private_pem))
        with pytest.raises(httpx.ConnectError):
            client.get(f"https://{restarted}/")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_plain_ssl_speaks_to_the_attested_key(
    serve: Serve,
    shown: AttestedCertificate,
    private_pem: PrivatePem,
    genuine: QuoteVerifier,
    now: dt.datetime,
    version: ssl.TLSVersion,
) -> None:
    address = serve(both(shown, private_pem))
    context = ssl_context(verify_certificate(fetch_certificate(address), genuine, now))
    context.minimum_version = context.maximum_version = version
    plain = socket.create_connection((address.host, address.port), 20)
    with plain, context.wrap_socket(plain) as tls:
        tls.sendall(b"x")
        assert tls.recv(100).endswith(b"served")


def test_a_certificate_of_gramine_1_5_can_be_pinned(
    serve: Serve,
    gramine_1_5: Callable[[Platform], tuple[bytes, AttestedCertificate]],
    platform: SimulatedPlatform,
    private_pem: PrivatePem,
    genuine: QuoteVerifier,
    policy: AppraisalPolicy,
    now: dt.datetime,
) -> None:
    raw, made = gramine_1_5(platform)
    address = serve(ssl.DER_cert_to_PEM_cert(raw).encode() + private_pem(made))
    peer = attested_server(address, genuine, policy, now)
    assert peer.certificate == raw
    with httpx.Client(verify=ssl_context(peer), trust_env=False, timeout=60) as client:
        assert client.get(f"https://{address}/").text == "served"


def test_refuses_a_server_of_other_code_before_anything_is_sent(
    serve: Serve,
    machine: SimulatedMachine,
    private_pem: PrivatePem,
    genuine: QuoteVerifier,
    policy: AppraisalPolicy,
    now: dt.datetime,
) -> None:
    other = machine.platform(mr_enclave=b"\x01" * 32, isv_prod_id=7, isv_svn=3)
    address = serve(both(attested_certificate(other), private_pem))
    with pytest.raises(PolicyRejected):
        attested_server(address, genuine, policy, now)


def test_a_relay_that_shows_the_enclaves_certificate_without_its_key_fails(
    serve: Serve, shown: AttestedCertificate, private_pem: PrivatePem, platform: SimulatedPlatform
) -> None:
    with pytest.raises(ssl.SSLError):  # OpenSSL will not even load it on the server's side
        serve(shown.certificate.public_bytes(Encoding.PEM) + private_pem(attested_certificate(platform)))


def test_a_pin_is_no_authority(
    serve: Serve,
    platform: SimulatedPlatform,
    genuine: QuoteVerifier,
    now: dt.datetime,
    private_pem: PrivatePem,
) -> None:
    """A certificate that the enclave's key has signed for somebody else is not taken in its place."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    enclave = attested_certificate(platform)
    peer = verify_certificate(enclave.der, genuine, now)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    leaf = x509.CertificateBuilder(
        enclave.certificate.subject, name, key.public_key(), 2, now - dt.timedelta(days=1), now + dt.timedelta(days=900)
    )
    signed = AttestedCertificate(leaf.sign(enclave.key, hashes.SHA256()), key)
    address = serve(both(signed, private_pem))
    with (
        httpx.Client(verify=ssl_context(peer), trust_env=False, timeout=60) as client,
        pytest.raises(httpx.ConnectError),
    ):
        client.get(f"https://{address}/")


def test_nobody_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(UnavailableError):
        fetch_certificate(Address("127.0.0.1", port), timeout_s=20)


def test_a_server_that_says_nothing_ends_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(UnavailableError) as refusal:
        fetch_certificate(Address("127.0.0.1", listener.getsockname()[1]), timeout_s=0.2)
    assert refusal.value.code == "tls.timeout"


def test_a_server_that_talks_nonsense_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def nonsense() -> None:
            plain, _ = listener.accept()
            with plain:
                plain.recv(4096)
                plain.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=nonsense)
        thread.start()
        with pytest.raises(StrongroomError) as refusal:
            fetch_certificate(Address("127.0.0.1", listener.getsockname()[1]), timeout_s=20)
        thread.join(20)
    assert refusal.value.code == "tls.handshake"


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, _context: b"echo " + request)


@contextmanager
def grpc_server(certificate: bytes, key: bytes) -> Iterator[int]:
    server = grpc.server(ThreadPoolExecutor(2), handlers=(Echo(),))
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, certificate)]))
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait(20)


def call(port: int, peer: AttestedPeer) -> bytes:
    credentials = grpc.ssl_channel_credentials(pem(peer).encode())
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options=grpc_options(peer)) as channel:
        answer: bytes = channel.unary_unary("/echo/Echo")(b"hello", timeout=20)
        return answer


@pytest.mark.parametrize("names", [(), (x509.DNSName("model.example.com"),)])
def test_grpc_speaks_to_the_attested_key_and_to_no_other(
    platform: SimulatedPlatform,
    private_pem: PrivatePem,
    genuine: QuoteVerifier,
    policy: AppraisalPolicy,
    now: dt.datetime,
    names: tuple[x509.GeneralName, ...],
) -> None:
    made, other = attested_certificate(platform, names=names), attested_certificate(platform, names=names)
    with grpc_server(made.certificate.public_bytes(Encoding.PEM), private_pem(made)) as port:
        peer = attested_server(Address("127.0.0.1", port), genuine, policy, now)
        assert call(port, peer) == b"echo hello"
        with pytest.raises(grpc.RpcError) as refusal:
            call(port, verify_certificate(other.der, genuine, now))
        assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


def test_grpc_needs_some_name(platform: SimulatedPlatform, genuine: QuoteVerifier, now: dt.datetime) -> None:
    import ipaddress

    made = attested_certificate(platform, names=[x509.IPAddress(ipaddress.ip_address("10.0.0.7"))])
    with pytest.raises(ConfigurationError):
        grpc_options(verify_certificate(made.der, genuine, now))


def test_truncated_stream_is_an_error_not_an_end(
    serve: Serve, shown: AttestedCertificate, private_pem: PrivatePem
) -> None:
    address = serve(both(shown, private_pem))
    with TlsConnection(address, client_context(None), timeout_s=20) as connection:
        connection.write(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(StrongroomError) as refusal:
            connection.read_exactly(10_000)
    assert refusal.value.code in {"tls.truncated", "tls.unreachable"}


def test_a_certificate_of_an_unknown_version_has_no_name_and_is_no_surprise(
    platform: SimulatedPlatform, genuine: QuoteVerifier, now: dt.datetime
) -> None:
    peer = verify_certificate(attested_certificate(platform).der, genuine, now)
    version_3, version_6 = b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"
    assert peer.certificate.count(version_3) == 1
    with pytest.raises(ConfigurationError, match="no name"):
        grpc_options(replace(peer, certificate=peer.certificate.replace(version_3, version_6)))
