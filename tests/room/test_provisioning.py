"""The provisioning client against servers as Gramine's, and against ones that lie or break off."""

import datetime as dt
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from strongroom.errors import (
    ConfigurationError,
    FormatError,
    KeyReleaseError,
    StrongroomError,
    UnavailableError,
    VerificationError,
)
from strongroom.formats.secret_provisioning import REQUEST, RESPONSE, serialize_response
from strongroom.platforms import Platform
from strongroom.platforms.simulated import SimulatedMachine
from strongroom.ratls.address import Address
from strongroom.room.provisioning import fetch_provisioned

SECRET = b"SIXTEEN-BYTE-KEY"
ANSWER = serialize_response(SECRET)
Answer = Callable[[ssl.SSLSocket], None]
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@pytest.fixture(scope="module")
def enclave() -> Platform:
    machine = SimulatedMachine.build(dt.datetime.now(dt.UTC))
    return machine.platform(mr_enclave=b"\xab" * 32, isv_prod_id=1, isv_svn=1)


@pytest.fixture(scope="module")
def p256() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def self_signed(key: Key, *names: x509.GeneralName) -> bytes:
    """PEM of certificate and key; CN=localhost, as the sample scripts make it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 1, now - dt.timedelta(hours=1), now + dt.timedelta(days=1)
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM) + private


@contextmanager
def server(pem: Path, answer: Answer, version: ssl.TLSVersion) -> Iterator[Address]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    context.minimum_version = context.maximum_version = version
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def serve() -> None:
            try:
                plain, _ = listener.accept()
                with plain, context.wrap_socket(plain, server_side=True) as tls:
                    tls.settimeout(20)
                    answer(tls)
            except OSError:
                pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address("localhost", listener.getsockname()[1])
        finally:
            thread.join(20)


Ask = Callable[..., bytes]


@pytest.fixture
def ask(tmp_path: Path, enclave: Platform, p256: Key) -> Iterator[Ask]:
    """Asks one server that answers in one way; its certificate is its own authority."""
    with ExitStack() as stack:

        def run(
            answer: Answer,
            *,
            pem: bytes | None = None,
            version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
            timeout_s: float = 20,
            max_secret_bytes: int = 1024,
        ) -> bytes:
            file = tmp_path / "server.pem"
            file.write_bytes(pem or self_signed(p256))
            address = stack.enter_context(server(file, answer, version))
            return fetch_provisioned(enclave, address, file, timeout_s=timeout_s, max_secret_bytes=max_secret_bytes)

        yield run


def in_records_of(size: int, content: bytes = ANSWER) -> Answer:
    def answer(tls: ssl.SSLSocket) -> None:
        if tls.recv(4096) != REQUEST:
            return
        for start in range(0, len(content), size):
            tls.sendall(content[start : start + size])

    return answer


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [1, 7, 41, 1000])
def test_record_boundaries_mean_nothing(ask: Ask, size: int, version: ssl.TLSVersion) -> None:
    assert ask(in_records_of(size), version=version) == SECRET


def test_rsa_server_and_session_tickets_are_fine(ask: Ask) -> None:
    # Python's server sends two TLS 1.3 session tickets, which breaks clients with mbedTLS 3.6.0.
    assert ask(in_records_of(1000), pem=self_signed(rsa.generate_private_key(65537, 2048))) == SECRET


def test_application_data_after_the_secret_is_not_waited_for(ask: Ask) -> None:
    def answer(tls: ssl.SSLSocket) -> None:
        in_records_of(1000)(tls)
        tls.recv(1)  # a server with a conversation of its own to hold keeps the connection open

    assert ask(answer) == SECRET


def test_refuses_a_server_of_another_name_although_it_is_its_own_authority(ask: Ask, p256: Key) -> None:
    with pytest.raises(VerificationError) as refusal:
        ask(in_records_of(1000), pem=self_signed(p256, x509.DNSName("other.example.com")))
    assert refusal.value.code == "tls.host"


def test_refuses_a_server_the_authority_did_not_sign(ask: Ask, tmp_path: Path, enclave: Platform, p256: Key) -> None:
    (tmp_path / "ca.pem").write_bytes(self_signed(ec.generate_private_key(ec.SECP256R1())))
    (tmp_path / "s.pem").write_bytes(self_signed(p256))
    with (
        server(tmp_path / "s.pem", in_records_of(1000), ssl.TLSVersion.TLSv1_3) as address,
        pytest.raises(VerificationError) as refusal,
    ):
        fetch_provisioned(enclave, address, tmp_path / "ca.pem", timeout_s=20)
    assert refusal.value.code == "tls.server_certificate"


@pytest.mark.parametrize("length", [1, 36, 37, 40, 41, 42, len(ANSWER) - 1])
def test_truncated_stream_gives_no_key(ask: Ask, length: int) -> None:
    def answer(tls: ssl.SSLSocket) -> None:
        in_records_of(1000, ANSWER[:length])(tls)
        tls.unwrap()  # a proper goodbye: only the count of bytes tells

    with pytest.raises(FormatError) as refusal:
        ask(answer)
    assert refusal.value.code == "tls.truncated"


def test_stream_cut_without_goodbye_gives_no_key(ask: Ask) -> None:
    def answer(tls: ssl.SSLSocket) -> None:
        in_records_of(1000, ANSWER[:-1])(tls)
        tls.shutdown(socket.SHUT_RDWR)

    with pytest.raises((FormatError, UnavailableError, VerificationError)):
        ask(answer)


@pytest.mark.parametrize("goodbye", [True, False])
def test_a_server_that_sends_nothing_did_not_accept_us(ask: Ask, goodbye: bool) -> None:
    def answer(tls: ssl.SSLSocket) -> None:
        tls.recv(4096)
        if goodbye:
            tls.unwrap()
        else:
            tls.shutdown(socket.SHUT_RDWR)

    with pytest.raises(KeyReleaseError) as refusal:
        ask(answer)
    assert refusal.value.code == "provision.refused"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "provisioning.response"),
        (RESPONSE.replace(b"V1", b"V2") + b"\0\0\0\x10" + SECRET, "provisioning.response"),
        (RESPONSE + b"\0\0\0\0", "provisioning.length"),
        (RESPONSE + b"\x10\0\0\0" + SECRET, "provisioning.length"),
        (RESPONSE + b"\xff\xff\xff\xff", "provisioning.length"),
        (RESPONSE + b"\0\0\x04\x01" + bytes(1025), "provisioning.length"),
    ],
)
def test_refuses_another_answer(ask: Ask, content: bytes, code: str) -> None:
    with pytest.raises(FormatError) as refusal:
        ask(in_records_of(1000, content))
    assert refusal.value.code == code


def silent(tls: ssl.SSLSocket) -> None:
    tls.recv(4096)
    tls.recv(4096)


def test_a_server_that_never_answers_ends_at_the_deadline(ask: Ask) -> None:
    with pytest.raises(UnavailableError) as refusal:
        ask(silent, timeout_s=0.5)
    assert refusal.value.code == "tls.timeout"


def test_the_request_is_not_sent_to_a_server_that_is_not_the_one(ask: Ask, p256: Key) -> None:
    received: list[bytes] = []
    with pytest.raises(StrongroomError):
        ask(lambda tls: received.append(tls.recv(4096)), pem=self_signed(p256, x509.DNSName("other")))
    assert received in ([], [b""])


def of_version_6() -> bytes:
    """A certificate that says a version which there is not."""
    pem = self_signed(ec.generate_private_key(ec.SECP256R1()))
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    assert der.count(b"\xa0\x03\x02\x01\x02") == 1  # version 3
    return ssl.DER_cert_to_PEM_cert(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05")).encode()


@pytest.mark.parametrize("content", [None, lambda: b"", lambda: b"no certificate", of_version_6])
def test_refuses_a_ca_file_that_is_none(tmp_path: Path, enclave: Platform, content: Callable[[], bytes] | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content())
    with pytest.raises(ConfigurationError) as refusal:
        fetch_provisioned(enclave, Address("localhost", 1), tmp_path / "ca.pem", timeout_s=1)
    assert refusal.value.code == "tls.ca"
