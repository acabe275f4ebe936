"""Secret provisioning over loopback: every kind of client is served, every failure is refused and logged."""

import datetime as dt
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from OpenSSL import crypto

from strongroom.broker.provisioning_server import provisioning, provisioning_context, provisioning_server
from strongroom.broker.server import listening
from strongroom.errors import ConfigurationError, KeyReleaseError, StrongroomError, UnavailableError, VerificationError
from strongroom.formats import der
from strongroom.formats.kbs import ResourcePath
from strongroom.formats.ratls import legacy_report_data
from strongroom.formats.secret_provisioning import HEADER_SIZE, REQUEST, parse_response_header, serialize_response
from strongroom.platforms.simulated import SimulatedMachine, SimulatedPlatform
from strongroom.ratls.address import Address
from strongroom.ratls.certificate import AttestedCertificate, KeyKind, attested_certificate
from strongroom.ratls.connection import TlsConnection
from strongroom.ratls.tls import client_context
from strongroom.room.provisioning import fetch_provisioned

if TYPE_CHECKING:
    from tests.broker.conftest import Broker, OpenBroker

OTHER = ResourcePath("serving", "key", "model")


@dataclass
class Service:
    """A broker that also serves provisioning clients."""

    broker: "Broker"
    address: Address

    @property
    def ca(self) -> Path:
        return self.broker.files.ca_certificate

    def fetch(self, platform: Any, **options: Any) -> bytes:
        return fetch_provisioned(platform, self.address, self.ca, timeout_s=20, **options)

    def decisions(self) -> list[dict[str, Any]]:
        return [event for event in self.broker.events() if event["event"] == "provision"]

    def refused(self, platform: Any, **options: Any) -> list[str]:
        """Asks, expects nothing, and gives the codes in the log."""
        before = len(self.decisions())
        with pytest.raises(KeyReleaseError) as refusal:
            self.fetch(platform, **options)
        assert refusal.value.code == "provision.refused"
        decisions = self.decisions()[before:]
        assert [decision["decision"] for decision in decisions] == ["deny"]
        return [finding["code"] for finding in decisions[0]["findings"]]


@contextmanager
def serve(broker: "Broker") -> Iterator[Service]:
    server = provisioning_server(broker.parts, broker.files)
    with listening("127.0.0.1", 0) as listener, provisioning(server, listener):
        yield Service(broker, Address("localhost", listener.getsockname()[1]))


Serve = Callable[..., Service]


@pytest.fixture
def open_service(open_broker: "OpenBroker") -> Iterator[Serve]:
    with ExitStack() as stack:

        def make(**changes: object) -> Service:
            broker = open_broker(**changes)
            broker.parts.keyring.create(broker.key_path, broker.key, broker.parts.clock(), new_version=True)
            grant(broker, "loan-train")
            return stack.enter_context(serve(broker))

        yield make


@pytest.fixture
def service(open_service: Serve) -> Service:
    return open_service()


def grant(broker: "Broker", name: str, path: ResourcePath | None = None, **policy: Any) -> None:
    path = path or broker.key_path
    broker.add_grant(name, (path,), **policy)
    stored = next(found for found in broker.parts.grants.all() if found.name == name)
    broker.parts.grants.add(replace(stored, provision=path), broker.parts.clock(), replace=True)


@contextmanager
def connected(service: Service, shown: AttestedCertificate) -> Iterator[TlsConnection]:
    with TlsConnection(service.address, client_context(None, [shown.certificate], shown.key), timeout_s=240) as open_:
        yield open_


KINDS: tuple[KeyKind, ...] = ("p384", "p256", "rsa3072")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("legacy_only", [False, True])
def test_server_and_client_work_with_every_key_and_both_forms_of_evidence(
    service: Service, platform: SimulatedPlatform, kind: KeyKind, legacy_only: bool
) -> None:
    assert service.fetch(platform, kind=kind, legacy_only=legacy_only) == service.broker.key
    (decision,) = service.decisions()
    assert decision["decision"] == "allow"
    assert decision["name"] == "loan-train"
    assert decision["path"] == f"{service.broker.key_path}@1"
    assert decision["who"]["mr_enclave"] == bytes(range(32)).hex()
    assert decision["who"]["simulated"] is True
    assert decision["policy_digest"]


def test_answer_is_the_bytes_gramine_reads(service: Service, platform: SimulatedPlatform) -> None:
    with connected(service, attested_certificate(platform)) as connection:
        for byte in REQUEST:  # one record a byte: record boundaries mean nothing
            connection.write(bytes([byte]))
        expected = serialize_response(service.broker.key)
        assert connection.read_exactly(len(expected)) == expected
        with pytest.raises(StrongroomError) as end:
            connection.read_exactly(1)
        assert end.value.code == "tls.truncated"


def test_tls_1_3_is_not_offered_because_its_tickets_kill_gramine_1_8(
    service: Service, platform: SimulatedPlatform
) -> None:
    from OpenSSL import SSL

    shown = attested_certificate(platform)
    context = client_context(None, [shown.certificate], shown.key)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    with pytest.raises(VerificationError) as refusal:
        TlsConnection(service.address, context, timeout_s=20)
    assert "version" in str(refusal.value)


def with_stray_null(certificate: AttestedCertificate) -> bytes:
    """The certificate as Gramine 1.4 and 1.5 write it: a NULL parameter in the ECDSA algorithm, signed like that."""
    body, _, _ = der.parse_sequence(der.parse_one(certificate.der, der.SEQUENCE, code="x"), code="x")
    fields = [field.raw for field in der.parse_sequence(body, code="x")]
    fields[2] = der.encode(der.SEQUENCE, der.encode_oid("1.2.840.10045.4.3.2"), b"\x05\x00")
    signed = der.encode(der.SEQUENCE, *fields)
    assert isinstance(certificate.key, ec.EllipticCurvePrivateKey)
    signature = certificate.key.sign(signed, ec.ECDSA(hashes.SHA256()))
    return der.encode(der.SEQUENCE, signed, fields[2], der.encode(der.BIT_STRING, b"\0", signature))


def test_client_of_gramine_1_5_with_malformed_ecdsa_parameters_is_served(
    service: Service, platform: SimulatedPlatform, tmp_path: Path
) -> None:
    shown = attested_certificate(platform, legacy_only=True)
    raw = with_stray_null(shown)
    with pytest.raises(ValueError, match=r"."):
        x509.load_der_x509_certificate(raw)  # what X.509 libraries say to it
    private = shown.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "client.pem").write_bytes(ssl.DER_cert_to_PEM_cert(raw).encode() + private)
    context = ssl.create_default_context(cafile=service.ca)
    context.load_cert_chain(tmp_path / "client.pem")
    plain = socket.create_connection(("localhost", service.address.port), 20)
    with plain, context.wrap_socket(plain, server_hostname="localhost") as tls:
        tls.sendall(REQUEST)
        answer = b"".join(iter(lambda: tls.recv(100), b""))
    assert answer == serialize_response(service.broker.key)
    assert service.decisions()[-1]["decision"] == "allow"


def nothing(tls: ssl.SSLSocket) -> bool:
    """Whether the server ends the connection without a byte, politely or not."""
    try:
        return not tls.recv(1)
    except (ConnectionResetError, ssl.SSLError):
        return True


@pytest.mark.testdata
def test_gramines_own_certificates_pass_the_handshake_and_their_synthetic_quotes_are_refused(
    service: Service, testdata: Path, tmp_path: Path
) -> None:
    folder = testdata / "gramine" / "ratls"
    codes = {}
    for version in ("1.5", "1.7", "1.8", "1.9"):
        key = load_der_private_key((folder / f"gramine_v{version}.key.der").read_bytes(), None)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        certificate = ssl.DER_cert_to_PEM_cert((folder / f"gramine_v{version}.cert.der").read_bytes())
        (tmp_path / "client.pem").write_bytes(certificate.encode() + private)
        context = ssl.create_default_context(cafile=service.ca)
        context.load_cert_chain(tmp_path / "client.pem")
        plain = socket.create_connection(("localhost", service.address.port), 20)
        with plain, context.wrap_socket(plain, server_hostname="localhost") as tls:
            tls.sendall(REQUEST)
            assert nothing(tls)
        codes[version] = [finding["code"] for finding in service.decisions()[-1]["findings"]]
        assert len(service.decisions()) == len(codes)
    assert all(found[0].startswith(("quote.", "report.", "pck.")) for found in codes.values()), codes


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("rsa3072", ["-sigalgs", "ECDSA+SHA256:RSA+SHA256", "-groups", "P-256"]),  # as mbedTLS 2.26 in Gramine 1.3.1
        ("p384", ["-sigalgs", "ECDSA+SHA256", "-groups", "P-384:P-256", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"]),
        (
            "p384",
            [
                "-sigalgs",
                "ECDSA+SHA384:ECDSA+SHA256",
                "-groups",
                "X25519:P-256:P-384",
                "-cipher",
                "ECDHE-ECDSA-AES128-GCM-SHA256",
            ],
        ),
    ],
)
def test_serves_what_the_releases_of_mbedtls_offer(
    service: Service, platform: SimulatedPlatform, tmp_path: Path, kind: KeyKind, options: list[str]
) -> None:
    shown = attested_certificate(platform, kind=kind)
    private = shown.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "client.pem").write_bytes(shown.certificate.public_bytes(Encoding.PEM) + private)
    command = ["openssl", "s_client", "-connect", f"localhost:{service.address.port}", "-tls1_2", "-quiet"]
    command += ["-cert", str(tmp_path / "client.pem"), "-key", str(tmp_path / "client.pem")]
    command += ["-CAfile", str(service.ca), "-verify_return_error", "-verify_hostname", "localhost"]
    ended = subprocess.run([*command, *options], input=REQUEST, capture_output=True, check=False, timeout=30)
    assert ended.stdout == serialize_response(service.broker.key), ended.stderr.decode()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_the_secret_is_the_newest_version_of_the_key(service: Service, platform: SimulatedPlatform) -> None:
    parts = service.broker.parts
    parts.keyring.create(service.broker.key_path, b"new key 16 bytes", parts.clock(), new_version=True)
    assert service.fetch(platform) == b"new key 16 bytes"


@pytest.mark.parametrize("database", ["sqlite", "postgresql"], indirect=True)
def test_attested_identity_decides_which_key_is_sent(
    service: Service, machine: SimulatedMachine, platform: SimulatedPlatform
) -> None:
    from strongroom.attestation.policy import EnclaveIdentity

    other = machine.platform(mr_enclave=b"\x07" * 32, isv_prod_id=1, isv_svn=1)
    service.broker.parts.keyring.create(OTHER, b"the other secret", service.broker.parts.clock())
    grant(service.broker, "serving", OTHER, measurements=(EnclaveIdentity(b"\x07" * 32),))
    assert service.fetch(platform) == service.broker.key
    assert service.fetch(other) == b"the other secret"


def test_server_name_chooses_among_grants_that_accept_and_among_no_others(
    service: Service, platform: SimulatedPlatform
) -> None:
    from strongroom.attestation.policy import EnclaveIdentity

    parts = service.broker.parts
    parts.keyring.create(OTHER, b"the other secret", parts.clock())
    grant(service.broker, "serving", OTHER)
    grant(service.broker, "strange", OTHER, measurements=(EnclaveIdentity(b"\x07" * 32),))
    shown = attested_certificate(platform).der
    assert parts.provisioning.provide(shown, "serving.keys.example.com") == b"the other secret"
    assert parts.provisioning.provide(shown, "LOAN-TRAIN") == service.broker.key
    for name in ("localhost", None, "strange.keys.example.com", "", "a b", "serving2"):
        with pytest.raises(KeyReleaseError):
            parts.provisioning.provide(shown, name)
        assert [finding["code"] for finding in service.decisions()[-1]["findings"]] == ["grant.ambiguous"]


def test_server_name_reaches_the_decision(service: Service, platform: SimulatedPlatform) -> None:
    parts = service.broker.parts
    parts.keyring.create(OTHER, b"the other secret", parts.clock())
    grant(service.broker, "localhost", OTHER)
    assert service.fetch(platform) == b"the other secret"


def test_refuses_wrong_measurement(service: Service, machine: SimulatedMachine) -> None:
    other = machine.platform(mr_enclave=b"\x07" * 32, isv_prod_id=1, isv_svn=1)
    assert service.refused(other) == ["measurement.mr_enclave"]
    assert service.decisions()[-1]["who"]["mr_enclave"] == "07" * 32


def test_refuses_debug_enclave(service: Service, machine: SimulatedMachine) -> None:
    debug = machine.platform(mr_enclave=bytes(range(32)), isv_prod_id=1, isv_svn=1, debug=True)
    (code,) = service.refused(debug)
    assert "debug" in code


def test_refuses_another_machines_quotes(service: Service, stranger_machine: SimulatedMachine) -> None:
    stranger = stranger_machine.platform(mr_enclave=bytes(range(32)), isv_prod_id=1, isv_svn=1)
    assert service.refused(stranger)


@dataclass
class Lying:
    """A platform whose quotes are not about what was asked."""

    platform: SimulatedPlatform
    said: Callable[[bytes], bytes]
    name: str = "simulated"
    tee: str = "sgx"
    simulated: bool = True

    def quote(self, report_data: bytes) -> bytes:
        return self.platform.quote(self.said(report_data))


def test_refuses_a_quote_about_another_key(service: Service, platform: SimulatedPlatform) -> None:
    assert service.refused(Lying(platform, lambda _: legacy_report_data(b"another key"))) == ["binding.report_data"]


def test_refuses_a_stale_quote_of_an_earlier_connection(service: Service, platform: SimulatedPlatform) -> None:
    earlier: list[bytes] = []

    def first_only(report_data: bytes) -> bytes:
        earlier.append(report_data)
        return earlier[0]

    stale = Lying(platform, first_only)
    assert service.fetch(stale, legacy_only=True) == service.broker.key
    assert service.refused(stale, legacy_only=True) == ["binding.report_data"]


def test_refuses_stale_collateral(service: Service, platform: SimulatedPlatform) -> None:
    shown = attested_certificate(platform).der
    service.broker.parts.clock.now += dt.timedelta(days=800)  # type: ignore[attr-defined]  # the tests' clock
    with pytest.raises(KeyReleaseError):
        service.broker.parts.provisioning.provide(shown, None)
    assert service.decisions()[-1]["decision"] == "deny"


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL PKey:DeprecationWarning")
def test_refuses_a_stolen_certificate_without_its_key(service: Service, platform: SimulatedPlatform) -> None:
    """A copied certificate and a key that claims the same public half: OpenSSL shows one and signs with the other."""
    stolen = attested_certificate(platform)
    context = client_context(None, [stolen.certificate], stolen.key)
    context.use_privatekey(mismatched_key(stolen))
    with pytest.raises(StrongroomError) as refusal:
        TlsConnection(service.address, context, timeout_s=20)
    assert refusal.value.code == "tls.handshake"
    assert not service.decisions()
    assert not service.broker.verifier.quotes


def mismatched_key(certificate: AttestedCertificate) -> crypto.PKey:
    """SEC1 form: the private half of a new key, the public half of the certificate's."""
    public = certificate.certificate.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    private = ec.generate_private_key(ec.SECP384R1()).private_numbers().private_value.to_bytes(48, "big")
    raw = der.encode(
        der.SEQUENCE,
        der.encode_integer(1),
        der.encode(der.OCTET_STRING, private),
        der.encode(0xA0, der.encode_oid("1.3.132.0.34")),
        der.encode(0xA1, der.encode(der.BIT_STRING, b"\0", public)),
    )
    return crypto.load_privatekey(crypto.FILETYPE_ASN1, raw)


def test_refuses_a_certificate_without_evidence(service: Service, platform: SimulatedPlatform) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    moment = service.broker.parts.clock()
    name = x509.Name([])
    plain = x509.CertificateBuilder(name, name, key.public_key(), 1, moment, moment + dt.timedelta(days=1))
    with connected(service, AttestedCertificate(plain.sign(key, hashes.SHA256()), key)) as connection:
        connection.write(REQUEST)
        with pytest.raises(StrongroomError):
            connection.read_exactly(1)
    assert [finding["code"] for finding in service.decisions()[-1]["findings"]] == ["ratls.no_evidence"]


def test_refuses_a_client_without_certificate(service: Service) -> None:
    with pytest.raises(StrongroomError), TlsConnection(service.address, client_context(None), timeout_s=20) as open_:
        open_.read_exactly(1)
    assert not service.decisions()


@pytest.mark.parametrize("request_", [b"GET / HTTP/1.1\r\nHost: localhost:4433\r\n\r\n", REQUEST.replace(b"V1", b"V2")])
def test_refuses_another_request_before_it_verifies_anything(
    service: Service, platform: SimulatedPlatform, request_: bytes
) -> None:
    with connected(service, attested_certificate(platform)) as connection:
        connection.write(request_)
        with pytest.raises(StrongroomError):
            connection.read_exactly(1)
    assert not service.broker.verifier.quotes
    assert not service.decisions()


def test_refuses_when_no_grant_provisions(open_broker: "OpenBroker", platform: SimulatedPlatform) -> None:
    broker = open_broker()
    broker.parts.keyring.create(broker.key_path, broker.key, broker.parts.clock())
    broker.add_grant()  # accepts the evidence, but names no key to provision
    with serve(broker) as service:
        assert service.refused(platform) == ["grant.none"]


def test_refuses_a_revoked_grant(service: Service, platform: SimulatedPlatform) -> None:
    assert service.fetch(platform) == service.broker.key
    service.broker.parts.grants.revoke("loan-train", service.broker.parts.clock())
    assert service.refused(platform) == ["grant.none"]


def test_refuses_a_deleted_key(service: Service, platform: SimulatedPlatform) -> None:
    service.broker.parts.keyring.delete(service.broker.key_path, service.broker.parts.clock())
    assert service.refused(platform) == ["key.unknown"]


def test_simulated_clients_are_refused_unless_the_grant_accepts_them(
    service: Service, platform: SimulatedPlatform
) -> None:
    grant(service.broker, "loan-train", accept_simulated=False)
    assert service.refused(platform) == ["simulated.refused"]


def test_nothing_is_sent_when_the_log_fails(open_broker: "OpenBroker", platform: SimulatedPlatform) -> None:
    class Failing:
        def __init__(self, log: Any) -> None:
            self.log = log
            self.broken = False

        def append(self, *arguments: Any) -> int:
            if self.broken:
                raise UnavailableError("disk full")
            return int(self.log.append(*arguments))

        def append_within(self, *arguments: Any) -> int:
            return int(self.log.append_within(*arguments))

    logs: list[Failing] = []

    def around(log: Any) -> Failing:
        logs.append(Failing(log))
        return logs[-1]

    broker = open_broker(around)
    broker.parts.keyring.create(broker.key_path, broker.key, broker.parts.clock())
    grant(broker, "loan-train")
    logs[0].broken = True
    with serve(broker) as service:
        with pytest.raises(KeyReleaseError):
            service.fetch(platform)
        logs[0].broken = False
        assert service.fetch(platform) == broker.key


def test_the_secret_is_in_no_log_and_no_error(
    service: Service, platform: SimulatedPlatform, capsys: pytest.CaptureFixture[str]
) -> None:
    assert service.fetch(platform) == service.broker.key
    captured = capsys.readouterr()
    text = captured.out + captured.err + str(service.broker.events())
    assert service.broker.key.decode() not in text
    assert service.broker.key.hex() not in text
    for file in service.broker.files.root.rglob("*"):
        assert not file.is_file() or service.broker.key not in file.read_bytes(), file


def test_refuses_its_own_certificate_of_an_unknown_version(open_broker: "OpenBroker") -> None:
    files = open_broker().files
    raw = x509.load_pem_x509_certificates(files.server_certificate.read_bytes())[0].public_bytes(Encoding.DER)
    assert raw.count(b"\xa0\x03\x02\x01\x02") == 1  # version 3
    version_6 = raw.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05")
    files.server_certificate.write_text(ssl.DER_cert_to_PEM_cert(version_6))
    with pytest.raises(ConfigurationError) as refusal:
        provisioning_context(files)
    assert refusal.value.code == "broker.certificate"


def test_client_refuses_a_server_the_ca_does_not_vouch_for(
    service: Service, platform: SimulatedPlatform, tmp_path: Path
) -> None:
    from strongroom.broker.certificates import make_authority

    other = tmp_path / "other.pem"
    other.write_bytes(make_authority("other", service.broker.parts.clock()).certificate)
    with pytest.raises(VerificationError) as refusal:
        fetch_provisioned(platform, service.address, other, timeout_s=20)
    assert refusal.value.code == "tls.server_certificate"
    assert not service.decisions()


def test_client_refuses_a_server_of_another_name(
    service: Service, platform: SimulatedPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.create_connection
    monkeypatch.setattr(
        socket, "create_connection", lambda address, timeout: real(("127.0.0.1", address[1]), timeout=timeout)
    )
    elsewhere = Address("keys.example.com", service.address.port)
    with pytest.raises(VerificationError) as refusal:
        fetch_provisioned(platform, elsewhere, service.ca, timeout_s=20)
    assert refusal.value.code == "tls.host"
    assert not service.decisions()


def test_hundreds_of_clients_at_once_are_all_served(open_service: Serve, platform: SimulatedPlatform) -> None:
    limits = {"provisioning_timeout_s": 120, "verification_timeout_s": 120}  # as long as this machine may need for all
    service = open_service(request_burst=1000, requests_per_s=1000, max_verifications=512, **limits)
    shown = attested_certificate(platform, legacy_only=True)
    count = 200
    together = threading.Barrier(count)
    answers: list[bytes] = []
    failures: list[BaseException] = []

    def client() -> None:
        try:
            with connected(service, shown) as connection:
                together.wait(120)  # everybody is connected before anybody asks
                connection.write(REQUEST)
                size = parse_response_header(connection.read_exactly(HEADER_SIZE))
                answers.append(connection.read_exactly(size))
        except BaseException as error:
            failures.append(error)
            together.abort()

    threads = [threading.Thread(target=client) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert not failures, failures[:3]
    assert answers == [service.broker.key] * count


def test_silent_clients_lose_their_place_to_new_ones(open_service: Serve, platform: SimulatedPlatform) -> None:
    service = open_service(max_provisioning_connections=8, provisioning_timeout_s=60)
    with ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", service.address.port), 20)) for _ in range(20)
        ]
        assert service.fetch(platform) == service.broker.key
        for half_open in silent[:8]:
            assert half_open.recv(1) == b""  # dropped long before its time was up


def test_half_open_handshakes_lose_their_place_too(open_service: Serve, platform: SimulatedPlatform) -> None:
    service = open_service(max_provisioning_connections=4, provisioning_timeout_s=60)
    hello = client_hello()
    with ExitStack() as stack:
        for _ in range(12):
            half_open = stack.enter_context(socket.create_connection(("127.0.0.1", service.address.port), 20))
            half_open.sendall(hello)
            assert half_open.recv(1)  # the server's part of the handshake has begun
        assert service.fetch(platform) == service.broker.key


def client_hello() -> bytes:
    from strongroom.ratls.tls import TlsPipe

    pipe = TlsPipe(client_context(None), server_name="localhost")
    assert not pipe.handshake()
    return pipe.to_send()


def test_slow_handshake_ends_at_its_deadline(open_service: Serve) -> None:
    service = open_service(provisioning_timeout_s=0.2)
    with socket.create_connection(("127.0.0.1", service.address.port), 20) as slow:
        slow.sendall(client_hello()[:50])
        assert slow.recv(1) == b""


def test_a_client_that_shows_evidence_and_never_asks_ends_at_the_same_deadline(
    open_service: Serve, platform: SimulatedPlatform
) -> None:
    service = open_service(provisioning_timeout_s=5.0)
    with connected(service, attested_certificate(platform)) as connection:
        connection.write(REQUEST[:-1])
        with pytest.raises(StrongroomError) as end:
            connection.read_exactly(1)
    assert end.value.code != "tls.timeout"  # which would be ours
    assert not service.decisions()


def test_endless_handshake_is_cut_at_its_memory_bound(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.address.port), 20) as flood:
        flood.sendall(client_hello())
        assert flood.recv(1)
        # A handshake record that announces a message of 16 MB, and then goes on and on.
        record = b"\x16\x03\x03\x40\x00" + b"\x0b\xff\xff\xff" + bytes(0x4000 - 4)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            flood.sendall(record * 1024)


def test_vanishing_clients_do_not_stop_others(service: Service, platform: SimulatedPlatform) -> None:
    shown = attested_certificate(platform)
    for step in range(4):
        with socket.create_connection(("127.0.0.1", service.address.port), 20) as vanishing:
            vanishing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # end with a reset
            if step:
                vanishing.sendall(client_hello()[: 40 * step])
    with connected(service, shown) as connection:
        connection.write(REQUEST)  # and goes away without reading
    assert service.fetch(platform) == service.broker.key


def test_a_client_that_does_not_read_its_answer_ends_at_the_deadline(
    open_service: Serve, platform: SimulatedPlatform
) -> None:
    service = open_service(provisioning_timeout_s=5.0)
    with connected(service, attested_certificate(platform)) as connection:
        connection.write(REQUEST)
        raw = connection._socket
        raw.settimeout(20)
        while raw.recv(65536):  # the server ends the connection although we never say goodbye
            pass
    assert service.fetch(platform) == service.broker.key


def test_one_address_can_not_ask_without_bound(open_service: Serve, platform: SimulatedPlatform) -> None:
    service = open_service(request_burst=2, requests_per_s=0.001)
    assert service.fetch(platform) == service.broker.key
    assert service.fetch(platform) == service.broker.key
    with pytest.raises(KeyReleaseError):
        service.fetch(platform)
    assert len(service.decisions()) == 2
